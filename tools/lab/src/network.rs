//! The network: made with `ip`, `ethtool` and `sysctl`, taken down when it is dropped.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{command, command_in, find, ip_batch, run};
use crate::grave::{self, Undertaker};
use crate::layout::{CLIENT, DIRECTOR_INSIDE, DIRECTOR_OUTSIDE, Layout, VIP, ipv6};
use crate::{Arms, ECHO_PORT, Error, Guard, HTTP_PORT, Host, LabName, LabOptions, Method};

/// Each program that a lab runs, with Debian's package of it.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("timeout", "coreutils"),
];

/// Whether a lab can be made here: root, the programs, and the TUN device.
pub fn ready() -> Result<(), Error> {
    may_make()?;
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            let remedy = format!("apt-get install {package}");
            return Err(Error::Missing { what: program.to_owned(), remedy });
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        let remedy = "modprobe tun".to_owned();
        return Err(Error::Missing { what: "/dev/net/tun".to_owned(), remedy });
    }
    Ok(())
}

/// Whether this process may make networks.
pub(crate) fn may_make() -> Result<(), Error> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(Error::file("/proc/self/status"))?;
    if may_make_networks(&status) { Ok(()) } else { Err(Error::NotRoot) }
}

/// Whether a process has CAP_NET_ADMIN and CAP_SYS_ADMIN, by its /proc/PID/status: root in a
/// container often has neither.
fn may_make_networks(status: &str) -> bool {
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & NEEDED == NEEDED)
}

/// A network that stands: a client, a director, servers, and the switch between them.
///
/// It is taken down when it is dropped, and by its undertaker when the process dies first.
#[derive(Debug)]
pub struct Network {
    layout: Layout,
    program: PathBuf,
    /// `None` once the lab is to be kept.
    undertaker: Option<Undertaker>,
}

