//! Frames of one flow on two queues, which two workers on two cores read: it is one connection all
//! the same, each frame is counted once, and none is lost.
//!
//! Nobody but the test sends: at the addresses of the client and of the servers there is nobody,
//! and the switch floods what is for them. Over AF_XDP only: packet sockets share frames by a hash,
//! not by queue.

mod lab;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Barrier;
use std::thread;

use lab::{
    Lab, Wire, assert_nothing_dropped, cores, mac, queues_by_core, stay_on, tcp, two_queues,
};
use uvs_lab::{Arms, Director, Host, Method};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 50);
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 3, 50];
/// The last bytes of the servers' addresses, and of their Ethernet addresses.
const SERVERS: [u8; 3] = [201, 202, 203];
/// The port of a service with direct routing and that of one with NAT.
const SERVICES: [u16; 2] = [9000, 9001];
const NAT: u16 = SERVICES[1];
/// The servers' port behind NAT.
const BEHIND: u16 = 8080;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const ETHERNET: usize = 14;
const HEADERS: usize = ETHERNET + 20 + 20;

fn server_mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 2, last]
}

/// The engine on two queues, the cables to it, and who sees what it sends.
struct Ground {
    lab: Lab,
    engine: Director,
    outside: Wire,
    inside: Wire,
    servers: Wire,
    client: Wire,
    macs: [[u8; 6]; 2],
}

impl Ground {
    fn up() -> Option<Self> {
        let lab = two_queues(Arms::Two, Method::Masq)?;
        for interface in lab.network.director_interfaces() {
            queues_by_core(&lab, interface, [cores(0x5555_5555), cores(0xaaaa_aaaa)]);
        }
        let known = |address: String, mac: [u8; 6], interface: &str| {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            let line = format!("neigh add {address} lladdr {mac} dev {interface} nud permanent");
            lab.network.ip(Host::Director, &line).unwrap();
        };
        known(CLIENT.to_string(), CLIENT_MAC, "out0");
        for last in SERVERS {
            known(format!("10.77.1.{last}"), server_mac(last), "in0");
        }
        let engine = lab.engine("afxdp");
        for (service, way) in SERVICES.into_iter().zip([":9000 -g", ":8080 -m"]) {
            lab.adm(&format!("-A -t 10.77.0.1:{service} -s rr"));
            for last in SERVERS {
                lab.adm(&format!("-a -t 10.77.0.1:{service} -r 10.77.1.{last}{way}"));
            }
        }
        let wire = |host, interface: &str| lab.inside(host, || Wire::open(interface));
        let address = |interface| {
            let file = format!("/sys/class/net/{interface}/address");
            mac(&lab.network.run_in(Host::Director, "cat", &[&file]).unwrap())
        };
        Some(Self {
            outside: wire(Host::Switch, "director-out0"),
            inside: wire(Host::Switch, "director-in0"),
            servers: wire(Host::Server(1), "eth0"),
            client: wire(Host::Client, "eth0"),
            macs: ["out0", "in0"].map(address),
            lab,
            engine,
        })
    }

    /// A frame of the client's port to a service.
    fn request(&self, port: u16, service: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let to = self.lab.network.service(service);
        let packet = tcp(SocketAddrV4::new(CLIENT, port), to, flags, payload);
        [&self.macs[0][..], &CLIENT_MAC, &[8, 0], &packet].concat()
    }

