//! AH and ESP go with the UDP connection over which their keys were agreed, and never without.

mod support;

use uvs_engine::address::Mask;
use uvs_engine::clock::Ticks;
use uvs_engine::counters::{DropReason, HostReason};
use uvs_engine::proto::ah_esp::{AH, ESP};
use uvs_engine::proto::{ConnTimeout, template};
use uvs_engine::service::Persistence;
use uvs_forward::Method;
use uvs_forward::wire::{Ipv4, protocol};

use support::services::{ROUTER_MAC, server_mac};
use support::{CLIENT_SIDE, Config, Lab, Packet, Real, SERVER_SIDE, Virtual, reply, request};

const ISAKMP: u16 = 500;
const METHODS: [Method; 3] = [Method::Route, Method::Masq, Method::Tunnel];

/// ISAKMP on 10.0.0.1, over two servers.
fn config(method: Method) -> Config {
    let real = |number| Real { port: ISAKMP, ..Real::new(number, method) };
    let mut service = Virtual::new(protocol::UDP, 1, vec![real(1), real(2)]);
    service.endpoint.port = ISAKMP;
    Config::new(vec![service])
}

/// A packet of client `n` to 10.0.0.1, of IPsec or of its key exchange. What stands where others
/// have their ports is a number of its own in ESP and AH.
fn from_client(protocol: u8, n: u16) -> Packet {
    let mut packet = request(protocol, 0, n << 12, 1).payload(b"sealed");
    let (src, dst) = if protocol == protocol::UDP { (ISAKMP, ISAKMP) } else { (0xabcd, 80) };
    (packet.src.1, packet.dst.1) = (src, dst);
    packet
}

/// A packet of a NAT server back to client `n`.
fn from_server(protocol: u8, n: u16, number: u8) -> Packet {
    let mut packet = reply(protocol, 0, n << 12, number).payload(b"sealed");
    let (src, dst) = if protocol == protocol::UDP { (ISAKMP, ISAKMP) } else { (0xdcba, 80) };
    (packet.src.1, packet.dst.1) = (src, dst);
    packet
}

/// A lab in which client 0 has a connection.
fn agreed(config: Config) -> Lab {
    let mut lab = Lab::new(config);
    assert_eq!(lab.give(&from_client(protocol::UDP, 0)).len(), 1);
    lab
}

fn host(lab: &Lab, reason: HostReason) -> u64 {
    lab.totals().to_host.iter().find(|(r, _)| *r == reason).unwrap().1
}

#[test]
fn they_take_the_way_of_their_key_exchange() {
    for method in METHODS {
        let mut lab = agreed(config(method));
        // The turn of another server; theirs is that of their own connection all the same.
        lab.give(&from_client(protocol::UDP, 1));
        for (n, server) in [(0, 1), (1, 2)] {
            for number in [AH, ESP] {
                let packet = from_client(number, n);
                let sent = lab.give(&packet);
                assert_eq!((sent.len(), sent[0].link), (1, SERVER_SIDE), "{method}");
                assert_eq!(sent[0].dst_mac(), server_mac(server), "{method}");
                let seen = match method {
                    Method::Tunnel => Ipv4::new_checked(sent[0].inside()).unwrap(),
                    _ => Ipv4::new_checked(&sent[0].bytes[14..]).unwrap(),
                };
                let to = if method == Method::Masq { [10, 0, 1, server] } else { [10, 0, 0, 1] };
                assert_eq!((seen.protocol(), seen.dst(), seen.ttl()), (number, to, 63), "{method}");
                assert!(sent[0].is_right());
                // All that is sealed stays as it is.
                assert!(sent[0].bytes.ends_with(&packet.bytes()[34..]), "{method}");
            }
        }
        assert_eq!((lab.table.len(), lab.totals().host_frames()), (2, 0));
        let traffic = lab.config.virtuals[0].traffic.total();
        assert_eq!((traffic.conns, traffic.in_packets), (2, 6), "{method}");
        assert_eq!((traffic.in_bytes, traffic.out_packets), (2 * 34 + 4 * 30, 0), "{method}");
        assert_eq!(lab.config.first().traffic.total().in_packets, 3, "{method}");
        lab.check();
    }
}

#[test]
fn the_answers_of_a_nat_server_come_from_the_virtual_address() {
    let mut lab = agreed(config(Method::Masq));
    for number in [AH, ESP] {
        let packet = from_server(number, 0, 1);
        let sent = lab.give(&packet);
        assert_eq!((sent.len(), sent[0].link, sent[0].dst_mac()), (1, CLIENT_SIDE, ROUTER_MAC));
        let ip = sent[0].ip();
        assert_eq!((ip.protocol(), ip.src(), ip.dst()), (number, [10, 0, 0, 1], [172, 16, 0, 1]));
        assert!(sent[0].is_right());
        assert_eq!(sent[0].inside(), &packet.bytes()[34..]);
    }
    let traffic = lab.config.first().traffic.total();
    assert_eq!((traffic.in_packets, traffic.out_packets, traffic.out_bytes), (1, 2, 60));
    // Of the other server there is no connection with this client.
    lab.give(&from_server(ESP, 0, 2));
    assert_eq!(lab.host_got(0), [from_server(ESP, 0, 2).bytes()]);
    lab.check();
}

