//! An engine in memory: one worker, frames put in and taken out around each of its turns.
//!
//! A turn is the only thing that is timed: the frames of a batch are written before it and taken
//! away after it, so that what generates them costs the result nothing. The clock that times a
//! turn costs it two reads for a batch of 64.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uvs_engine::ask::Asks;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::counters::{Counters, Totals};
use uvs_engine::fib::Fib;
use uvs_engine::host::NoHost;
use uvs_engine::port::BATCH;
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::publish::Published;
use uvs_engine::table::Table;
use uvs_engine::worker::{Shared, Worker};
use uvs_forward::Method;

use crate::frames::{Flow, Kind, reply, request};
use crate::services::{LINK, SERVERS, fib, server_mac, snapshot};

/// The worker under test.
pub type Engine = Worker<MemoryPort, NoHost>;

/// Which way the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From clients to servers.
    ToServer,
    /// From servers back to clients, through NAT.
    ToClient,
}

/// What passes through the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The forwarding method.
    pub method: Method,
    /// The frames.
    pub kind: Kind,
    /// Their way.
    pub way: Way,
}

impl Case {
    /// Frames of clients to servers.
    pub const fn to_server(method: Method, kind: Kind) -> Self {
        Self { method, kind, way: Way::ToServer }
    }

    /// Frames of NAT servers to clients.
    pub const fn to_client(kind: Kind) -> Self {
        Self { method: Method::Masq, kind, way: Way::ToClient }
    }
}

/// In which order flows come.
enum Order {
    /// Each of these once, and again from the start.
    Round(Vec<u32>),
    /// One after another, each a new connection; after the last all are ended.
    Fresh,
}

/// The engine, and what passes through it.
pub struct Rig {
    engine: Engine,
    table: Arc<Table>,
    clock: Clock,
    case: Case,
    flows: u32,
    order: Order,
    next: u32,
    /// Which server each flow has, to reply as it.
    servers: Vec<u8>,
}

impl Rig {
    /// An engine with this many flows open, whose frames come in a random order. Its clock runs.
    ///
    /// # Panics
    ///
    /// When the machine has not the memory, or the engine does not forward every frame.
    pub fn established(case: Case, flows: u32) -> Self {
        let mut rig = Self::new(case, flows, Clock::system(), fib("bench", 1));
        rig.open_all();
        rig.order = Order::Round(shuffled(flows));
        rig
    }

    /// An engine on which every frame opens a connection, until there are this many; then all
    /// end at once. Its clock stands still in between. Memory is touched once before.
    ///
    /// # Panics
    ///
    /// As [`established`](Self::established).
    pub fn opening(method: Method, kind: Kind, flows: u32) -> Self {
        let case = Case::to_server(method, kind);
        let clock = Clock::manual(Ticks(1000));
        let mut rig = Self::new(case, flows, clock, fib("bench", 1));
        rig.open_all();
        rig.close_all();
        rig
    }

    /// As [`opening`](Self::opening), on a link whose servers' Ethernet addresses are not known.
    ///
    /// # Panics
    ///
    /// When the machine has not the memory.
    pub fn unresolved(method: Method, kind: Kind, flows: u32) -> Self {
        let known = fib("bench", 1);
        let routes = crate::services::routes();
        let unknown = Fib::new(known.links().to_vec(), &routes, []);
        let case = Case::to_server(method, kind);
        Self::new(case, flows, Clock::manual(Ticks(1000)), unknown)
    }

    fn new(case: Case, flows: u32, clock: Clock, fib: Fib) -> Self {
        let (table, mut owners) =
            Table::new(flows.into(), 1, clock.now()).expect("memory for the flows");
        let published = Published::new(snapshot(case.method, fib));
        let asks = Arc::new(Asks::new(64).expect("a file descriptor"));
        let shared = Shared::new(published, asks, clock.clone());
        let owner = owners.pop().expect("one worker, one owner");
        // Two batches, and the frames that wait for a neighbour.
        let engine = Worker::new(MemoryPort::new(512), NoHost, owner, &shared);
        let servers = vec![0; flows as usize];
        Self { engine, table, clock, case, flows, order: Order::Fresh, next: 0, servers }
    }

