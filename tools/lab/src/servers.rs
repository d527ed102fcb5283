//! What answers: on each server nginx, a UDP echo, and what unpacks IPIP.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{
    DecapJob, ECHO_ALT_PORT, ECHO_PORT, EchoJob, Error, Guard, Host, Method, Network, nginx,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The servers' tunnel device, the kernel's own or ours.
const TUNNEL_DEVICE: &str = "ipip1";

/// What unpacks IPIP on the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decap {
    /// The kernel's ipip device.
    Kernel,
    /// [`decapsulate`](crate::decapsulate), for a kernel without that device.
    Tun,
}

/// The running servers of a network; they end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    /// The processes of server 1 first.
    running: Vec<Vec<Guard>>,
    decap: Option<Decap>,
}

impl Servers {
    /// Starts all servers and waits until they listen; `progress` hears what is being done.
    pub fn start(network: &Network, progress: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let count = network.options().servers;
        progress(&format!("starting {count} servers (nginx, UDP echo)"));
        let mut starts = Vec::new();
        for n in 1..=count {
            starts.push(Start::begin(network, n)?);
        }
        let mut running = Vec::new();
        for start in starts {
            running.push(start.finish()?);
        }
        let mut servers = Self { running, decap: None };
        if network.options().method == Method::Tunnel {
            servers.unpack(network, progress)?;
        }
        Ok(servers)
    }

    /// What unpacks IPIP; `None` where nothing has to.
    pub fn decap(&self) -> Option<Decap> {
        self.decap
    }

    /// Kills all processes of a server, counted from 1.
    ///
    /// # Panics
    ///
    /// When there is no such server.
    pub fn kill(&mut self, n: usize) {
        self.running[n - 1].clear();
    }

    /// Lets the servers run on when this process ends.
    pub fn keep(self) {
        for guard in self.running.into_iter().flatten() {
            guard.keep();
        }
    }

    fn unpack(&mut self, network: &Network, progress: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let up = format!("link set {TUNNEL_DEVICE} up");
        for n in 1..=network.options().servers {
            let host = Host::Server(n);
            let device = format!("link add {TUNNEL_DEVICE} type ipip local {}", network.rip(n));
            if network.ip(host, &device).is_ok() {
                self.decap = Some(Decap::Kernel);
            } else {
                self.decap = Some(Decap::Tun);
                let arguments = DecapJob { tun: TUNNEL_DEVICE.to_owned() }.arguments();
                self.running[n - 1].push(spawn_tool(network, n, "decap", &arguments)?);
            }
            network.ip(host, &up)?;
        }
        progress(match self.decap {
            Some(Decap::Kernel) => "the servers unpack IPIP with the kernel's ipip device",
            _ => "no ipip device in this kernel: the servers unpack IPIP over a TUN device",
        });
        Ok(())
    }
}

/// A server that has been started and does not answer yet.
struct Start {
    n: usize,
    folder: PathBuf,
    nginx: Guard,
    echo: Guard,
}

impl Start {
    fn begin(network: &Network, n: usize) -> Result<Self, Error> {
        let host = Host::Server(n);
        let folder = network.folder().join(host.to_string());
        let config = nginx::write_config(&folder, n)?;
        let stderr = log_file(&folder.join("nginx.log"))?;
        let prefix = folder.display().to_string();
        let errors = folder.join("error.log").display().to_string();
        let mut command = network.command(host, "nginx");
        command.args(["-p", &prefix, "-c", &config, "-e", &errors]);
        let nginx = Guard::spawn(command.stdout(Stdio::null()).stderr(stderr))?;

        let mut addresses = vec![network.rip(n)];
        if network.options().method != Method::Masq {
            addresses.push(network.vip());
        }
        let ports = [ECHO_PORT, ECHO_ALT_PORT];
        let sockets = |ip| ports.map(|port| SocketAddrV4::new(ip, port));
        let listen = addresses.into_iter().flat_map(sockets).collect();
        let job = EchoJob { name: format!("server {n}"), listen };
        let echo = spawn_tool(network, n, "echo", &job.arguments())?;
        Ok(Self { n, folder, nginx, echo })
    }

    /// Waits for nginx, which writes its pid file when its sockets are open.
    fn finish(mut self) -> Result<Vec<Guard>, Error> {
        let deadline = Instant::now() + PATIENCE;
        while !self.folder.join("nginx.pid").exists() {
            if self.nginx.ended().is_some() || Instant::now() > deadline {
                let log = self.folder.join("error.log");
                return Err(not_ready(&format!("nginx of server {}", self.n), &log));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(vec![self.nginx, self.echo])
    }
}

/// Starts one of our own servers on server `n` and waits until it has said `ready`.
fn spawn_tool(network: &Network, n: usize, what: &str, args: &[String]) -> Result<Guard, Error> {
    let host = Host::Server(n);
    let log = network.folder().join(host.to_string()).join(format!("{what}.log"));
    let mut tool = network.tool(host, args);
    let mut guard = Guard::spawn(tool.stdout(Stdio::piped()).stderr(log_file(&log)?))?;
    let stdout = guard.child().stdout.take().expect("the pipe was asked for");
    let mut line = String::new();
    // An unreadable pipe and a silent end are the same: the log says more.
    let _ = BufReader::new(stdout).read_line(&mut line);
    if line != READY { Err(not_ready(&format!("{what} of server {n}"), &log)) } else { Ok(guard) }
}

const READY: &str = "ready\n";

/// How our own servers tell that they serve; nobody reads what they would print later.
pub(crate) fn say_ready() -> Result<(), Error> {
    let mut stdout = io::stdout();
    let said = stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush());
    said.map_err(Error::file("stdout"))
}

fn log_file(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(Error::file(path))
}

fn not_ready(what: &str, log: &Path) -> Error {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().last().unwrap_or("it said nothing").to_owned();
    Error::NotReady { what: what.to_owned(), seconds: PATIENCE.as_secs(), detail: last }
}
