//! What the connection table costs: memory, lookups, insertions, expiry, and what a second thread
//! brings.
//!
//! Everything is timed in chunks of a batch or a few, of a few microseconds each, and the median
//! of the chunks counts, so that what else runs on the machine interrupts few of them. Where a mean
//! is given it is of the thread's processor time. What comes from outside of the table, the keys,
//! is made outside of the timing.

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;
use std::time::Instant;

use core_affinity::CoreId;
use rustix::time::{ClockId, clock_gettime};
use uvs_engine::clock::Ticks;
use uvs_engine::port::BATCH;
use uvs_engine::table::{
    CapacityError, Conn, Hint, InKey, Inserted, NewConn, OnExpiry, Owner, Table, Verdict,
};

use crate::bars::Cost;
use crate::conns::{Family, conn, key};

/// Batches that are timed together.
const CHUNK: usize = 8;

/// Chunks of a round of lookups.
const CHUNKS: usize = 2000;

/// Entries that expiry looks at in one call, as in the engine's worker.
const BUDGET: usize = 128;

/// Connections that expire in a tick, at a million a second.
const A_TICK: u32 = 10_000;

const START: Ticks = Ticks(1000);

/// How full a table is when it holds what it is asked to.
const FILL: f64 = 0.8;

/// A table, one worker's half of it, and connections.
pub struct Rig {
    table: Arc<Table>,
    owner: Owner,
    family: Family,
    count: u32,
    now: Ticks,
    random: u64,
    /// Bytes that the process had before.
    before: u64,
}

/// What it took to fill a table.
pub struct Filled {
    /// Bytes of the process for each connection.
    pub bytes: f64,
    /// Nanoseconds of an insertion.
    pub insert: Nanos,
}

/// Nanoseconds.
pub struct Nanos {
    /// Of chunks.
    pub cost: Cost,
    /// By the thread's processor time, all in.
    pub mean: f64,
}

impl Rig {
    /// A table that `count` connections fill to 80 %, with no connection yet.
    ///
    /// # Errors
    ///
    /// It does not fit into memory.
    pub fn new(family: Family, count: u32) -> Result<Self, CapacityError> {
        let before = resident();
        let capacity = (f64::from(count) / FILL) as u64;
        let (table, mut owners) = Table::new(capacity, 1, START)?;
        let owner = owners.remove(0);
        let random = 0x9e37_79b9_7f4a_7c15;
        Ok(Self { table, owner, family, count, now: START, random, before })
    }

    /// Inserts the connections, each with a timeout that lets a million a second expire, in no
    /// order. `progress` hears how many there are.
    pub fn fill(&mut self, progress: &mut dyn FnMut(u32)) -> Filled {
        let ticks = (self.count / A_TICK).max(1);
        let mut clock = Stopwatch::default();
        let batch = BATCH as u32;
        for first in (0..self.count).step_by(BATCH) {
            let keys: [InKey; BATCH] =
                std::array::from_fn(|at| key(self.family, first + at as u32));
            let conns = keys.map(|key| {
                let wait = Ticks(1 + (self.draw() % u64::from(ticks)) as u32);
                conn(self.family, &key, wait)
            });
            let some = BATCH.min((self.count - first) as usize);
            clock.time(some, || self.insert(&keys[..some], &conns));
            if (first / batch).is_multiple_of(4096) {
                progress(first);
            }
        }
        assert_eq!(self.table.len(), self.count as usize);
        let bytes = resident().saturating_sub(self.before) as f64 / f64::from(self.count);
        Filled { bytes, insert: clock.nanos() }
    }

