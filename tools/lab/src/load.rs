//! What asks: real traffic, sent by the client.

use std::net::{SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Error, Host, HttpJob, Network, Tally, UdpJob, command, curl};

/// How long one curl may take for all its requests: on a path that carries nothing each waits for
/// its own timeout.
const CURL_SECONDS: &str = "60";

/// How coreutils' `timeout` says that the time was over.
const TIMED_OUT: i32 = 124;

/// Connections of a download.
const DOWNLOADS: usize = 4;

/// Traffic from the client of a network.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    network: &'a Network,
}

impl<'a> Load<'a> {
    /// Traffic on this network.
    pub fn on(network: &'a Network) -> Self {
        Self { network }
    }

    /// `requests` requests to the page `/` by curl, 32 at once, each over a connection of its own;
    /// what is not answered within a minute is lost.
    pub fn curl(&self, target: impl Into<SocketAddr>, requests: u64) -> Result<Tally, Error> {
        let mut command = self.network.command(Host::Client, "timeout");
        command.args([CURL_SECONDS, "curl"]).args(curl::arguments(target.into(), requests));
        let start = Instant::now();
        let output = command::output(&mut command)?;
        let elapsed = start.elapsed();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        // A request that fails makes curl fail, and is counted; without any status it never ran.
        if !stdout.contains("status ") && output.status.code() != Some(TIMED_OUT) {
            let (command, status) = (command::line(&command), output.status);
            return Err(Error::Failed { command, status, stderr: stderr.trim().to_owned() });
        }
        Ok(curl::read(requests, &stdout, &stderr, elapsed))
    }

    /// Requests by the lab's own client.
    pub fn http(&self, job: &HttpJob) -> Result<Tally, Error> {
        tally(&mut self.network.tool(Host::Client, &job.arguments()))
    }

    /// Datagrams to the UDP echo.
    pub fn udp(&self, job: &UdpJob) -> Result<Tally, Error> {
        tally(&mut self.network.tool(Host::Client, &job.arguments()))
    }

    /// Downloads the megabyte page over and over for `time`: what the path carries.
    pub fn download(&self, target: SocketAddrV4, time: Duration) -> Result<Tally, Error> {
        self.http(&HttpJob {
            path: "/big".to_owned(),
            requests: u64::MAX,
            connections: DOWNLOADS,
            keep_alive: true,
            seconds: time.as_secs_f64(),
            ..HttpJob::to(target)
        })
    }
}

/// Runs one of the clients and reads the tally that it prints.
fn tally(command: &mut Command) -> Result<Tally, Error> {
    let text = command::run(command)?;
    serde_json::from_str(&text).map_err(|error| Error::Output {
        command: command::line(command),
        detail: error.to_string(),
    })
}
