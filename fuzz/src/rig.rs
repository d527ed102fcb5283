//! The whole engine over the port `memory`, in the network in which the kernel was recorded, with
//! one forwarding method for all services.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use uvs_control::director::Director;
use uvs_engine::address::Address;
use uvs_engine::ask::Asks;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::counters::Totals;
use uvs_engine::fib::{Fib, Route, Target};
use uvs_engine::host::Collected;
use uvs_engine::link::{Forwards, Link, LinkId};
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::table::Table;
use uvs_engine::worker::{Shared, Worker};
use uvs_uvsadm::api::Change;
use uvs_uvsadm::{Command, parse};

/// The director's own addresses on the servers' side, from which its tunnels begin.
pub const OWN: [&[u8]; 2] =
    [&[10, 0, 1, 254], &[0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x54]];

/// The director's Ethernet addresses, by link.
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xc1], [2, 0, 0, 0, 0, 0xe1]];

/// Frames of the port's memory: more than a batch and all that waits.
pub const FRAMES: u32 = 384;

/// Forwarding methods as ipvsadm is told of them, each with its servers' port. A recording's number
/// stands in `seeds.py`.
const METHODS: [(&str, &str); 8] = [
    ("-g", "80"),
    ("-m", "8080"),
    ("-i", "80"),
    ("-i --tun-type gre --tun-nocsum", "80"),
    ("-i --tun-type gre --tun-csum", "80"),
    ("-i --tun-type gue --tun-port 6080 --tun-nocsum", "80"),
    ("-i --tun-type gue --tun-port 6080 --tun-csum", "80"),
    ("-i --tun-type gue --tun-port 6080 --tun-remcsum", "80"),
];

/// Virtual services, of both families, with the family's number of the address that they have.
const SERVICES: [(&str, usize); 9] = [
    ("-t 10.0.0.1:80 -s rr", 0),
    ("-u 10.0.0.1:80 -s rr", 0),
    ("--sctp-service 10.0.0.1:80 -s rr", 0),
    ("-t [fd00::1]:80 -s rr", 1),
    ("-u [fd00::1]:80 -s rr", 1),
    ("--sctp-service [fd00::1]:80 -s rr", 1),
    ("-t 10.0.0.1:21 -s wlc -p 60", 0),
    ("-u 10.0.0.1:500 -s sh", 0),
    ("-u 10.0.0.1:5060 -s lc -p 60 --pe sip", 0),
];

/// Servers: the director itself, one whose Ethernet address nobody knows, and two that answer. The
/// last is picked first, and is the one that replies in the recordings.
const SERVERS: [[&str; 4]; 2] = [
    ["10.0.1.254", "10.0.1.200", "10.0.1.2", "10.0.1.1"],
    ["[fd00:2::254]", "[fd00:2::c8]", "[fd00:2::2]", "[fd00:2::1]"],
];

/// Settings that a bit of the second byte of the input turns from their default.
const SETTINGS: [(&str, i64); 6] = [
    ("pmtu_disc", 0),
    ("schedule_icmp", 1),
    ("nat_icmp_send", 1),
    ("sloppy_tcp", 1),
    ("secure_tcp", 3),
    ("reset_on_expiry", 1),
];

/// A worker, and what tells it what to do.
pub struct Rig {
    director: Director,
    worker: Worker<MemoryPort, Collected>,
    clock: Clock,
}

impl Rig {
    /// A rig as the first two bytes of an input say: the method and whether its tunnels' servers
    /// are of the other family; settings, and whether the links are narrow.
    ///
    /// # Panics
    ///
    /// When the director refuses what stands above, or the machine has no memory.
    pub fn new([method, settings]: [u8; 2]) -> Self {
        let mtu = if settings & 0x80 == 0 { 1500 } else { 1300 };
        let mut director = Director::new(1, fib(mtu));
        let changes: Vec<Change> =
            services(method).iter().cloned().chain(turned(settings)).collect();
        director.apply(&changes).expect("a configuration of right lines");
        let start = Ticks(u32::MAX - 5000);
        let (table, mut owners) = Table::new(256, 1, start).expect("memory for a small table");
        drop(table);
        let owner = owners.pop().expect("one worker, one owner");
        let clock = Clock::manual(start);
        let asks = Arc::new(Asks::new(64).expect("a file descriptor"));
        let shared = Shared::new(director.published().clone(), asks, clock.clone());
        let worker = Worker::new(MemoryPort::new(FRAMES), Collected::default(), owner, &shared);
        Self { director, worker, clock }
    }

    /// Lets a frame arrive; it waits for the next [`run`](Self::run). False when there is no room.
    pub fn put(&mut self, link: LinkId, frame: &[u8]) -> bool {
        self.worker.port().inject(link, frame)
    }

