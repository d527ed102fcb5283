//! Frames for a server whose Ethernet address is not known yet: they wait, in order and not for
//! ever, and cost the others nothing.

mod support;

use uvs_engine::clock::Ticks;
use uvs_engine::counters::DropReason;
use uvs_forward::Method;
use uvs_forward::wire::protocol;

use support::services::server_mac;
use support::{Config, Lab, Real, SERVER_SIDE, Seen, Virtual, request};

const PER_NEIGHBOUR: usize = 32;

/// A service over each of these servers, all unresolved.
fn unresolved(method: Method, servers: impl Iterator<Item = u8>) -> Lab {
    let service = |n| Virtual::new(protocol::UDP, n, vec![Real::new(n, method)]);
    let mut config = Config::new(servers.map(service).collect());
    config.unresolved = (1..=250).collect();
    Lab::new(config)
}

fn datagram(service: u8, mark: u8) -> support::Packet {
    request(protocol::UDP, 0, 0, service).payload(&[mark])
}

fn marks(sent: &[Seen]) -> Vec<u8> {
    sent.iter().map(|seen| *seen.bytes.last().unwrap()).collect()
}

#[test]
fn frames_wait_and_leave_in_their_order() {
    for method in [Method::Route, Method::Masq, Method::Tunnel] {
        let mut lab = unresolved(method, 1..=2);
        (0..10).for_each(|mark| assert!(lab.give(&datagram(1, mark)).is_empty()));
        assert_eq!(lab.totals().waiting, 10);
        lab.check();
        lab.asks.hush();
        assert_eq!(lab.asks.take(), Some((SERVER_SIDE, [10, 0, 1, 1].into())));
        assert_eq!(lab.asks.take(), None, "asked once");

        lab.config.unresolved = vec![2];
        lab.publish();
        // A newer frame comes in the same turn: it leaves after those that waited.
        let sent = lab.give(&datagram(1, 10));
        assert_eq!(marks(&sent), (0..=10).collect::<Vec<u8>>(), "{method}");
        assert!(sent.iter().all(|s| s.dst_mac() == server_mac(1) && s.is_right()));
        assert_eq!((lab.totals().waiting, lab.totals().tx), (0, 11));
        lab.check();
    }
}

#[test]
fn one_that_is_known_is_not_held_up_by_one_that_is_not() {
    let mut lab = unresolved(Method::Route, 1..=2);
    lab.config.unresolved = vec![1];
    lab.publish();
    for mark in 0..40 {
        assert!(lab.give(&datagram(1, mark)).is_empty());
        assert_eq!(marks(&lab.give(&datagram(2, mark))), [mark]);
    }
    lab.check();
}

#[test]
fn frames_are_given_up_after_three_seconds() {
    let mut lab = unresolved(Method::Route, 1..=1);
    lab.give(&datagram(1, 0));
    lab.clock.advance(Ticks(200));
    lab.give(&datagram(1, 1));
    lab.clock.advance(Ticks(99));
    lab.run();
    assert_eq!(lab.totals().waiting, 2);
    lab.clock.advance(Ticks(1));
    lab.run();
    let totals = lab.totals();
    assert_eq!((totals.waiting, totals.dropped(DropReason::NeighbourUnresolved)), (1, 1));
    lab.clock.advance(Ticks(200));
    lab.run();
    assert_eq!(lab.totals().dropped(DropReason::NeighbourUnresolved), 2);
    lab.check();
}

#[test]
fn the_waiting_room_is_bounded() {
    let mut lab = unresolved(Method::Masq, 1..=20);
    for service in 1..=20 {
        for mark in 0..50 {
            lab.put(0, &datagram(service, mark));
        }
    }
    lab.run();
    let totals = lab.totals();
    assert_eq!(totals.waiting, 256, "{PER_NEIGHBOUR} for each of the first eight");
    assert_eq!(totals.dropped(DropReason::NeighbourQueueFull), 20 * 50 - 256);
    lab.check();

    lab.config.unresolved.clear();
    lab.publish();
    lab.run();
    let sent = lab.sent(0);
    assert_eq!(sent.len(), 256);
    let first: Vec<u8> = (0..PER_NEIGHBOUR as u8).collect();
    assert_eq!(marks(&sent[..PER_NEIGHBOUR]), first, "the oldest are kept");
    lab.check();
}

#[test]
fn what_waits_at_the_end_is_counted() {
    let mut lab = unresolved(Method::Tunnel, 1..=1);
    lab.give(&datagram(1, 0));
    lab.put(0, &datagram(1, 1));
    lab.workers[0].stop();
    let totals = lab.totals();
    assert_eq!((totals.waiting, totals.dropped(DropReason::Shutdown)), (0, 2));
    lab.check();
}