impl Network {
    /// Makes a network; `progress` hears what is being done.
    ///
    /// What dead labs left behind is removed first.
    pub fn up(options: &LabOptions, progress: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        options.check()?;
        ready()?;
        grave::sweep()?;
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(Error::file("/proc/self/exe"))?,
        };
        let name = LabName::next();
        // A process that had our id before may have left a lab of this name.
        grave::remove(name)?;
        let layout = Layout { name, options: options.clone() };
        let undertaker = Some(Undertaker::start(&program, name)?);
        // From here on an error takes down what stands, by dropping `network`.
        let network = Self { layout, program, undertaker };
        network.make(progress)?;
        Ok(network)
    }

    fn make(&self, progress: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let layout = &self.layout;
        let hosts = layout.hosts();
        progress(&format!("making {} namespaces, {}-*", hosts.len(), layout.name));
        let folder = layout.name.folder();
        fs::create_dir_all(&folder).map_err(Error::file(folder))?;
        let add = |host: &Host| format!("netns add {}", layout.namespace(*host));
        ip_batch(None, &hosts.iter().map(add).collect::<Vec<_>>())?;
        for &host in &hosts {
            self.set_sysctls(host)?;
        }
        progress(&format!("laying {} cables (veth)", layout.cables().len()));
        ip_batch(None, &layout.lay_cables())?;
        self.finish_checksums()?;
        progress("setting addresses and routes");
        for &host in &hosts {
            ip_batch(Some(&layout.namespace(host)), &layout.set_up(host))?;
        }
        Ok(())
    }

    fn set_sysctls(&self, host: Host) -> Result<(), Error> {
        // A kernel without IPv6 has none of its keys, hence -e.
        run(self.command(host, "sysctl").arg("-eqw").args(self.layout.sysctls(host))).map(drop)
    }

    /// Makes every sender finish its checksums and cut its segments itself: AF_XDP hands frames
    /// on as they are, and a veth would leave both to a network card that never comes.
    fn finish_checksums(&self) -> Result<(), Error> {
        self.set_offloads(&["tx", "off", "gso", "off", "tso", "off", "gro", "off"])
    }

    /// Lets every sender leave checksums and segments to its network card, as hosts do: for engines
    /// over raw packet sockets.
    pub fn offload(&self) -> Result<(), Error> {
        self.set_offloads(&["tx", "on", "gso", "on", "tso", "on"])
    }

    fn set_offloads(&self, settings: &[&str]) -> Result<(), Error> {
        let set = |host, interface: &str| {
            let mut ethtool = self.command(host, "ethtool");
            run(ethtool.args(["-K", interface]).args(settings)).map(drop)
        };
        for cable in self.layout.cables() {
            set(cable.host, cable.interface)?;
            set(Host::Switch, &cable.port())?;
        }
        Ok(())
    }

    /// Has all links carry packets of so many bytes.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        let set = |host, interface: &str| self.ip(host, &format!("link set {interface} mtu {mtu}"));
        for cable in self.layout.cables() {
            set(cable.host, cable.interface)?;
            set(Host::Switch, &cable.port())?;
        }
        Ok(())
    }

    /// The lab's name.
    pub fn name(&self) -> LabName {
        self.layout.name
    }

    /// What the network was made from.
    pub fn options(&self) -> &LabOptions {
        &self.layout.options
    }

    /// The program that has the lab's own tools, and the engine.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The lab's folder, for files that shall go when the lab goes.
    pub fn folder(&self) -> PathBuf {
        self.name().folder()
    }

    /// The name of a host's namespace.
    pub fn namespace(&self, host: Host) -> String {
        self.layout.namespace(host)
    }

    /// The director's interface to the clients.
    pub fn outside(&self) -> &'static str {
        self.layout.outside()
    }

    /// The director's interface to the servers; with one arm the same as [`outside`](Self::outside).
    pub fn inside(&self) -> &'static str {
        self.layout.inside()
    }

    /// The director's interfaces, each once.
    pub fn director_interfaces(&self) -> Vec<&'static str> {
        match self.options().arms {
            Arms::One => vec![self.outside()],
            Arms::Two => vec![self.outside(), self.inside()],
        }
    }

    /// The client's address.
    pub fn client(&self) -> Ipv4Addr {
        CLIENT
    }

    /// The virtual address, which is on the director's `lo`.
    pub fn vip(&self) -> Ipv4Addr {
        VIP
    }

    /// As [`vip`](Self::vip), of IPv6.
    pub fn vip_v6(&self) -> Ipv6Addr {
        ipv6::VIP
    }

    /// The virtual address with a port.
    pub fn service(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(VIP, port)
    }

    /// As [`service`](Self::service), of IPv6.
    pub fn service_v6(&self, port: u16) -> SocketAddrV6 {
        SocketAddrV6::new(ipv6::VIP, port, 0, 0)
    }

    /// The director's address among the clients.
    pub fn director_outside(&self) -> Ipv4Addr {
        DIRECTOR_OUTSIDE
    }

    /// The director's address among the servers: their gateway in NAT, the tunnels' source.
    pub fn director_inside(&self) -> Ipv4Addr {
        DIRECTOR_INSIDE
    }

    /// The real address of a server, counted from 1.
    pub fn rip(&self, server: usize) -> Ipv4Addr {
        self.layout.rip(server)
    }

    /// As [`rip`](Self::rip), of IPv6.
    pub fn rip_v6(&self, server: usize) -> Ipv6Addr {
        self.layout.rip_v6(server)
    }

    /// The servers' real addresses, server 1 first.
    pub fn rips(&self) -> Vec<Ipv4Addr> {
        (1..=self.options().servers).map(|n| self.rip(n)).collect()
    }

    /// A command that will run on a host; add arguments to it, and pipes.
    pub fn command(&self, host: Host, program: &str) -> Command {
        command_in(&self.namespace(host), program)
    }

    /// One of the lab's own programs ([`Tool`](crate::Tool)) as a command on a host.
    pub(crate) fn tool(&self, host: Host, arguments: &[String]) -> Command {
        let mut tool = command("ip");
        tool.args(["netns", "exec", &self.namespace(host)]);
        tool.arg(&self.program).arg("lab").args(arguments);
        tool
    }

    /// Starts a program on a host; it ends when the guard is dropped.
    pub fn spawn_in(&self, host: Host, program: &str, args: &[&str]) -> Result<Guard, Error> {
        Guard::spawn(self.command(host, program).args(args))
    }

    /// Runs a program on a host to its end and gives its output; a failure is an error.
    pub fn run_in(&self, host: Host, program: &str, args: &[&str]) -> Result<String, Error> {
        run(self.command(host, program).args(args))
    }

    /// Changes a host with one line of `ip`, such as `route add ...`.
    pub fn ip(&self, host: Host, line: &str) -> Result<(), Error> {
        ip_batch(Some(&self.namespace(host)), &[line.to_owned()])
    }

    /// Commands with which a person can look around in the lab, each with what it does.
    pub fn commands(&self) -> Vec<(String, &'static str)> {
        let inside = |host| format!("ip netns exec {}", self.namespace(host));
        let (client, director) = (inside(Host::Client), inside(Host::Director));
        let (vip, outside) = (self.vip(), self.outside());
        let send =
            format!("{client} {} lab udp --target {vip}:{ECHO_PORT}", self.program.display());
        let mut commands = vec![
            (format!("{client} curl http://{vip}:{HTTP_PORT}/"), "one request by the client"),
            (format!("{send} --datagrams 100"), "100 datagrams, echoed by the servers"),
            (format!("{director} tcpdump -ni {outside}"), "what the director's interface sees"),
            (format!("{} ip addr", inside(Host::Server(1))), "the first server's addresses"),
            (format!("{director} bash"), "a shell on the director"),
        ];
        if self.options().method == Method::Tunnel {
            let line = format!("{} ip -s link", inside(Host::Server(1)));
            commands.push((line, "what came out of the first server's tunnel"));
        }
        commands
    }

    /// Lets the lab stand when this process ends; [`down`](crate::down) takes it away.
    pub fn keep(mut self) -> Result<(), Error> {
        grave::mark_kept(self.name())?;
        if let Some(undertaker) = self.undertaker.take() {
            undertaker.dismiss();
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(undertaker) = self.undertaker.take() {
            // What stays in spite of this is found by the next sweep.
            if grave::remove(self.name()).is_ok() {
                undertaker.dismiss();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_without_its_capabilities_is_not_enough() {
        assert!(may_make_networks("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        // Docker's default set.
        assert!(!may_make_networks("CapEff:\t00000000a80425fb\n"));
        assert!(!may_make_networks(""));
    }
}
