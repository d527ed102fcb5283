//! One core's loop: a batch through all stages, again and again.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uvs_forward::segment::Segment;

use crate::ask::Asks;
use crate::batch::{Batch, Relation, Verdict};
use crate::calls::Calls;
use crate::clock::{Clock, Ticks};
use crate::counters::Counters;
use crate::defense::{Defense, Guard, SCAN_BUDGET};
use crate::fragments::Fragments;
use crate::host::Host;
use crate::limiter::Limiter;
use crate::port::Port;
use crate::publish::{Published, Reader};
use crate::snapshot::Snapshot;
use crate::stage::forward::{Identification, Moment};
use crate::stage::transmit::Outlet;
use crate::stage::{
    Context, SEGMENTS, classify, farewell, forward, lookup, parse, reassemble, receive, related,
    schedule, segment, state,
};
use crate::table::{self, Conn, OnExpiry, Owner, Table};
use crate::waiting::Waiting;

/// Entries of the timer wheel that are looked at between two batches; a batch's worth, so that
/// expiry keeps up with arrival and never holds up the frames for long.
const EXPIRY_BUDGET: usize = 128;

/// Empty polls of the rings before an idle worker goes to sleep.
const SPINS: u32 = 200;

/// Longest sleep of an idle worker: timers have to run.
const NAP: Duration = Duration::from_millis(100);

/// Batches that are still worked on when the engine stops: more than any ring holds.
const LAST_TURNS: u32 = 256;

/// What all workers of an engine share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration.
    pub published: Arc<Published>,
    /// Who finds Ethernet addresses.
    pub asks: Arc<Asks>,
    /// The time.
    pub clock: Clock,
    /// ICMP answers a second and worker; `None` is no limit.
    pub answers_per_second: Option<u32>,
    /// What is in force against overload.
    pub defense: Arc<Defense>,
    /// The names of calls.
    pub calls: Arc<Calls>,
    /// Fragments that wait for the rest of their packets.
    pub fragments: Arc<Fragments>,
}

impl Shared {
    /// What workers share whose answers are not limited.
    pub fn new(published: Arc<Published>, asks: Arc<Asks>, clock: Clock) -> Self {
        let (defense, calls, fragments) = (Arc::default(), Arc::default(), Arc::default());
        Self { published, asks, clock, answers_per_second: None, defense, calls, fragments }
    }
}

/// A worker: its port, its part of the connection table, and what it carries between batches.
pub struct Worker<P, H> {
    clock: Clock,
    reader: Reader,
    batch: Batch,
    table: Arc<Table>,
    owner: Owner,
    defense: Arc<Defense>,
    calls: Arc<Calls>,
    fragments: Arc<Fragments>,
    segments: Vec<Segment>,
    /// Only worker 0 has it.
    guard: Option<Guard>,
    outlet: Outlet<P, H>,
}

