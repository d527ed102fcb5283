//! Where the recorded director stood: its links, addresses, routes and neighbours.

use std::net::{IpAddr, Ipv4Addr};

use uvs_engine::address::Address;
use uvs_engine::fib::{Fib, Route, Target};
use uvs_engine::link::{Forwards, Link, LinkId};
use uvs_engine::marks::{MarkRule, Network};

/// The client side's link.
pub const CLIENT_SIDE: LinkId = LinkId(0);
/// The server side's link.
pub const SERVER_SIDE: LinkId = LinkId(1);

/// Ethernet addresses of the lab, by their last two bytes.
const fn mac(high: u8, low: u8) -> [u8; 6] {
    [2, 0, 0, 0, high, low]
}

/// The director's address on the client side.
pub const DIRECTOR_CLIENT_MAC: [u8; 6] = mac(0, 0xc1);
/// The director's address on the server side.
pub const DIRECTOR_SERVER_MAC: [u8; 6] = mac(0, 0xe1);
/// The client's router.
pub const ROUTER_MAC: [u8; 6] = mac(0, 0xc0);

// The lab's addresses, in both families.
const VIPS: [&str; 2] = ["10.0.0.1", "fd00::1"];
const CLIENT_SIDE_ADDRESSES: [&str; 2] = ["192.168.1.254", "fd00:1::254"];
const SERVER_SIDE_ADDRESSES: [&str; 2] = ["10.0.1.254", "fd00:2::254"];
const ROUTERS: [&str; 2] = ["192.168.1.1", "fd00:1::1"];
/// What the recorded firewall marks was the director's own.
const MARKED: [&str; 2] = ["10.9.0.0", "fd09::"];

/// Nobody answers for this server.
const SILENT: u8 = 200;

/// A real server's Ethernet address: server n of the lab is 10.0.1.n and fd00:2::n, the latter in
/// hexadecimal.
pub fn server_mac(number: u8) -> [u8; 6] {
    mac(1, number)
}

/// The lab's, and what a recording added to it.
pub(crate) struct Topology {
    links: Vec<Link>,
    routes: Vec<Route>,
    neighbours: Vec<(LinkId, Address, [u8; 6])>,
}

impl Topology {
    /// The lab with these MTUs on the client's and the servers' side.
    pub(crate) fn new(mtu_client: u16, mtu_server: u16) -> Self {
        let link = |name: &str, ifindex, mac, mtu, addresses: [&str; 2]| Link {
            name: name.into(),
            ifindex,
            mac,
            mtu,
            addresses: addresses.map(address).into(),
            forwards: Forwards::ALL,
        };
        let links = vec![
            link("c1", 1, DIRECTOR_CLIENT_MAC, mtu_client, CLIENT_SIDE_ADDRESSES),
            link("r1", 2, DIRECTOR_SERVER_MAC, mtu_server, SERVER_SIDE_ADDRESSES),
        ];
        let servers = (1..254).filter(|n| *n != SILENT).flat_map(|n| {
            let addresses = [format!("10.0.1.{n}"), format!("fd00:2::{n:x}")];
            addresses.map(|server| (SERVER_SIDE, address(&server), server_mac(n)))
        });
        let routers = ROUTERS.map(|router| (CLIENT_SIDE, address(router), ROUTER_MAC));
        Self { links, routes: routes(), neighbours: servers.chain(routers).collect() }
    }

    /// Takes over a sysctl of the recorded director's network: whether it forwards. False when it
    /// is another one.
    pub(crate) fn sysctl(&mut self, name: &str, value: bool) -> bool {
        for link in &mut self.links {
            match name {
                "ipv4/ip_forward" | "ipv4/conf/all/forwarding" => link.forwards.v4 = value,
                "ipv6/conf/all/forwarding" => link.forwards.v6 = value,
                _ => return false,
            }
        }
        true
    }

    pub(crate) fn fib(&self) -> Fib {
        Fib::new(self.links.clone(), &self.routes, self.neighbours.iter().copied())
    }

