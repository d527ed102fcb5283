//! Real requests by curl and nginx, in every forwarding method over every port: none is lost, the
//! spread is round robin's, and every frame is accounted for.

mod lab;

use std::time::Duration;

use lab::{Lab, PORTS, Wire, assert_nothing_dropped, assert_spread_evenly};
use uvs_lab::{Arms, ECHO_PORT, HTTP_PORT, Host, Method, UdpJob};

const REQUESTS: u64 = 2000;
/// Twenty flows for each of the three servers, twenty datagrams a flow.
const FLOWS: usize = 60;
const DATAGRAMS: u64 = 1200;

fn none_is_lost(arms: Arms, method: Method, ports: &[&str]) {
    let Some(lab) = Lab::up(arms, method) else { return };
    for port in ports {
        let engine = lab.engine(port);
        let http = lab.load().curl(lab.network.service(HTTP_PORT), REQUESTS).unwrap();
        let target = lab.network.service(ECHO_PORT);
        let job = UdpJob { datagrams: DATAGRAMS, flows: FLOWS, ..UdpJob::to(target) };
        let udp = lab.load().udp(&job).unwrap();
        let [http_service, udp_service] = lab::services(&engine);
        assert_spread_evenly(&http, &http_service);
        assert_spread_evenly(&udp, &udp_service);
        assert_eq!(udp_service.stats.conns, FLOWS as u64);
        assert!(udp.answers.values().all(|answers| *answers == DATAGRAMS / 3), "{udp:?}");

        let counters = engine.counters().unwrap();
        assert_nothing_dropped(&counters);
        assert_eq!(counters.host_frames(), 0, "only what is served came: {counters:?}");
        // SYN, ACK, request, FIN, ACK, and a datagram; with NAT the replies as well.
        let least = if method == Method::Masq { 9 } else { 5 };
        assert!(counters.rx >= least * REQUESTS + DATAGRAMS, "{counters:?}");
        let expected = if *port == "raw" { "raw packet sockets" } else { "AF_XDP copy" };
        assert_eq!(engine.port(), expected);
        engine.stop().unwrap();
    }
}

#[test]
fn dr_with_one_arm_loses_nothing() {
    none_is_lost(Arms::One, Method::Route, &PORTS);
}

#[test]
fn dr_with_two_arms_loses_nothing() {
    none_is_lost(Arms::Two, Method::Route, &PORTS);
}

#[test]
fn nat_with_one_arm_loses_nothing() {
    none_is_lost(Arms::One, Method::Masq, &PORTS);
}

#[test]
fn nat_with_two_arms_loses_nothing() {
    none_is_lost(Arms::Two, Method::Masq, &PORTS);
}

#[test]
fn tun_with_one_arm_loses_nothing() {
    none_is_lost(Arms::One, Method::Tunnel, &PORTS);
}

#[test]
fn tun_with_two_arms_loses_nothing() {
    none_is_lost(Arms::Two, Method::Tunnel, &PORTS);
}

/// Whole frames, sent and seen by packet sockets: a kernel may have no VLAN devices.
#[test]
fn dr_keeps_vlan_tags() {
    let Some(lab) = Lab::up(Arms::One, Method::Route) else { return };
    // A tag that is beside the frame, not in it, is not seen by XDP: it is put in by the sender.
    for cable in ["client-eth0", "director-eth0"] {
        lab.network.run_in(Host::Switch, "ethtool", &["-K", cable, "txvlan", "off"]).unwrap();
    }
    lab.network.run_in(Host::Director, "ethtool", &["-K", "eth0", "txvlan", "off"]).unwrap();
    let address = |host| {
        let file = "/sys/class/net/eth0/address";
        lab::mac(&lab.network.run_in(host, "cat", &[file]).unwrap())
    };
    let (client, director) = (address(Host::Client), address(Host::Director));
    let sender = lab.inside(Host::Client, || Wire::open("eth0"));
    for port in PORTS {
        let engine = lab.engine(port);
        // Lets the director know the servers' Ethernet addresses.
        assert!(lab.load().curl(lab.network.service(HTTP_PORT), 6).unwrap().is_clean());
        let before = engine.counters().unwrap();
        let watched: Vec<(usize, Wire)> =
            (1..=3).map(|n| (n, lab.inside(Host::Server(n), || Wire::open("eth0")))).collect();
        for (at, tags) in [vec![5], vec![5, 6]].iter().enumerate() {
            let payload = format!("tagged {at} times over {port}");
            let from = 40_000 + at as u16;
            let datagram = lab::udp(from, ECHO_PORT, payload.as_bytes());
            let packet = lab::ipv4(17, lab.network.client(), lab.network.vip(), &datagram);
            sender.send(&tagged(director, client, tags, &packet));
            let ours = |frame: &[u8]| frame.ends_with(payload.as_bytes());
            let mut got = Vec::new();
            lab::eventually("no server saw the frame", || {
                got = watched
                    .iter()
                    .flat_map(|(n, wire)| wire.seen(ours).into_iter().map(|frame| (*n, frame)))
                    .collect();
                !got.is_empty()
            });
            let [(server, frame)] = &got[..] else { panic!("{got:?}") };
            // As it was sent, but for the Ethernet addresses and one hop less to live.
            let mut packet = packet;
            packet[8] -= 1;
            packet[10..12].fill(0);
            let sum = lab::checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum);
            let expected = tagged(address(Host::Server(*server)), director, tags, &packet);
            assert_eq!(frame, &expected, "{tags:?} over {port}");
        }
        let counters = engine.counters().unwrap();
        assert_nothing_dropped(&counters);
        assert_eq!(counters.tx, before.tx + 2);
        engine.stop().unwrap();
    }
}

fn tagged(to: [u8; 6], from: [u8; 6], tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for tag in tags {
        frame.extend([0x81, 0]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend([8, 0]);
    frame.extend(packet);
    frame
}

/// A datagram that fits a packet, and one in many fragments, each with its echo.
fn large_datagrams_pass(arms: Arms, method: Method) {
    let Some(lab) = Lab::up(arms, method) else { return };
    for port in PORTS {
        let engine = lab.engine(port);
        let socket = lab.client_udp(lab.network.service(ECHO_PORT));
        for bytes in [1400, 60_000] {
            let patience = Duration::from_secs(10);
            assert!(lab::is_echoed(&socket, bytes, patience), "{method:?}, {bytes}, {port}");
        }
        let counters = engine.counters().unwrap();
        assert_nothing_dropped(&counters);
        // 1,480 bytes fit behind an IPv4 header.
        assert!(counters.merged >= 41 && counters.parted >= 41, "{counters:?}");
        engine.stop().unwrap();
    }
}

#[test]
fn dr_passes_large_datagrams() {
    large_datagrams_pass(Arms::One, Method::Route);
}

#[test]
fn nat_passes_large_datagrams() {
    large_datagrams_pass(Arms::Two, Method::Masq);
}

#[test]
fn tun_passes_large_datagrams() {
    large_datagrams_pass(Arms::One, Method::Tunnel);
}