impl<P: Port, H: Host> Worker<P, H> {
    /// A worker on this port; `owner` tells its number.
    pub fn new(port: P, host: H, owner: Owner, shared: &Shared) -> Self {
        Self {
            clock: shared.clock.clone(),
            reader: shared.published.reader(),
            batch: Batch::new(),
            table: owner.table().clone(),
            guard: (owner.worker() == 0).then(|| Guard::new(shared.clock.now().0.into())),
            owner,
            defense: shared.defense.clone(),
            calls: shared.calls.clone(),
            fragments: shared.fragments.clone(),
            segments: Vec::with_capacity(SEGMENTS),
            outlet: Outlet {
                port,
                host,
                counters: Arc::default(),
                waiting: Waiting::new(),
                asks: shared.asks.clone(),
                limiter: Limiter::new(shared.answers_per_second),
                ids: Identification::default(),
            },
        }
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<Counters> {
        self.outlet.counters.clone()
    }

    /// Its port.
    pub fn port(&mut self) -> &mut P {
        &mut self.outlet.port
    }

    /// Its host.
    pub fn host(&mut self) -> &mut H {
        &mut self.outlet.host
    }

    /// One batch through all stages. Says how many frames it was.
    pub fn turn(&mut self) -> usize {
        let now = self.clock.now();
        self.reader.refresh();
        let snapshot = self.reader.snapshot();
        let outlet = &mut self.outlet;
        let waited = !outlet.waiting.is_empty();
        if waited {
            outlet.release(&snapshot.fib, now);
        }
        let mut context = Context {
            snapshot,
            owner: &mut self.owner,
            defense: &self.defense,
            calls: &self.calls,
            segments: &mut self.segments,
            now,
        };
        if let Some(guard) = &mut self.guard {
            guard.turn(&mut context, SCAN_BUDGET);
        }
        let count = receive::receive(&mut outlet.port, &mut self.batch, &outlet.counters);
        if count > 0 {
            let moment = Moment { tick: now, time_of_day: self.clock.time_of_day(now) };
            run_stages(&mut self.batch, &mut context, &self.fragments, moment, outlet);
            outlet.transmit(&mut self.batch, &self.fragments, &snapshot.fib, now);
        }
        let (table, segments) = (&self.table, &mut self.segments);
        self.owner.expire(now, EXPIRY_BUDGET, &mut Ending { snapshot, table, segments });
        let originates = !segments.is_empty();
        if originates {
            outlet.originate_segments(segments, &snapshot.fib);
        }
        if count > 0 || waited || originates {
            outlet.port.flush();
        }
        count
    }

    /// Does all that is due by now, for simulated time: ends the connections whose time is up, and
    /// looks after the defences as if a turn had no limit.
    pub fn catch_up(&mut self) {
        self.reader.refresh();
        let snapshot = self.reader.snapshot();
        if let Some(guard) = &mut self.guard {
            let mut context = Context {
                snapshot,
                owner: &mut self.owner,
                defense: &self.defense,
                calls: &self.calls,
                segments: &mut self.segments,
                now: self.clock.now(),
            };
            guard.turn(&mut context, u64::MAX);
        }
        let (table, segments) = (&self.table, &mut self.segments);
        let ending = &mut Ending { snapshot, table, segments };
        self.owner.expire(self.clock.now(), usize::MAX, ending);
    }

    /// Runs until `stop` is set. With `busy` it never sleeps; else it sleeps in the port when
    /// nothing came for a while, until a frame comes or `wake` is readable.
    ///
    /// # Errors
    ///
    /// When the port can no longer be waited on: its interface is gone.
    pub fn run(&mut self, stop: &AtomicBool, wake: &impl AsRawFd, busy: bool) -> io::Result<()> {
        let mut idle = 0;
        // Relaxed: the flag stands for itself; `wake` ends the sleep.
        while !stop.load(Ordering::Relaxed) {
            if self.turn() > 0 {
                idle = 0;
                continue;
            }
            idle += 1;
            if busy || idle < SPINS {
                std::hint::spin_loop();
            } else {
                self.outlet.port.flush();
                self.outlet.port.wait(wake, NAP)?;
            }
        }
        Ok(())
    }

    /// Finishes what has come, as far as the rings go, and gives back the frames that wait: the
    /// last before a worker is dropped.
    pub fn stop(&mut self) {
        for _ in 0..LAST_TURNS {
            if self.turn() == 0 {
                break;
            }
        }
        self.outlet.stop();
    }
}

/// How long a template whose time is over stays while connections of it live (ip_vs_conn.c,
/// ip_vs_conn_expire).
const TEMPLATE_STAYS: Ticks = Ticks::from_secs(60);

/// Counts expired connections out of their servers and templates.
struct Ending<'a> {
    snapshot: &'a Snapshot,
    table: &'a Table,
    segments: &'a mut Vec<Segment>,
}

impl OnExpiry for Ending<'_> {
    fn expired(&mut self, conn: &Conn) -> table::Verdict {
        if conn.children > 0 {
            return table::Verdict::Keep { timeout: TEMPLATE_STAYS };
        }
        match farewell::ask(conn, self.snapshot, self.table, self.segments) {
            Some(timeout) => table::Verdict::Keep { timeout },
            None => table::Verdict::Remove,
        }
    }

    fn removed(&mut self, conn: &Conn) {
        self.snapshot.unbind(conn);
        if let Some(template) = conn.control {
            self.table.orphan(template);
        }
    }
}

/// The stages between the rings, in the order of a frame's way.
fn run_stages<P: Port, H: Host>(
    batch: &mut Batch,
    context: &mut Context<'_>,
    fragments: &Fragments,
    now: Moment,
    outlet: &mut Outlet<P, H>,
) {
    let snapshot = context.snapshot;
    let worker = usize::from(context.owner.worker());
    let found = parse::parse(batch, snapshot, context.now);
    if found.fragments {
        reassemble::reassemble(batch, fragments, snapshot, context.now);
    }
    classify::classify(batch, snapshot, context.owner.table());
    lookup::lookup(batch, context.owner.table());
    for slot in batch.undecided() {
        // Together, frame by frame: see the schedule stage.
        if slot.relation != Relation::Own {
            related::follow(slot, context);
            continue;
        }
        schedule::schedule(slot, context);
        if slot.verdict == Verdict::Next {
            state::advance(slot, context);
        }
    }
    if found.segments {
        segment::segment(batch, outlet);
    }
    forward::forward(batch, snapshot, worker, now, &mut outlet.ids);
}
