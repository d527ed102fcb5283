//! What is not the engine's stays with the host or comes back to it: pings, ports without a
//! service, fragments, ARP, the director's own address, packets of no connection.

mod lab;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::{Lab, PORTS, checksum};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto};
use uvs_lab::{Arms, Director, ECHO_PORT, HTTP_PORT, Host, Method};

const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `check` in a lab of each layout, over each port; gives it the engine to ask afterwards.
fn over_each_port(check: impl Fn(&Lab, &Director)) {
    for (arms, method) in [(Arms::One, Method::Route), (Arms::Two, Method::Masq)] {
        let Some(lab) = Lab::up(arms, method) else { return };
        for port in PORTS {
            let engine = lab.engine(port);
            check(&lab, &engine);
            let counters = engine.counters().unwrap();
            lab::assert_nothing_dropped(&counters);
            engine.stop().unwrap();
        }
    }
}

/// How many frames were handed back, by reason.
fn handed_back(engine: &Director) -> BTreeMap<String, u64> {
    engine.counters().unwrap().to_host
}

#[test]
fn the_host_answers_pings_of_the_vip() {
    over_each_port(|lab, engine| {
        for number in 0..20 {
            assert!(ping(lab, number), "ping {number}");
        }
        assert_eq!(engine.counters().unwrap().rx, 0, "pings never come to the engine");
    });
}

/// Sends an ICMP echo request to the VIP (RFC 792) and waits for its reply.
fn ping(lab: &Lab, number: u16) -> bool {
    lab.inside(Host::Client, || {
        let socket = raw_socket(ipproto::ICMP);
        let mut request = [&[8, 0, 0, 0, 0x75, 0x76][..], &number.to_be_bytes()].concat();
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum);
        let vip = SocketAddrV4::new(lab.network.vip(), 0);
        rustix::net::sendto(&socket, &request, SendFlags::empty(), &vip).unwrap();
        hears(&socket, |message| message[0] == 0 && message[4..8] == request[4..8])
    })
}

/// A socket that sends and hears what follows the IP header.
fn raw_socket(protocol: rustix::net::Protocol) -> std::os::fd::OwnedFd {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(protocol)).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100))).unwrap();
    socket
}

/// Whether a message that is `wanted` comes in time.
fn hears(socket: &std::os::fd::OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    let mut packet = [0; 2048];
    while Instant::now() < end {
        if let Ok((count, _)) = rustix::net::recv(socket, &mut packet, RecvFlags::empty()) {
            let header = usize::from(packet[0] & 15) * 4;
            if wanted(&packet[header..count]) {
                return true;
            }
        }
    }
    false
}

#[test]
fn the_host_refuses_what_nobody_serves() {
    over_each_port(|lab, engine| {
        lab.inside(Host::Client, || {
            let start = Instant::now();
            let unserved = lab.network.service(81);
            let refused = TcpStream::connect_timeout(&unserved.into(), PATIENCE).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            // UDP on the HTTP service's port is another service.
            let udp = client_udp(lab.network.service(HTTP_PORT));
            udp.send(b"anybody").unwrap();
            assert_eq!(udp.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert!(start.elapsed() < PATIENCE);
        });
        assert_eq!(engine.counters().unwrap().rx, 0);
    });
}

fn client_udp(target: SocketAddrV4) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(target).unwrap();
    socket
}

#[test]
fn fragments_for_the_vip_come_back_to_the_host() {
    over_each_port(|lab, engine| {
        // An application of the host's own, on the VIP and on a port that the engine does not
        // serve: its fragments carry no port, so they come to the engine first.
        let own = lab.network.service(5000);
        let listener = lab.inside(Host::Director, || UdpSocket::bind(own).unwrap());
        listener.set_read_timeout(Some(PATIENCE)).unwrap();
        let long: Vec<u8> = (0..4000).map(|n| (n % 251) as u8).collect();
        lab.inside(Host::Client, || {
            let client = client_udp(own);
            for _ in 0..10 {
                client.send(&long).unwrap();
                let mut got = [0; 8192];
                let (count, from) = listener.recv_from(&mut got).unwrap();
                assert_eq!(got[..count], long);
                listener.send_to(b"heard", from).unwrap();
                assert_eq!(client.recv(&mut got).unwrap(), 5);
            }
        });
        // 4,008 bytes are three fragments, put together to see the port and cut again for the host.
        assert_eq!(handed_back(engine), [("no_service".to_owned(), 30)].into());
    });
}