    /// A frame of a NAT server to the client's port.
    fn reply(&self, server: u8, port: u16, flags: u8) -> Vec<u8> {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, server), BEHIND);
        let packet = tcp(from, SocketAddrV4::new(CLIENT, port), flags, &[]);
        [&self.macs[1][..], &server_mac(server), &[8, 0], &packet].concat()
    }

    /// The next `count` frames that come to servers.
    fn at_servers(&self, count: usize) -> Vec<Seen> {
        let theirs = |frame: &[u8]| frame[..5] == server_mac(0)[..5];
        take(&self.servers, count, theirs)
    }

    /// The next `count` frames that come to the client.
    fn at_client(&self, count: usize) -> Vec<Seen> {
        take(&self.client, count, |frame| frame[..6] == CLIENT_MAC)
    }

    /// Every frame that was sent was read by the worker of its queue and sent on once, and the
    /// flows of each service are one connection each, in this state.
    fn check(&self, sent: [u64; 2], flows: [u64; 2], replies: u64, state: &str) {
        let counters = self.engine.counters().unwrap();
        assert_nothing_dropped(&counters);
        let workers: Vec<u64> = counters.workers.iter().map(|worker| worker.rx).collect();
        assert_eq!(workers, sent, "frames by queue");
        let all = sent[0] + sent[1];
        assert_eq!((counters.rx, counters.tx, counters.host_frames()), (all, all, 0));

        let listed = self.lab.adm("-L -c -n");
        let mut entries = BTreeMap::new();
        for row in listed.lines().skip(2) {
            let [_, _, its_state, client, service, _] =
                row.split_whitespace().collect::<Vec<_>>()[..]
            else {
                panic!("{row}")
            };
            assert_eq!(its_state, state, "{row}");
            let twice = entries.insert((client, service), row);
            assert!(twice.is_none(), "{row}\n{}", twice.unwrap());
        }
        assert_eq!(entries.len() as u64, flows[0] + flows[1]);

        lab::settled(&self.engine, |stats| stats.conns + stats.in_pkts + stats.out_pkts);
        let stats = self.lab.adm("-L -n --stats --exact");
        let figures = SERVICES.map(|service| {
            let name = format!("10.77.0.1:{service}");
            let row = stats.lines().find(|row| row.split_whitespace().nth(1) == Some(&name));
            let figures = row.unwrap().split_whitespace().skip(2);
            figures.take(3).map(|figure| figure.parse().unwrap()).collect::<Vec<u64>>()
        });
        assert_eq!([figures[0][0], figures[1][0]], flows, "connections: {stats}");
        assert_eq!([figures[0][2], figures[1][2]], [0, replies], "replies: {stats}");
        assert_eq!(figures[0][1] + figures[1][1], all - replies, "requests: {stats}");
    }
}

/// What is of interest in a frame that left.
#[derive(Debug)]
struct Seen {
    to: [u8; 6],
    client: u16,
    payload: Vec<u8>,
    bytes: Vec<u8>,
}

fn take(wire: &Wire, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<Seen> {
    let mut frames = Vec::new();
    let tcp = |frame: &[u8]| frame.len() >= HEADERS && frame[23] == 6 && wanted(frame);
    lab::eventually("a frame is lost", || {
        frames.extend(wire.seen(tcp));
        frames.len() >= count
    });
    assert_eq!(frames.len(), count, "a frame came twice");
    let seen = |bytes: Vec<u8>| {
        let ports = &bytes[ETHERNET + 20..];
        let (source, destination) = ([ports[0], ports[1]], [ports[2], ports[3]]);
        let to_client = bytes[..6] == CLIENT_MAC;
        Seen {
            to: bytes[..6].try_into().unwrap(),
            client: u16::from_be_bytes(if to_client { destination } else { source }),
            payload: bytes[HEADERS..].to_vec(),
            bytes,
        }
    };
    frames.into_iter().map(seen).collect()
}

/// Sends frames to this queue of a cable.
fn send(wire: &Wire, queue: usize, frames: &[Vec<u8>]) {
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(queue);
            frames.iter().for_each(|frame| wire.send(frame));
        });
    });
}

/// Every flow begins on one queue and goes on the other, and back.
#[test]
fn a_flow_may_move_to_the_other_queue_and_back() {
    const FLOWS: u16 = 40;
    const STEPS: usize = 8;
    let Some(ground) = Ground::up() else { return };
    let mut flows: BTreeMap<(u16, u16), Vec<Seen>> = BTreeMap::new();
    for step in 0..STEPS {
        let flags = if step == 0 { SYN } else { ACK };
        for service in SERVICES {
            for queue in 0..2 {
                let here = (0..FLOWS).filter(|n| (usize::from(*n) + step) % 2 == queue);
                let payload = [step as u8, service as u8];
                let frame = |n| ground.request(20_000 + n, service, flags, &payload);
                let frames: Vec<_> = here.map(frame).collect();
                send(&ground.outside, queue, &frames);
                for seen in ground.at_servers(frames.len()) {
                    flows.entry((service, seen.client)).or_default().push(seen);
                }
            }
        }
    }
    assert_eq!(flows.len(), 2 * usize::from(FLOWS));
    for ((service, client), frames) in &flows {
        assert!(frames.iter().all(|frame| frame.to == frames[0].to), "{client} changed servers");
        let payloads: Vec<_> = frames.iter().map(|frame| frame.payload.clone()).collect();
        let sent: Vec<_> = (0..STEPS).map(|step| vec![step as u8, *service as u8]).collect();
        assert_eq!(payloads, sent, "{client}");
    }
    let flows = u64::from(FLOWS);
    ground.check([flows * STEPS as u64; 2], [flows; 2], 0, "ESTABLISHED");
    ground.engine.stop().unwrap();
}

