//! How the engine ends, and that nothing of it stays: by kill -9, and by SIGTERM.

mod lab;

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lab::{Lab, PORTS, assert_nothing_dropped, eventually};
use uvs_lab::{Arms, Director, ECHO_PORT, Guard, HTTP_PORT, Host, Method, Signal};

/// Where the director's own echo listens: SSH's port, which uvs does not serve.
const OWN_PORT: u16 = 22;

/// Traffic between the client and the director's own address that goes on all the time: an echo
/// over one TCP connection, and one over UDP.
struct Bystander {
    stop: Arc<AtomicBool>,
    tcp: JoinHandle<u64>,
    udp: JoinHandle<u64>,
}

impl Bystander {
    fn start(lab: &Lab) -> Self {
        let own = SocketAddrV4::new(lab.network.director_outside(), OWN_PORT);
        lab.inside(Host::Director, || {
            let (listener, socket) =
                (TcpListener::bind(own).unwrap(), UdpSocket::bind(own).unwrap());
            // They end with the test's process.
            std::thread::spawn(move || echo(listener.accept().unwrap().0));
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok((count, from)) = socket.recv_from(&mut bytes) {
                    let _ = socket.send_to(&bytes[..count], from);
                }
            });
        });
        let stop = Arc::new(AtomicBool::new(false));
        lab.inside(Host::Client, || {
            let tcp = TcpStream::connect(own).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
            udp.connect(own).unwrap();
            udp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let (tcp_stop, udp_stop) = (stop.clone(), stop.clone());
            Self {
                tcp: std::thread::spawn(move || {
                    exchange(&tcp_stop, |bytes, back| {
                        (&tcp).write_all(bytes).unwrap();
                        (&tcp).read_exact(back).expect("the connection to the host broke");
                    })
                }),
                udp: std::thread::spawn(move || {
                    exchange(&udp_stop, |bytes, back| {
                        udp.send(bytes).unwrap();
                        udp.recv(back).expect("a datagram to the host was lost");
                    })
                }),
                stop,
            }
        })
    }

    /// Ends it; every exchange was right.
    fn end(self) {
        // Relaxed: the flag stands for itself; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        let (tcp, udp) = (self.tcp.join().unwrap(), self.udp.join().unwrap());
        assert!(tcp > 100 && udp > 100, "only {tcp} and {udp} exchanges");
    }
}

fn echo(stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = (&stream).read(&mut bytes) {
        let _ = (&stream).write_all(&bytes[..count]);
    }
}

fn exchange(stop: &AtomicBool, ask: impl Fn(&[u8], &mut [u8])) -> u64 {
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let (bytes, mut back) = (count.to_be_bytes(), [0; 8]);
        ask(&bytes, &mut back);
        assert_eq!(back, bytes);
        count += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    count
}

/// A few requests through the engine, all right.
fn serves(lab: &Lab, engine: &Director) {
    let tally = lab.load().curl(lab.network.service(HTTP_PORT), 60).unwrap();
    assert!(tally.is_clean(), "{tally:?}");
    assert_nothing_dropped(&engine.counters().unwrap());
}

/// Requests without end, by a process of its own.
fn endless_load(lab: &Lab) -> Guard {
    let target = lab.network.service(HTTP_PORT).to_string();
    let program = lab::uvs();
    let arguments = ["lab", "http", "--target", &target, "--requests", "1000000000"];
    lab.network.spawn_in(Host::Client, program.to_str().unwrap(), &arguments).unwrap()
}

/// With nobody behind it, the host's own stack refuses what the engine would have taken.
fn host_answers_for_the_vip(lab: &Lab) {
    lab.inside(Host::Client, || {
        let tcp = TcpStream::connect(lab.network.service(HTTP_PORT)).unwrap_err();
        assert_eq!(tcp.kind(), std::io::ErrorKind::ConnectionRefused);
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        udp.connect(lab.network.service(ECHO_PORT)).unwrap();
        udp.send(b"anybody").unwrap();
        let refused = udp.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

fn a_killed_engine_leaves_nothing(arms: Arms, method: Method) {
    let Some(lab) = Lab::up(arms, method) else { return };
    let (before, namespaces) = (lab.state(), lab.namespaces());
    let bystander = Bystander::start(&lab);
    for port in PORTS {
        let mut engine = lab.engine(port);
        serves(&lab, &engine);
        assert_ne!(lab.state(), before, "the comparison sees the engine");
        let socket = engine.socket();
        // In the middle of its work.
        let load = endless_load(&lab);
        let served = engine.client().counters().unwrap().rx;
        eventually("no load comes", || engine.client().counters().unwrap().rx > served + 500);
        engine.process().signal(Signal::KILL).unwrap();
        eventually("the engine did not die", || engine.process().ended().is_some());
        drop(load);
        eventually("something of the engine stayed", || lab.state() == before);
        assert_eq!(lab.namespaces(), namespaces);
        host_answers_for_the_vip(&lab);
        assert!(socket.exists(), "nobody was there to remove it");

        let next = lab.engine(port);
        serves(&lab, &next);
        next.stop().unwrap();
        assert!(!socket.exists());
        assert_eq!(lab.state(), before);
    }
    bystander.end();
}

#[test]
fn a_killed_engine_leaves_nothing_and_stops_nobody_with_one_arm() {
    a_killed_engine_leaves_nothing(Arms::One, Method::Route);
}

#[test]
fn a_killed_engine_leaves_nothing_and_stops_nobody_with_two_arms() {
    a_killed_engine_leaves_nothing(Arms::Two, Method::Masq);
}

#[test]
fn a_stopped_engine_leaves_nothing_and_stops_nobody() {
    let Some(lab) = Lab::up(Arms::Two, Method::Masq) else { return };
    let before = lab.state();
    let bystander = Bystander::start(&lab);
    for (port, signal) in
        PORTS.into_iter().flat_map(|port| [(port, Signal::TERM), (port, Signal::INT)])
    {
        let mut engine = lab.engine(port);
        serves(&lab, &engine);
        let socket = engine.socket();
        engine.process().signal(signal).unwrap();
        eventually("the engine did not stop", || engine.process().ended().is_some());
        assert_eq!(engine.process().ended().unwrap().code(), Some(0), "{}", engine.log());
        assert!(engine.log().ends_with("uvs: stopped\n"), "{}", engine.log());
        assert!(!socket.exists());
        assert_eq!(lab.state(), before);
        host_answers_for_the_vip(&lab);
    }
    bystander.end();
}
