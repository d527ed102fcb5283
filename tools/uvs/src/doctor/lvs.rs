//! The classic traps of Linux Virtual Server: most of them are on the real servers.
//!
//! A machine that looks like a real server (it holds a VIP on `lo`, or has an ipip device) is
//! checked; for the others there is advice to take there.

use uvs_control::host::links::Interface;

use super::report::{Finding, Section};
use super::root::Root;

/// What this machine shows of the traps.
pub fn here(root: &Root, interfaces: &[Interface]) -> Section {
    let mut findings = Vec::new();
    findings.extend(held_vips(root, interfaces));
    findings.extend(interfaces.iter().filter_map(|interface| tunnel(root, interface)));
    findings.push(forwarding(root));
    Section { title: "Services on this machine".into(), mode: None, findings }
}

/// What to see to on the real servers, by forwarding method.
pub fn elsewhere() -> Section {
    let advice = [
        ("DR (-g)", "each server holds the VIP on lo", "ip address add VIP/32 dev lo"),
        (
            "DR, TUN",
            "and does not answer for it in ARP",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
        ),
        (
            "TUN (-i)",
            "each server unpacks IPIP and holds the VIP on the tunnel device",
            "modprobe ipip && ip address add VIP/32 dev tunl0 && ip link set tunl0 up",
        ),
        (
            "TUN (-i)",
            "and lets in what comes out of it from clients that are reached another way",
            "sysctl -w net.ipv4.conf.tunl0.rp_filter=2",
        ),
        (
            "TUN (-i)",
            "IPIP adds 20 bytes: unless the way has a larger MTU, TCP must send less at once",
            "ip route change default via ROUTER advmss 1440",
        ),
        (
            "NAT (-m)",
            "replies must come back through uvs: it is the servers' default route",
            "ip route replace default via DIRECTOR",
        ),
        (
            "veth",
            "what sits on a veth sends unfinished checksums and 64 KB frames",
            "ethtool -K DEV tx off gso off tso off",
        ),
    ];
    let note = |(topic, text, command)| Finding::note(topic, text).mend(command);
    Section {
        title: "To see to on the real servers".into(),
        mode: None,
        findings: advice.map(note).to_vec(),
    }
}

/// VIPs on `lo` that this machine answers ARP for, although the director should.
fn held_vips(root: &Root, interfaces: &[Interface]) -> Option<Finding> {
    let lo = interfaces.iter().find(|interface| interface.name == "lo")?;
    let vips: Vec<String> =
        lo.addresses.iter().filter(|ip| !ip.is_loopback()).map(ToString::to_string).collect();
    if vips.is_empty() {
        return None;
    }
    let vips = vips.join(", ");
    let ethernets = || interfaces.iter().filter(|interface| interface.ethernet && interface.up);
    let quiet = ethernets().all(|interface| {
        let of = |key| root.setting(&interface.name, key);
        matches!(of("arp_ignore"), 1..) && of("arp_announce") == 2
    });
    Some(match quiet {
        true => {
            Finding::ok("VIP on lo", format!("{vips}: not answered for in ARP, as DR and TUN want"))
        }
        false => Finding::note(
            "VIP on lo",
            format!("{vips}: this machine answers ARP for it; a real server of DR or TUN must not"),
        )
        .mend("sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"),
    })
}

/// The unpacking device of a TUN server. What comes out of it is from clients that are reached
/// over another interface, which strict reverse path filtering drops; and any filtering, strict
/// or loose, drops what comes in on an interface that has no address.
fn tunnel(root: &Root, interface: &Interface) -> Option<Finding> {
    let name = &interface.name;
    if interface.kind.as_deref() != Some("ipip") {
        return None;
    }
    Some(match root.setting(name, "rp_filter") {
        _ if !interface.up => {
            Finding::note("tunnel", format!("{name} is down: IPIP is not unpacked"))
                .mend(format!("ip link set {name} up"))
        }
        1 => Finding::problem("tunnel", format!("rp_filter drops all that comes out of {name}"))
            .mend(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2")),
        2 if interface.addresses.is_empty() => Finding::problem(
            "tunnel",
            format!("{name} has no address: rp_filter drops its packets"),
        )
        .mend(format!("ip address add VIP/32 dev {name}")),
        _ => Finding::ok("tunnel", format!("{name} unpacks IPIP and rp_filter lets it through")),
    })
}

fn forwarding(root: &Root) -> Finding {
    match root.number("proc/sys/net/ipv4/ip_forward") {
        Some(1) => Finding::ok(
            "ip_forward",
            "on: replies of NAT servers are taken, and what is of no service goes on",
        ),
        _ => Finding::note(
            "ip_forward",
            "off: as with the kernel's IPVS, replies of NAT servers are dropped; DR and TUN do not need it",
        )
        .mend("sysctl -w net.ipv4.ip_forward=1"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::report::Level;
    use super::super::root::fake;
    use super::*;

    fn interface(name: &str, kind: Option<&str>, addresses: &[[u8; 4]]) -> Interface {
        Interface {
            name: name.into(),
            kind: kind.map(str::to_owned),
            ethernet: name.starts_with("eth"),
            up: true,
            mtu: 1500,
            xdp: None,
            addresses: addresses.iter().map(|ip| Ipv4Addr::from(*ip)).collect(),
        }
    }

    fn level(section: &Section, topic: &str) -> Option<Level> {
        section.findings.iter().find(|f| f.topic == topic).map(|f| f.level)
    }

    #[test]
    fn a_vip_on_lo_wants_silence_in_arp() {
        let all = [
            interface("lo", None, &[[127, 0, 0, 1], [10, 77, 0, 1]]),
            interface("eth0", None, &[[10, 0, 0, 1]]),
        ];
        let loud = fake("loud", &[("proc/sys/net/ipv4/conf/all/arp_ignore", "1")]);
        assert_eq!(level(&here(&loud, &all), "VIP on lo"), Some(Level::Note));
        let quiet = fake(
            "quiet",
            &[
                ("proc/sys/net/ipv4/conf/all/arp_ignore", "1"),
                ("proc/sys/net/ipv4/conf/eth0/arp_announce", "2\n"),
            ],
        );
        assert_eq!(level(&here(&quiet, &all), "VIP on lo"), Some(Level::Ok));
        let plain = [interface("lo", None, &[[127, 0, 0, 1]])];
        assert_eq!(level(&here(&quiet, &plain), "VIP on lo"), None);
    }

    #[test]
    fn reverse_path_filtering_of_a_tunnel_is_seen() {
        let with = |name: &str, value: &str, addresses: &[[u8; 4]]| {
            let root = fake(name, &[("proc/sys/net/ipv4/conf/all/rp_filter", value)]);
            level(&here(&root, &[interface("tunl0", Some("ipip"), addresses)]), "tunnel")
        };
        assert_eq!(with("strict", "1", &[[10, 77, 0, 1]]), Some(Level::Problem));
        assert_eq!(with("loose-bare", "2", &[]), Some(Level::Problem));
        assert_eq!(with("loose", "2", &[[10, 77, 0, 1]]), Some(Level::Ok));
        assert_eq!(with("off", "0", &[]), Some(Level::Ok));
    }

    #[test]
    fn the_advice_names_all_three_methods() {
        let text = format!("{:?}", elsewhere());
        for word in ["-g", "-i", "-m", "arp_ignore", "rp_filter", "default via", "tx off"] {
            assert!(text.contains(word), "{word}");
        }
    }
}
