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
//! `index` the buckets, `contest` the insertion of each connection once, `free` the free entries,
//! `wheel` the timers, `owner` a worker's half, `memory` the mapping, `sync` the atomics.
//!
//! No lookup waits, and none reads more than a fixed number of buckets. Nothing is allocated after
//! construction.

pub mod conn;

mod contest;
mod entry;
mod free;
mod index;
mod iter;
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
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use self::entry::{Entry, Key, Words};
use self::free::FreeList;
use self::index::{Index, Wanted};
use self::memory::{Memory, prefetch};
use self::sync::{AtomicU64, Ordering};
use self::wheel::Wheel;
use crate::clock::Ticks;

pub use self::conn::{Conn, ConnId, InKey, Inserted, NewConn, OutKey, State, Transition, flag};
pub use self::iter::Iter;
pub use self::owner::{OnExpiry, Owner, Verdict};

/// The largest capacity: a slot of the index has 31 bits for the entry.
pub const CAPACITY_MAX: u64 = 1 << 31;

/// The most workers: an entry has 8 bits for its owner.
pub const WORKERS_MAX: usize = 256;

/// Posts that wait for an owner; what finds no room is found by the timer within a minute.
const INBOX: usize = if cfg!(loom) { 2 } else { 4096 };

/// Why a table cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// Capacity 0.
    #[error("a connection table of capacity 0 holds nothing; set a capacity of at least 1")]
    Zero,
    /// More than [`CAPACITY_MAX`].
    #[error("a connection table holds at most {CAPACITY_MAX} connections; {0} were asked for")]
    TooLarge(u64),
    /// More than the machine has free.
    #[error(
        "a connection table of {capacity} connections takes {} MB and the machine has {} MB \
         available; lower the capacity to at most {fits} or free memory",
        need >> 20, available >> 20
    )]
    Memory {
        /// What was asked for, in connections.
        capacity: u64,
        /// Bytes that it takes.
        need: u64,
        /// Bytes that are available.
        available: u64,
        /// A capacity that fits, in connections.
        fits: u64,
    },
    /// The mapping was refused.
    #[error(
        "the connection table's memory cannot be mapped ({0}); lower the capacity or raise the \
         address space limit (ulimit -v)"
    )]
    Map(#[source] io::Error),
    /// No worker, or more than [`WORKERS_MAX`].
    #[error("a connection table serves 1 to {WORKERS_MAX} workers; {0} were asked for")]
    Workers(usize),
}

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

