//! Fragments through the whole engine: the packet that they are parts of goes the way that it would
//! have gone whole, whichever cores the parts came to and in whatever order.

mod support;

use support::{CLIENT_SIDE, Config, Lab, Packet, SERVER_SIDE, reply, request};
use uvs_engine::counters::{DropReason, HostReason};
use uvs_forward::Method;
use uvs_forward::checksum::Sum;
use uvs_forward::wire::{Ipv4, protocol};

const L3: usize = 14;

/// An IPv4 frame without options as fragments, with at most so many bytes of payload each.
fn cut(frame: &[u8], most: usize) -> Vec<Vec<u8>> {
    let (header, payload) = frame.split_at(L3 + 20);
    let parts = payload.chunks(most).enumerate().map(|(at, part)| {
        let mut fragment = [header, part].concat();
        let (offset, more) = (at * most, (at + 1) * most < payload.len());
        let len = (20 + part.len()) as u16;
        let field = (offset / 8) as u16 | u16::from(more) << 13;
        fragment[L3 + 2..L3 + 4].copy_from_slice(&len.to_be_bytes());
        fragment[L3 + 6..L3 + 8].copy_from_slice(&field.to_be_bytes());
        fragment[L3 + 10..L3 + 12].fill(0);
        let sum = Sum::of(&fragment[L3..L3 + 20]).finish();
        fragment[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
        fragment
    });
    parts.collect()
}

/// What the fragments of one packet carry, put together by their offsets.
fn joined(fragments: &[support::Seen]) -> Vec<u8> {
    let mut payload = Vec::new();
    for fragment in fragments {
        let ip = Ipv4::new_checked(&fragment.bytes[L3..]).expect("a right header");
        assert_eq!(ip.fragment_offset(), payload.len(), "in order, without gaps");
        payload.extend(&fragment.bytes[L3 + 20..]);
    }
    payload
}

fn datagram(bytes: usize) -> Packet {
    let payload: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    Packet { dont_fragment: false, ..request(protocol::UDP, 0, 0, 1).payload(&payload) }
}

/// What leaves when the whole packet comes over links that carry it.
fn as_a_whole(method: Method, packet: &Packet) -> Vec<u8> {
    let mut config = Config::one(protocol::UDP, method);
    config.mtus = [9000, 9000];
    let sent = Lab::new(config).give(packet);
    assert_eq!(sent.len(), 1);
    sent[0].bytes[L3 + 20..].to_vec()
}

#[test]
fn parts_on_two_cores_in_any_order_are_one_packet() {
    // The memory port's frames hold no more than this whole, to compare with.
    let packet = datagram(1400);
    for method in [Method::Route, Method::Masq, Method::Tunnel] {
        let whole = as_a_whole(method, &packet);
        let parts = cut(&packet.bytes(), 600);
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut lab = Lab::with(Config::one(protocol::UDP, method), 2, 64);
            for (turn, part) in order.iter().enumerate() {
                lab.put_bytes(turn % 2, CLIENT_SIDE, &parts[*part]);
                lab.run();
            }
            let sent = [lab.sent(0), lab.sent(1)].concat();
            assert!(sent.iter().all(|part| part.link == SERVER_SIDE), "{method}");
            assert!(sent.len() > 1, "{method}: what came in fragments leaves in fragments");
            assert_eq!(joined(&sent), whole, "{method}, {order:?}");
            let totals = lab.totals();
            assert_eq!((totals.merged, totals.parted), (3, sent.len() as u64));
            assert_eq!(lab.conn().in_packets, 1);
            lab.check();
        }
    }
}

#[test]
fn a_reply_in_fragments_is_translated() {
    let mut lab = Lab::new(Config::one(protocol::UDP, Method::Masq));
    lab.give(&request(protocol::UDP, 0, 0, 1));
    let answer =
        Packet { dont_fragment: false, ..reply(protocol::UDP, 0, 0, 1).payload(&[7; 4000]) };
    for part in cut(&answer.bytes(), 1480) {
        lab.put_bytes(0, SERVER_SIDE, &part);
    }
    lab.run();
    let sent = lab.sent(0);
    assert_eq!(sent.len(), 3);
    for part in &sent {
        assert_eq!((part.link, part.ip().src()), (CLIENT_SIDE, [10, 0, 0, 1]));
    }
    let payload = joined(&sent);
    assert_eq!(payload[..2], 80u16.to_be_bytes(), "from the virtual port");
    assert_eq!(payload[8..], [7; 4000]);
    lab.check();
}

#[test]
fn what_is_for_the_host_reaches_it_in_fragments() {
    let mut lab = Lab::new(Config::one(protocol::UDP, Method::Route));
    let packet = Packet { dst: (packet_address(), 53), ..datagram(3000) };
    let parts = cut(&packet.bytes(), 1480);
    for part in &parts {
        lab.put_bytes(0, CLIENT_SIDE, part);
    }
    lab.run();
    let totals = lab.totals();
    let (_, count) = totals.to_host.iter().find(|(why, _)| *why == HostReason::NoService).unwrap();
    assert_eq!(*count, 3);
    assert_eq!(lab.host_got(0), parts);
    lab.check();
}

fn packet_address() -> std::net::Ipv4Addr {
    [10, 0, 0, 1].into()
}

#[test]
fn what_contradicts_itself_is_dropped() {
    let parts = cut(&datagram(3000).bytes(), 1480);
    let mut lab = Lab::new(Config::one(protocol::UDP, Method::Route));
    lab.put_bytes(0, CLIENT_SIDE, &parts[0]);
    // Begins 8 bytes before the first one ends.
    let mut overlap = parts[1].clone();
    overlap[L3 + 7] -= 1;
    overlap[L3 + 10..L3 + 12].fill(0);
    let sum = Sum::of(&overlap[L3..L3 + 20]).finish();
    overlap[L3 + 10..L3 + 12].copy_from_slice(&sum.to_be_bytes());
    lab.put_bytes(0, CLIENT_SIDE, &overlap);
    lab.put_bytes(0, CLIENT_SIDE, &parts[1]);
    lab.put_bytes(0, CLIENT_SIDE, &parts[2]);
    lab.run();
    assert_eq!(lab.totals().dropped(DropReason::FragmentOverlap), 1);
    assert!(lab.sent(0).is_empty() && lab.table.is_empty());
    lab.check();
}
