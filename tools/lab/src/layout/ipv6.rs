//! The network's IPv6 side: the same hosts, cables and ways.

use std::net::Ipv6Addr;

use super::{Host, Layout};
use crate::Method;

pub(crate) const VIP: Ipv6Addr = Ipv6Addr::new(0xfd70, 0, 0, 0, 0, 0, 0, 1);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const DIRECTOR_OUTSIDE: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe);
const DIRECTOR_INSIDE: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 0xfe);
const CLIENT_NET: &str = "fd77::/64";
const SERVICE_NET: &str = "fd70::/64";

impl Layout {
    pub(crate) fn rip_v6(&self, server: usize) -> Ipv6Addr {
        Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, server as u16)
    }

    /// The batch's lines for a host.
    pub(super) fn set_up_ipv6(&self, host: Host) -> Vec<String> {
        let own = |address: Ipv6Addr, prefix: u8, interface: &str| {
            format!("addr add {address}/{prefix} dev {interface} nodad")
        };
        match host {
            Host::Switch => Vec::new(),
            Host::Client => vec![
                own(CLIENT, 64, "eth0"),
                format!("route add {SERVICE_NET} via {DIRECTOR_OUTSIDE}"),
            ],
            Host::Director => vec![
                own(VIP, 128, "lo"),
                own(DIRECTOR_OUTSIDE, 64, self.outside()),
                own(DIRECTOR_INSIDE, 64, self.inside()),
            ],
            Host::Server(n) => {
                let mut lines = vec![own(self.rip_v6(n), 64, "eth0")];
                let Some(leg) = self.leg() else {
                    lines.push(format!("route add default via {DIRECTOR_INSIDE}"));
                    return lines;
                };
                let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100 + n as u16);
                lines.extend([
                    own(VIP, 128, "lo"),
                    own(address, 128, leg),
                    format!("route add {CLIENT_NET} dev {leg} src {address}"),
                ]);
                lines
            }
        }
    }

    /// A host's sysctls: where IPv6 is not wanted, counters would count neighbour discovery too.
    pub(super) fn sysctls_ipv6(&self, host: Host) -> Vec<String> {
        let wanted = self.options.ipv6 && host != Host::Switch;
        let mut settings = vec![("disable_ipv6", u8::from(!wanted))];
        if wanted {
            settings.extend([("accept_ra", 0), ("accept_dad", 0), ("router_solicitations", 0)]);
        }
        let default = |(key, value)| format!("net.ipv6.conf.default.{key}={value}");
        let mut settings: Vec<String> = settings.into_iter().map(default).collect();
        if wanted && host == Host::Director {
            let router = u8::from(self.options.method == Method::Masq);
            settings.push(format!("net.ipv6.conf.all.forwarding={router}"));
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use crate::{Arms, LabName, LabOptions};

    use super::*;

    fn server(method: Method, ipv6: bool) -> String {
        let options = LabOptions { arms: Arms::Two, method, ipv6, ..LabOptions::default() };
        Layout { name: LabName::next(), options }.set_up(Host::Server(2)).join("\n")
    }

    #[test]
    fn replies_pass_the_director_by_unless_it_must_translate_them() {
        let direct = server(Method::Tunnel, true);
        assert!(direct.contains("addr add fd70::1/128 dev lo") && direct.contains("dev eth1"));
        assert!(!direct.contains("default"));
        let masq = server(Method::Masq, true);
        assert!(masq.contains("route add default via fd78::fe") && !masq.contains("fd70::1"));
        assert!(!server(Method::Tunnel, false).contains("fd7"));
    }
}
