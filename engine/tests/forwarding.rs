//! What becomes of frames: the way through a whole worker, and the ways it can end before.

mod support;

use uvs_engine::counters::{DropReason, HostReason, Totals};
use uvs_engine::proto::tcp as states;
use uvs_forward::Method;
use uvs_forward::wire::{Ipv4, protocol, tcp::flag as tcp_flag};

use support::services::{DIRECTOR, DIRECTOR_MACS, ROUTER_MAC, server_mac};
use support::{CLIENT_SIDE, Config, Lab, Packet, Real, SERVER_SIDE, Virtual, reply, request, syn};

const SYN: u8 = tcp_flag::SYN;
const ACK: u8 = tcp_flag::ACK;
const FIN: u8 = tcp_flag::FIN | tcp_flag::ACK;
const RST: u8 = tcp_flag::RST;
const METHODS: [Method; 3] = [Method::Route, Method::Masq, Method::Tunnel];

fn host(totals: &Totals, reason: HostReason) -> u64 {
    totals.to_host.iter().find(|(r, _)| *r == reason).unwrap().1
}

/// A TCP packet of client 0 to the first service.
fn tcp(flags: u8) -> Packet {
    request(protocol::TCP, flags, 0, 1)
}

#[test]
fn a_request_and_its_reply_pass_in_nat() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    let sent = lab.give(&syn(0).payload(b"hello"));
    assert_eq!((sent.len(), sent[0].link, sent[0].dst_mac()), (1, SERVER_SIDE, server_mac(1)));
    assert_eq!((sent[0].ip().dst(), sent[0].ip().ttl()), ([10, 0, 1, 1], 63));
    assert_eq!(sent[0].inside()[2..4], 8080u16.to_be_bytes());
    assert!(sent[0].is_right() && sent[0].bytes.ends_with(b"hello"));

    let sent = lab.give(&reply(protocol::TCP, SYN | ACK, 0, 1));
    assert_eq!((sent.len(), sent[0].link, sent[0].dst_mac()), (1, CLIENT_SIDE, ROUTER_MAC));
    assert_eq!(sent[0].ip().src(), [10, 0, 0, 1]);
    assert_eq!(sent[0].inside()[..2], 80u16.to_be_bytes());
    assert!(sent[0].is_right());

    let traffic = lab.config.first().traffic.total();
    assert_eq!((traffic.conns, traffic.in_packets, traffic.in_bytes), (1, 1, 45));
    assert_eq!((traffic.out_packets, traffic.out_bytes), (1, 40));
    assert_eq!(lab.config.virtuals[0].traffic.total(), traffic);
    lab.check();
}

#[test]
fn a_datagram_passes_whole_in_a_tunnel() {
    let mut lab = Lab::new(Config::one(protocol::UDP, Method::Tunnel));
    let packet = request(protocol::UDP, 0, 0, 1).payload(b"hello");
    let sent = lab.give(&packet);
    assert_eq!((sent.len(), sent[0].dst_mac()), (1, server_mac(1)));
    let (outer, inner) = (sent[0].ip(), Ipv4::new_checked(sent[0].inside()).unwrap());
    assert_eq!((outer.protocol(), outer.dst()), (protocol::IPIP, [10, 0, 1, 1]));
    assert_eq!(outer.src(), DIRECTOR.octets());
    assert_eq!((inner.dst(), inner.ttl()), ([10, 0, 0, 1], 63));
    assert_eq!(sent[0].inside()[20..], packet.bytes()[34..]);
    lab.check();
}

