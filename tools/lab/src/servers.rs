//! What answers: on each server nginx, a UDP echo, and what takes tunnels apart.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::{
    DecapJob, ECHO_ALT_PORT, ECHO_PORT, EchoJob, Error, Guard, Host, Method, Network, Tunnel, nginx,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The servers' device for IPIP over IPv4, if it is the kernel's own.
const KERNEL_DEVICE: &str = "ipip1";

/// What takes tunnels apart on the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decap {
    /// The kernel's ipip device.
    Kernel,
    /// [`decapsulate`](crate::decapsulate).
    Tun,
}

/// The running servers of a network; they end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    /// The processes of server 1 first.
    running: Vec<Vec<Guard>>,
    /// As `running`: what takes tunnels apart.
    tunnels: Vec<Vec<Guard>>,
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
        let mut servers = Self { running, tunnels: Vec::new(), decap: None };
        if network.options().method == Method::Tunnel {
            servers.unpack(network, progress)?;
        }
        Ok(servers)
    }

    /// What takes tunnels apart; `None` where nothing has to.
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
        self.tunnels.get_mut(n - 1).into_iter().for_each(Vec::clear);
    }

    /// Lets the servers run on when this process ends.
    pub fn keep(self) {
        for guard in self.running.into_iter().chain(self.tunnels).flatten() {
            guard.keep();
        }
    }

    /// The IPIP tunnels that a network's services begin with.
    fn unpack(&mut self, network: &Network, progress: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let ipv6 = network.options().ipv6;
        let device = |n| format!("link add {KERNEL_DEVICE} type ipip local {}", network.rip(n));
        if !ipv6 && network.ip(Host::Server(1), &device(1)).is_ok() {
            for n in 2..=network.options().servers {
                network.ip(Host::Server(n), &device(n))?;
            }
            for n in 1..=network.options().servers {
                network.ip(Host::Server(n), &format!("link set {KERNEL_DEVICE} up"))?;
            }
            self.decap = Some(Decap::Kernel);
            progress("the servers unpack IPIP with the kernel's ipip device");
            return Ok(());
        }
        progress("the servers unpack IPIP over a TUN device");
        self.end_tunnels(network, Tunnel::Ipip, &[false, true][..1 + usize::from(ipv6)])
    }

    /// Makes all servers the ends of such tunnels, over IPv4 (`false`) or IPv6 (`true`) or both, in
    /// place of those that they are.
    pub fn end_tunnels(
        &mut self,
        network: &Network,
        tunnel: Tunnel,
        over_ipv6: &[bool],
    ) -> Result<(), Error> {
        self.tunnels.clear();
        for n in 1..=network.options().servers {
            if self.decap == Some(Decap::Kernel) {
                network.ip(Host::Server(n), &format!("link del {KERNEL_DEVICE}"))?;
            }
            let mut ends = Vec::new();
            for &ipv6 in over_ipv6 {
                let local = if ipv6 { network.rip_v6(n).into() } else { network.rip(n).into() };
                ends.push(end_tunnel(network, n, tunnel, local)?);
            }
            self.tunnels.push(ends);
        }
        self.decap = Some(Decap::Tun);
        Ok(())
    }
}

/// Makes a server the end of a tunnel to its address `local`, until the guard is dropped.
pub fn end_tunnel(
    network: &Network,
    n: usize,
    tunnel: Tunnel,
    local: IpAddr,
) -> Result<Guard, Error> {
    let tun = if local.is_ipv4() { "tun4" } else { "tun6" };
    let job = DecapJob { tun: tun.to_owned(), tunnel, local };
    let guard = spawn_tool(network, n, "decap", &job.arguments())?;
    network.ip(Host::Server(n), &format!("link set {tun} up"))?;
    Ok(guard)
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
        let ipv6 = network.options().ipv6;
        let config = nginx::write_config(&folder, n, ipv6)?;
        let stderr = log_file(&folder.join("nginx.log"))?;
        let prefix = folder.display().to_string();
        let errors = folder.join("error.log").display().to_string();
        let mut command = network.command(host, "nginx");
        command.args(["-p", &prefix, "-c", &config, "-e", &errors]);
        let nginx = Guard::spawn(command.stdout(Stdio::null()).stderr(stderr))?;

        let mut addresses: Vec<IpAddr> = vec![network.rip(n).into(), network.rip_v6(n).into()];
        if network.options().method != Method::Masq {
            addresses.extend([network.vip().into(), IpAddr::from(network.vip_v6())]);
        }
        addresses.retain(|address: &IpAddr| ipv6 || address.is_ipv4());
        let ports = [ECHO_PORT, ECHO_ALT_PORT];
        let sockets = |ip| ports.map(|port| SocketAddr::new(ip, port));
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
