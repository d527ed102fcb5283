//! The lab in which the kernel was recorded, in memory: a director with a client side and a
//! server side, one worker, and a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use uvs_control::director::Director;
use uvs_control::service::DestView;
use uvs_engine::ask::Asks;
use uvs_engine::calls::Calls;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::counters::{HostReason, Totals};
use uvs_engine::host::Collected;
use uvs_engine::link::LinkId;
use uvs_engine::marks::Marks;
use uvs_engine::port::Offload;
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::table::{Conn as TableConn, InKey, Table};
use uvs_engine::worker::{Shared, Worker};
use uvs_uvsadm::api::{Change, Conn, Service, ServiceKey, Settings};
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::{Command, Form, listing, parse};

use crate::topology::{Topology, marked};
use crate::{Stop, conns};

pub use crate::topology::{
    CLIENT_SIDE, DIRECTOR_CLIENT_MAC, DIRECTOR_SERVER_MAC, ROUTER_MAC, SERVER_SIDE, server_mac,
};

/// Connections that fit: more than any recording opens.
const CAPACITY: u64 = 1 << 16;

/// The engine in the lab.
pub struct Rig {
    director: Director,
    worker: Worker<MemoryPort, Collected>,
    table: Arc<Table>,
    calls: Arc<Calls>,
    newest: Option<ServiceKey>,
    topology: Topology,
    asks: Arc<Asks>,
    clock: Clock,
    /// What time it is for the recording; the clock may be a little behind.
    due: Ticks,
}

/// When the clock starts.
const START: Ticks = Ticks(1000);

/// How much of a sleep is held back.
const HELD_BACK: Ticks = Ticks(15);

/// The size of the recorded kernel's table, as listings show it.
const RECORDED_SIZE: u64 = 4096;

/// What left the director after one frame.
#[derive(Debug, Default)]
pub struct Left {
    /// Frames sent, with the link.
    pub sent: Vec<(LinkId, Vec<u8>)>,
    /// Frames handed to the host, with the reason.
    pub to_host: Vec<(HostReason, Vec<u8>)>,
    /// Whether somebody's Ethernet address was asked for.
    pub asked: bool,
}

impl Rig {
    /// The lab with these MTUs on the client's and the servers' side.
    ///
    /// # Panics
    ///
    /// When the machine has no memory for a small connection table.
    pub fn new(mtu_client: u16, mtu_server: u16) -> Self {
        let topology = Topology::new(mtu_client, mtu_server);
        let director = Director::new(1, topology.fib());
        let table = Table::new(CAPACITY, 1, START);
        let (table, mut owners) = table.expect("memory for a small connection table");
        let owner = owners.pop().expect("one worker, one owner");
        let clock = Clock::manual(START);
        let asks = Arc::new(Asks::new(64).expect("a file descriptor"));
        // The recordings were made with the kernel's limits off, and so are ours.
        let shared = Shared::new(director.published().clone(), asks.clone(), clock.clone());
        let worker = Worker::new(MemoryPort::new(64), Collected::default(), owner, &shared);
        Self {
            director,
            worker,
            table,
            calls: shared.calls,
            newest: None,
            topology,
            asks,
            clock,
            due: START,
        }
    }

    /// Runs a line of shell that the recorded director was set up with: routes, neighbours, and
    /// marks by iptables.
    pub(crate) fn shell(&mut self, line: &str) -> Result<(), Stop> {
        match self.topology.shell(line) {
            Some(mark) => mark.into_iter().for_each(|rule| {
                self.director.set_marks(Marks::new(vec![rule]));
            }),
            None => return Err(Stop::NotSupported(format!("the setup line `{line}`"))),
        }
        self.director.set_fib(self.topology.fib());
        Ok(())
    }

    /// Sets a sysctl of the recorded director's network.
    pub(crate) fn net_sysctl(&mut self, name: &str, value: &Value) -> Result<(), Stop> {
        if !self.topology.sysctl(name, value.as_i64() != Some(0)) {
            return Err(Stop::NotSupported(format!("sysctl {name}={value}")));
        }
        self.director.set_fib(self.topology.fib());
        Ok(())
    }

    /// Runs one line of ipvsadm's that the recorded kernel accepted.
    pub(crate) fn ipvsadm(&mut self, line: &str) -> Result<(), Stop> {
        match parsed(line)? {
            Command::Change { change, .. } => {
                self.note(&change);
                self.change(change)
            }
            _ => Err(Stop::NotSupported(format!("`ipvsadm {line}`"))),
        }
    }

