//! Each stage alone, fed with slots that no other stage would have made: a stage relies on what it
//! was given for its result, never for its safety.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use uvs_engine::address::Address;
use uvs_engine::ask::Asks;
use uvs_engine::batch::{Answer, Batch, Slot, Verdict};
use uvs_engine::calls::Calls;
use uvs_engine::clock::Ticks;
use uvs_engine::counters::{Counters, DropReason, HostReason, Totals};
use uvs_engine::defense::Defense;
use uvs_engine::fragments::Fragments;
use uvs_engine::host::Collected;
use uvs_engine::limiter::Limiter;
use uvs_engine::link::LinkId;
use uvs_engine::port::Port;
use uvs_engine::port::memory::MemoryPort;
use uvs_engine::proto::{Direction, Event};
use uvs_engine::snapshot::Snapshot;
use uvs_engine::stage::forward::{Identification, Moment};
use uvs_engine::stage::transmit::Outlet;
use uvs_engine::stage::{
    Context, classify, forward, lookup, parse, reassemble, receive, related, schedule, state,
};
use uvs_engine::table::{Conn, ConnId, Owner, Table};
use uvs_engine::waiting::Waiting;
use uvs_forward::segment::Segment;
use uvs_forward::{Method, Offsets};

use support::{Config, Packet, Real, Virtual, request};

/// What a slot may hold.
#[derive(Clone, Debug)]
struct Given {
    bytes: Vec<u8>,
    at: Offsets,
    ip_len: u16,
    ttl: u8,
    protocol: u8,
    event: u8,
    client: u16,
    service: u32,
    out: bool,
    verdict: Verdict,
    answer: Option<Answer>,
    conn: Option<Conn>,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        6 => Just(Verdict::Next),
        1 => any::<u8>().prop_map(|link| Verdict::Send(LinkId(link))),
        1 => any::<u8>().prop_map(|link| Verdict::Wait(LinkId(link), [10, 0, 1, 4].into())),
        1 => Just(Verdict::Host(HostReason::NoConn)),
        1 => Just(Verdict::Drop(DropReason::NoRoute)),
    ]
}

fn answer() -> impl Strategy<Value = Option<Answer>> {
    prop_oneof![
        Just(None),
        Just(Some(Answer::PortUnreachable)),
        Just(Some(Answer::TimeExceeded)),
        any::<u16>().prop_map(|mtu| Some(Answer::FragNeeded(mtu))),
    ]
}

prop_compose! {
    /// A connection that the table does not have, or has no longer.
    fn conn()(index in any::<u32>(), generation in any::<u32>(), flags in any::<u16>(),
              dest in prop_oneof![0..6u32, any::<u32>()], state in any::<u8>(), proto in any::<u8>()) -> Conn {
        Conn {
            id: ConnId { index: index % 80, generation },
            proto,
            state,
            flags,
            caddr: [172, 16, 0, 1].into(),
            cport: 1024,
            vaddr: [10, 0, 0, 1].into(),
            vport: 80,
            daddr: [10, 0, 1, 1].into(),
            dport: 8080,
            dest,
            mark: 0,
            in_packets: 0,
            owner: 0,
            last_seen: Ticks(0),
            timeout: Ticks(100),
            control: None,
            children: 0,
            name: 0,
        }
    }
}

prop_compose! {
    fn given()(
        (bytes, end, at) in (prop::collection::vec(any::<u8>(), 0..200), 0..220u32, (any::<u8>(), any::<u8>())),
        (ip_len, ttl, protocol) in (any::<u16>(), any::<u8>(), prop::sample::select(vec![6, 17, 50, 132, 1, 255])),
        (event, client, service, out) in (any::<u8>(), 0..6u16, prop_oneof![0..4u32, any::<u32>()], any::<bool>()),
        (verdict, answer, conn) in (verdict(), answer(), prop::option::of(conn())),
        real in prop::option::weighted(0.5, (0..4u8, any::<bool>())),
    ) -> Given {
        let at = Offsets { end, l3: at.0.into(), l4: at.1.into(), protocol, ..Offsets::default() };
        let given = Given { bytes, at, ip_len, ttl, protocol, event, client, service, out, verdict, answer, conn };
        match real {
            None => given,
            // A real frame, which may be shorter than what is said about it.
            Some((last, whole)) => {
                let bytes = Packet { padding: 9, ..request(protocol, event, client, last) }.bytes();
                let at = if whole { Offsets::of(&bytes).unwrap_or(at) } else { at };
                Given { bytes, at, ..given }
            }
        }
    }
}

