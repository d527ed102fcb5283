//! The connection table: shared by all workers, lock-free, of fixed capacity.
//!
//! ```text
//!   hash(proto, caddr, cport)
//!        |                                   entries: a cache line each
//!        v    index: buckets of 8 slots      +----------------------------+
//!   +----------------------------------+     | generation, state, flags   |
//!   | tags, entry | tags, entry | ...  | --> | client, virtual, server    | <-+
//!   +----------------------------------+     | last seen, timeout         |   | timer wheel
//!   | ...                              |     | links                      | <-+ of the owner
//! ```
//!
//! - [`Table`] is what everybody shares: lookups, touches, listing, removal.
//! - [`Owner`] is a worker's own half: it inserts, keeps the timers of what it inserted, and frees
//!   it. An entry's memory goes back through its owner only, whoever removed the connection.
//! - A [`ConnId`] names a connection, not an entry: after reuse it finds nothing.
//!
//! The rooms: [`conn`] the plain values, `entry` a connection's line and the rules of its reuse,
//! `index` the buckets, `lookup` the way through both, `contest` the insertion of each connection
//! once, `free` the free entries, `wheel` the timers, `owner` a worker's half, `memory` the mapping,
//! `capacity` and `available` how large it may be, `sync` the atomics.
//!
//! No lookup waits, and none reads more than a fixed number of buckets. Nothing is allocated after
//! construction.

pub mod conn;

mod available;
mod capacity;
mod contest;
mod entry;
mod free;
mod index;
mod iter;
mod lookup;
mod memory;
mod owner;
mod sync;
mod wheel;

#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(any(loom, miri))))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use self::entry::{Entry, Wide, Words};
use self::free::FreeList;
use self::index::{Index, SLOTS};
use self::memory::Memory;
use self::sync::{AtomicU64, Ordering};
use crate::clock::Ticks;

pub use self::capacity::{CAPACITY_MAX, CapacityError};
pub use self::conn::{Conn, ConnId, InKey, Inserted, NewConn, OutKey, State, Transition, flag};
pub use self::iter::Iter;
pub use self::lookup::Hint;
pub use self::owner::{OnExpiry, Owner, Verdict};

/// The most workers: an entry has 8 bits for its owner.
pub const WORKERS_MAX: usize = 256;

/// Posts that wait for an owner; what finds no room is found by the timer within a minute.
const INBOX: usize = if cfg!(loom) { 2 } else { 4096 };

/// Why a connection was not inserted; the table is unchanged then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// No entry is free.
    #[error("the connection table is full; raise its capacity")]
    Full,
    /// The hash's part of the index is full: hundreds of connections of one client port.
    #[error("too many connections of one client address and port")]
    Crowded,
    /// Other workers inserted the same key at the same moment, many times over.
    #[error("other workers insert the same connection; its next packet tries again")]
    Contended,
}

/// How many connections an owner has: what it made and removed itself, and what others removed.
/// Two counts, for its own needs no exchange.
#[derive(Default)]
struct Live {
    own: AtomicU64,
    others: AtomicU64,
}

impl Live {
    /// Only the owner may.
    #[inline]
    fn add_own(&self, by: i64) {
        // Relaxed, both: a statistic, and nobody else writes it.
        let own = self.own.load(Ordering::Relaxed);
        self.own.store(own.wrapping_add(by as u64), Ordering::Relaxed);
    }