#[test]
fn tags_are_kept_and_padding_is_not_sent_on() {
    for method in METHODS {
        for tags in [vec![], vec![[0x81, 0, 0, 5]], vec![[0x88, 0xa8, 0, 9], [0x81, 0, 0, 5]]] {
            let mut lab = Lab::new(Config::one(protocol::UDP, method));
            let plain = Packet { tags, ..request(protocol::UDP, 0, 0, 1).payload(b"uvs") };
            let sent = lab.give(&Packet { padding: 13, ..plain.clone() });
            let outer = if method == Method::Tunnel { 20 } else { 0 };
            let expected = plain.bytes();
            let tags = 12..14 + 4 * plain.tags.len();
            assert_eq!(sent[0].bytes.len(), expected.len() + outer, "{method}");
            assert_eq!(sent[0].bytes[tags.clone()], expected[tags], "{method}");
            assert!(sent[0].is_right() && sent[0].bytes.ends_with(b"uvs"));
            let totals = lab.totals();
            assert_eq!(totals.rx_bytes, expected.len() as u64 + 13);
            assert_eq!(totals.tx_bytes, sent[0].bytes.len() as u64);
        }
    }
}

#[test]
fn frames_of_others_are_dropped_or_left_to_the_host() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    let other = Packet { dst_mac: server_mac(9), ..syn(0) };
    let multicast = Packet { dst_mac: [1, 0, 0x5e, 0, 0, 1], ..syn(0) };
    let elsewhere = request(protocol::TCP, SYN, 0, 77);
    let mut fragment = syn(0).bytes();
    fragment[20] = 0x20;
    fragment[24..26].fill(0);
    let sum = uvs_forward::checksum::Sum::of(&fragment[14..34]).finish();
    fragment[24..26].copy_from_slice(&sum.to_be_bytes());
    let icmp = request(protocol::ICMP, 0, 0, 1);
    let gre = request(47, 0, 0, 1);
    let mut arp = syn(0).bytes();
    arp[13] = 6;
    let unknown_reply = reply(protocol::TCP, ACK, 5, 1);
    for packet in [&other, &multicast, &elsewhere, &icmp, &gre, &tcp(ACK), &unknown_reply] {
        lab.put(0, packet);
    }
    lab.put_bytes(0, CLIENT_SIDE, &fragment);
    lab.put_bytes(0, CLIENT_SIDE, &arp);
    lab.run();
    let totals = lab.totals();
    assert_eq!((totals.rx, totals.tx, totals.dropped(DropReason::OtherHost)), (9, 0, 1));
    let counts = [
        (HostReason::NotIp, 2),
        (HostReason::NoService, 1),
        (HostReason::Icmp, 1),
        (HostReason::OtherProtocol, 1),
        (HostReason::NoConn, 2),
        (HostReason::LocalDest, 0),
    ];
    for (reason, count) in counts {
        assert_eq!(host(&totals, reason), count, "{reason}");
    }
    assert_eq!(totals.dropped(DropReason::FragmentTiny), 1);
    let frames = lab.host_got(0);
    assert_eq!((frames.len(), &frames[1]), (7, &elsewhere.bytes()));
    lab.check();
}

#[test]
fn without_a_server_the_client_is_told() {
    for spoil in [|r: &mut Real| r.weight = 0, |r: &mut Real| r.available = false] {
        let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
        spoil(lab.config.first());
        lab.publish();
        let sent = lab.give(&syn(0));
        assert_eq!((sent.len(), sent[0].link, sent[0].dst_mac()), (1, CLIENT_SIDE, ROUTER_MAC));
        assert_eq!((sent[0].icmp(), sent[0].ip().src()), (Some((3, 3, 0)), [10, 0, 0, 1]));
        assert!(sent[0].is_right());
        let totals = lab.totals();
        assert_eq!((totals.dropped(DropReason::NoDest), totals.originated), (1, 1));
        assert!(lab.table.is_empty());
        lab.check();
    }
}

#[test]
fn weight_0_keeps_what_it_has() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    lab.give(&syn(0));
    lab.config.first().weight = 0;
    lab.publish();
    assert_eq!(lab.give(&tcp(ACK))[0].dst_mac(), server_mac(1));
    assert_eq!(lab.give(&syn(1))[0].icmp(), Some((3, 3, 0)));
    lab.check();
}

