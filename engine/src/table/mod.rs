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
//! `wheel` the timers, `owner` a worker's half, `memory` the mapping, `available` how large it may
//! be, `sync` the atomics.
//!
//! No lookup waits, and none reads more than a fixed number of buckets. Nothing is allocated after
//! construction.

pub mod conn;

mod available;
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
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use self::entry::{Entry, Key, Wide, Words};
use self::free::FreeList;
use self::index::{Index, SLOTS, Wanted};
use self::memory::{Memory, prefetch};
use self::sync::{AtomicU64, Ordering};
use self::wheel::Wheel;
use crate::address::Address;
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
    /// More than the machine has free, were all connections IPv6's. For IPv4 alone about half
    /// would do, but nobody can say beforehand what clients come, and a table that has started
    /// shall never be the reason why the process is killed.
    #[error(
        "a connection table of {capacity} connections takes up to {} MB, and the machine and its \
         control groups leave {} MB; lower the capacity to at most {fits}, or free memory",
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

/// Where a connection may be: what the first passes of a lookup have found, for the last one.
#[derive(Clone, Copy, Debug)]
pub struct Hint(u32);

impl Hint {
    /// Nowhere in particular.
    pub const NONE: Self = Self(u32::MAX);
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
            let fits = Self::fits(entries, workers, available);
            return Err(CapacityError::Memory { capacity, need, available, fits });
        }
        Ok(entries)
    }

    /// About the largest capacity below `capacity` that fits.
    fn fits(mut capacity: usize, workers: usize, available: u64) -> u64 {
        while capacity > 0 && Self::bytes(capacity, workers) > available {
            capacity -= capacity.div_ceil(256);
        }
        capacity as u64
    }

    fn bytes(capacity: usize, workers: usize) -> u64 {
        let owner = Wheel::bytes() + (INBOX * size_of::<(usize, ConnId)>()) as u64;
        let lines = size_of::<Entry>() + size_of::<Wide>();
        let shared = Index::bytes(capacity) + FreeList::bytes(capacity, workers);
        (capacity * lines) as u64 + shared + workers as u64 * owner
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

    /// The hash of a connection, equal for both directions (INV-3). Its keys are secret and of
    /// this table, so that nobody can aim at a bucket.
    #[inline]
    pub fn hash(&self, proto: u8, caddr: Address, cport: u16) -> u64 {
        let proto = u64::from(proto) << 48;
        match caddr.is_v4() {
            true => {
                let client = u64::from(caddr.low32()) << 16 | u64::from(cport);
                self.hasher.hash_one(proto | client)
            }
            false => self.hasher.hash_one((caddr.words(), proto | u64::from(cport))),
        }
    }

    /// The hash of a persistence template. No reply looks for it, so it takes in the virtual end:
    /// with a wide netmask, all services' templates have the same client.
    #[inline]
    pub fn template_hash(&self, key: &InKey) -> u64 {
        let virt = (key.vaddr.words(), u64::from(key.vport) << 8 | u64::from(key.proto));
        self.hasher.hash_one((key.caddr.words(), key.name, virt))
    }

    /// A 64-bit name for bytes of the network, keyed as the hashes are; never 0.
    pub fn name(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes).max(1)
    }

    /// The hash that goes with a key.
    #[inline]
    pub fn hash_of(&self, key: &InKey) -> u64 {
        if key.template {
            self.template_hash(key)
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
    #[inline(always)]
    pub fn prefetch_in(&self, hash: u64, key: &InKey) -> Hint {
        self.prefetch(hash, Wanted::inward(hash, (key.vaddr, key.vport)), key.vaddr)
    }

    /// Second pass, on the way out.
    #[inline(always)]
    pub fn prefetch_out(&self, hash: u64, key: &OutKey) -> Hint {
        self.prefetch(hash, Wanted::outward(hash, (key.daddr, key.dport)), key.caddr)
    }

    #[inline(always)]
    fn prefetch(&self, hash: u64, wanted: Wanted, end: Address) -> Hint {
        let Some(index) = self.index.first(hash, wanted) else { return Hint::NONE };
        self.prefetch_line(index);
        if !end.is_v4() {
            prefetch(&self.wide, index as usize);
        }
        Hint(index)
    }

    /// Third pass: the connection, or template, of a client's packet.
    #[inline(always)]
    pub fn lookup_in_at(&self, hint: Hint, hash: u64, key: &InKey) -> Option<Conn> {
        self.at(hint, key).or_else(|| self.lookup_in(hash, key))
    }

    /// Third pass: the connection of a real server's reply.
    #[inline(always)]
    pub fn lookup_out_at(&self, hint: Hint, hash: u64, key: &OutKey) -> Option<Conn> {
        self.at(hint, key).or_else(|| self.lookup_out(hash, key))
    }

    #[inline(always)]
    fn at(&self, hint: Hint, key: &impl Key) -> Option<Conn> {
        self.find(hint.0, key).map(|words| words.conn(hint.0))
    }

    /// The connection, or template, of a client's packet.
    #[inline]
    pub fn lookup_in(&self, hash: u64, key: &InKey) -> Option<Conn> {
        self.lookup(hash, Wanted::inward(hash, (key.vaddr, key.vport)), key, Words::conn)
    }

    /// The connection of a real server's reply.
    #[inline]
    pub fn lookup_out(&self, hash: u64, key: &OutKey) -> Option<Conn> {
        self.lookup(hash, Wanted::outward(hash, (key.daddr, key.dport)), key, Words::conn)
    }

    /// The name of the connection with this key.
    #[inline]
    fn id_of(&self, hash: u64, key: &InKey) -> Option<ConnId> {
        let wanted = Wanted::inward(hash, (key.vaddr, key.vport));
        self.lookup(hash, wanted, key, Words::id)
    }

    #[inline(always)]
    fn lookup<R>(
        &self,
        hash: u64,
        wanted: Wanted,
        key: &impl Key,
        take: impl Fn(&Words, u32) -> R,
    ) -> Option<R> {
        self.index.find(hash, wanted, |index| Some(take(&self.find(index, key)?, index)))
    }

    #[inline(always)]
    fn find(&self, index: u32, key: &impl Key) -> Option<Words> {
        let at = index as usize;
        self.entries.get(at)?.find(self.wide.get(at)?, key)
    }

    /// The connection with this name, if it still lives.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<Conn> {
        self.words(id).map(|words| words.conn(id.index))
    }

    #[inline]
    fn words(&self, id: ConnId) -> Option<Words> {
        let words = self.read(id.index)?;
        (words.generation() == id.generation).then_some(words)
    }

    #[inline(always)]
    fn read(&self, index: u32) -> Option<Words> {
        let at = index as usize;
        self.entries.get(at)?.read(self.wide.get(at)?)
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

    #[inline(always)]
    fn prefetch_line(&self, index: u32) {
        prefetch(&self.entries, index as usize);
    }

    /// Starts to load the second line, if the entry's connection has one.
    #[inline(always)]
    fn prefetch_second(&self, index: u32) {
        if self.entries[index as usize].is_wide() {
            prefetch(&self.wide, index as usize);
        }
    }

    /// Starts to load the bucket of a connection that is about to be removed; gives its hash.
    #[inline(always)]
    fn prefetch_expired(&self, index: u32, now: Ticks) -> Option<u64> {
        let words = self.read(index).filter(|words| words.expires().is_past(now))?;
        let hash = self.hash_of(&words.in_key());
        self.index.prefetch(hash);
        Some(hash)
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