struct Bench {
    port: MemoryPort,
    batch: Batch,
    snapshot: Snapshot,
    table: Arc<Table>,
    owner: Owner,
    counters: Arc<Counters>,
}

impl Bench {
    fn new(given: &[Given]) -> Self {
        let methods = [Method::Masq, Method::Route, Method::Tunnel, Method::Local];
        let service = |(last, method)| Virtual::new(6, last, vec![Real::new(last, method)]);
        let config = Config::new((1..).zip(methods).map(service).collect());
        let (table, mut owners) = Table::new(64, 1, Ticks(0)).unwrap();
        let mut bench = Self {
            port: MemoryPort::new(256),
            batch: Batch::new(),
            snapshot: config.snapshot(),
            table,
            owner: owners.pop().unwrap(),
            counters: Arc::default(),
        };
        for given in given {
            assert!(bench.port.inject(LinkId(given.client as u8 % 3), &given.bytes));
        }
        receive::receive(&mut bench.port, &mut bench.batch, &bench.counters);
        let table = bench.table.clone();
        bench.batch.slots.iter_mut().zip(given).for_each(|(slot, given)| given.fill(slot, &table));
        bench
    }

    /// The frames as they are, and what was decided.
    fn seen(&self) -> Vec<(Vec<u8>, Verdict)> {
        self.batch.slots.iter().map(|s| (s.frame.bytes().to_vec(), s.verdict)).collect()
    }

    /// Sends the batch on its last way; all frames are where they belong then.
    fn finish(mut self) {
        let mut outlet = Outlet {
            port: self.port,
            host: Collected::default(),
            counters: self.counters.clone(),
            waiting: Waiting::new(),
            asks: Arc::new(Asks::new(4).unwrap()),
            limiter: Limiter::new(None),
            ids: Identification::default(),
        };
        outlet.transmit(&mut self.batch, &Fragments::default(), &self.snapshot.fib, Ticks(0));
        assert!(Totals::of([&*self.counters].into_iter()).balanced());
        outlet.stop();
        assert_eq!(outlet.port.missing(), 0);
        let totals = Totals::of([&*self.counters].into_iter());
        assert!(totals.balanced() && totals.waiting == 0);
    }
}

#[derive(Default)]
struct Others {
    defense: Defense,
    calls: Calls,
    segments: Vec<Segment>,
}

fn context<'a>(
    snapshot: &'a Snapshot,
    owner: &'a mut Owner,
    others: &'a mut Others,
) -> Context<'a> {
    let Others { defense, calls, segments } = others;
    Context { snapshot, owner, defense, calls, segments, now: Ticks(5) }
}

impl Given {
    fn fill(&self, slot: &mut Slot, table: &Table) {
        slot.at = self.at;
        slot.ip_len = self.ip_len;
        slot.ttl = self.ttl;
        slot.protocol = self.protocol;
        slot.event = Event(self.event);
        slot.service = self.service;
        slot.verdict = self.verdict;
        slot.answer = self.answer;
        slot.conn = self.conn;
        let (address, port) = support::packet::client(self.client);
        let (client, service) = ((Address::from(address), port), ([10, 0, 0, 1].into(), 80));
        let (from, to) = if self.out { (service, client) } else { (client, service) };
        (slot.source, slot.source_port) = from;
        (slot.destination, slot.destination_port) = to;
        slot.direction = if self.out { Direction::Out } else { Direction::In };
        slot.hash = table.hash(self.protocol, client.0, client.1);
    }
}