#[test]
fn a_used_up_ttl_is_answered() {
    for method in METHODS {
        let mut lab = Lab::new(Config::one(protocol::TCP, method));
        for (ttl, dropped) in [(1, 1), (0, 2)] {
            let sent = lab.give(&Packet { ttl, ..syn(0) });
            assert_eq!((sent.len(), sent[0].icmp()), (1, Some((11, 0, 0))), "{method}");
            assert_eq!(sent[0].ip().src(), [10, 0, 0, 1]);
            assert!(sent[0].is_right());
            assert_eq!(lab.totals().dropped(DropReason::TtlExceeded), dropped);
        }
        lab.check();
    }
    // A reply's sender is told by the director itself.
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    lab.give(&syn(0));
    let sent = lab.give(&Packet { ttl: 1, ..reply(protocol::TCP, SYN | ACK, 0, 1) });
    assert_eq!((sent[0].icmp(), sent[0].link), (Some((11, 0, 0)), SERVER_SIDE));
    assert_eq!(sent[0].ip().src(), DIRECTOR.octets());
    lab.check();
}

#[test]
fn what_is_too_big_is_answered_with_the_mtu() {
    for (method, mtu) in [(Method::Route, 1000), (Method::Masq, 1000), (Method::Tunnel, 980)] {
        let mut config = Config::one(protocol::UDP, method);
        config.mtus = [1500, 1000];
        let mut lab = Lab::new(config);
        let fits = request(protocol::UDP, 0, 0, 1).payload(&vec![1; usize::from(mtu) - 28]);
        assert_eq!(lab.give(&fits)[0].link, SERVER_SIDE, "{method}");
        let big = request(protocol::UDP, 0, 0, 1).payload(&vec![1; usize::from(mtu) - 27]);
        let sent = lab.give(&big);
        assert_eq!((sent.len(), sent[0].link), (1, CLIENT_SIDE), "{method}");
        assert_eq!(sent[0].icmp(), Some((3, 4, mtu)), "{method}");
        assert!(sent[0].is_right());
        let parts = lab.give(&Packet { dont_fragment: false, ..big });
        assert_eq!(parts.len(), 2, "{method}");
        assert!(parts.iter().all(|part| part.link == SERVER_SIDE && part.bytes.len() <= 1014));
        assert_eq!(lab.totals().dropped(DropReason::TooBig), 1);
        lab.check();
    }
}

#[test]
fn answers_are_limited() {
    let mut config = Config::one(protocol::TCP, Method::Route);
    config.first().weight = 0;
    let mut lab = Lab::new(config);
    // The lab itself has no limit: this worker has.
    let (_, mut owners) = uvs_engine::table::Table::new(64, 1, lab.clock.now()).unwrap();
    let (published, asks) = (lab.published.clone(), lab.asks.clone());
    let shared = uvs_engine::worker::Shared {
        answers_per_second: Some(1000),
        ..uvs_engine::worker::Shared::new(published, asks, lab.clock.clone())
    };
    let port = uvs_engine::port::memory::MemoryPort::new(256);
    let collected = uvs_engine::host::Collected::default();
    lab.workers[0] = support::Engine::new(port, collected, owners.pop().unwrap(), &shared);
    (0..100).for_each(|n| lab.put(0, &syn(n)));
    lab.run();
    let totals = lab.totals();
    // All of one address.
    assert_eq!((totals.dropped(DropReason::NoDest), totals.originated), (100, 6));
    lab.check();
}

#[test]
fn a_removed_server_drops_silently_and_comes_back() {
    for method in METHODS {
        let mut lab = Lab::new(Config::one(protocol::TCP, method));
        lab.give(&syn(0));
        lab.give(&tcp(ACK));
        let before = lab.conn();
        lab.config.first().available = false;
        lab.publish();
        lab.clock.advance(uvs_engine::clock::Ticks::from_secs(5));
        for flags in [ACK, SYN, RST] {
            assert!(lab.give(&tcp(flags)).is_empty());
        }
        assert_eq!(lab.totals().dropped(DropReason::DestUnavailable), 3);
        assert_eq!(lab.conn(), before, "neither state nor timer moved");
        lab.config.first().available = true;
        lab.publish();
        assert_eq!(lab.give(&tcp(ACK))[0].link, SERVER_SIDE);
        assert_eq!(lab.config.first().load.conns(), (1, 0));
        lab.check();
    }
}

