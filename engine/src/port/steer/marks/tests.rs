//! The program's answers to frames, with the workers' own marks as the judge.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::lab::{self, CLIENT, NOT_SERVED, SERVED, VIP};
use super::super::tests::{TC_ACT_SHOT, verdict};
use super::super::{Endpoint, Programs, Steering};
use super::*;
use crate::link::{Forwards, Link, LinkId};
use crate::marks::tests::{address, port, protocol, rule as any_rule};
use crate::marks::{MarkRule, Network, Packet};

const UDP: u8 = 17;

/// On which the kernel runs a program for a test.
const LINK: LinkId = LinkId(1);

fn steering() -> Option<Steering> {
    if lab::skip() {
        return None;
    }
    let steering = Steering::load(Programs::Raw).unwrap();
    let loopback = Link {
        name: "lo".into(),
        ifindex: 1,
        mac: [0; 6],
        mtu: 1500,
        addresses: Vec::new(),
        forwards: Forwards::ALL,
    };
    steering.number(&loopback, LINK).unwrap();
    Some(steering)
}

/// These marks of IPv4 packets have a service.
fn steered<const N: usize>(rules: &[MarkRule], served: [u32; N]) -> Steered {
    steered_in_families(rules, served.map(|mark| (mark, false)).into())
}

fn steered_in_families(rules: &[MarkRule], served: HashSet<ServedMark>) -> Steered {
    Steered { marks: Arc::new(Marks::new(rules.to_vec())), served, ..Steered::default() }
}

fn rule(to: Ipv4Addr, prefix: u8, mark: u32) -> MarkRule {
    let destination = Some(Network { address: to.into(), prefix });
    MarkRule { source: None, destination, protocol: None, ports: None, link: None, mark }
}

fn udp_rule(to: Ipv4Addr, prefix: u8, ports: std::ops::RangeInclusive<u16>, mark: u32) -> MarkRule {
    MarkRule { protocol: Some(UDP), ports: Some(ports), ..rule(to, prefix, mark) }
}

fn is_ours(program: BorrowedFd<'_>, frame: &[u8]) -> bool {
    verdict(program, frame) == TC_ACT_SHOT
}

fn v4(packet: &[u8]) -> Vec<u8> {
    lab::ethernet(&[], 0x0800, packet)
}

/// A packet and its frame.
fn packet() -> impl Strategy<Value = (Packet, Vec<u8>)> {
    let near = (0..8u32).prop_map(|low| Ipv4Addr::from_bits(0x0a00_0000 | low).into());
    let addresses = || prop_oneof![near.clone(), address()];
    let ends =
        (addresses(), addresses()).prop_filter("one family", |(a, b)| a.is_v4() == b.is_v4());
    (protocol(), ends, port()).prop_map(|(protocol, (source, destination), port)| {
        let payload = lab::udp(4000, port, 0);
        // Extension headers are none of a mark's.
        let extension = [0, 43, 44, 51, 60].contains(&protocol);
        let protocol = if extension && !source.is_v4() { UDP } else { protocol };
        let frame = match (source.to_ip(), destination.to_ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => v4(&lab::ip(protocol, from, to, 0, &payload)),
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                lab::ethernet(&[], 0x86dd, &lab::ipv6(protocol, from, to, &payload))
            }
            _ => unreachable!("one family"),
        };
        let (source_port, destination_port) = (4000, port);
        let link = LINK;
        let packet = Packet { link, protocol, source, source_port, destination, destination_port };
        (packet, frame)
    })
}

/// As the connection's mark is found: AH and ESP go with ISAKMP's.
fn by_connection(packet: Packet) -> Packet {
    match packet.protocol {
        50 | 51 => Packet { protocol: UDP, source_port: 500, destination_port: 500, ..packet },
        _ => packet,
    }
}

/// As [`MarkRule`]s may be, from none to as many as there may be.
fn rules() -> impl Strategy<Value = Vec<MarkRule>> {
    use proptest::collection::vec;
    prop_oneof![4 => vec(any_rule(), 0..6), 2 => vec(any_rule(), 6..200),
        1 => vec(any_rule(), MAX_RULES)]
}

