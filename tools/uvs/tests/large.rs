//! TCP between hosts that leave checksums and segments to their network cards, as hosts do: over raw
//! packet sockets their frames go through whole, up to 64 KB each, in every forwarding method.

mod lab;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use lab::{Lab, assert_nothing_dropped};
use uvs_lab::{Arms, Host, LabOptions, Method};

const PORT: u16 = 9000;
const BYTES: usize = 8 << 20;
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

fn passes_whole(arms: Arms, method: Method, option: &str) {
    let Some(lab) = Lab::with(LabOptions { arms, method, servers: 1, ..LabOptions::default() })
    else {
        return;
    };
    lab.network.offload().unwrap();
    let engine = lab.engine("raw");
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
    assert!(answered == contents(3), "{method:?}: {} bytes came", answered.len());
    assert!(serving.join().unwrap() == contents(2), "{method:?}: the server read something else");

    let counters = engine.counters().unwrap();
    assert_nothing_dropped(&counters);
    // Acknowledgements are small and many; segments of a link's size would be 5,500 frames.
    assert!(counters.rx < 4000, "{method:?}: {counters:?}");
    let cut = if method == Method::Tunnel { BYTES as u64 / 1500 } else { 0 };
    assert!(counters.parted >= cut && (counters.parted > 0) == (cut > 0), "{counters:?}");
    engine.stop().unwrap();
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
