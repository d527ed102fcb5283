//! Path MTU discovery in tunnels: the director's link to the server is narrow, or one behind a
//! router is. The client hears of it by ICMP, and ten megabytes arrive whole both ways.

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::{Lab, PORTS};
use uvs_lab::{Arms, Director, Host, Method, Tunnel, end_tunnel};

const BYTES: usize = 10 << 20;
const PORT: u16 = 8086;
/// Bytes of a packet that the narrow link carries; no tunnel of full segments fits it.
const NARROW: usize = 1400;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

/// What goes up (1) and down (2): no piece of it can stand in another's place unseen.
fn contents(way: usize) -> Vec<u8> {
    (0..BYTES).map(|at| (at % 251 + at / 251 % 7 * way) as u8).collect()
}

/// Who takes in an upload, compares it, and sends the download.
struct Server(TcpListener);

impl Server {
    fn start(lab: &Lab, number: usize, vip: IpAddr) -> Self {
        let listen = || TcpListener::bind((vip, PORT)).unwrap();
        Self(lab.inside(Host::Server(number), listen))
    }

    /// One connection to its end.
    fn serve(&self) {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(PATIENCE).unwrap();
        let mut upload = vec![0; BYTES];
        stream.read_exact(&mut upload).unwrap();
        assert!(upload == contents(1), "the upload came changed");
        stream.write_all(&contents(2)).unwrap();
    }
}

/// Ten megabytes up and ten down, through one connection.
fn talk(lab: &Lab, server: &Server, vip: IpAddr) {
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve());
        let service = SocketAddr::new(vip, PORT);
        let mut stream = lab.inside(Host::Client, || TcpStream::connect(service).unwrap());
        stream.set_read_timeout(PATIENCE).unwrap();
        stream.set_write_timeout(PATIENCE).unwrap();
        stream.write_all(&contents(1)).unwrap();
        let mut download = vec![0; BYTES];
        stream.read_exact(&mut download).unwrap();
        assert!(download == contents(2), "the download came changed");
        serving.join().unwrap();
    });
}

/// A lab whose servers tell the client nothing of tunnels.
fn lab() -> Option<Lab> {
    let lab = Lab::of_both_families(Arms::Two, Method::Tunnel)?;
    for n in 1..=3 {
        let route = format!("route change 192.168.77.0/24 dev eth1 src 192.168.77.{}", 100 + n);
        lab.network.ip(Host::Server(n), &route).unwrap();
    }
    Some(lab)
}

/// The client knows nothing of the path, and the engine serves the VIP over such a tunnel.
fn serve(lab: &Lab, engine: &Director, vip: IpAddr, (server, tunnel): (IpAddr, Tunnel)) {
    for family in ["-4", "-6"] {
        lab.network.run_in(Host::Client, "ip", &[family, "route", "flush", "cache"]).unwrap();
    }
    let (service, server) = (SocketAddr::new(vip, PORT), SocketAddr::new(server, PORT));
    let options = tunnel.options();
    let rules = format!("-A -t {service} -s rr\n-a -t {service} -r {server} {options}\n");
    fs::write(engine.rules(), rules).unwrap();
    engine.client().reload().unwrap();
}

/// The path MTU to the VIP that the client has learned.
fn learned(lab: &Lab, vip: IpAddr) -> Option<usize> {
    let route =
        lab.network.run_in(Host::Client, "ip", &["route", "get", &vip.to_string()]).unwrap();
    route.split_once(" mtu ")?.1.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_narrow_link_to_the_server_stops_nothing() {
    let Some(mut lab) = lab() else { return };
    lab.network.ip(Host::Director, &format!("link set in0 mtu {NARROW}")).unwrap();
    let ipv4: [IpAddr; 2] = [lab.network.vip().into(), lab.network.rip(1).into()];
    let ipv6: [IpAddr; 2] = [lab.network.vip_v6().into(), lab.network.rip_v6(1).into()];
    let gue = Tunnel::Gue { port: 6080, checksum: true };
    for ([vip, rip], tunnel, takes) in [(ipv4, gue, 32), (ipv6, Tunnel::Ipip, 40)] {
        let server = Server::start(&lab, 1, vip);
        lab.servers.end_tunnels(&lab.network, tunnel, &[rip.is_ipv6()]).unwrap();
        for port in PORTS {
            let engine = lab.engine(port);
            serve(&lab, &engine, vip, (rip, tunnel));
            assert_eq!(learned(&lab, vip), None);
            talk(&lab, &server, vip);
            assert_eq!(learned(&lab, vip), Some(NARROW - takes), "{tunnel} over {port}");
            let counters = engine.counters().unwrap();
            let only_too_big = counters.drops.keys().all(|reason| reason == "too_big");
            assert!(counters.balanced() && only_too_big, "{counters:?}");
            assert!(counters.originated > 0, "{counters:?}");
            engine.stop().unwrap();
        }
    }
}

#[test]
fn a_narrow_link_behind_a_router_stops_nothing() {
    let Some(mut lab) = lab() else { return };
    let network = &lab.network;
    // Server 1 is the router to server 2's other address.
    let end = network.namespace(Host::Server(2));
    for (host, line) in [
        (Host::Server(1), format!("link add narrow type veth peer name narrow netns {end}")),
        (Host::Server(1), format!("link set narrow mtu {NARROW} up")),
        (Host::Server(1), "addr add 10.77.2.1/24 dev narrow".to_owned()),
        (Host::Server(2), format!("link set narrow mtu {NARROW} up")),
        (Host::Server(2), "addr add 10.77.2.2/24 dev narrow".to_owned()),
        (Host::Director, format!("route add 10.77.2.0/24 via {}", network.rip(1))),
    ] {
        network.ip(host, &line).unwrap();
    }
    network.run_in(Host::Server(1), "sysctl", &["-qw", "net.ipv4.ip_forward=1"]).unwrap();
    let (vip, rip) = (IpAddr::from(network.vip()), IpAddr::from([10, 77, 2, 2]));
    lab.servers.end_tunnels(&lab.network, Tunnel::Ipip, &[]).unwrap();
    let _end = end_tunnel(&lab.network, 2, Tunnel::Ipip, rip).unwrap();
    let server = Server::start(&lab, 2, vip);
    for port in PORTS {
        let engine = lab.engine(port);
        serve(&lab, &engine, vip, (rip, Tunnel::Ipip));
        talk(&lab, &server, vip);
        assert_eq!(learned(&lab, vip), Some(NARROW - 20), "over {port}");
        let counters = engine.counters().unwrap();
        let expected = |reason: &String| ["too_big", "relayed"].contains(&reason.as_str());
        assert!(counters.balanced() && counters.drops.keys().all(expected), "{counters:?}");
        assert!(counters.drops.contains_key("relayed"), "{counters:?}");
        engine.stop().unwrap();
    }
}