    fn removed_by_other(&self) {
        // Relaxed: a statistic.
        self.others.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> i64 {
        // Relaxed, both: a statistic.
        let others = self.others.load(Ordering::Relaxed);
        self.own.load(Ordering::Relaxed).wrapping_sub(others) as i64
    }
}

/// The connections of all workers.
pub struct Table {
    entries: Memory<Entry>,
    /// The second lines of wide connections, by the same numbers. Pages come with the first
    /// touch, so a table without IPv6 pays nothing for them.
    wide: Memory<Wide>,
    index: Index,
    free: FreeList,
    /// An owner's post: connections that others removed, or whose timeout they shortened.
    inboxes: Box<[ArrayQueue<ConnId>]>,
    /// Connections of each owner.
    live: Box<[CachePadded<Live>]>,
    hasher: ahash::RandomState,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl Table {
    /// A table for `capacity` connections, and the halves of its `workers`, whose timers start at
    /// `now`. Memory is mapped now and taken from the machine as it is used.
    ///
    /// # Errors
    ///
    /// The capacity is 0, too large, or more than the machine's available memory holds; or the
    /// number of workers is not 1 to 256.
    pub fn new(
        capacity: u64,
        workers: usize,
        now: Ticks,
    ) -> Result<(Arc<Self>, Vec<Owner>), CapacityError> {
        let capacity = Self::check(capacity, workers, available::available())?;
        let table = Arc::new(Self {
            entries: Memory::new(capacity)?,
            wide: Memory::new(capacity)?,
            index: Index::new(capacity)?,
            free: FreeList::new(capacity, workers)?,
            inboxes: (0..workers).map(|_| ArrayQueue::new(INBOX)).collect(),
            live: (0..workers).map(|_| CachePadded::default()).collect(),
            hasher: hasher(),
        });
        let owners = (0..workers).map(|worker| Owner::new(&table, worker as u8, now)).collect();
        Ok((table, owners))
    }

    /// How many connections it can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How many workers share it.
    pub fn workers(&self) -> usize {
        self.live.len()
    }

    /// Bytes that it takes when it is full of IPv6 connections: entries, index, timers and inboxes.
    pub fn memory(&self) -> u64 {
        Self::bytes(self.capacity(), self.workers())
    }

    /// How many connections it holds, templates included; exact when no worker is busy.
    pub fn len(&self) -> usize {
        // A removal may be counted before its insertion is, so the sum may be below zero for a
        // moment.
        let sum = self.live.iter().fold(0i64, |sum, owner| sum.wrapping_add(owner.count()));
        usize::try_from(sum).unwrap_or(0)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that a packet of the connection was seen; writes only when the tick is a new one.
    /// False when the connection is gone. After true it does not expire before its timeout.
    #[inline]
    pub fn touch(&self, id: ConnId, now: Ticks) -> bool {
        self.entries.get(id.index as usize).is_some_and(|entry| entry.touch(id.generation, now))
    }

    /// Counts packets from the client, for those who need it a connection (synchronisation);
    /// returns the count before. Near its end, a count may go to the entry's next connection.
    #[inline]
    pub fn count_in(&self, id: ConnId, packets: u32) -> Option<u32> {
        self.words(id)?;
        Some(self.entries[id.index as usize].count_in(packets))
    }

    /// Counts a connection to the template `id`, before the connection is inserted, and starts the
    /// template's timer anew; false when the template is gone.
    pub fn adopt(&self, id: ConnId, now: Ticks) -> bool {
        self.entries.get(id.index as usize).is_some_and(|entry| entry.adopt(id.generation, now))
    }

    /// Counts a connection out of the template `id`, once it is gone or was not inserted after
    /// all. Says how many are left; `None` when the template is gone.
    pub fn orphan(&self, id: ConnId) -> Option<u32> {
        self.entries.get(id.index as usize)?.orphan(id.generation)
    }

    /// The extra words of a connection that has some.
    pub fn extra(&self, id: ConnId) -> Option<[u64; 2]> {
        self.words(id).filter(Words::is_wide)?;
        let extra = self.wide[id.index as usize].extra();
        // Still the same connection, so the words were its own.
        self.words(id).is_some().then_some(extra)
    }

    /// Changes an extra word, 0 or 1, from what the caller has read to another; false when
    /// another has changed it meanwhile, or the connection is gone.
    ///
    /// Near its end, a change may meet the entry's next connection if that has the same word.
    pub fn set_extra(&self, id: ConnId, at: usize, from: u64, to: u64) -> bool {
        let live = self.words(id).is_some_and(|words| words.is_wide());
        live && self.wide[id.index as usize].set_extra(at, from, to)
    }

    /// Removes a connection, from a thread that is no worker; only one caller gets it. Its key
    /// may be inserted anew at once; its entry is free when its owner has seen to it.
    pub fn remove(&self, id: ConnId) -> Option<Conn> {
        let words = self.take_out(id.index, self.words(id)?, None)?;
        self.live[usize::from(words.owner())].removed_by_other();
        self.post(words.owner(), id);
        Some(words.conn(id.index))
    }

    /// All connections, without stopping anyone: each that lives all the while comes exactly
    /// once, one that comes or goes meanwhile at most once a life.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// How many buckets the index has.
    pub fn buckets(&self) -> u64 {
        self.index.len() as u64
    }

    /// The connections of one bucket, that of this random number.
    pub fn sample(&self, random: u64) -> impl Iterator<Item = Conn> + '_ {
        let bucket = self.index.home(random);
        (0..SLOTS).filter_map(move |slot| {
            let index = self.index.committed(bucket, slot)?.entry();
            Some(self.read(index)?.conn(index))
        })
    }

    /// Lets no lookup find the template any more: it serves no new connection, but lives as long
    /// as it would have. Its timer goes on.
    pub fn retire(&self, id: ConnId) -> bool {
        self.entries.get(id.index as usize).is_some_and(|entry| entry.retire(id.generation))
    }

    /// Notes that the connection's client was asked about it; its timer goes on.
    pub fn mark_asked(&self, id: ConnId) -> bool {
        self.entries.get(id.index as usize).is_some_and(|entry| entry.mark_asked(id.generation))
    }

    /// Sets bits of a template's state; its timer goes on. False when it is gone, or no template.
    pub fn mark_state(&self, id: ConnId, bits: u8) -> bool {
        let entry = self.entries.get(id.index as usize);
        entry.is_some_and(|entry| entry.mark_state(id.generation, bits))
    }

    /// Takes the connection of `words` out of the index; its entry is left to its owner. None when
    /// another does so.
    fn take_out(&self, index: u32, words: Words, hash: Option<u64>) -> Option<Words> {
        let entry = &self.entries[index as usize];
        let last = entry.leave(words)?;
        let hash = hash.unwrap_or_else(|| self.hash_of(&last.in_key()));
        self.index.clear(hash, index);
        entry.left();
        Some(last)
    }

    fn post(&self, owner: u8, id: ConnId) {
        // A full inbox is no loss: the owner visits the entry within a minute.
        let _ = self.inboxes[usize::from(owner)].push(id);
    }
}

#[cfg(not(loom))]
fn hasher() -> ahash::RandomState {
    ahash::RandomState::new()
}

/// loom runs a model again and again and wants the same each time.
#[cfg(loom)]
fn hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}
