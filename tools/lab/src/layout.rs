//! The network on paper: hosts, cables, addresses, routes and sysctls, as the text of `ip` batches.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

pub(crate) mod ipv6;

use crate::{Error, LabName};

/// The port on which the servers answer HTTP.
pub const HTTP_PORT: u16 = 80;
/// A second HTTP port, to translate to.
pub const HTTP_ALT_PORT: u16 = 8080;
/// The port on which the servers echo UDP (RFC 862).
pub const ECHO_PORT: u16 = 7;
/// A second echo port, to translate to.
pub const ECHO_ALT_PORT: u16 = 7007;

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
pub(crate) const DIRECTOR_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 254);
pub(crate) const DIRECTOR_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 254);
const CLIENT_NET: &str = "192.168.77.0/24";
/// The VIP's and the servers' networks, which the client reaches through the director.
const SERVICE_NET: &str = "10.77.0.0/16";
/// What fits a 1500-byte link behind an IPIP header: 1500 - 20 - 20 - 20.
const TUNNEL_MSS: u32 = 1440;

const MOST_SERVERS: usize = 99;
const MOST_QUEUES: usize = 64;

/// How many interfaces the director has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arms {
    /// One interface, `eth0`; clients and servers are on one segment.
    #[default]
    One,
    /// `out0` to the clients' segment and `in0` to the servers'.
    Two,
}

/// The forwarding method for which the servers are prepared, in ipvsadm's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Direct routing (`-g`): the VIP on the servers' `lo`, ARP for it silenced.
    #[default]
    Route,
    /// NAT (`-m`): the servers' default route is the director.
    Masq,
    /// Tunnels (`-i`): as `Route`, and the servers take them apart.
    Tunnel,
}

/// What lab to make.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// The director's interfaces.
    pub arms: Arms,
    /// Receive and transmit queues of each of the director's interfaces.
    pub queues: usize,
    /// What the servers are prepared for.
    pub method: Method,
    /// How many servers.
    pub servers: usize,
    /// Whether all of it has IPv6 beside IPv4.
    pub ipv6: bool,
    /// The program that has the [`Tool`](crate::Tool) commands under `lab`; `None`: the one that
    /// is running.
    pub program: Option<PathBuf>,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            arms: Arms::One,
            queues: 1,
            method: Method::Route,
            servers: 3,
            ipv6: false,
            program: None,
        }
    }
}

impl LabOptions {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |what, given, most| match given {
            n if (1..=most).contains(&n) => Ok(()),
            given => Err(Error::Count { what, most, given }),
        };
        within("servers", self.servers, MOST_SERVERS)?;
        within("queues", self.queues, MOST_QUEUES)
    }
}

/// One of the lab's hosts; each is a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Where the traffic comes from.
    Client,
    /// Where the engine runs.
    Director,
    /// A real server, counted from 1.
    Server(usize),
    /// The bridges between them.
    Switch,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Director => f.write_str("director"),
            Self::Server(n) => write!(f, "server{n}"),
            Self::Switch => f.write_str("switch"),
        }
    }
}

/// A veth pair between a host and a segment.
pub(crate) struct Cable {
    pub(crate) host: Host,
    pub(crate) interface: &'static str,
    segment: &'static str,
    queues: usize,
}

impl Cable {
    /// The switch's end of it.
    pub(crate) fn port(&self) -> String {
        format!("{}-{}", self.host, self.interface)
    }
}

/// A lab on paper.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) name: LabName,
    pub(crate) options: LabOptions,
}

impl Layout {
    pub(crate) fn namespace(&self, host: Host) -> String {
        format!("{}-{host}", self.name)
    }

    pub(crate) fn hosts(&self) -> Vec<Host> {
        let mut hosts = vec![Host::Switch, Host::Client, Host::Director];
        hosts.extend((1..=self.options.servers).map(Host::Server));
        hosts
    }