    /// Inserts a batch as the stages do: hash and load the bucket, then insert.
    fn insert(&mut self, keys: &[InKey], conns: &[NewConn; BATCH]) {
        let mut hashes = [0; BATCH];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.table.hash_of(key);
            self.table.prefetch_bucket(*hash);
        }
        for (hash, conn) in hashes.into_iter().zip(&conns[..keys.len()]) {
            let made = self.owner.insert(hash, conn, self.now);
            assert!(matches!(made, Ok(Inserted::New(_))), "{made:?}");
        }
    }

    /// A round of lookups of connections that are there, in batches as the stages do them:
    /// nanoseconds of each.
    pub fn look_up(&mut self) -> f64 {
        let mut clock = Stopwatch::default();
        for _ in 0..CHUNKS {
            let keys: [[InKey; BATCH]; CHUNK] = std::array::from_fn(|_| self.keys());
            let table = &*self.table;
            clock.time(CHUNK * BATCH, || {
                keys.iter().for_each(|keys| assert_eq!(found(table, keys), BATCH));
            });
        }
        clock.nanos().cost.median
    }

    fn keys(&mut self) -> [InKey; BATCH] {
        std::array::from_fn(|_| key(self.family, (self.draw() % u64::from(self.count)) as u32))
    }

    /// Lets all expire, a million a second: nanoseconds of each.
    pub fn expire(&mut self, progress: &mut dyn FnMut(u32)) -> Nanos {
        let mut clock = Stopwatch::default();
        let mut gone = Gone(0);
        while !self.table.is_empty() {
            self.now = self.now.after(Ticks(1));
            loop {
                let (was, before) = (gone.0, clock.begin());
                let looked = self.owner.expire(self.now, BUDGET, &mut gone);
                clock.end(before, gone.0 - was);
                if looked < BUDGET {
                    break;
                }
            }
            if self.now.0.is_multiple_of(100) {
                progress(self.count - gone.0 as u32);
            }
        }
        clock.nanos()
    }

    fn draw(&mut self) -> u64 {
        next(&mut self.random)
    }
}

/// Looks up a batch as the stages do: how many of the keys are found.
pub fn found(table: &Table, keys: &[InKey; BATCH]) -> usize {
    let mut hashes = [0; BATCH];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = table.hash_of(key);
        table.prefetch_bucket(*hash);
    }
    let mut hints = [Hint::NONE; BATCH];
    for ((hint, hash), key) in hints.iter_mut().zip(hashes).zip(keys) {
        *hint = table.prefetch_in(hash, key);
    }
    let all = hints.into_iter().zip(hashes).zip(keys);
    all.filter(|((hint, hash), key)| black_box(table.lookup_in_at(*hint, *hash, key)).is_some())
        .count()
}

/// A random number (xorshift64, Marsaglia 2003).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Lets every connection go.
struct Gone(usize);

impl OnExpiry for Gone {
    fn expired(&mut self, _: &Conn) -> Verdict {
        Verdict::Remove
    }

    fn removed(&mut self, conn: &Conn) {
        self.0 += black_box(usize::from(conn.proto != 0));
    }
}

/// Times chunks.
#[derive(Default)]
struct Stopwatch {
    chunks: Vec<f32>,
    processor: Duration,
    count: usize,
}

impl Stopwatch {
    fn time(&mut self, count: usize, run: impl FnOnce()) {
        let before = self.begin();
        run();
        self.end(before, count);
    }

    fn begin(&self) -> (Duration, Instant) {
        (processor_time(), Instant::now())
    }

    fn end(&mut self, (processor, start): (Duration, Instant), count: usize) {
        let took = start.elapsed();
        self.processor += processor_time() - processor;
        self.count += count;
        if count > 0 {
            self.chunks.push(took.as_nanos() as f32 / count as f32);
        }
    }

    fn nanos(mut self) -> Nanos {
        self.chunks.sort_by(f32::total_cmp);
        let at = |part: usize| f64::from(self.chunks[self.chunks.len() * part / 100]);
        // The fastest tenth may be of an empty table; the least is not the luckiest chunk.
        let cost = Cost { median: at(50), least: at(10) };
        Nanos { cost, mean: self.processor.as_nanos() as f64 / self.count as f64 }
    }
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kilobytes = rss.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Two workers on one table: 95 of 100 operations are lookups, the others insertions and
/// removals, one as often as the other.
pub struct Pair {
    table: Arc<Table>,
    owners: [Owner; 2],
    count: u32,
}

impl Pair {
    /// With this many connections in the table, half of them of each worker.
    ///
    /// # Errors
    ///
    /// It does not fit into memory.
    pub fn new(count: u32) -> Result<Self, CapacityError> {
        let capacity = (f64::from(count) / FILL) as u64;
        let (table, owners) = Table::new(capacity, 2, START)?;
        let Ok(mut owners) = <[Owner; 2]>::try_from(owners) else {
            unreachable!("two were asked for")
        };
        for (half, owner) in owners.iter_mut().enumerate() {
            for number in (half as u32..count).step_by(2) {
                put(owner, number);
            }
        }
        Ok(Self { table, owners, count })
    }

