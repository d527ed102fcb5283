//! TCP in frames that are larger than a buffer.
//!
//! Between hosts that leave checksums and segments to their network cards, as hosts do: over raw
//! packet sockets their frames go through whole, up to 64 KB each, in every forwarding method.
//! Between hosts on links with jumbo frames: over AF_XDP.

mod lab;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use lab::{Lab, assert_nothing_dropped};
use uvs_control::api::Counters;
use uvs_lab::{Arms, ECHO_PORT, Host, LabOptions, Method};

const PORT: u16 = 9000;
const BYTES: usize = 8 << 20;
const JUMBO: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(30);

fn contents(seed: usize) -> Vec<u8> {
    (0..BYTES).map(|at| (at / 7 + at * seed) as u8).collect()
}

/// Reads until the other end has said all, and gives it.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn lab(arms: Arms, method: Method) -> Option<Lab> {
    Lab::with(LabOptions { arms, method, servers: 1, ..LabOptions::default() })
}

/// Eight megabytes each way through a service of this forwarding method, and what was counted.
fn talk(lab: &Lab, port: &str, option: &str) -> Counters {
    let engine = lab.engine(port);
    let service = SocketAddrV4::new(lab.network.vip(), PORT);
    let server = SocketAddrV4::new(lab.network.rips()[0], PORT);
    lab.adm(&format!("-A -t {service} -s rr"));
    lab.adm(&format!("-a -t {service} -r {server} {option}"));
    let listener = lab.inside(Host::Server(1), || TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let asked = read_all(&mut stream);
        stream.write_all(&contents(3)).unwrap();
        asked
    });
    let mut stream = lab.inside(Host::Client, || TcpStream::connect(service).unwrap());
    stream.write_all(&contents(2)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answered = read_all(&mut stream);
    // Not `assert_eq`: eight megabytes are no message.
    assert!(answered == contents(3), "{option}: {} bytes came", answered.len());
    assert!(serving.join().unwrap() == contents(2), "{option}: the server read something else");

    let counters = engine.counters().unwrap();
    assert_nothing_dropped(&counters);
    engine.stop().unwrap();
    // Acknowledgements are small and many; segments of 1,500 bytes would be 5,500 frames.
    assert!(counters.rx < 4000, "{option}: {counters:?}");
    counters
}

fn passes_whole(arms: Arms, method: Method, option: &str) {
    let Some(lab) = lab(arms, method) else { return };
    lab.network.offload().unwrap();
    let counters = talk(&lab, "raw", option);
    let cut = if method == Method::Tunnel { BYTES as u64 / 1500 } else { 0 };
    assert!(counters.parted >= cut && (counters.parted > 0) == (cut > 0), "{counters:?}");
}

fn passes_jumbo_frames(arms: Arms, method: Method, option: &str) {
    let Some(lab) = lab(arms, method) else { return };
    lab.network.set_mtu(JUMBO).unwrap();
    let counters = talk(&lab, "afxdp", option);
    assert!(counters.rx_bytes > BYTES as u64, "{counters:?}");
}

#[test]
fn fragments_are_as_large_as_jumbo_frames() {
    let Some(lab) = lab(Arms::Two, Method::Masq) else { return };
    lab.network.set_mtu(JUMBO).unwrap();
    let engine = lab.engine("afxdp");
    let socket = lab.client_udp(lab.network.service(ECHO_PORT));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = &contents(5)[..20_000];
    socket.send(asked).unwrap();
    let mut answer = vec![0; 1 << 16];
    let len = socket.recv(&mut answer).unwrap();
    assert!(answer[..len].ends_with(asked), "{len} bytes came");
    let counters = engine.counters().unwrap();
    assert_nothing_dropped(&counters);
    assert_eq!((counters.merged, counters.parted), (6, 6), "three frames each way");
    engine.stop().unwrap();
}

#[test]
fn dr_passes_jumbo_frames() {
    passes_jumbo_frames(Arms::One, Method::Route, "-g");
}

#[test]
fn nat_passes_jumbo_frames() {
    passes_jumbo_frames(Arms::Two, Method::Masq, "-m");
}

#[test]
fn dr_passes_large_frames_whole() {
    passes_whole(Arms::One, Method::Route, "-g");
}

#[test]
fn nat_passes_large_frames_whole() {
    passes_whole(Arms::Two, Method::Masq, "-m");
}

#[test]
fn tun_is_given_segments() {
    passes_whole(Arms::One, Method::Tunnel, "-i");
}