    fn note(&mut self, change: &Change) {
        if let Change::AddService { service } = change {
            self.newest = Some(service.key);
        }
    }

    /// The servers of the service that was added last, which is the one whose counts are recorded.
    pub(crate) fn newest_dests(&self) -> Vec<DestView> {
        let services = self.director.services().into_iter();
        let newest = services.filter(|service| Some(service.config.key) == self.newest);
        newest.flat_map(|service| service.dests).collect()
    }

    /// Runs one line of ipvsadm's that the recorded kernel refused with these words.
    pub(crate) fn ipvsadm_refuses(&mut self, line: &str, error: &str) -> Result<(), Stop> {
        let refused = match parsed(line) {
            Ok(Command::Change { change, .. }) => match self.director.apply(&[change]) {
                Ok(()) => None,
                Err((_, error)) => Some(error.to_string()),
            },
            Ok(_) => None,
            Err(Stop::NotSupported(reason)) => Some(reason),
            Err(stop) => return Err(stop),
        };
        match refused {
            Some(told) if told == error => Ok(()),
            told => Err(Stop::Differs(format!("`{line}`: expected `{error}`, came {told:?}"))),
        }
    }

    /// Runs one line of ipvsadm's, and compares its exit code and what it says when it fails.
    pub(crate) fn ipvsadm_says(&mut self, line: &str, rc: u8, stderr: &str) -> Result<(), Stop> {
        let got = match parsed(line)? {
            Command::List(_) => self.list(line).map(|_| (0, String::new()))?,
            Command::Change { change, .. } => {
                self.note(&change);
                match self.director.apply(&[change]) {
                    Ok(()) => (0, String::new()),
                    Err((_, error)) => (255, format!("{error}\n")),
                }
            }
            _ => return Err(Stop::NotSupported(format!("`ipvsadm {line}`"))),
        };
        match got == (rc, stderr.to_owned()) {
            true => Ok(()),
            false => Err(Stop::Differs(format!(
                "`ipvsadm {line}`: expected {rc} {stderr:?}, came {got:?}"
            ))),
        }
    }

    /// What a listing prints.
    pub(crate) fn list(&self, line: &str) -> Result<String, Stop> {
        let Command::List(list) = parsed(line)? else {
            return Err(Stop::Malformed(format!("`ipvsadm {line}` is no listing")));
        };
        let settings = Settings { table_size: RECORDED_SIZE, ..Settings::default() };
        match list.form {
            Form::Connections | Form::ConnectionsWithPe => {
                let line = |conn| listing::connection(&list, &conn, &Numeric);
                let lines = conns::of(self).into_iter().map(line);
                Ok(listing::connections_header(&list) + &lines.collect::<String>())
            }
            _ => {
                let services: Vec<Service> =
                    self.director.services().iter().map(Service::from).collect();
                let text = listing::services(&list, &settings, &services, &Numeric);
                text.ok_or_else(|| Stop::NotSupported(format!("`ipvsadm {line}`")))
            }
        }
    }

    /// Makes a change that the recorded kernel accepted.
    pub(crate) fn change(&mut self, change: Change) -> Result<(), Stop> {
        let refused = |(_, error)| Stop::NotSupported(format!("{change:?}: {error}"));
        self.director.apply(std::slice::from_ref(&change)).map_err(refused)
    }

    /// Sets what the recorded kernel had as a sysctl.
    pub(crate) fn sysctl(&mut self, name: &str, value: &Value) -> Result<(), Stop> {
        let malformed = || Stop::Malformed(format!("sysctl {name}={value}"));
        let value =
            value.as_i64().or_else(|| value.as_str()?.parse().ok()).ok_or_else(malformed)?;
        self.change(Change::SetSetting { name: name.to_owned(), value })
    }

    /// Gives the packets this mark that the recorded kernel's firewall gave it: those to 10.9.0.0/16
    /// and fd09::/64.
    pub(crate) fn mark(&mut self, mark: u32) {
        self.director.set_marks(Marks::new(marked(mark)));
    }

    /// Lets a frame arrive and collects what leaves.
    pub fn frame(&mut self, link: LinkId, frame: &[u8]) -> Left {
        self.frame_with(link, frame, Offload::NONE)
    }