#[test]
fn what_is_taken_is_what_has_a_mark_that_is_served() {
    let Some(steering) = steering() else { return };
    let steering = RefCell::new(steering);
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    let served = proptest::collection::hash_set((1..5u32, any::<bool>()), 0..4);
    let packets = proptest::collection::vec(packet(), 200);
    let result = runner.run(&(rules(), served, packets), |(rules, served, packets)| {
        let (mut steering, steered) = (steering.borrow_mut(), steered_in_families(&rules, served));
        steering.update(&steered).unwrap();
        for (packet, frame) in &packets {
            let packet = by_connection(*packet);
            let ports = [6, UDP, 132].contains(&packet.protocol);
            let served = (steered.marks.of(&packet), !packet.source.is_v4());
            let expected = ports && steered.served.contains(&served);
            prop_assert_eq!(is_ours(steering.program("uvs_tcx"), frame), expected, "{:?}", packet);
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_fragment_is_taken_if_what_it_is_of_may_be_served() {
    let Some(mut steering) = steering() else { return };
    let net = Ipv4Addr::new(10, 90, 0, 0);
    let other = Ipv4Addr::new(10, 90, 1, 1);
    let rules = [
        // All of these are the kernel's, whatever port they are for.
        rule(other, 32, 8),
        udp_rule(net, 16, SERVED..=SERVED, 7),
        // A fragment may be of the rule before.
        rule(net, 16, 8),
        udp_rule(Ipv4Addr::UNSPECIFIED, 0, 1..=9, 8),
        // Or of this one, if no port of that before is its own.
        udp_rule(Ipv4Addr::UNSPECIFIED, 0, 5..=15, 7),
    ];
    steering.update(&steered(&rules, [7])).unwrap();
    let ours = |protocol, to, fragment, port| {
        let packet = lab::ip(protocol, CLIENT, to, fragment, &lab::udp(4000, port, 0));
        is_ours(steering.program("uvs_tcx"), &v4(&packet))
    };
    let outside = Ipv4Addr::new(172, 16, 0, 1);
    for fragment in [0x2000, 0x0010] {
        assert!(ours(UDP, VIP, fragment, NOT_SERVED));
        assert!(!ours(UDP, other, fragment, SERVED));
        assert!(ours(UDP, outside, fragment, 5));
        assert!(!ours(6, VIP, fragment, SERVED), "of another protocol");
        assert!(!ours(1, VIP, fragment, SERVED), "of one without ports");
    }
    assert!(ours(UDP, VIP, 0, SERVED) && !ours(UDP, VIP, 0, NOT_SERVED));
    assert!(!ours(UDP, other, 0, SERVED));
    assert!(!ours(UDP, outside, 0, 9) && ours(UDP, outside, 0, 10));
}

#[test]
fn an_error_has_the_mark_of_what_it_is_about() {
    let Some(mut steering) = steering() else { return };
    let from_client = Network { address: CLIENT.into(), prefix: 32 };
    let of_client = MarkRule { source: Some(from_client), ..udp_rule(VIP, 32, SERVED..=SERVED, 7) };
    steering.update(&steered(&[of_client], [7])).unwrap();
    let ours = |from, to, about: &[u8]| {
        is_ours(steering.program("uvs_tcx"), &v4(&lab::ip(1, from, to, 0, &lab::icmp(3, about))))
    };
    let answer = |to, port, fragment| lab::ip(UDP, VIP, to, fragment, &lab::udp(port, 4000, 0));
    let other = Ipv4Addr::new(10, 90, 0, 9);
    assert!(ours(CLIENT, VIP, &answer(CLIENT, SERVED, 0)));
    assert!(ours(CLIENT, VIP, &answer(CLIENT, NOT_SERVED, 0x10)), "a fragment");
    assert!(!ours(CLIENT, VIP, &answer(CLIENT, NOT_SERVED, 0)));
    assert!(!ours(CLIENT, VIP, &answer(other, SERVED, 0)), "to another client");
    assert!(!ours(CLIENT, other, &answer(CLIENT, SERVED, 0)), "not to the VIP");
}

#[test]
fn a_rule_of_a_link_is_of_no_other() {
    let Some(mut steering) = steering() else { return };
    let on = |link| MarkRule { link, ..rule(VIP, 32, 7) };
    let ours = |steering: &Steering| is_ours(steering.program("uvs_tcx"), &lab::request(SERVED, 0));
    for (link, expected) in [(None, true), (Some(LINK), true), (Some(LinkId(0)), false)] {
        steering.update(&steered(&[on(link)], [7])).unwrap();
        assert_eq!(ours(&steering), expected, "{link:?}");
    }
}

#[test]
fn too_many_rules_are_refused_and_change_nothing() {
    let Some(mut steering) = steering() else { return };
    let frame = lab::request(SERVED, 0);
    steering.update(&steered(&[rule(VIP, 32, 7)], [7])).unwrap();
    let many = vec![rule(CLIENT, 32, 7); MAX_RULES + 1];
    let error = steering.update(&steered(&many, [7])).unwrap_err();
    assert_eq!(error.to_string(), "1025 mark rules are more than the steering program's 1024");
    assert!(is_ours(steering.program("uvs_tcx"), &frame));
    // Nothing is served any more, and then again by the same rules.
    steering.update(&steered(&[rule(VIP, 32, 7)], [8])).unwrap();
    assert!(!is_ours(steering.program("uvs_tcx"), &frame));
    steering.update(&steered(&[rule(VIP, 32, 7)], [7])).unwrap();
    assert!(is_ours(steering.program("uvs_tcx"), &frame));
    steering.update(&Steered::default()).unwrap();
    assert!(!is_ours(steering.program("uvs_tcx"), &frame));
}

#[test]
fn no_frame_is_taken_or_left_wrongly_while_rules_change() {
    const UPDATES: usize = 60;
    let Some(mut steering) = steering() else { return };
    let (ours, theirs) = (lab::request(SERVED, 0), lab::request(NOT_SERVED, 0));
    let net = Ipv4Addr::new(10, 0, 0, 0);
    let few = [udp_rule(VIP, 32, SERVED..=SERVED, 1)];
    // The same for both frames, with other marks, other ranges and other places in the vectors.
    let mut many: Vec<MarkRule> =
        (0..300).map(|n| udp_rule(Ipv4Addr::from_bits(0x0a59_0000 | n), 32, 7..=8, 1)).collect();
    many.push(udp_rule(net, 8, NOT_SERVED..=NOT_SERVED, 3));
    many.push(rule(net, 8, 2));
    let endpoint = Endpoint { protocol: UDP, address: VIP.into(), port: SERVED };
    let by_endpoint = Steered { services: HashSet::from([endpoint]), ..Steered::default() };
    let ways = [steered(&few, [1]), steered(&many, [2]), by_endpoint, steered(&many, [2, 9])];

    steering.update(&ways[0]).unwrap();
    let program = steering.program("uvs_tcx").try_clone_to_owned().unwrap();
    let over = AtomicBool::new(false);
    let looked = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut looked, mut wrong) = (0, 0);
            // Relaxed: only that it ends some time.
            while !over.load(Ordering::Relaxed) {
                wrong += usize::from(!is_ours(program.as_fd(), &ours));
                wrong += usize::from(is_ours(program.as_fd(), &theirs));
                looked += 1;
            }
            (looked, wrong)
        });
        let mut ways = ways.iter().cycle().take(UPDATES);
        let updated = ways.try_for_each(|way| steering.update(way));
        // Relaxed: as above.
        over.store(true, Ordering::Relaxed);
        updated.unwrap();
        looking.join().unwrap()
    });
    assert_eq!(looked.1, 0, "of {} frames", looked.0);
    assert!(looked.0 > UPDATES, "{} frames are too few to say", looked.0);
}