#[test]
fn packets_of_a_removed_service_are_dropped_while_there_is_another() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    lab.give(&syn(0));
    let service = lab.config.virtuals[0].clone();
    // The server stays known, as that of a service which nobody asks for.
    lab.config.virtuals[0].endpoint.port = 1;
    lab.config.first().available = false;
    lab.publish();
    assert!(lab.give(&tcp(ACK)).is_empty());
    assert_eq!(lab.totals().dropped(DropReason::DestUnavailable), 1, "the connection is known");
    assert_eq!(lab.give(&reply(protocol::TCP, ACK, 0, 1)).len(), 1, "replies still pass");
    lab.config.virtuals[0] = service;
    lab.publish();
    assert_eq!(lab.give(&tcp(ACK)).len(), 1);
    lab.check();
}

#[test]
fn without_any_service_all_is_the_hosts() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    lab.give(&syn(0));
    let service = lab.config.virtuals.remove(0);
    lab.publish();
    lab.put(0, &tcp(ACK));
    lab.put(0, &reply(protocol::TCP, ACK, 0, 1));
    lab.run();
    assert_eq!(lab.totals().tx, 1);
    assert_eq!(lab.host_got(0).len(), 2);
    lab.config.virtuals.push(service);
    lab.publish();
    assert_eq!(lab.give(&tcp(ACK)).len(), 1);
    lab.check();
}

#[test]
fn a_syn_takes_the_place_of_a_connection_that_is_over() {
    let cases: [(&[u8], u8, bool); 5] = [
        (&[SYN, FIN], states::TIME_WAIT, true),
        (&[SYN, ACK, RST], states::CLOSE, true),
        (&[SYN, ACK, FIN], states::FIN_WAIT, false),
        (&[SYN, ACK], states::ESTABLISHED, false),
        (&[SYN], states::SYN_RECV, false),
    ];
    for (flags, state, rescheduled) in cases {
        let reals = vec![Real::new(1, Method::Route), Real::new(2, Method::Route)];
        let mut lab = Lab::new(Config::new(vec![Virtual::new(protocol::TCP, 1, reals)]));
        let mut first = [0; 6];
        for flags in flags {
            first = lab.give(&tcp(*flags))[0].dst_mac();
        }
        let before = lab.conn();
        assert_eq!(before.state, state);
        let second = lab.give(&tcp(SYN))[0].dst_mac();
        assert_eq!(first != second, rescheduled, "{}", states::NAMES[usize::from(state)]);
        assert_eq!(before.id != lab.conn().id, rescheduled);
        lab.check();
    }
}

#[test]
fn a_syn_with_rst_ends_what_is_over_and_opens_nothing() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    lab.give(&tcp(SYN));
    lab.give(&tcp(SYN | RST));
    assert_eq!(lab.conn().state, states::SYN_RECV);
    lab.give(&tcp(FIN));
    assert_eq!(lab.conn().state, states::TIME_WAIT);
    assert!(lab.give(&tcp(SYN | RST)).is_empty());
    assert!(lab.table.is_empty());
    assert_eq!(host(&lab.totals(), HostReason::NoConn), 1);
    lab.check();
}

#[test]
fn thresholds_are_kept() {
    let mut config = Config::one(protocol::UDP, Method::Route);
    config.first().upper = 4;
    let mut lab = Lab::new(config);
    let packet = |n| request(protocol::UDP, 0, n, 1);
    for n in 0..4 {
        assert_eq!(lab.give(&packet(n))[0].link, SERVER_SIDE);
        // One expires every second from second 300 on.
        lab.pass(1);
    }
    assert_eq!(lab.give(&packet(4))[0].icmp(), Some((3, 3, 0)));
    assert_eq!(lab.give(&packet(3))[0].link, SERVER_SIDE, "known ones go on");
    lab.pass(296);
    assert_eq!(lab.config.first().load.conns(), (0, 3));
    assert_eq!(lab.give(&packet(5))[0].icmp(), Some((3, 3, 0)), "3 is not below 3/4 of 4");
    lab.pass(1);
    assert_eq!(lab.give(&packet(5))[0].link, SERVER_SIDE);
    assert_eq!(lab.config.first().load.conns(), (0, 3));
    lab.check();
}