    /// Lets the worker work until nothing is left to do; gives what it sent.
    pub fn run(&mut self) -> Vec<(LinkId, Vec<u8>)> {
        while self.worker.turn() > 0 {}
        self.worker.host().frames.clear();
        let port = self.worker.port();
        std::iter::from_fn(|| port.collect(|link, bytes| (link, bytes.to_vec()))).collect()
    }

    /// Lets time pass, and what is over end.
    pub fn pass(&mut self, span: Ticks) {
        self.clock.advance(span);
        self.worker.catch_up();
        self.director.tick(self.clock.now());
    }

    /// What it has counted.
    pub fn totals(&self) -> Totals {
        Totals::of([&*self.worker.counters()].into_iter())
    }

    /// Frames of the port's memory that are on no ring.
    pub fn missing(&mut self) -> usize {
        self.worker.port().missing()
    }

    /// Gives back what waits.
    pub fn stop(&mut self) {
        self.worker.stop();
    }
}

/// The services with this method, read once for all inputs.
fn services(method: u8) -> &'static [Change] {
    static READ: [OnceLock<Vec<Change>>; 16] = [const { OnceLock::new() }; 16];
    READ[usize::from(method & 15)].get_or_init(|| read(method))
}

fn read(method: u8) -> Vec<Change> {
    let (options, port) = METHODS[usize::from(method & 7)];
    let mixed = usize::from(method & 8 != 0 && options.starts_with("-i"));
    let mut lines = Vec::new();
    for (service, family) in SERVICES {
        lines.push(format!("-A {service}"));
        let (virt, _) = service.split_once(" -s ").expect("a scheduler");
        let (_, own) = virt.rsplit_once(':').expect("a port");
        let port = if own == "80" { port } else { own };
        for server in SERVERS[family ^ mixed] {
            lines.push(format!("-a {virt} -r {server}:{port} {options}"));
        }
    }
    lines.iter().map(|line| change(line)).collect()
}

/// The settings that are turned.
fn turned(settings: u8) -> impl Iterator<Item = Change> {
    let chosen = (0..).zip(SETTINGS).filter(move |(bit, _)| settings >> bit & 1 == 1);
    chosen.map(|(_, (name, value))| Change::SetSetting { name: name.to_owned(), value })
}

fn change(line: &str) -> Change {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse(&arguments) {
        Ok(Command::Change { change, .. }) => change,
        other => panic!("{line}: {other:?}"),
    }
}

const CLIENT_SIDE: LinkId = LinkId(0);
const SERVER_SIDE: LinkId = LinkId(1);

fn fib(mtu: u16) -> Fib {
    let link = |at: usize, addresses: [&str; 2]| Link {
        name: ["c1", "r1"][at].into(),
        ifindex: 1 + at as u32,
        mac: MACS[at],
        mtu,
        addresses: addresses.map(address).into(),
        forwards: Forwards::ALL,
    };
    let links =
        vec![link(0, ["192.168.1.254", "fd00:1::254"]), link(1, ["10.0.1.254", "fd00:2::254"])];
    let to = |network, prefix, target| Route { network: address(network), prefix, target };
    let mut routes = vec![
        to("192.168.1.0", 24, Target::Link(CLIENT_SIDE)),
        to("fd00:1::", 64, Target::Link(CLIENT_SIDE)),
        to("172.16.0.0", 12, Target::Gateway(CLIENT_SIDE, address("192.168.1.1"))),
        to("fd00:c::", 48, Target::Gateway(CLIENT_SIDE, address("fd00:1::1"))),
        to("10.0.1.0", 24, Target::Link(SERVER_SIDE)),
        to("fd00:2::", 64, Target::Link(SERVER_SIDE)),
    ];
    for local in ["10.0.0.1", "192.168.1.254", "10.0.1.254"] {
        routes.push(to(local, 32, Target::Local));
    }
    for local in ["fd00::1", "fd00:1::254", "fd00:2::254"] {
        routes.push(to(local, 128, Target::Local));
    }
    let servers = (1..=2).flat_map(|n| {
        let addresses = [format!("10.0.1.{n}"), format!("fd00:2::{n}")];
        addresses.map(|server| (SERVER_SIDE, address(&server), [2, 0, 0, 0, 1, n]))
    });
    let router = ["192.168.1.1", "fd00:1::1"]
        .map(|router| (CLIENT_SIDE, address(router), [2, 0, 0, 0, 0, 0xc0]));
    Fib::new(links, &routes, servers.chain(router))
}

fn address(text: &str) -> Address {
    let ip: IpAddr = text.parse().expect("an address of the network");
    ip.into()
}
