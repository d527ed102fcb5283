//! What uvs has and IPVS has not: settings that are off by default.

mod support;

use uvs_engine::counters::DropReason;
use uvs_engine::settings::Settings;
use uvs_forward::Method;
use uvs_forward::wire::{protocol, tcp::flag};

use support::services::server_mac;
use support::{CLIENT_SIDE, Config, Lab, Packet, Real, SERVER_SIDE, Virtual, request, syn};

/// A lab with one setting on.
fn lab(mut config: Config, setting: &str) -> Lab {
    config.rules.settings.set(setting, 1).unwrap();
    Lab::new(config)
}

fn two(protocol: u8) -> Config {
    let reals = vec![Real::new(1, Method::Route), Real::new(2, Method::Route)];
    Config::new(vec![Virtual::new(protocol, 1, reals)])
}

fn tcp(flags: u8) -> Packet {
    request(protocol::TCP, flags, 0, 1)
}

/// Flags and sequence number of a TCP segment.
fn segment(bytes: &[u8]) -> (u8, u32) {
    (bytes[13], u32::from_be_bytes([4, 5, 6, 7].map(|at| bytes[at])))
}

#[test]
fn a_udp_flow_leaves_a_server_that_is_gone_or_drained() {
    for (weight, available) in [(0, true), (1, false)] {
        for on in [false, true] {
            let config = two(protocol::UDP);
            let mut lab = if on { lab(config, "udp_reschedule") } else { Lab::new(config) };
            let packet = request(protocol::UDP, 0, 0, 1);
            assert_eq!(lab.give(&packet)[0].dst_mac(), server_mac(1));
            (lab.config.first().weight, lab.config.first().available) = (weight, available);
            lab.publish();
            let macs: Vec<_> = lab.give(&packet).iter().map(|seen| seen.dst_mac()).collect();
            let stays = if available { vec![server_mac(1)] } else { vec![] };
            assert_eq!(macs, if on { vec![server_mac(2)] } else { stays }, "{weight} {available}");
            lab.check();
        }
    }
}

#[test]
fn a_segment_of_no_connection_is_answered_with_a_reset() {
    let mut lab = lab(Config::one(protocol::TCP, Method::Route), "reset_unknown");
    let sent = lab.give(&tcp(flag::ACK));
    assert_eq!((sent.len(), sent[0].link), (1, CLIENT_SIDE));
    assert!(sent[0].is_right());
    assert_eq!(segment(sent[0].inside()).0, flag::RST);
    assert_eq!(lab.totals().dropped(DropReason::Reset), 1);
    assert!(lab.give(&tcp(flag::RST)).is_empty(), "a reset is not answered");
    lab.check();
}

#[test]
fn an_idle_connection_is_reset_at_both_ends_when_its_client_still_knows_it() {
    for method in [Method::Route, Method::Masq, Method::Tunnel] {
        let mut lab = lab(Config::one(protocol::TCP, method), "reset_on_expiry");
        lab.give(&syn(0));
        lab.give(&tcp(flag::ACK));
        lab.pass(901);
        lab.run();
        let asked = lab.sent(0);
        assert_eq!(
            (asked.len(), asked[0].link),
            (1, CLIENT_SIDE),
            "{method:?}: the client is asked"
        );
        assert_eq!(segment(asked[0].inside()).0, flag::ACK);
        let mut sent = lab.give(&tcp(flag::ACK));
        sent.extend({
            lab.run();
            lab.sent(0)
        });
        let links: Vec<_> = sent.iter().map(|seen| seen.link).collect();
        assert!(links.contains(&SERVER_SIDE) && links.contains(&CLIENT_SIDE), "{method:?}");
        for seen in &sent {
            let tunnelled = method == Method::Tunnel && seen.link == SERVER_SIDE;
            let bytes = if tunnelled { &seen.inside()[20..] } else { seen.inside() };
            assert_eq!(segment(bytes).0, flag::RST, "{method:?}");
            assert!(seen.is_right());
        }
        lab.pass(60);
        assert!(lab.table.is_empty());
        lab.check();
    }
}

#[test]
fn a_client_that_sends_data_when_asked_keeps_its_connection() {
    let mut lab = lab(Config::one(protocol::TCP, Method::Route), "reset_on_expiry");
    lab.give(&syn(0));
    lab.give(&tcp(flag::ACK));
    lab.pass(901);
    lab.run();
    lab.sent(0);
    let sent = lab.give(&tcp(flag::ACK).payload(b"still here"));
    assert_eq!((sent.len(), sent[0].link), (1, SERVER_SIDE));
    lab.pass(800);
    assert_eq!(lab.conn().flags & uvs_engine::table::flag::ASKED, 0);
    lab.check();
}

#[test]
fn a_silent_client_loses_its_connection_all_the_same() {
    let mut lab = lab(Config::one(protocol::TCP, Method::Route), "reset_on_expiry");
    lab.give(&syn(0));
    lab.give(&tcp(flag::ACK));
    lab.pass(901);
    assert_eq!(lab.table.len(), 1);
    lab.pass(5);
    assert!(lab.table.is_empty());
    lab.check();
}

#[test]
fn a_flow_without_room_in_the_table_goes_to_one_server_all_the_same() {
    let mut config = two(protocol::TCP);
    config.rules.settings.set("table_full_hash", 1).unwrap();
    let mut lab = Lab::with(config, 1, 1);
    lab.give(&syn(0));
    let mut servers = std::collections::BTreeSet::new();
    for client in 1..40 {
        let first = lab.give(&syn(client));
        let next = lab.give(&request(protocol::TCP, flag::ACK, client, 1));
        assert_eq!((first.len(), next.len()), (1, 1), "client {client}");
        assert_eq!(first[0].dst_mac(), next[0].dst_mac());
        servers.insert(first[0].dst_mac());
    }
    assert_eq!((servers.len(), lab.table.len()), (2, 1), "spread, and nothing is kept");
    lab.check();
}

#[test]
fn all_of_it_is_off_by_default() {
    let settings = Settings::default();
    for name in ["udp_reschedule", "reset_on_expiry", "reset_unknown", "table_full_hash"] {
        assert_eq!(settings.get(name), Some(0), "{name}");
    }
}
