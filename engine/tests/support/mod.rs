//! An engine in memory: workers on ports that the test fills and empties, one table, one clock.
//!
//! The network is that of the recordings: clients behind a router on one side, real servers
//! 10.0.1.n on the other.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod packet;
pub mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use uvs_engine::ask::Asks;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::counters::Totals;
use uvs_engine::host::Collected;
use uvs_engine::link::LinkId;
use uvs_engine::port::Offload;
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::publish::Published;
use uvs_engine::table::{Conn, Table, flag};
use uvs_engine::worker::{Shared, Worker};

pub use packet::{Packet, Seen, reply, request, syn};
pub use services::{Config, Real, Virtual};

/// The client side's link.
pub const CLIENT_SIDE: LinkId = LinkId(0);
/// The server side's link.
pub const SERVER_SIDE: LinkId = LinkId(1);

pub type Engine = Worker<MemoryPort, Collected>;

/// Some workers, and what they share.
pub struct Lab {
    pub config: Config,
    pub workers: Vec<Engine>,
    pub table: Arc<Table>,
    pub clock: Clock,
    pub published: Arc<Published>,
    pub asks: Arc<Asks>,
}

impl Drop for Lab {
    /// Frames that wait are given back, as by every worker that ends.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.workers.iter_mut().for_each(Engine::stop);
        }
    }
}

impl Lab {
    /// One worker and room enough.
    pub fn new(config: Config) -> Self {
        Self::with(config, 1, 4096)
    }

    /// This many workers over one table of this capacity.
    pub fn with(config: Config, workers: usize, capacity: u64) -> Self {
        // Near the clock's end, so that every test sees it wrap.
        let start = Ticks(u32::MAX - 5000);
        let (table, owners) = Table::new(capacity, workers, start).unwrap();
        let clock = Clock::manual(start);
        let published = Published::new(config.snapshot());
        let asks = Arc::new(Asks::new(64).unwrap());
        let shared = Shared::new(published, asks, clock.clone());
        let port = || MemoryPort::new(1024);
        let worker = |owner| Worker::new(port(), Collected::default(), owner, &shared);
        let workers = owners.into_iter().map(worker).collect();
        let Shared { published, asks, .. } = shared;
        Self { config, workers, table, clock, published, asks }
    }

    /// Publishes the configuration as it is now.
    pub fn publish(&self) {
        self.published.publish(self.config.snapshot());
    }

    /// Lets a frame arrive at worker 0 and runs it.
    pub fn give(&mut self, packet: &Packet) -> Vec<Seen> {
        self.put(0, packet);
        self.run();
        self.sent(0)
    }

    /// Lets a frame arrive at a worker, which does not run yet.
    pub fn put(&mut self, worker: usize, packet: &Packet) {
        self.put_bytes(worker, packet.link, &packet.bytes());
    }

    pub fn put_bytes(&mut self, worker: usize, link: LinkId, bytes: &[u8]) {
        assert!(self.workers[worker].port().inject(link, bytes), "the port has no room");
    }

    /// Lets a frame arrive at worker 0 of which something is left to be done, and runs it.
    pub fn give_open(&mut self, link: LinkId, bytes: &[u8], offload: Offload) -> Vec<Seen> {
        assert!(self.workers[0].port().inject_with(link, bytes, offload), "the port has no room");
        self.run();
        self.sent(0)
    }

    /// Lets all workers work until nothing is left to do.
    pub fn run(&mut self) {
        for worker in &mut self.workers {
            while worker.turn() > 0 {}
        }
    }

    /// Lets time pass, and what is over end.
    pub fn pass(&mut self, seconds: u32) {
        self.clock.advance(Ticks::from_secs(seconds));
        self.workers.iter_mut().for_each(Engine::catch_up);
    }

    /// What a worker has sent since it was last asked.
    pub fn sent(&mut self, worker: usize) -> Vec<Seen> {
        let port = self.workers[worker].port();
        std::iter::from_fn(|| port.collect(Seen::of)).collect()
    }

    /// What a worker has handed to the host since it was last asked.
    pub fn host_got(&mut self, worker: usize) -> Vec<Vec<u8>> {
        self.workers[worker].host().frames.drain(..).collect()
    }

    pub fn totals(&self) -> Totals {
        let counters: Vec<_> = self.workers.iter().map(Worker::counters).collect();
        Totals::of(counters.iter().map(|counters| &**counters))
    }

    /// The one connection there is.
    pub fn conn(&self) -> Conn {
        let conns: Vec<Conn> = self.table.iter().collect();
        assert_eq!(conns.len(), 1, "{conns:?}");
        conns[0]
    }

    /// Everything that holds when no worker is in the middle of a batch.
    pub fn check(&mut self) {
        let totals = self.totals();
        assert!(totals.balanced(), "INV-4: {totals:?}");
        let missing: usize = self.workers.iter_mut().map(|worker| worker.port().missing()).sum();
        assert_eq!(missing as u64, totals.waiting, "INV-7: frames are lost");
        self.check_loads();
    }

    /// The counts of every server are what the table holds.
    pub fn check_loads(&self) {
        let mut conns: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for conn in self.table.iter().filter(|conn| !conn.is_template()) {
            let counts = conns.entry(conn.dest).or_default();
            match conn.flags & flag::INACTIVE {
                0 => counts.0 += 1,
                _ => counts.1 += 1,
            }
        }
        for (id, real) in self.config.reals() {
            let expected = conns.get(&id).copied().unwrap_or_default();
            assert_eq!(real.load.conns(), expected, "(active, inactive) of {}", real.address());
        }
    }
}