#[test]
fn without_a_key_exchange_they_are_the_hosts_and_open_nothing() {
    for method in METHODS {
        let mut lab = Lab::new(config(method));
        let elsewhere = |port| Packet { src: ([172, 16, 0, 1].into(), port), ..from_client(17, 0) };
        // From another port, it is a connection like any other.
        lab.give(&elsewhere(4500));
        let packets = [from_client(ESP, 0), from_client(AH, 1), from_server(ESP, 0, 1)];
        for packet in &packets {
            assert!(lab.give(packet).is_empty(), "{method}");
            assert_eq!(lab.host_got(0), [packet.bytes()], "{method}");
        }
        let strange = Packet { dst: ([10, 0, 0, 77].into(), 0), ..from_client(ESP, 0) };
        assert!(lab.give(&strange).is_empty());
        let no_service = if method == Method::Masq { 1 } else { 2 };
        assert_eq!(host(&lab, HostReason::NoService), no_service, "{method}");
        assert_eq!(host(&lab, HostReason::NoConn), 4 - no_service, "{method}");
        assert_eq!((lab.table.len(), lab.config.virtuals[0].traffic.total().conns), (1, 1));
        lab.check();
    }
}

/// The client's packets need port 500 on the client's and the virtual side, the server's on the
/// client's and the server's.
#[test]
fn a_server_with_another_port_gets_but_does_not_answer() {
    let mut config = config(Method::Masq);
    config.first().port = 4500;
    let mut lab = agreed(config);
    assert_eq!(lab.give(&from_client(ESP, 0)).len(), 1);
    assert!(lab.give(&from_server(ESP, 0, 1)).is_empty());
    assert_eq!(lab.totals().host_frames(), 1);
    lab.check();
}

#[test]
fn they_start_the_timer_anew_as_it_is() {
    for method in METHODS {
        let mut lab = agreed(config(method));
        lab.config.rules.timeouts.set(ConnTimeout::new(0, 0, 50).unwrap());
        lab.publish();
        for _ in 0..5 {
            lab.pass(200);
            assert_eq!(lab.give(&from_client(ESP, 0)).len(), 1, "{method}");
            assert_eq!(lab.conn().timeout, Ticks::from_secs(300), "{method}");
        }
        if method == Method::Masq {
            lab.pass(200);
            assert_eq!(lab.give(&from_server(AH, 0, 1)).len(), 1);
        }
        lab.pass(299);
        assert_eq!((lab.table.len(), lab.config.first().load.conns()), (1, (0, 1)));
        lab.pass(1);
        assert!(lab.table.is_empty());
        assert!(lab.give(&from_client(ESP, 0)).is_empty(), "{method}");
        lab.check();
    }
}

#[test]
fn their_answers_do_not_assure_a_template() {
    let mut config = config(Method::Masq);
    let (timeout, mask) = (Ticks::from_secs(60), Mask::v4([255; 4].into()));
    config.virtuals[0].persistence = Some(Persistence { timeout, mask, sip: false });
    let mut lab = agreed(config);
    let state = |lab: &Lab| lab.table.iter().find(|conn| conn.is_template()).unwrap().state;
    assert_eq!(lab.give(&from_server(ESP, 0, 1)).len(), 1);
    assert_eq!(state(&lab), template::NONE);
    assert_eq!(lab.give(&from_server(protocol::UDP, 0, 1)).len(), 1);
    assert_eq!(state(&lab), template::ASSURED);
    lab.check();
}

#[test]
fn they_never_choose_another_server() {
    for (weight, available) in [(0, true), (1, false)] {
        let mut config = config(Method::Route);
        config.rules.settings.set("udp_reschedule", 1).unwrap();
        let mut lab = agreed(config);
        (lab.config.first().weight, lab.config.first().available) = (weight, available);
        lab.publish();
        let sent = lab.give(&from_client(ESP, 0));
        assert_eq!(sent.iter().map(|s| s.dst_mac()).eq([server_mac(1)]), available);
        assert_eq!(lab.totals().dropped(DropReason::DestUnavailable), u64::from(!available));
        // The key exchange does; from then on they follow.
        for packet in [from_client(protocol::UDP, 0), from_client(ESP, 0)] {
            let macs: Vec<_> = lab.give(&packet).iter().map(|seen| seen.dst_mac()).collect();
            assert_eq!(macs, [server_mac(2)]);
        }
        lab.check();
    }
}