    /// As [`frame`](Self::frame), of one whose sender left something to be done.
    pub(crate) fn frame_with(&mut self, link: LinkId, frame: &[u8], offload: Offload) -> Left {
        let before = self.totals();
        let arrived = self.worker.port().inject_with(link, frame, offload);
        assert!(arrived, "a recorded frame fits the port");
        while self.worker.turn() > 0 {}
        let reasons = new_reasons(&before, &self.totals());
        let handed = self.worker.host().frames.drain(..);
        let mut left = Left {
            to_host: reasons.into_iter().zip(handed).collect(),
            asked: self.asks.take().is_some(),
            sent: Vec::new(),
        };
        while let Some(sent) = self.worker.port().collect(|link, bytes| (link, bytes.to_vec())) {
            left.sent.push(sent);
        }
        left
    }

    /// Makes it this time of day, in milliseconds.
    pub(crate) fn set_time_of_day(&self, milliseconds: u32) {
        self.clock.set_time_of_day(milliseconds);
    }

    /// Lets the recorded time pass. The kernel's timers are late by up to an eighth, and its sleep
    /// is somewhat longer than it says: of what is to pass, a little is kept back, for the next
    /// [`look`](Self::look) to try.
    pub(crate) fn sleep(&mut self, ms: u32) {
        self.due = self.due.after(Ticks::from_duration(Duration::from_millis(ms.into())));
        let held_back = self.due.since(self.clock.now()).0.saturating_sub(HELD_BACK.0);
        self.advance(Ticks(held_back));
    }

    /// Looks at something, and once more with the time that was held back, should it differ.
    pub(crate) fn look(&mut self, what: impl Fn(&Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if what(self).is_ok() {
            return Ok(());
        }
        self.advance(self.due.since(self.clock.now()));
        what(self)
    }

    /// Lets time pass until so many milliseconds after the start.
    pub(crate) fn pass_until(&mut self, ms: u32) {
        let until = START.after(Ticks::from_duration(Duration::from_millis(ms.into())));
        self.due = until;
        self.advance(until.since(self.clock.now()));
    }

    /// Lets time pass: connections end at their tick, the defences look every second, and
    /// statistics move on every two.
    pub fn advance(&mut self, span: Ticks) {
        let until = self.clock.now().after(span);
        while !until.is_past(self.clock.now()) {
            let now = self.clock.now();
            let second = Ticks::from_secs(1).0;
            let step = (second - now.since(START).0 % second).min(until.since(now).0);
            self.clock.advance(Ticks(step));
            self.worker.catch_up();
            if self.clock.now().since(START).0.is_multiple_of(2 * second) {
                self.director.tick(self.clock.now());
            }
        }
    }

    /// That every frame is accounted for.
    pub(crate) fn balance(&self) -> Result<(), Stop> {
        match self.balanced() {
            true => Ok(()),
            false => {
                Err(Stop::Differs("frames are missing: rx is not tx + to_host + drops".into()))
            }
        }
    }

    /// Whether every frame is accounted for.
    pub fn balanced(&self) -> bool {
        self.totals().balanced()
    }

    fn totals(&self) -> Totals {
        let counters = self.worker.counters();
        Totals::of([&*counters].into_iter())
    }

    /// A connection with the seconds that it has left.
    pub fn conn(&self, key: &InKey) -> Option<(TableConn, u32)> {
        let conn = self.table.lookup_in(self.table.hash_of(key), key)?;
        Some((conn, conn.expires().since(self.clock.now()).0 / 100))
    }

    /// Every connection as it is listed.
    pub fn conns(&self) -> Vec<Conn> {
        conns::of(self)
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn now(&self) -> Ticks {
        self.clock.now()
    }

    /// The director's configuration.
    pub fn director(&self) -> &Director {
        &self.director
    }
}

/// Why frames went to the host between two looks.
fn new_reasons(before: &Totals, after: &Totals) -> Vec<HostReason> {
    let pairs = before.to_host.iter().zip(&after.to_host);
    pairs.flat_map(|((_, old), (why, new))| (*old..*new).map(|_| *why)).collect()
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Frames may wait for an address that is none of the lab's.
        self.worker.stop();
    }
}

fn parsed(line: &str) -> Result<Command, Stop> {
    let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&arguments).map_err(|error| Stop::NotSupported(error.reason().to_owned()))
}
