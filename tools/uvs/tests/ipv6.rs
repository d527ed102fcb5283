//! IPv6 between real stacks, in each forwarding method over every port: requests by curl, a page of a
//! megabyte, datagrams that come and go in fragments.

mod lab;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lab::{Lab, PORTS};
use uvs_lab::{Arms, ECHO_PORT, HTTP_PORT, Host, Method, Tally, UdpJob};

const REQUESTS: u64 = 300;
/// Ten flows for each of the three servers.
const FLOWS: usize = 30;
/// What `/big` holds.
const PAGE: usize = 1 << 20;
/// What a fragment holds on a link of 1,500 bytes: a multiple of 8, behind both headers.
const FRAGMENT: usize = 1448;
const DATAGRAM: usize = 60_000;
/// Bytes of the name that a server puts in front of its echo.
const NAME: usize = "server 1: ".len();
const PATIENCE: Duration = Duration::from_secs(10);

fn all_is_carried(arms: Arms, method: Method) {
    let Some(lab) = Lab::of_both_families(arms, method) else { return };
    for port in PORTS {
        let engine = lab.engine(port);
        let http = lab.load().curl(lab.network.service_v6(HTTP_PORT), REQUESTS).unwrap();
        let echo = lab.network.service_v6(ECHO_PORT);
        let job = UdpJob { datagrams: 10 * FLOWS as u64, flows: FLOWS, ..UdpJob::to(echo) };
        let udp = lab.load().udp(&job).unwrap();
        assert_is_even(&http);
        assert_is_even(&udp);
        lab::assert_nothing_dropped(&engine.counters().unwrap());

        read_a_page(&lab);
        let before = engine.counters().unwrap();
        let socket = lab.client_udp(echo);
        assert!(lab::is_echoed(&socket, 1400, PATIENCE), "{method:?}, {port}");
        fragments_pass(method, |patience| lab::is_echoed(&socket, DATAGRAM, patience));
        let after = engine.counters().unwrap();
        assert!(after.balanced(), "{after:?}");
        if method != Method::Tunnel {
            let replies = if method == Method::Masq { NAME + 8 + DATAGRAM } else { 0 };
            let frames = (8 + DATAGRAM).div_ceil(FRAGMENT) + replies.div_ceil(FRAGMENT);
            assert_eq!(after.merged - before.merged, frames as u64, "{after:?}");
            assert_eq!(after.parted - before.parted, frames as u64, "{after:?}");
            lab::assert_nothing_dropped(&after);
        }
        engine.stop().unwrap();
        lab.network.run_in(Host::Client, "ip", &["-6", "route", "flush", "cache"]).unwrap();
    }
}

/// A tunnel leaves no room for fragments of 1,500 bytes: then the client is told, and the next
/// datagram comes in smaller ones.
fn fragments_pass(method: Method, is_echoed: impl Fn(Duration) -> bool) {
    if method == Method::Tunnel {
        assert!(!is_echoed(Duration::from_millis(300)), "there is no room");
    }
    assert!(is_echoed(PATIENCE), "{method:?}");
}

/// The page comes whole, through NAT in full segments.
fn read_a_page(lab: &Lab) {
    let service = lab.network.service_v6(HTTP_PORT);
    let mut stream = lab.inside(Host::Client, || TcpStream::connect(service).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /big HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let page = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| &answer[at + 4..]);
    assert!(page.is_some_and(|page| page.len() == PAGE && is_pattern(page)));
}

fn is_pattern(page: &[u8]) -> bool {
    page.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8)
}

/// Every answer came, and all servers answered alike. (Where a client uses a port again, it reaches
/// the same server.)
fn assert_is_even(tally: &Tally) {
    let least = tally.requests / 4;
    assert!(tally.is_clean() && tally.answers.len() == 3, "{tally:?}");
    assert!(tally.answers.values().all(|answers| *answers >= least), "{tally:?}");
}

#[test]
fn dr_carries_ipv6() {
    all_is_carried(Arms::One, Method::Route);
}

#[test]
fn nat_carries_ipv6() {
    all_is_carried(Arms::Two, Method::Masq);
}

#[test]
fn tun_carries_ipv6() {
    all_is_carried(Arms::Two, Method::Tunnel);
}
