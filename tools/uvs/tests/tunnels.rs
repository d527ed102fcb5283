//! Each kind of tunnel, over IPv4 and IPv6, with packets of both inside: real servers answer behind
//! what takes it apart, which takes that kind only, with its checksum if it has one.

mod lab;

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::Lab;
use uvs_lab::{Arms, Director, ECHO_PORT, HTTP_PORT, LabOptions, Method, Tunnel};

const SERVERS: usize = 2;
const REQUESTS: u64 = 20;

/// What `--tun-type` and its options say. (`--tun-remcsum` is `--tun-csum` for frames whose
/// checksum is there.)
const TUNNELS: [Tunnel; 5] = [
    Tunnel::Ipip,
    Tunnel::Gre { checksum: false },
    Tunnel::Gre { checksum: true },
    Tunnel::Gue { port: 6080, checksum: false },
    Tunnel::Gue { port: 6080, checksum: true },
];

/// Services of both families whose servers are at the end of such tunnels.
fn serve(lab: &Lab, engine: &Director, tunnel: Tunnel, over_ipv6: bool) {
    let network = &lab.network;
    let mut rules = String::new();
    for vip in vips(lab) {
        for (option, port) in [("-t", HTTP_PORT), ("-u", ECHO_PORT)] {
            let service = SocketAddr::new(vip, port);
            let _ = writeln!(rules, "-A {option} {service} -s rr");
            for n in 1..=SERVERS {
                let rip: IpAddr =
                    if over_ipv6 { network.rip_v6(n).into() } else { network.rip(n).into() };
                let server = SocketAddr::new(rip, port);
                let _ = writeln!(rules, "-a {option} {service} -r {server} {}", tunnel.options());
            }
        }
    }
    fs::write(engine.rules(), rules).unwrap();
    engine.client().reload().unwrap();
}

fn vips(lab: &Lab) -> [IpAddr; 2] {
    [lab.network.vip().into(), lab.network.vip_v6().into()]
}

/// Requests to both servers, and datagrams that fit a packet and that do not.
fn all_is_answered(lab: &Lab, vip: IpAddr) {
    let tally = lab.load().curl(SocketAddr::new(vip, HTTP_PORT), REQUESTS).unwrap();
    assert!(tally.is_clean() && tally.answers.len() == SERVERS, "{tally:?}");
    let socket = lab.client_udp(SocketAddr::new(vip, ECHO_PORT));
    assert!(lab::is_echoed(&socket, 1400, Duration::from_secs(10)));
    // IPv6 fragments that do not fit the tunnel are answered, and the client makes smaller ones.
    let patience = [1, 10].map(Duration::from_secs);
    let echoed = patience.iter().any(|patience| lab::is_echoed(&socket, 60_000, *patience));
    assert!(echoed, "60,000 bytes were not echoed");
}

fn every_tunnel_is_taken_apart(port: &str) {
    let options = LabOptions { arms: Arms::Two, method: Method::Tunnel, ..LabOptions::default() };
    let options = LabOptions { ipv6: true, servers: SERVERS, ..options };
    let Some(mut lab) = Lab::with(options) else { return };
    let engine = lab.engine(port);
    for tunnel in TUNNELS {
        for over_ipv6 in [false, true] {
            lab.servers.end_tunnels(&lab.network, tunnel, &[over_ipv6]).unwrap();
            serve(&lab, &engine, tunnel, over_ipv6);
            let over = if over_ipv6 { "IPv6" } else { "IPv4" };
            println!("{tunnel} over {over}, {port}");
            for vip in vips(&lab) {
                all_is_answered(&lab, vip);
            }
            let counters = engine.counters().unwrap();
            let other_drops = counters.drops.keys().any(|reason| reason != "too_big");
            assert!(counters.balanced() && !other_drops, "{counters:?}");
        }
    }
    engine.stop().unwrap();
}

#[test]
fn every_tunnel_is_taken_apart_afxdp() {
    every_tunnel_is_taken_apart("afxdp");
}

#[test]
fn every_tunnel_is_taken_apart_raw() {
    every_tunnel_is_taken_apart("raw");
}

/// What takes apart is strict, or the tests above would prove little.
#[test]
fn another_tunnel_is_not_taken_apart() {
    let options = LabOptions { method: Method::Tunnel, servers: SERVERS, ..LabOptions::default() };
    let Some(mut lab) = Lab::with(LabOptions { arms: Arms::One, ..options }) else { return };
    let engine = lab.engine("raw");
    let socket = lab.client_udp(lab.network.service(ECHO_PORT));
    assert!(lab::is_echoed(&socket, 10, Duration::from_secs(10)));
    for [sent, taken] in [[TUNNELS[1], TUNNELS[2]], [TUNNELS[4], TUNNELS[3]]] {
        lab.servers.end_tunnels(&lab.network, taken, &[false]).unwrap();
        let rules = format!(
            "-A -u {vip} -s rr\n-a -u {vip} -r {}:{ECHO_PORT} {}\n",
            lab.network.rip(1),
            sent.options(),
            vip = lab.network.service(ECHO_PORT),
        );
        fs::write(engine.rules(), rules).unwrap();
        engine.client().reload().unwrap();
        assert!(!lab::is_echoed(&socket, 10, Duration::from_millis(300)), "{sent} as {taken}");
    }
    engine.stop().unwrap();
}