#[test]
fn the_same_rules_may_come_to_serve_other_marks() {
    let Some(mut steering) = steering() else { return };
    let rules = [udp_rule(VIP, 32, SERVED..=SERVED, 7), rule(VIP, 32, 8)];
    for (served, expected) in [(7, [true, false]), (8, [false, true])] {
        steering.update(&steered(&rules, [served])).unwrap();
        let ours = [SERVED, NOT_SERVED]
            .map(|port| is_ours(steering.program("uvs_tcx"), &lab::request(port, 0)));
        assert_eq!(ours, expected, "{served}");
    }
}

#[test]
fn as_many_rules_as_there_may_be_are_all_found() {
    let Some(mut steering) = steering() else { return };
    // Each has a network, a client's network and a range of ports of its own, with as much between
    // it and the next.
    let address = |base: u32, n: u32| Ipv4Addr::from_bits(base + (n << 9));
    let numbered = |n: u32| MarkRule {
        source: Some(Network { address: address(0xac00_0000, n).into(), prefix: 24 }),
        ..udp_rule(address(0x0a00_0000, n), 24, n as u16 * 4..=n as u16 * 4 + 1, 1 + n % 2)
    };
    let rules: Vec<MarkRule> = (0..MAX_RULES as u32).map(numbered).collect();
    let ours = |steering: &Steering, n: u32, beside: [u32; 3]| {
        let [source, destination, port] = beside;
        let from = address(0xac00_0003 + (source << 8), n);
        let to = address(0x0a00_0003 + (destination << 8), n);
        let port = (n * 4 + 1 + port) as u16;
        let packet = lab::ip(UDP, from, to, 0, &lab::udp(4000, port, 0));
        is_ours(steering.program("uvs_tcx"), &v4(&packet))
    };
    for served in [1, 2] {
        steering.update(&steered(&rules, [served])).unwrap();
        for n in 0..MAX_RULES as u32 {
            assert_eq!(ours(&steering, n, [0, 0, 0]), 1 + n % 2 == served, "rule {n}");
            for beside in [[1, 0, 0], [0, 1, 0], [0, 0, 1]] {
                assert!(!ours(&steering, n, beside), "rule {n}, {beside:?}");
            }
        }
    }
}