/// Runs one stage over arbitrary slots: what was decided before stays, with its frame.
fn alone(given: &[Given], stage: impl FnOnce(&mut Bench)) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(given);
    let before = bench.seen();
    stage(&mut bench);
    for (before, after) in before.iter().zip(&bench.seen()) {
        prop_assert!(before.1 == Verdict::Next || before == after, "{before:?} became {after:?}");
    }
    prop_assert_eq!(bench.batch.slots.len(), given.len());
    bench.finish();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn parse_alone(given in prop::collection::vec(given(), 0..64)) {
        alone(&given, |b| {
            parse::parse(&mut b.batch, &b.snapshot, Ticks(0));
        })?;
    }

    #[test]
    fn reassemble_alone(given in prop::collection::vec(given(), 0..64)) {
        let fragments = Fragments::default();
        alone(&given, |b| {
            reassemble::reassemble(&mut b.batch, &fragments, &b.snapshot, Ticks(0));
        })?;
    }

    #[test]
    fn related_alone(given in prop::collection::vec(given(), 0..64)) {
        let mut others = Others::default();
        alone(&given, |b| {
            for slot in b.batch.undecided() {
                related::follow(slot, &mut context(&b.snapshot, &mut b.owner, &mut others));
            }
        })?;
    }

    #[test]
    fn classify_alone(given in prop::collection::vec(given(), 0..64)) {
        alone(&given, |b| classify::classify(&mut b.batch, &b.snapshot, &b.table))?;
    }

    #[test]
    fn lookup_alone(given in prop::collection::vec(given(), 0..64)) {
        alone(&given, |b| lookup::lookup(&mut b.batch, &b.table))?;
    }

    #[test]
    fn schedule_and_state_alone(given in prop::collection::vec(given(), 0..64)) {
        let mut others = Others::default();
        alone(&given, |b| {
            for slot in b.batch.undecided() {
                schedule::schedule(slot, &mut context(&b.snapshot, &mut b.owner, &mut others));
            }
        })?;
        alone(&given, |b| {
            for slot in b.batch.undecided() {
                state::advance(slot, &mut context(&b.snapshot, &mut b.owner, &mut others));
            }
        })?;
    }

    #[test]
    fn forward_alone(given in prop::collection::vec(given(), 0..64)) {
        let mut ids = Identification::default();
        let now = Moment { tick: Ticks(0), time_of_day: 0 };
        alone(&given, |b| forward::forward(&mut b.batch, &b.snapshot, 0, now, &mut ids))?;
    }

    #[test]
    fn transmit_alone(given in prop::collection::vec(given(), 0..64)) {
        alone(&given, |_| ())?;
    }
}

/// As on a worker that has not seen the newest snapshot yet, while another opened the connection.
#[test]
fn a_connection_to_a_server_of_a_newer_snapshot_is_left_alone() {
    for (method, out) in [(Method::Route, false), (Method::Masq, true)] {
        let mut lab = support::Lab::new(Config::one(6, method));
        lab.give(&support::syn(0));
        let before = lab.conn();
        let config = Config::new(Vec::new());
        let (_, mut owners) = Table::new(64, 1, Ticks(0)).unwrap();
        let mut bench = Bench::new(&[]);
        bench.port.inject(LinkId(0), &support::syn(0).bytes());
        receive::receive(&mut bench.port, &mut bench.batch, &bench.counters);
        let slot = &mut bench.batch.slots[0];
        slot.conn = Some(before);
        slot.direction = if out { Direction::Out } else { Direction::In };
        let (snapshot, mut others) = (config.snapshot(), Others::default());
        schedule::schedule(slot, &mut context(&snapshot, &mut owners[0], &mut others));
        assert_eq!(slot.verdict, Verdict::Drop(DropReason::DestUnavailable));
        bench.finish();
    }
}

#[test]
fn receive_takes_a_batch_and_no_more() {
    let mut port = MemoryPort::new(100);
    (0..100).for_each(|_| assert!(port.inject(LinkId(1), &[1, 2, 3])));
    let (mut batch, counters) = (Batch::new(), Counters::default());
    let mut taken = Vec::new();
    loop {
        let count = receive::receive(&mut port, &mut batch, &counters);
        taken.push(count);
        batch.slots.drain(..).for_each(|slot| port.free(slot.frame.into_parts().0));
        if count == 0 {
            break;
        }
    }
    assert_eq!(taken, [64, 36, 0]);
    let totals = Totals::of([&counters].into_iter());
    assert_eq!((totals.rx, totals.rx_bytes, port.missing()), (100, 300, 0));
}