    /// Takes over a line of shell: `ip route`, `ip neigh`, or a mark of iptables', which is given
    /// back as a rule. `None` when it is another command.
    pub(crate) fn shell(&mut self, line: &str) -> Option<Option<MarkRule>> {
        let words: Vec<&str> = line.trim_start_matches('!').split_whitespace().collect();
        let behind = |option| words.iter().position(|word| *word == option).map(|at| words[at + 1]);
        match words[..] {
            // What has a mark is local: so the mark's service gets it, whatever its address.
            ["ip", "rule", "add", "fwmark", ..] => {}
            ["ip", "route", "add", "local", "default", ..] => {}
            ["ip", "route", "add", "local", network, ..] => {
                self.route(network, Target::Local)?;
            }
            ["ip", "route", "add", network, ..] => {
                let network = if network == "default" { "0.0.0.0/0" } else { network };
                let via = address(behind("via")?);
                self.route(network, Target::Gateway(device(behind("dev")?)?, via))?;
            }
            ["ip", "neigh", "add", neighbour, ..] => {
                let octets = behind("lladdr")?.split(':');
                let octets: Vec<u8> =
                    octets.map(|hex| u8::from_str_radix(hex, 16).ok()).collect::<Option<_>>()?;
                let mac = octets.try_into().ok()?;
                self.neighbours.push((device(behind("dev")?)?, address(neighbour), mac));
            }
            [_, "-t", "mangle", "-A", "PREROUTING", ..] => {
                let (address, prefix) = network(behind("-d")?)?;
                let mark = behind("--set-mark")?.parse().ok()?;
                return Some(Some(mark_rule(address, prefix, mark)));
            }
            _ => return None,
        }
        Some(None)
    }

    fn route(&mut self, text: &str, target: Target) -> Option<()> {
        let (network, prefix) = network(text)?;
        self.routes.push(Route { network, prefix, target });
        Some(())
    }
}

/// The mark of what goes to a network.
fn mark_rule(address: Address, prefix: u8, mark: u32) -> MarkRule {
    let destination = Some(Network { address, prefix });
    MarkRule { source: None, destination, protocol: None, ports: None, link: None, mark }
}

/// Marks what recordings of schedulers mark: all to 10.9.0.0/16 and fd09::/64.
pub(crate) fn marked(mark: u32) -> Vec<MarkRule> {
    let prefixes = [16, 64];
    let rules = MARKED.iter().zip(prefixes);
    rules.map(|(network, prefix)| mark_rule(address(network), prefix, mark)).collect()
}

fn routes() -> Vec<Route> {
    let to = |network, prefix, target| Route { network: address(network), prefix, target };
    let mut routes = vec![
        to("192.168.1.0", 24, Target::Link(CLIENT_SIDE)),
        to("fd00:1::", 64, Target::Link(CLIENT_SIDE)),
        to("172.16.0.0", 12, Target::Gateway(CLIENT_SIDE, address(ROUTERS[0]))),
        to("fd00:c::", 48, Target::Gateway(CLIENT_SIDE, address(ROUTERS[1]))),
        to("10.0.1.0", 24, Target::Link(SERVER_SIDE)),
        to("fd00:2::", 64, Target::Link(SERVER_SIDE)),
        to(MARKED[0], 16, Target::Local),
        to(MARKED[1], 64, Target::Local),
    ];
    for [v4, v6] in [VIPS, CLIENT_SIDE_ADDRESSES, SERVER_SIDE_ADDRESSES] {
        routes.extend([to(v4, 32, Target::Local), to(v6, 128, Target::Local)]);
    }
    routes
}

fn device(name: &str) -> Option<LinkId> {
    match name {
        "c1" => Some(CLIENT_SIDE),
        "r1" => Some(SERVER_SIDE),
        _ => None,
    }
}

fn network(text: &str) -> Option<(Address, u8)> {
    let (network, prefix) = text.split_once('/')?;
    Some((network.parse::<Ipv4Addr>().ok()?.into(), prefix.parse().ok()?))
}

fn address(text: &str) -> Address {
    let ip: IpAddr = text.parse().expect("an address of the lab");
    ip.into()
}