/// The connections of all workers.
pub struct Table {
    entries: Memory<Entry>,
    index: Index,
    free: FreeList,
    /// An owner's post: connections that others removed, or whose timeout they shortened.
    inboxes: Box<[ArrayQueue<ConnId>]>,
    /// Connections of each owner.
    live: Box<[CachePadded<AtomicU64>]>,
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
        let capacity = Self::check(capacity, workers, memory::available())?;
        let table = Arc::new(Self {
            entries: Memory::new(capacity)?,
            index: Index::new(capacity)?,
            free: FreeList::new(capacity),
            inboxes: (0..workers).map(|_| ArrayQueue::new(INBOX)).collect(),
            live: (0..workers).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            hasher: hasher(),
        });
        let owners = (0..workers).map(|worker| Owner::new(&table, worker as u8, now)).collect();
        Ok((table, owners))
    }

    fn check(capacity: u64, workers: usize, available: u64) -> Result<usize, CapacityError> {
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        if workers == 0 || workers > WORKERS_MAX {
            return Err(CapacityError::Workers(workers));
        }
        // Bounds the products below as well.
        let entries = usize::try_from(capacity).ok().filter(|_| capacity <= CAPACITY_MAX);
        let entries = entries.ok_or(CapacityError::TooLarge(capacity))?;
        let need = Self::bytes(entries, workers);
        if need > available {
            let each = Self::bytes(1 << 20, 0);
            let spare = available.saturating_sub(Self::bytes(0, workers));
            let fits = (u128::from(spare) << 20) / u128::from(each);
            return Err(CapacityError::Memory { capacity, need, available, fits: fits as u64 });
        }
        Ok(entries)
    }

    fn bytes(capacity: usize, workers: usize) -> u64 {
        let owner = Wheel::bytes() + (INBOX * size_of::<(usize, ConnId)>()) as u64;
        (capacity * size_of::<Entry>()) as u64 + Index::bytes(capacity) + workers as u64 * owner
    }

    /// How many connections it can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// How many workers share it.
    pub fn workers(&self) -> usize {
        self.live.len()
    }

    /// Bytes that it takes when it is full: entries, index, timers and inboxes.
    pub fn memory(&self) -> u64 {
        Self::bytes(self.capacity(), self.workers())
    }

    /// How many connections it holds, templates included; exact when no worker is busy.
    pub fn len(&self) -> usize {
        // Relaxed: a statistic. A removal may be counted before its insertion is, so the sum may
        // be below zero for a moment.
        let sum = self
            .live
            .iter()
            .fold(0u64, |sum, owner| sum.wrapping_add(owner.load(Ordering::Relaxed)));
        usize::try_from(sum as i64).unwrap_or(0)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn count_live(&self, owner: u8, by: i64) {
        // Relaxed: a statistic.
        self.live[usize::from(owner)].fetch_add(by as u64, Ordering::Relaxed);
    }

    /// The hash of a connection, equal for both directions (INV-3). Its keys are secret and of
    /// this table, so that nobody can aim at a bucket.
    #[inline]
    pub fn hash(&self, proto: u8, caddr: Ipv4Addr, cport: u16) -> u64 {
        let client = u64::from(caddr.to_bits()) << 16 | u64::from(cport);
        self.hasher.hash_one(u64::from(proto) << 48 | client)
    }

    /// The hash of a persistence template. No reply looks for it, so it takes in the virtual end:
    /// with a wide netmask, all services' templates have the same client.
    #[inline]
    pub fn template_hash(&self, proto: u8, caddr: Ipv4Addr, vaddr: Ipv4Addr, vport: u16) -> u64 {
        let virt = u64::from(vaddr.to_bits()) << 16 | u64::from(vport);
        self.hasher.hash_one((u64::from(proto) << 32 | u64::from(caddr.to_bits()), virt))
    }

    /// The hash that goes with a key.
    #[inline]
    pub fn hash_of(&self, key: &InKey) -> u64 {
        if key.template {
            self.template_hash(key.proto, key.caddr, key.vaddr, key.vport)
        } else {
            self.hash(key.proto, key.caddr, key.cport)
        }
    }

    /// First pass over a batch: starts to load the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second pass, on the way in: starts to load the entry that the bucket offers.
    #[inline]
    pub fn prefetch_in(&self, hash: u64, key: &InKey) {
        let wanted = Wanted::inward(hash, (key.vaddr, key.vport));
        self.index.candidates(hash, wanted, |index| self.prefetch_line(index));
    }

    /// Second pass, on the way out.
    #[inline]
    pub fn prefetch_out(&self, hash: u64, key: &OutKey) {
        let wanted = Wanted::outward(hash, (key.daddr, key.dport));
        self.index.candidates(hash, wanted, |index| self.prefetch_line(index));
    }

    /// The connection, or template, of a client's packet.
    #[inline]
    pub fn lookup_in(&self, hash: u64, key: &InKey) -> Option<Conn> {
        self.lookup(hash, Wanted::inward(hash, (key.vaddr, key.vport)), key)
    }

    /// The connection of a real server's reply.
    #[inline]
    pub fn lookup_out(&self, hash: u64, key: &OutKey) -> Option<Conn> {
        self.lookup(hash, Wanted::outward(hash, (key.daddr, key.dport)), key)
    }

    #[inline(always)]
    fn lookup(&self, hash: u64, wanted: Wanted, key: &impl Key) -> Option<Conn> {
        self.index.find(hash, wanted, |index| {
            let words = self.entries[index as usize].read()?;
            key.matches(&words).then(|| words.conn(index))
        })
    }

    /// The connection with this name, if it still lives.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<Conn> {
        self.words(id).map(|words| words.conn(id.index))
    }

    #[inline]
    fn words(&self, id: ConnId) -> Option<Words> {
        let words = self.entries.get(id.index as usize)?.read()?;
        (words.generation() == id.generation).then_some(words)
    }

    /// Notes that a packet of the connection was seen; writes only when the tick is a new one.
    /// False when the connection is gone.
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

    /// Removes a connection, from a thread that is no worker; only one caller gets it. Its key
    /// may be inserted anew at once; its entry is free when its owner has seen to it.
    pub fn remove(&self, id: ConnId) -> Option<Conn> {
        let words = self.take_out(id)?;
        self.post(words.owner(), id);
        Some(words.conn(id.index))
    }

    /// All connections, without stopping anyone: each that lives all the while comes exactly
    /// once, one that comes or goes meanwhile at most once a life.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self)
    }

    /// Takes a connection out of the index; its entry is left to its owner.
    fn take_out(&self, id: ConnId) -> Option<Words> {
        let entry = self.entries.get(id.index as usize)?;
        let words = entry.leave(id.generation)?;
        let hash = self.hash_of(&words.conn(id.index).in_key());
        self.index.clear(hash, id.index);
        entry.left();
        self.count_live(words.owner(), -1);
        Some(words)
    }

    fn post(&self, owner: u8, id: ConnId) {
        // A full inbox is no loss: the owner visits the entry within a minute.
        let _ = self.inboxes[usize::from(owner)].push(id);
    }

    #[inline(always)]
    fn prefetch_line(&self, index: u32) {
        prefetch(&self.entries, index as usize);
    }

    /// Starts to load the bucket of a connection that is about to be removed.
    fn prefetch_expired(&self, index: u32, now: Ticks) {
        if let Some(words) = self.entries[index as usize].read()
            && words.expires().is_past(now)
        {
            self.index.prefetch(self.hash_of(&words.conn(index).in_key()));
        }
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