#[test]
fn a_packet_of_no_connection_gets_the_hosts_reset() {
    over_each_port(|lab, engine| {
        let reset = lab.inside(Host::Client, || {
            let socket = raw_socket(ipproto::TCP);
            let (sequence, acknowledged, port) = (0x1234_5678u32, 0x0bad_cafeu32, 40_077u16);
            let ack = ack(lab, port, sequence, acknowledged);
            let service = SocketAddrV4::new(lab.network.vip(), 0);
            rustix::net::sendto(&socket, &ack, SendFlags::empty(), &service).unwrap();
            hears(&socket, |header| {
                let ports = [HTTP_PORT, port].map(u16::to_be_bytes).concat();
                // RFC 9293, 3.10.7.1: the reset has the number that was acknowledged.
                header[..4] == ports
                    && header[13] & 0x04 != 0
                    && header[4..8] == acknowledged.to_be_bytes()
            })
        });
        assert!(reset, "no reset came");
        assert_eq!(handed_back(engine), [("no_conn".to_owned(), 1)].into());
        assert!(engine.client().connections().unwrap().is_empty());
    });
}

/// A TCP header with ACK alone, to the HTTP service.
fn ack(lab: &Lab, port: u16, sequence: u32, acknowledged: u32) -> Vec<u8> {
    let mut header = [port, HTTP_PORT].map(u16::to_be_bytes).concat();
    header.extend([sequence, acknowledged].map(u32::to_be_bytes).concat());
    header.extend([0x50, 0x10, 0x20, 0, 0, 0, 0, 0]);
    let ends = [lab.network.client(), lab.network.vip()].map(|ip| ip.octets()).concat();
    let pseudo = [&ends[..], &[0, 6, 0, 20], &header].concat();
    header[16..18].copy_from_slice(&checksum(&pseudo));
    header
}

#[test]
fn the_directors_own_address_is_untouched() {
    over_each_port(|lab, engine| {
        let own = SocketAddrV4::new(lab.network.director_outside(), 22);
        let listener = lab.inside(Host::Director, || TcpListener::bind(own).unwrap());
        lab.inside(Host::Client, || {
            let mut client = TcpStream::connect_timeout(&own.into(), PATIENCE).unwrap();
            let (mut host, _) = listener.accept().unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            host.set_read_timeout(Some(PATIENCE)).unwrap();
            let text = vec![b'x'; 200_000];
            let writer = std::thread::spawn(move || host.write_all(&text));
            let mut got = Vec::new();
            client.read_to_end(&mut got).unwrap();
            writer.join().unwrap().unwrap();
            assert_eq!(got.len(), 200_000);
        });
        assert_eq!(engine.counters().unwrap().rx, 0);
    });
}

#[test]
fn arp_works_beside_the_engine() {
    over_each_port(|lab, engine| {
        for _ in 0..3 {
            // Everybody has to ask for everybody again.
            for host in [Host::Client, Host::Director, Host::Server(1), Host::Server(2)] {
                lab.network.ip(host, "neigh flush all").unwrap();
            }
            // Fewer at once than may wait for one neighbour.
            let tally = lab.load().curl(lab.network.service(HTTP_PORT), 20).unwrap();
            assert!(tally.is_clean(), "{tally:?}");
        }
        let udp = uvs_lab::UdpJob {
            datagrams: 60,
            ..uvs_lab::UdpJob::to(lab.network.service(ECHO_PORT))
        };
        assert!(lab.load().udp(&udp).unwrap().is_clean());
        assert_eq!(engine.counters().unwrap().host_frames(), 0);
    });
}