    /// How much more two threads do than one, each by its own processor time. One works alone
    /// first, for as long as the two then do together.
    ///
    /// # Panics
    ///
    /// When a thread does.
    pub fn scale(&mut self, span: Duration) -> f64 {
        let (count, table) = (self.count, &*self.table);
        let run = |parts: Vec<&mut [Owner]>| -> f64 {
            let span = &Span::new(span, parts.len());
            thread::scope(|scope| {
                let work = |owners| move || work(table, owners, count, span);
                let threads = parts.into_iter().map(|owners| scope.spawn(work(owners)));
                let threads: Vec<_> = threads.collect();
                threads.into_iter().map(|thread| thread.join().expect("a thread's rate")).sum()
            })
        };
        let alone = run(vec![&mut self.owners]);
        run(self.owners.chunks_mut(1).collect()) / alone
    }
}

/// While threads work: they begin together, and end when the first has had its time.
struct Span {
    time: Duration,
    stop: AtomicBool,
    start: Barrier,
}

impl Span {
    fn new(time: Duration, threads: usize) -> Self {
        Self { time, stop: AtomicBool::new(false), start: Barrier::new(threads) }
    }
}

fn put(owner: &mut Owner, number: u32) -> bool {
    let key = key(Family::V4, number);
    let hash = owner.table().hash_of(&key);
    let new = conn(Family::V4, &key, Ticks::from_secs(3600));
    let made = owner.insert(hash, &new, START).expect("room in the table");
    matches!(made, Inserted::New(_))
}

/// Works as the first of these owners until the time is over, and lets all of them free what was
/// removed; gives operations a second of this thread's processor time.
fn work(table: &Table, owners: &mut [Owner], count: u32, span: &Span) -> f64 {
    static ROUND: AtomicU32 = AtomicU32::new(1);
    core_affinity::set_for_current(CoreId { id: owners[0].worker().into() });
    // Relaxed: only to be another one each time.
    let mut random = u64::from(ROUND.fetch_add(1, Ordering::Relaxed)) << 32 | 0x9e37_79b9;
    let (mut operations, mut gone) = (0, Gone(0));
    span.start.wait();
    let (before, start) = (processor_time(), Instant::now());
    // Relaxed: the flag stands for itself.
    while !span.stop.load(Ordering::Relaxed) {
        for _ in 0..32 {
            let keys = std::array::from_fn(|_| {
                key(Family::V4, (next(&mut random) % u64::from(count)) as u32)
            });
            operations += BATCH + black_box(found(table, &keys)) / BATCH;
            // Of 67.4 operations 64 are lookups. What is removed is inserted again.
            for _ in 0..if random % 10 < 7 { 2 } else { 1 } {
                let number = (next(&mut random) % u64::from(count)) as u32;
                let key = key(Family::V4, number);
                if let Some(conn) = table.lookup_in(table.hash_of(&key), &key) {
                    owners[0].remove(conn.id);
                }
                put(&mut owners[0], number);
                operations += 2;
            }
        }
        for owner in &mut *owners {
            owner.expire(START, BUDGET, &mut gone);
        }
        if start.elapsed() >= span.time {
            span.stop.store(true, Ordering::Relaxed);
        }
    }
    operations as f64 / (processor_time() - before).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_happens() {
        for family in [Family::V4, Family::V6] {
            let mut rig = Rig::new(family, 20_000).unwrap();
            for _ in 0..2 {
                let filled = rig.fill(&mut |_| ());
                assert!(filled.insert.cost.median > 0.0 && filled.insert.mean > 0.0);
                assert!(rig.look_up() > 0.0);
                assert!(rig.expire(&mut |_| ()).mean > 0.0);
                assert!(rig.table.is_empty());
            }
        }
    }

    #[test]
    fn two_threads_leave_the_table_as_it_was() {
        let mut pair = Pair::new(1000).unwrap();
        assert!(pair.scale(Duration::from_millis(20)) > 0.0);
        // A connection that both removed and inserted at once may be left out by neither.
        assert_eq!(pair.table.len(), pair.table.iter().count());
    }
}