    pub(crate) fn rip(&self, server: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 1, server as u8)
    }

    /// The director's interface to the clients.
    pub(crate) fn outside(&self) -> &'static str {
        match self.options.arms {
            Arms::One => "eth0",
            Arms::Two => "out0",
        }
    }

    /// The director's interface to the servers.
    pub(crate) fn inside(&self) -> &'static str {
        match self.options.arms {
            Arms::One => "eth0",
            Arms::Two => "in0",
        }
    }

    /// The servers' interface to the clients' segment, by which replies pass the director by.
    fn leg(&self) -> Option<&'static str> {
        match (self.options.method, self.options.arms) {
            (Method::Masq, _) => None,
            (_, Arms::One) => Some("eth0"),
            (_, Arms::Two) => Some("eth1"),
        }
    }

    fn segments(&self) -> &'static [&'static str] {
        match self.options.arms {
            Arms::One => &["lan"],
            Arms::Two => &["outside", "inside"],
        }
    }

    pub(crate) fn cables(&self) -> Vec<Cable> {
        let cable = |host, interface, segment| {
            let queues = if host == Host::Director { self.options.queues } else { 1 };
            Cable { host, interface, segment, queues }
        };
        let servers = (1..=self.options.servers).map(Host::Server);
        if self.options.arms == Arms::One {
            let hosts = [Host::Client, Host::Director].into_iter().chain(servers);
            return hosts.map(|host| cable(host, "eth0", "lan")).collect();
        }
        let mut cables = vec![
            cable(Host::Client, "eth0", "outside"),
            cable(Host::Director, "out0", "outside"),
            cable(Host::Director, "in0", "inside"),
        ];
        for server in servers {
            cables.push(cable(server, "eth0", "inside"));
            cables.extend(self.leg().map(|leg| cable(server, leg, "outside")));
        }
        cables
    }

    /// The batch that lays all cables, each end straight into its namespace.
    pub(crate) fn lay_cables(&self) -> Vec<String> {
        let switch = self.namespace(Host::Switch);
        let lay = |cable: &Cable| {
            let (interface, port, queues) = (cable.interface, cable.port(), cable.queues);
            let namespace = self.namespace(cable.host);
            let queues = format!("numrxqueues {queues} numtxqueues {queues}");
            format!(
                "link add {interface} netns {namespace} {queues} type veth \
                 peer name {port} netns {switch} {queues}"
            )
        };
        self.cables().iter().map(lay).collect()
    }

    /// The batch for the inside of a host's namespace.
    pub(crate) fn set_up(&self, host: Host) -> Vec<String> {
        let mut lines = vec!["link set lo up".to_owned()];
        let own = self.cables().into_iter().filter(|cable| cable.host == host);
        lines.extend(own.map(|cable| format!("link set {} up", cable.interface)));
        match host {
            Host::Switch => lines.extend(self.set_up_switch()),
            Host::Client => lines.extend([
                format!("addr add {CLIENT}/24 dev eth0"),
                format!("route add {SERVICE_NET} via {DIRECTOR_OUTSIDE}"),
            ]),
            Host::Director => lines.extend([
                format!("addr add {VIP}/32 dev lo"),
                format!("addr add {DIRECTOR_OUTSIDE}/24 dev {}", self.outside()),
                format!("addr add {DIRECTOR_INSIDE}/24 dev {}", self.inside()),
            ]),
            Host::Server(n) => lines.extend(self.set_up_server(n)),
        }
        if self.options.ipv6 {
            lines.extend(self.set_up_ipv6(host));
        }
        lines
    }

    fn set_up_switch(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for segment in self.segments() {
            lines.push(format!("link add {segment} type bridge mcast_snooping 0"));
            lines.push(format!("link set {segment} up"));
        }
        for cable in self.cables() {
            lines.push(format!("link set {} master {} up", cable.port(), cable.segment));
        }
        lines
    }

    fn set_up_server(&self, n: usize) -> Vec<String> {
        let mut lines = vec![format!("addr add {}/24 dev eth0", self.rip(n))];
        let Some(leg) = self.leg() else {
            lines.push(format!("route add default via {DIRECTOR_INSIDE}"));
            return lines;
        };
        let address = Ipv4Addr::new(192, 168, 77, 100 + n as u8);
        // Clients must leave room for the outer header, and this is how a server tells them.
        let mss = match self.options.method {
            Method::Tunnel => format!(" advmss {TUNNEL_MSS}"),
            _ => String::new(),
        };
        lines.extend([
            format!("addr add {VIP}/32 dev lo"),
            format!("addr add {address}/24 dev {leg} noprefixroute"),
            format!("route add {CLIENT_NET} dev {leg} src {address}{mss}"),
        ]);
        lines
    }

    /// A host's sysctls, set before its interfaces are there so that these inherit `default`.
    pub(crate) fn sysctls(&self, host: Host) -> Vec<String> {
        let mut settings = Vec::new();
        // New namespaces take over the host's values of `all` and `default`, whatever they are.
        let mut everywhere = |key: &str, value: u8| {
            let name = |scope| format!("net.ipv4.conf.{scope}.{key}={value}");
            settings.extend(["all", "default", "lo"].map(name));
        };
        everywhere("rp_filter", 0);
        everywhere("send_redirects", 0);
        everywhere("accept_redirects", 0);
        let silent = u8::from(matches!(host, Host::Server(_)) && self.leg().is_some());
        everywhere("arp_ignore", silent);
        everywhere("arp_announce", 2 * silent);
        let router = host == Host::Director && self.options.method == Method::Masq;
        settings.push(format!("net.ipv4.ip_forward={}", u8::from(router)));
        settings.extend(self.sysctls_ipv6(host));
        if host == Host::Client {
            // A load without keep-alive uses up the default 28 k ports in two seconds.
            settings.push("net.ipv4.ip_local_port_range=1024 65535".to_owned());
            settings.push("net.ipv4.tcp_tw_reuse=1".to_owned());
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(arms: Arms, method: Method) -> Layout {
        let options = LabOptions { arms, method, queues: 2, ..LabOptions::default() };
        Layout { name: LabName::next(), options }
    }

    fn has(lines: &[String], line: &str) -> bool {
        lines.iter().any(|each| each == line)
    }

    #[test]
    fn one_arm_is_one_cable_a_host() {
        let layout = layout(Arms::One, Method::Tunnel);
        let cables = layout.cables();
        assert_eq!(cables.len(), 5);
        assert!(cables.iter().all(|cable| cable.segment == "lan" && cable.interface == "eth0"));
        assert_eq!(layout.inside(), layout.outside());
    }

    #[test]
    fn only_the_director_has_many_queues() {
        for line in layout(Arms::Two, Method::Route).lay_cables() {
            let director = line.contains("-director ");
            assert_eq!(
                line.matches("numrxqueues 2 numtxqueues 2").count() == 2,
                director,
                "{line}"
            );
        }
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        for arms in [Arms::One, Arms::Two] {
            let mut layout = layout(arms, Method::Route);
            layout.options.servers = MOST_SERVERS;
            assert!(layout.cables().iter().all(|cable| cable.port().len() <= 15));
        }
    }

    #[test]
    fn replies_pass_the_director_by_unless_it_must_translate_them() {
        for arms in [Arms::One, Arms::Two] {
            let direct = layout(arms, Method::Route).set_up(Host::Server(2));
            assert!(has(&direct, "addr add 10.77.0.1/32 dev lo"));
            assert!(!direct.iter().any(|line| line.contains("default")));
            let masq = layout(arms, Method::Masq).set_up(Host::Server(2));
            assert!(has(&masq, "route add default via 10.77.1.254"));
            assert!(!masq.iter().any(|line| line.contains("10.77.0.1/32")));
        }
    }

    #[test]
    fn servers_that_hold_the_vip_keep_quiet_about_it() {
        let quiet = layout(Arms::One, Method::Route).sysctls(Host::Server(1));
        assert!(has(&quiet, "net.ipv4.conf.all.arp_ignore=1"));
        assert!(has(&quiet, "net.ipv4.conf.all.arp_announce=2"));
        let masq = layout(Arms::One, Method::Masq);
        assert!(has(&masq.sysctls(Host::Server(1)), "net.ipv4.conf.all.arp_ignore=0"));
        assert!(has(&masq.sysctls(Host::Director), "net.ipv4.ip_forward=1"));
    }

    #[test]
    fn impossible_counts_are_refused() {
        let servers = LabOptions { servers: 0, ..LabOptions::default() };
        assert_eq!(servers.check().unwrap_err().to_string(), "a lab has 1 to 99 servers, not 0");
        assert!(LabOptions { queues: 65, ..LabOptions::default() }.check().is_err());
        assert!(LabOptions::default().check().is_ok());
    }
}
