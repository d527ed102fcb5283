//! uvs itself, running on the director of a network.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use uvs_control::api::Counters;
use uvs_control::client::Client;

use crate::{
    ECHO_ALT_PORT, ECHO_PORT, Error, Guard, HTTP_ALT_PORT, HTTP_PORT, Host, LabOptions, Method,
    Network,
};

/// How long an engine may take to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// How a director is to run.
#[derive(Clone, Debug)]
pub struct DirectorOptions {
    /// uvs.toml's `mode`: `auto`, `afxdp` or `raw`.
    pub mode: String,
    /// The scheduler of both services, and options behind it.
    pub scheduler: String,
    /// Whether idle workers spin.
    pub busy: bool,
    /// Whether the kernel's IPVS holds the same services.
    pub kernel_fallback: bool,
}

impl DirectorOptions {
    /// Round robin in this mode.
    pub fn of(mode: &str) -> Self {
        let (mode, scheduler) = (mode.to_owned(), "rr".to_owned());
        Self { mode, scheduler, busy: false, kernel_fallback: false }
    }
}

/// A running `uvs run`; it ends when this is dropped.
#[derive(Debug)]
pub struct Director {
    guard: Guard,
    client: Client,
    folder: PathBuf,
}

impl Director {
    /// Starts the engine with services for HTTP and for the UDP echo on all servers, and waits
    /// until it answers.
    pub fn start(network: &Network, options: &DirectorOptions) -> Result<Self, Error> {
        let folder = network.folder();
        let (config, rules) = (folder.join("uvs.toml"), folder.join("services.rules"));
        fs::write(&config, config_text(network, options)).map_err(Error::file(&config))?;
        fs::write(&rules, rules_text(network, &options.scheduler)).map_err(Error::file(&rules))?;
        let log = folder.join("uvs.log");
        let stderr = File::create(&log).map_err(Error::file(&log))?;
        let mut command = network.command(Host::Director, &network.program().display().to_string());
        command.args(["run", "--config"]).arg(&config);
        command.args(options.kernel_fallback.then_some("--kernel-fallback"));
        let guard = Guard::spawn(command.stdout(Stdio::null()).stderr(stderr))?;
        let client = Client::new(&folder.join("uvs.sock"));
        let mut director = Self { guard, client, folder };
        director.await_answer()?;
        Ok(director)
    }

    fn await_answer(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        while self.client.counters().is_err() {
            if self.guard.ended().is_some() || start.elapsed() > PATIENCE {
                return Err(Error::Engine(self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks the running engine.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The engine's process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// The engine's counters, once they stand still: every frame has been accounted for.
    pub fn counters(&self) -> Result<Counters, Error> {
        let start = Instant::now();
        let mut last = self.ask()?;
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.ask()?;
            if now == last && now.waiting == 0 || start.elapsed() > PATIENCE {
                return Ok(now);
            }
            last = now;
        }
    }

    fn ask(&self) -> Result<Counters, Error> {
        self.client.counters().map_err(|error| Error::Engine(error.to_string()))
    }

    /// The file of services that it reads.
    pub fn rules(&self) -> PathBuf {
        self.folder.join("services.rules")
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("uvs.sock")
    }

    /// What the engine has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("uvs.log")).unwrap_or_default()
    }

    /// Which port it took, in the engine's words (`AF_XDP copy`).
    pub fn port(&self) -> String {
        let log = self.log();
        let taken = log.lines().find_map(|line| line.strip_prefix("uvs: port: "));
        taken.unwrap_or("unknown").to_owned()
    }

    /// Stops it with SIGTERM.
    pub fn stop(self) -> Result<(), Error> {
        let log = self.folder.join("uvs.log");
        let status = self.guard.stop(PATIENCE).map_err(Error::file(&log))?;
        match status.success() {
            true => Ok(()),
            false => Err(Error::Engine(fs::read_to_string(log).unwrap_or_default())),
        }
    }

    /// Lets it run on when this process ends.
    pub fn keep(self) {
        self.guard.keep();
    }
}

fn config_text(network: &Network, options: &DirectorOptions) -> String {
    let mut text = format!("outside = \"{}\"\n", network.outside());
    if network.inside() != network.outside() {
        let _ = writeln!(text, "inside = \"{}\"", network.inside());
    }
    let DirectorOptions { mode, busy, .. } = options;
    let queues = network.options().queues;
    let folder = network.folder();
    let _ = write!(
        text,
        "queues = {queues}\nmode = \"{mode}\"\nbusy = {busy}\nconnections = 100000\n\
         services = \"services.rules\"\nsocket = \"{}/uvs.sock\"\n",
        folder.display()
    );
    text
}

/// The services of a network, as ipvsadm-save would write them: HTTP and the UDP echo, of each
/// family. With NAT the servers' other ports serve, so that ports are translated too.
fn rules_text(network: &Network, scheduler: &str) -> String {
    let LabOptions { method, servers, ipv6, .. } = *network.options();
    let (option, http, echo) = match method {
        Method::Route => ("-g", HTTP_PORT, ECHO_PORT),
        Method::Tunnel => ("-i", HTTP_PORT, ECHO_PORT),
        Method::Masq => ("-m", HTTP_ALT_PORT, ECHO_ALT_PORT),
    };
    let mut text = String::new();
    for ipv6 in [false, true].into_iter().take(1 + usize::from(ipv6)) {
        let of = |v4, v6| if ipv6 { IpAddr::V6(v6) } else { IpAddr::V4(v4) };
        let vip = of(network.vip(), network.vip_v6());
        for (protocol, service, port) in [("-t", HTTP_PORT, http), ("-u", ECHO_PORT, echo)] {
            let service = SocketAddr::new(vip, service);
            let _ = writeln!(text, "-A {protocol} {service} -s {scheduler}");
            for n in 1..=servers {
                let server = SocketAddr::new(of(network.rip(n), network.rip_v6(n)), port);
                let _ = writeln!(text, "-a {protocol} {service} -r {server} {option} -w 1");
            }
        }
    }
    text
}
