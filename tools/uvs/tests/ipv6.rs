//! IPv6 between real stacks, in NAT with two arms: connections both ways, and datagrams that come
//! and go in fragments.

mod lab;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Lab, PORTS};
use uvs_lab::{Arms, Director, Host, Method};

const SERVERS: usize = 3;
const CONNECTIONS: usize = 12;
/// What a server sends on each connection.
const BYTES: usize = 200_000;
/// Nearly the most that a datagram holds.
const DATAGRAM: usize = 60_000;
/// What a fragment of it holds on a link of 1,500 bytes: a multiple of 8, behind both headers.
const FRAGMENT: usize = 1448;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

/// Gives the lab's hosts addresses of the other family.
fn add_ipv6(lab: &Lab) {
    let network = &lab.network;
    let mut lines = vec![
        (Host::Client, "addr add fd77::2/64 dev eth0 nodad".to_owned()),
        (Host::Client, "route add fd70::/16 via fd77::fe".to_owned()),
        (Host::Director, format!("addr add fd77::fe/64 dev {} nodad", network.outside())),
        (Host::Director, format!("addr add fd78::fe/64 dev {} nodad", network.inside())),
        (Host::Director, "addr add fd70::1/128 dev lo nodad".to_owned()),
    ];
    for n in 1..=SERVERS {
        lines.push((Host::Server(n), format!("addr add fd78::{n}/64 dev eth0 nodad")));
        lines.push((Host::Server(n), "route add default via fd78::fe".to_owned()));
    }
    for host in (1..=SERVERS).map(Host::Server).chain([Host::Client, Host::Director]) {
        let on = "net.ipv6.conf.all.disable_ipv6=0";
        network.run_in(host, "sysctl", &["-qw", on]).unwrap();
    }
    for (host, line) in lines {
        network.ip(host, &line).unwrap();
    }
}

/// A server that sends its number again and again, and echoes datagrams.
struct Server {
    tcp: TcpListener,
    udp: UdpSocket,
    number: u8,
}

impl Server {
    fn start(lab: &Lab, number: usize) -> Self {
        let sockets = || {
            let udp = UdpSocket::bind("[::]:7086").unwrap();
            udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let tcp = TcpListener::bind("[::]:8086").unwrap();
            tcp.set_nonblocking(true).unwrap();
            (tcp, udp)
        };
        let (tcp, udp) = lab.inside(Host::Server(number), sockets);
        Self { tcp, udp, number: number as u8 }
    }

    fn serve(&self, stop: &AtomicBool) {
        let mut buffer = [0; 65536];
        // Relaxed: the flag stands for itself.
        while !stop.load(Ordering::Relaxed) {
            match self.tcp.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.write_all(&vec![self.number; BYTES]).unwrap();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if let Ok((len, from)) = self.udp.recv_from(&mut buffer) {
                self.udp.send_to(&buffer[..len], from).unwrap();
            }
        }
    }
}

/// Adds services of both protocols, with all servers.
fn add_services(lab: &Lab) {
    for (option, virt, port) in [("-t", "[fd70::1]:80", 8086), ("-u", "[fd70::1]:7", 7086)] {
        lab.adm(&format!("-A {option} {virt} -s rr"));
        for n in 1..=SERVERS {
            lab.adm(&format!("-a {option} {virt} -r [fd78::{n}]:{port} -m"));
        }
    }
}

fn talk(lab: &Lab) {
    let mut answers = [0; SERVERS + 1];
    for _ in 0..CONNECTIONS {
        let mut stream = lab.inside(Host::Client, || TcpStream::connect("[fd70::1]:80").unwrap());
        stream.set_read_timeout(PATIENCE).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), BYTES);
        assert!(all.iter().all(|byte| *byte == all[0]), "of one server");
        answers[usize::from(all[0])] += 1;
    }
    assert_eq!(answers[1..], [CONNECTIONS / SERVERS; SERVERS]);

    let socket = lab.inside(Host::Client, || UdpSocket::bind("[::]:0").unwrap());
    socket.set_read_timeout(PATIENCE).unwrap();
    let datagram: Vec<u8> = (0..DATAGRAM).map(|at| at as u8).collect();
    socket.send_to(&datagram, "[fd70::1]:7").unwrap();
    let mut echo = vec![0; 2 * DATAGRAM];
    let (len, from) = socket.recv_from(&mut echo).unwrap();
    assert_eq!((&echo[..len], from.to_string()), (&datagram[..], "[fd70::1]:7".to_owned()));
}

fn all_is_accounted_for(engine: &Director) {
    let counters = engine.counters().unwrap();
    lab::assert_nothing_dropped(&counters);
    // With the UDP header, once each way.
    let fragments = 2 * (DATAGRAM + 8).div_ceil(FRAGMENT) as u64;
    assert_eq!((counters.merged, counters.parted), (fragments, fragments), "{counters:?}");
}

#[test]
fn nat_carries_connections_and_fragments() {
    let Some(lab) = Lab::up(Arms::Two, Method::Masq) else { return };
    add_ipv6(&lab);
    let servers: Vec<Server> = (1..=SERVERS).map(|n| Server::start(&lab, n)).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| server.serve(&stop));
        }
        let talked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for port in PORTS {
                let engine = lab.engine(port);
                add_services(&lab);
                talk(&lab);
                all_is_accounted_for(&engine);
                engine.stop().unwrap();
            }
        }));
        // Relaxed: as above.
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = talked {
            std::panic::resume_unwind(panic);
        }
    });
}