/// Both cores send the same new flows at the same time, again and again.
#[test]
fn one_syn_on_two_cores_at_once_is_one_connection() {
    const ROUNDS: u16 = 60;
    const FLOWS: u16 = 16;
    let Some(ground) = Ground::up() else { return };
    for round in 0..ROUNDS {
        let service = SERVICES[usize::from(round % 2)];
        let ports = (0..FLOWS).map(|n| 20_000 + round * FLOWS + n);
        let frames: Vec<_> = ports.map(|port| ground.request(port, service, SYN, &[])).collect();
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for core in 0..2 {
                let (ground, frames, both) = (&ground, &frames, &both);
                scope.spawn(move || {
                    stay_on(core);
                    both.wait();
                    frames.iter().for_each(|frame| ground.outside.send(frame));
                });
            }
        });
        let mut flows: BTreeMap<u16, Vec<[u8; 6]>> = BTreeMap::new();
        for seen in ground.at_servers(2 * frames.len()) {
            flows.entry(seen.client).or_default().push(seen.to);
        }
        assert_eq!(flows.len(), frames.len());
        for (client, servers) in &flows {
            assert!(matches!(servers[..], [a, b] if a == b), "{client} went to {servers:?}");
        }
    }
    let flows = u64::from(ROUNDS * FLOWS);
    ground.check([flows; 2], [flows / 2; 2], 0, "SYN_RECV");
    ground.engine.stop().unwrap();
}

/// Requests come to queue 0, the server's answers to queue 1, and so does what the client says
/// then.
#[test]
fn a_nat_reply_on_the_other_core_is_rewritten() {
    const FLOWS: u16 = 100;
    let Some(ground) = Ground::up() else { return };
    let ports = 20_000..20_000 + FLOWS;
    let requests =
        |flags| ports.clone().map(|port| ground.request(port, NAT, flags, &[])).collect::<Vec<_>>();
    send(&ground.outside, 0, &requests(SYN));
    let servers: BTreeMap<u16, u8> =
        ground.at_servers(FLOWS.into()).iter().map(|seen| (seen.client, seen.to[5])).collect();
    let reply = |(client, server): (&u16, &u8)| ground.reply(*server, *client, SYN | ACK);
    let replies: Vec<_> = servers.iter().map(reply).collect();
    send(&ground.inside, 1, &replies);
    let mut seen = ground.at_client(FLOWS.into());
    seen.sort_by_key(|seen| seen.client);
    assert!(seen.iter().map(|seen| seen.client).eq(ports.clone()));
    for seen in &seen {
        // As if the virtual service itself had sent it, one hop away.
        let (from, to) = (ground.lab.network.service(NAT), SocketAddrV4::new(CLIENT, seen.client));
        let mut packet = tcp(from, to, SYN | ACK, &[]);
        packet[8] -= 1;
        packet[10..12].fill(0);
        let sum = lab::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum);
        assert_eq!(seen.bytes, [&CLIENT_MAC[..], &ground.macs[0], &[8, 0], &packet].concat());
    }
    send(&ground.outside, 1, &requests(ACK));
    for seen in ground.at_servers(FLOWS.into()) {
        assert_eq!(seen.to[5], servers[&seen.client]);
    }
    let flows = u64::from(FLOWS);
    ground.check([flows, 2 * flows], [0, flows], flows, "ESTABLISHED");
    ground.engine.stop().unwrap();
}
