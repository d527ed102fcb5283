//! Connections end when their time is over: never early, and a day passes in a moment.

mod support;

use uvs_engine::clock::Ticks;
use uvs_engine::proto::tcp as states;
use uvs_forward::Method;
use uvs_forward::wire::{protocol, tcp::flag as tcp_flag};

use support::{Config, Lab, Packet, reply, request, syn};

const ACK: u8 = tcp_flag::ACK;

fn tcp(flags: u8, n: u16) -> Packet {
    request(protocol::TCP, flags, n, 1)
}

/// Lets half a second pass again and again, with the turns of a worker that gets no frames.
fn idle(lab: &mut Lab, seconds: u32) {
    for _ in 0..2 * seconds {
        lab.clock.advance(Ticks(50));
        lab.run();
    }
}

#[test]
fn an_established_connection_lives_900_seconds() {
    for idle_turns in [false, true] {
        let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
        lab.give(&syn(0));
        lab.give(&reply(protocol::TCP, tcp_flag::SYN | ACK, 0, 1));
        lab.give(&tcp(ACK, 0));
        assert_eq!(lab.conn().state, states::ESTABLISHED);
        let pass = if idle_turns { idle } else { Lab::pass };
        pass(&mut lab, 899);
        assert_eq!(lab.table.len(), 1);
        lab.check();
        pass(&mut lab, 2);
        assert!(lab.table.is_empty());
        assert_eq!(lab.config.first().load.conns(), (0, 0));
        lab.check();
    }
}

#[test]
fn every_state_has_its_time() {
    let rst = tcp_flag::RST;
    let fin = tcp_flag::FIN | ACK;
    let cases: [(&[u8], u32); 6] = [
        (&[], 60),
        (&[ACK], 900),
        (&[fin], 120),
        (&[ACK, fin], 120),
        (&[ACK, rst], 10),
        // Shorter, then longer again.
        (&[ACK, rst, ACK, tcp_flag::SYN, ACK], 900),
    ];
    for (flags, seconds) in cases {
        let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
        lab.give(&syn(0));
        flags.iter().for_each(|flags| drop(lab.give(&tcp(*flags, 0))));
        lab.clock.advance(Ticks(seconds * 100 - 1));
        lab.run();
        assert_eq!(lab.table.len(), 1, "{seconds} s for {flags:?}");
        lab.clock.advance(Ticks(1));
        lab.run();
        assert!(lab.table.is_empty(), "{seconds} s for {flags:?}");
        lab.check();
    }
}

#[test]
fn packets_keep_a_connection_for_a_day() {
    let mut lab = Lab::new(Config::one(protocol::UDP, Method::Tunnel));
    let packet = request(protocol::UDP, 0, 0, 1);
    for _ in 0..24 * 3600 / 240 {
        assert_eq!(lab.give(&packet).len(), 1);
        lab.pass(240);
    }
    assert_eq!(lab.config.virtuals[0].traffic.total().conns, 1, "one connection all day");
    lab.pass(60);
    assert!(lab.table.is_empty());
    lab.check();
}

#[test]
fn a_day_without_packets_ends_them_all() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    for n in 0..1000 {
        lab.put(0, &syn(n));
    }
    lab.run();
    lab.sent(0);
    (0..500).for_each(|n| drop(lab.give(&tcp(ACK, n))));
    assert_eq!(lab.config.first().load.conns(), (1000, 0));
    lab.pass(24 * 3600);
    assert!(lab.table.is_empty());
    lab.check();
}

#[test]
fn expiry_has_a_budget_a_turn_and_catches_up() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    (0..1000).for_each(|n| lab.put(0, &syn(n)));
    lab.run();
    lab.clock.advance(Ticks::from_secs(61));
    let mut turns = 0;
    while !lab.table.is_empty() {
        lab.workers[0].turn();
        turns += 1;
        assert!(turns < 20, "{} are left", lab.table.len());
    }
    assert!(turns > 4, "not all at once");
    lab.check();
}