    /// One batch of 64 frames: `run` lets the engine take its turn, and measures what it likes.
    ///
    /// # Panics
    ///
    /// When a new round of new connections is due and the engine has not forwarded every frame.
    pub fn turn<R>(&mut self, run: impl FnOnce(&mut Engine) -> R) -> R {
        if matches!(self.order, Order::Fresh) && self.next == self.flows {
            self.close_all();
        }
        for _ in 0..BATCH {
            let flow = self.next_flow();
            let frame = match self.case.way {
                Way::ToServer => request(self.case.kind, flow),
                Way::ToClient => reply(self.case.kind, flow, self.servers[flow.0 as usize]),
            };
            assert!(self.engine.port().inject(LINK, &frame), "the port has frames enough");
        }
        let result = run(&mut self.engine);
        while self.engine.port().collect(|_, _| ()).is_some() {}
        result
    }

    /// Ends all connections; says how many there were and how long that took.
    ///
    /// # Panics
    ///
    /// When the clock is the machine's, or the engine has not forwarded every frame.
    pub fn close_all(&mut self) -> (usize, Duration) {
        self.check();
        let count = self.table.len();
        self.clock.advance(Ticks::from_secs(24 * 3600));
        let start = Instant::now();
        self.engine.catch_up();
        let took = start.elapsed();
        assert!(self.table.is_empty());
        self.next = 0;
        (count, took)
    }

    /// Lets time pass where the clock stands still.
    ///
    /// # Panics
    ///
    /// When the clock is the machine's.
    pub fn advance_clock(&self, span: Ticks) {
        self.clock.advance(span);
    }

    /// What the engine has counted.
    pub fn totals(&mut self) -> Totals {
        let counters: Arc<Counters> = self.engine.counters();
        Totals::of([&*counters].into_iter())
    }

    /// Whether it forwarded every frame: a bench of dropped frames would measure nothing.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn check(&mut self) {
        let totals = self.totals();
        assert!(totals.balanced() && totals.rx == totals.tx, "not all was sent: {totals:?}");
    }

    /// Opens every flow once, in the order of their numbers, and notes their servers.
    fn open_all(&mut self) {
        let first = if self.case.kind == Kind::Ack { Kind::Syn } else { self.case.kind };
        self.pass(first);
        if self.case.kind == Kind::Ack {
            self.pass(Kind::Ack);
        }
        self.check();
        assert_eq!(self.table.len(), self.flows as usize);
    }

    fn pass(&mut self, kind: Kind) {
        for batch in 0..self.flows.div_ceil(BATCH as u32) {
            let first = batch * BATCH as u32;
            for flow in first..self.flows.min(first + BATCH as u32) {
                self.engine.port().inject(LINK, &request(kind, Flow(flow)));
            }
            self.engine.turn();
            let mut flow = first as usize;
            let servers = &mut self.servers;
            let mut note = |bytes: &[u8]| {
                let server = (0..SERVERS).find(|at| bytes[..6] == server_mac(*at));
                servers[flow] = server.expect("a frame goes to a server");
                flow += 1;
            };
            while self.engine.port().collect(|_, bytes| note(bytes)).is_some() {}
        }
    }

    fn next_flow(&mut self) -> Flow {
        let at = self.next;
        self.next += 1;
        match &self.order {
            Order::Fresh => Flow(at),
            Order::Round(order) => {
                self.next %= self.flows;
                Flow(order[at as usize])
            }
        }
    }
}

/// Frames that wait for a neighbour go back to their port.
impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.engine.stop();
        }
    }
}

/// How long one turn takes.
pub fn timed(engine: &mut Engine) -> Duration {
    let start = Instant::now();
    engine.turn();
    start.elapsed()
}

/// 0..count in an order that looks random and is the same each time.
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for last in (1..order.len()).rev() {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_forwarded() {
        let methods = [Method::Route, Method::Masq, Method::Tunnel];
        let mut cases: Vec<Case> = Vec::new();
        for kind in [Kind::Udp, Kind::Ack] {
            cases.extend(methods.map(|method| Case::to_server(method, kind)));
            cases.push(Case::to_client(kind));
        }
        for case in cases {
            let mut rig = Rig::established(case, 1000);
            for _ in 0..100 {
                assert_eq!(rig.turn(Engine::turn), BATCH);
            }
            rig.check();
            assert_eq!(rig.table.len(), 1000, "{case:?}");
        }
    }

    #[test]
    fn every_frame_opens_a_connection() {
        let mut rig = Rig::opening(Method::Route, Kind::Syn, 640);
        for turn in 1..=10 {
            rig.turn(Engine::turn);
            assert_eq!(rig.table.len(), turn * BATCH);
        }
        rig.turn(Engine::turn);
        assert_eq!(rig.table.len(), BATCH, "ended and begun anew");
    }
}
