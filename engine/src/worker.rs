//! One core's loop: a batch through all stages, again and again.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ask::Asks;
use crate::batch::{Batch, Verdict};
use crate::clock::{Clock, Ticks};
use crate::counters::Counters;
use crate::host::Host;
use crate::limiter::Limiter;
use crate::port::Port;
use crate::snapshot::{Published, Reader, Snapshot};
use crate::stage::forward::Identification;
use crate::stage::transmit::Outlet;
use crate::stage::{classify, forward, lookup, parse, receive, schedule, state};
use crate::table::{self, Conn, OnExpiry, Owner};
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
}

/// A worker: its port, its part of the connection table, and what it carries between batches.
pub struct Worker<P, H> {
    clock: Clock,
    reader: Reader,
    batch: Batch,
    owner: Owner,
    outlet: Outlet<P, H>,
}

impl<P: Port, H: Host> Worker<P, H> {
    /// A worker on this port; `owner` tells its number.
    pub fn new(port: P, host: H, owner: Owner, shared: &Shared) -> Self {
        Self {
            clock: shared.clock.clone(),
            reader: shared.published.reader(),
            batch: Batch::new(),
            owner,
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
        let count = receive::receive(&mut outlet.port, &mut self.batch, &outlet.counters);
        if count > 0 {
            run_stages(&mut self.batch, snapshot, &mut self.owner, &mut outlet.ids, now);
            outlet.transmit(&mut self.batch, &snapshot.fib, now);
        }
        if count > 0 || waited {
            outlet.port.flush();
        }
        self.owner.expire(now, EXPIRY_BUDGET, &mut Unbind(snapshot));
        count
    }

    /// Ends all connections whose time is up by now, for simulated time.
    pub fn expire_all(&mut self) {
        self.reader.refresh();
        let snapshot = self.reader.snapshot();
        self.owner.expire(self.clock.now(), usize::MAX, &mut Unbind(snapshot));
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

/// Counts expired connections out of their servers.
struct Unbind<'a>(&'a Snapshot);

impl OnExpiry for Unbind<'_> {
    fn expired(&mut self, _conn: &Conn) -> table::Verdict {
        table::Verdict::Remove
    }

    fn removed(&mut self, conn: &Conn) {
        self.0.unbind(conn);
    }
}

/// The stages between the rings, in the order of a frame's way.
fn run_stages(
    batch: &mut Batch,
    snapshot: &Snapshot,
    owner: &mut Owner,
    ids: &mut Identification,
    now: Ticks,
) {
    parse::parse(batch, &snapshot.fib);
    classify::classify(batch, snapshot, owner.table());
    lookup::lookup(batch, owner.table());
    for slot in batch.undecided() {
        // Together, frame by frame: see the schedule stage.
        schedule::schedule(slot, snapshot, owner, now);
        if slot.verdict == Verdict::Next {
            state::advance(slot, snapshot, owner, now);
        }
    }
    forward::forward(batch, snapshot, usize::from(owner.worker()), ids);
}
