//! The walk over the rules judges the compiled ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The mark by the definition: the first rule that matches.
fn walked(rules: &[MarkRule], packet: &Packet) -> u32 {
    rules.iter().find(|rule| matches(rule, packet)).map_or(0, |rule| rule.mark)
}

fn matches(rule: &MarkRule, packet: &Packet) -> bool {
    rule.source.is_none_or(|network| has(network, packet.source))
        && rule.destination.is_none_or(|network| has(network, packet.destination))
        && rule.protocol.is_none_or(|protocol| protocol == packet.protocol)
        && rule.ports.as_ref().is_none_or(|ports| ports.contains(&packet.destination_port))
        && rule.link.is_none_or(|link| link == packet.link)
}

/// Compares bit by bit, as an address is written.
fn has(network: Network, address: Address) -> bool {
    let bits = |address: Address| -> Vec<bool> {
        let octets = match address.to_ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1)).collect()
    };
    let (ours, theirs) = (bits(network.address), bits(address));
    let prefix = usize::from(network.prefix);
    ours.len() == theirs.len() && ours[..prefix] == theirs[..prefix]
}

/// Addresses near each other, so that networks nest and packets hit them; of IPv6 also those right
/// before and behind the IPv4-mapped ones.
pub(crate) fn address() -> impl Strategy<Value = Address> {
    let v6 = |bits| Address::from(Ipv6Addr::from_bits(bits));
    prop_oneof![
        (0..8u32).prop_map(|low| Ipv4Addr::from_bits(0x0a00_0000 | low).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        (0..8u128).prop_map(move |low| v6(0x2001_0db8 << 96 | low)),
        any::<u128>().prop_map(v6),
        (0..4u128).prop_map(move |low| v6((0xffff << 32) - 1 - low)),
        (0..4u128).prop_map(move |low| v6((0x1_0000 << 32) + low)),
        Just(v6(u128::MAX)),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    (address(), 0..=128u8, any::<bool>()).prop_map(|(address, prefix, near)| {
        let most = if address.is_v4() { 32 } else { 128 };
        let prefix = if near { most - prefix % 5 } else { prefix % (most + 1) };
        Network { address, prefix }
    })
}

pub(crate) fn port() -> impl Strategy<Value = u16> {
    prop_oneof![78..90u16, any::<u16>(), Just(0), Just(u16::MAX)]
}

pub(crate) fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6), Just(17), Just(132), any::<u8>()]
}

pub(crate) fn rule() -> impl Strategy<Value = MarkRule> {
    let ports = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    let network = || proptest::option::weighted(0.6, network());
    let link = (0..3u8).prop_map(LinkId);
    (
        (network(), network()),
        proptest::option::of(protocol()),
        proptest::option::of(ports),
        proptest::option::weighted(0.3, link),
        1..5u32,
    )
        .prop_map(|((source, destination), protocol, ports, link, mark)| MarkRule {
            source,
            destination,
            protocol,
            ports,
            link,
            mark,
        })
}

fn packet() -> impl Strategy<Value = Packet> {
    (0..4u8, protocol(), address(), address(), port()).prop_map(
        |(link, protocol, source, destination, destination_port)| Packet {
            link: LinkId(link),
            protocol,
            source,
            source_port: 1024,
            destination,
            destination_port,
        },
    )
}

proptest! {
    #[test]
    fn a_packet_has_the_mark_of_the_first_rule_that_matches(
        rules in proptest::collection::vec(rule(), 0..200),
        packets in proptest::collection::vec(packet(), 100),
    ) {
        let marks = Marks::new(rules);
        for packet in &packets {
            prop_assert_eq!(marks.of(packet), walked(marks.rules(), packet), "{:?}", packet);
        }
    }

    #[test]
    fn a_network_has_the_addresses_between_its_ends(network in network(), address in address()) {
        let (first, last) = network.ends();
        let between = (first..=last).contains(&address.to_bits());
        let family = network.address.is_v4() == address.is_v4();
        prop_assert_eq!(network.has(address), between && family);
        prop_assert_eq!(network.has(address), has(network, address));
    }
}

#[test]
fn equal_vectors_are_kept_once_and_ranges_are_as_few_as_can_be() {
    let network = |prefix| Network { address: Ipv4Addr::new(10, 0, 0, 0).into(), prefix };
    let rule = |destination, mark| MarkRule {
        source: None,
        destination: Some(destination),
        protocol: None,
        ports: None,
        link: None,
        mark,
    };
    let marks = Marks::new((8..=32).map(|prefix| rule(network(prefix), 1)).collect());
    let classifier = marks.classifier();
    assert_eq!(classifier.sources.starts, [0]);
    // None of them, 25 of them nested, none again.
    assert_eq!(classifier.destinations.starts.len(), 27);
    // Of 0 to 25 rules, the last of which is "all" of everything else.
    assert_eq!(classifier.vectors.len(), 26);
}