#[test]
fn a_full_table_turns_away_new_connections_only() {
    const CAPACITY: u16 = 128;
    let mut lab = Lab::with(Config::one(protocol::TCP, Method::Masq), 1, CAPACITY.into());
    for n in 0..3 * CAPACITY {
        lab.put(0, &syn(n));
    }
    lab.run();
    let totals = lab.totals();
    let opened = totals.tx;
    assert_eq!(totals.dropped(DropReason::TableFull), u64::from(3 * CAPACITY) - opened);
    assert_eq!((lab.table.len() as u64, opened), (opened, CAPACITY.into()));
    lab.sent(0);
    for n in 0..CAPACITY {
        assert_eq!(lab.give(&request(protocol::TCP, ACK, n, 1)).len(), 1);
        assert_eq!(lab.give(&reply(protocol::TCP, ACK, n, 1)).len(), 1);
    }
    lab.check();
    lab.pass(901);
    assert!(lab.table.is_empty());
    assert_eq!(lab.give(&syn(3 * CAPACITY)).len(), 1, "there is room again");
    lab.check();
}

#[test]
fn one_flow_twice_in_a_batch_is_one_connection() {
    for method in METHODS {
        let reals = vec![Real::new(1, method), Real::new(2, method)];
        let mut lab = Lab::new(Config::new(vec![Virtual::new(protocol::TCP, 1, reals)]));
        for flags in [SYN, SYN, ACK, FIN] {
            lab.put(0, &tcp(flags));
        }
        assert_eq!(lab.workers[0].turn(), 4, "all in one batch");
        let sent = lab.sent(0);
        assert!(sent.iter().all(|seen| seen.dst_mac() == sent[0].dst_mac()));
        assert_eq!((sent.len(), lab.table.len()), (4, 1));
        assert_eq!(lab.config.virtuals[0].traffic.total().conns, 1);
        lab.check();
    }
}

#[test]
fn one_batch_may_close_and_open_again() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    lab.give(&tcp(SYN));
    lab.give(&tcp(FIN));
    let before = lab.conn();
    // The last was looked up as part of the connection that the SYN ends.
    for flags in [ACK, SYN, ACK] {
        lab.put(0, &tcp(flags));
    }
    lab.workers[0].turn();
    assert_ne!(lab.conn().id, before.id);
    assert_eq!((lab.conn().state, lab.sent(0).len()), (states::ESTABLISHED, 3));
    lab.check();
}

#[test]
fn a_local_server_is_the_hosts_affair() {
    let mut config = Config::one(protocol::TCP, Method::Route);
    config.first().number = 254;
    let mut lab = Lab::new(config);
    assert!(lab.give(&syn(0)).is_empty());
    assert_eq!(lab.host_got(0), [syn(0).bytes()]);
    assert_eq!(host(&lab.totals(), HostReason::LocalDest), 1);
    lab.check();
}

#[test]
fn nobody_sends_to_a_client_without_a_route() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    let stranger = Packet { src: ([8, 8, 8, 8].into(), 53), ..syn(0) };
    assert_eq!(lab.give(&stranger).len(), 1);
    let back = Packet { dst: stranger.src, ..reply(protocol::TCP, ACK, 0, 1) };
    assert!(lab.give(&back).is_empty());
    assert_eq!(lab.totals().dropped(DropReason::NoRoute), 1);
    lab.check();
}

#[test]
fn the_two_links_have_their_own_addresses() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    let wrong = Packet { dst_mac: DIRECTOR_MACS[1], ..syn(0) };
    assert!(lab.give(&wrong).is_empty());
    assert_eq!(lab.totals().dropped(DropReason::OtherHost), 1);
}
