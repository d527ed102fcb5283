//! The setup lines: services and their servers.

use std::net::IpAddr;

use uvs_forward::Method;
use uvs_forward::tun::{Checksum, Kind};
use uvs_forward::wire::protocol;

use crate::recording::Case;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dest {
    pub address: IpAddr,
    pub port: u16,
    pub method: Method,
    pub kind: Kind,
    pub weight: u32,
}

#[derive(Clone, Debug)]
pub struct Service {
    /// `None` for a firewall mark: the network that the rules mark stands in `marked`.
    pub protocol: Option<u8>,
    pub address: IpAddr,
    pub port: u16,
    pub one_packet: bool,
    pub dests: Vec<Dest>,
}

#[derive(Debug, Default)]
pub struct Setup {
    pub services: Vec<Service>,
    /// `a.b` or `a.b.c` of what is marked.
    pub marked: Option<String>,
    /// Networks behind the gateway 10.0.1.40.
    pub routed: Vec<String>,
}

impl Setup {
    pub fn of(case: &Case) -> Self {
        let mut setup = Self::default();
        for line in &case.setup {
            let words: Vec<&str> = line.split(' ').collect();
            if line.starts_with("!ip route add local") {
                // The mark rules say the same.
            } else if line.starts_with("!ip route add") {
                setup.routed.push(network(words[3]));
            } else if line.starts_with("!iptables") {
                let at = words.iter().position(|word| *word == "-d").unwrap();
                setup.marked = Some(network(words[at + 1]));
            } else if words[0] == "-A" {
                setup.services.push(service(&words));
            } else if words[0] == "-a" {
                let service = setup.services.last_mut().unwrap();
                let dest = dest(&words);
                // Only a tunnel may lead to a server of the other family (`setup_errors`).
                let same = service.address.is_ipv4() == dest.address.is_ipv4();
                if same || dest.method == Method::Tunnel {
                    service.dests.push(dest);
                }
            }
        }
        setup
    }

    /// The service for what goes to this end.
    pub fn find(&self, protocol: u8, address: IpAddr, port: u16) -> Option<&Service> {
        let text = address.to_string();
        let marked = self.marked.as_ref().is_some_and(|network| text.starts_with(network));
        self.services.iter().find(|service| match service.protocol {
            None => marked,
            Some(its) => {
                its == protocol && service.address == address && [port, 0].contains(&service.port)
            }
        })
    }
}

/// The fixed part of a network's text: `10.50.` of `10.50.0.0/16`.
fn network(text: &str) -> String {
    match text.split_once('/') {
        Some((net, "16")) => net.trim_end_matches("0.0").into(),
        Some((net, "24")) => net.trim_end_matches("0").into(),
        _ => String::new(),
    }
}

fn end(text: &str) -> (IpAddr, u16) {
    let (address, port) = text.rsplit_once(':').unwrap();
    (address.trim_matches(['[', ']']).parse().unwrap(), port.parse().unwrap())
}

fn service(words: &[&str]) -> Service {
    let protocol = match words[1] {
        "-t" => Some(protocol::TCP),
        "-u" => Some(protocol::UDP),
        "--sctp-service" => Some(protocol::SCTP),
        _ => None,
    };
    let (address, port) = match protocol {
        Some(_) => end(words[2]),
        None => (IpAddr::from([0, 0, 0, 0]), 0),
    };
    Service { protocol, address, port, one_packet: words.contains(&"-o"), dests: vec![] }
}

fn dest(words: &[&str]) -> Dest {
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1)
    };
    let has = |option| words.contains(&option);
    let (address, port) = end(after("-r").unwrap());
    let method = if has("-m") {
        Method::Masq
    } else if has("-i") {
        Method::Tunnel
    } else {
        Method::Route
    };
    let kind = match after("--tun-type") {
        None => Kind::Ipip,
        Some(&"gre") => Kind::Gre { checksum: has("--tun-csum") },
        Some(_) => Kind::Gue {
            port: after("--tun-port").unwrap().parse().unwrap(),
            checksum: match (has("--tun-csum"), has("--tun-remcsum")) {
                (true, _) => Checksum::Whole,
                (_, true) => Checksum::Remote,
                _ => Checksum::None,
            },
        },
    };
    let weight = after("-w").map_or(1, |weight| weight.parse().unwrap());
    Dest { address, port, method, kind, weight }
}
