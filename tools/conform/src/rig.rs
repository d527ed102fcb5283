//! The lab in which the kernel was recorded, in memory: a director with a client side and a
//! server side, one worker, and a clock that stands still.

use std::net::Ipv4Addr;

use std::sync::Arc;

use uvs_control::director::Director;
use uvs_engine::ask::Asks;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::counters::Totals;
use uvs_engine::fib::{Fib, Route, Target};
use uvs_engine::host::Collected;
use uvs_engine::link::{Link, LinkId};
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::table::{Conn, InKey, Table};
use uvs_engine::worker::{Shared, Worker};
use uvs_uvsadm::api::Change;
use uvs_uvsadm::{Command, parse};

use crate::Stop;

/// The client side's link.
pub const CLIENT_SIDE: LinkId = LinkId(0);
/// The server side's link.
pub const SERVER_SIDE: LinkId = LinkId(1);

/// Ethernet addresses of the lab, by their last two bytes.
const fn mac(high: u8, low: u8) -> [u8; 6] {
    [2, 0, 0, 0, high, low]
}

/// The director's address on the client side.
pub const DIRECTOR_CLIENT_MAC: [u8; 6] = mac(0, 0xc1);
/// The director's address on the server side.
pub const DIRECTOR_SERVER_MAC: [u8; 6] = mac(0, 0xe1);
/// The client's router.
pub const ROUTER_MAC: [u8; 6] = mac(0, 0xc0);

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT_SIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 254);
const SERVER_SIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// Connections that fit: more than any recording opens.
const CAPACITY: u64 = 1 << 16;

/// A real server's Ethernet address: server n of the lab is 10.0.1.n.
pub fn server_mac(number: u8) -> [u8; 6] {
    mac(1, number)
}

/// The engine in the lab.
pub struct Rig {
    director: Director,
    worker: Worker<MemoryPort, Collected>,
    table: Arc<Table>,
    clock: Clock,
}

/// What left the director after one frame.
#[derive(Debug, Default)]
pub struct Left {
    /// Frames sent, with the link.
    pub sent: Vec<(LinkId, Vec<u8>)>,
    /// Frames handed to the host.
    pub to_host: usize,
}

impl Rig {
    /// The lab with these MTUs on the client's and the servers' side.
    ///
    /// # Panics
    ///
    /// When the machine has no memory for a small connection table.
    pub fn new(mtu_client: u16, mtu_server: u16) -> Self {
        let director = Director::new(1, fib(mtu_client, mtu_server));
        let start = Ticks(1000);
        let table = Table::new(CAPACITY, 1, start);
        let (table, mut owners) = table.expect("memory for a small connection table");
        let owner = owners.pop().expect("one worker, one owner");
        let clock = Clock::manual(start);
        let shared = Shared {
            published: director.published().clone(),
            asks: Arc::new(Asks::new(64).expect("a file descriptor")),
            clock: clock.clone(),
            // The recordings were made with the kernel's limits off.
            answers_per_second: None,
        };
        let worker = Worker::new(MemoryPort::new(64), Collected::default(), owner, &shared);
        Self { director, worker, table, clock }
    }

    /// Runs one line of ipvsadm's, as recorded.
    pub(crate) fn ipvsadm(&mut self, line: &str) -> Result<(), Stop> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&arguments).map_err(|error| Stop::NotSupported(error.reason().to_owned()))? {
            Command::Change(change) => self.change(change),
            _ => Err(Stop::NotSupported(format!("`ipvsadm {line}`"))),
        }
    }

    /// Makes a change that the recorded kernel accepted.
    pub(crate) fn change(&mut self, change: Change) -> Result<(), Stop> {
        let refused = |(_, error)| Stop::NotSupported(format!("{change:?}: {error}"));
        self.director.apply(std::slice::from_ref(&change)).map_err(refused)
    }

    /// Lets a frame arrive and collects what leaves.
    pub fn frame(&mut self, link: LinkId, frame: &[u8]) -> Left {
        assert!(self.worker.port().inject(link, frame), "a recorded frame fits the port");
        while self.worker.turn() > 0 {}
        let mut left = Left { to_host: self.worker.host().frames.len(), ..Left::default() };
        self.worker.host().frames.clear();
        while let Some(sent) = self.worker.port().collect(|link, bytes| (link, bytes.to_vec())) {
            left.sent.push(sent);
        }
        left
    }

    /// Lets time pass.
    pub fn advance(&mut self, span: Ticks) {
        self.clock.advance(span);
        self.worker.expire_all();
    }

    /// Whether every frame is accounted for.
    pub fn balanced(&self) -> bool {
        let counters = self.worker.counters();
        Totals::of([&*counters].into_iter()).balanced()
    }

    /// A connection with the seconds that it has left.
    pub fn conn(&self, key: &InKey) -> Option<(Conn, u32)> {
        let conn = self.table.lookup_in(self.table.hash_of(key), key)?;
        Some((conn, conn.expires().since(self.clock.now()).0 / 100))
    }

    /// Every connection with the seconds that it has left.
    pub fn conns(&self) -> Vec<(Conn, u32)> {
        let now = self.clock.now();
        let left = |conn: Conn| (conn, conn.expires().since(now).0 / 100);
        self.table.iter().map(left).collect()
    }

    /// The director's configuration.
    pub fn director(&self) -> &Director {
        &self.director
    }
}

fn fib(mtu_client: u16, mtu_server: u16) -> Fib {
    let link = |name: &str, ifindex, mac, mtu, address| Link {
        name: name.into(),
        ifindex,
        mac,
        mtu,
        addresses: vec![address],
    };
    let links = vec![
        link("c1", 1, DIRECTOR_CLIENT_MAC, mtu_client, CLIENT_SIDE_ADDRESS),
        link("r1", 2, DIRECTOR_SERVER_MAC, mtu_server, SERVER_SIDE_ADDRESS),
    ];
    let route =
        |network: [u8; 4], prefix, target| Route { network: network.into(), prefix, target };
    let routes = [
        route([192, 168, 1, 0], 24, Target::Link(CLIENT_SIDE)),
        route([172, 16, 0, 0], 12, Target::Gateway(CLIENT_SIDE, ROUTER)),
        route([10, 0, 1, 0], 24, Target::Link(SERVER_SIDE)),
        route(VIP.octets(), 32, Target::Local),
        route(CLIENT_SIDE_ADDRESS.octets(), 32, Target::Local),
        route(SERVER_SIDE_ADDRESS.octets(), 32, Target::Local),
    ];
    let servers = (1..254).map(|n| (SERVER_SIDE, Ipv4Addr::new(10, 0, 1, n), server_mac(n)));
    Fib::new(links, &routes, servers.chain([(CLIENT_SIDE, ROUTER, ROUTER_MAC)]))
}
