//! A worker's half of the table: what it inserts is its own to time out and to free.

use std::fmt;
use std::sync::Arc;

use super::conn::{Conn, ConnId, Inserted, NewConn, State, Transition};
use super::entry::{Life, Words};
use super::free::Magazine;
use super::wheel::{LANES, VISIT_CAP, Wheel};
use super::{InsertError, Table};
use crate::clock::Ticks;

/// What the engine decides about, and learns of, connections that expire.
pub trait OnExpiry {
    /// The connection's time is over. Called once a visit, before anything has happened.
    fn expired(&mut self, conn: &Conn) -> Verdict;

    /// The connection is gone, removed by this call of [`Owner::expire`] and nobody else: the
    /// place to adjust counters.
    fn removed(&mut self, conn: &Conn);
}

/// What is to become of an expired connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Remove,
    /// It stays for another `timeout`, as a persistence template whose connections live.
    Keep {
        /// From the moment of its expiry on.
        timeout: Ticks,
    },
}

/// One worker's private half of a [`Table`]: free entries, the timer wheel, the inbox's reader.
pub struct Owner {
    table: Arc<Table>,
    worker: u8,
    magazine: Magazine,
    wheel: Wheel,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Owner {
    pub(super) fn new(table: &Arc<Table>, worker: u8, now: Ticks) -> Self {
        let magazine = Magazine::new(&table.free);
        Self { table: Arc::clone(table), worker, magazine, wheel: Wheel::new(now) }
    }

    /// The table that all owners share.
    #[inline]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The worker's number.
    pub fn worker(&self) -> u8 {
        self.worker
    }

    /// Inserts a connection unless its in-key is there already (INV-2). `hash` is
    /// [`Table::hash`] of its client, [`Table::template_hash`] for a template.
    ///
    /// # Errors
    ///
    /// The table is full or too many connections share the hash; the table is unchanged.
    pub fn insert(
        &mut self,
        hash: u64,
        new: &NewConn,
        now: Ticks,
    ) -> Result<Inserted, InsertError> {
        let table = &*self.table;
        debug_assert_eq!(hash, table.hash_of(&new.in_key()));
        if let Some(existing) = table.id_of(hash, &new.in_key()) {
            return Ok(Inserted::Existing(existing));
        }
        let index = self.magazine.take(&table.free, &table.entries).ok_or(InsertError::Full)?;
        let entry = &table.entries[index as usize];
        let generation = entry.fill(&table.wide[index as usize], new, self.worker, now);
        match table.enter(hash, index, new) {
            Ok(None) => {
                table.live[usize::from(self.worker)].add_own(1);
                self.wheel.link(
                    &table.entries,
                    index,
                    now.after(Ticks(new.timeout.0.min(VISIT_CAP.0))),
                );
                Ok(Inserted::New(ConnId { index, generation }))
            }
            Ok(Some(existing)) => {
                self.release(index);
                Ok(Inserted::Existing(existing))
            }
            Err(error) => {
                self.release(index);
                Err(error)
            }
        }
    }

    /// Changes state, flags and timeout, and notes `now` as last seen. `to` says to what, and may
    /// be asked again when another worker changes the same connection; at None nothing happens.
    ///
    /// The answer is None as well when the connection is gone.
    pub fn transition(
        &mut self,
        id: ConnId,
        now: Ticks,
        to: impl FnMut(State) -> Option<(State, Ticks)>,
    ) -> Option<Transition> {
        let entry = self.table.entries.get(id.index as usize)?;
        let made = entry.transition(id.generation, now, to)?;
        // Only an expiry nearer than the visit that is due anyway needs the wheel.
        if !now.after(VISIT_CAP).is_past(entry.expires()) {
            self.reschedule(id);
        }
        Some(made)
    }

    /// Makes the timer follow a timeout that has become shorter.
    ///
    /// Another owner's connection is posted to it; when its inbox is full, the visit that comes
    /// within a minute finds the new time.
    pub fn reschedule(&mut self, id: ConnId) {
        let Some(words) = self.table.words(id) else { return };
        if words.owner() == self.worker {
            let last = self.wheel.now().after(VISIT_CAP);
            let expires = words.expires();
            let due = if expires.is_past(last) { expires } else { last };
            self.wheel.unlink(&self.table.entries, id.index);
            self.wheel.link(&self.table.entries, id.index, due);
        } else {
            self.table.post(words.owner(), id);
        }
    }

    /// Removes a connection; only one caller gets it.
    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let words = self.table.words(id)?;
        if words.owner() == self.worker {
            let last = self.take_out(id.index, words, None)?;
            self.wheel.unlink(&self.table.entries, id.index);
            self.release(id.index);
            Some(last.conn(id.index))
        } else {
            self.table.remove(id)
        }
    }

    /// Ends the connections of this owner whose time is over at `now`, in the order of time,
    /// looking at no more than about `budget` entries; the next call goes on where this one
    /// stopped. Returns how many it has looked at: less than `budget` means that all is done.
    ///
    /// Never early, and with budget enough never late by a tick.
    pub fn expire(&mut self, now: Ticks, budget: usize, on: &mut impl OnExpiry) -> usize {
        let mut looked = self.read_inbox(budget);
        // Two batches: while the bucket lines of one are on their way, the other is worked on.
        let mut fetched = Visits::default();
        while looked < budget || fetched.count > 0 {
            let next = if looked < budget { self.fetch() } else { Visits::default() };
            looked += next.count;
            let done = next.count == 0 && fetched.count == 0;
            for &(index, hash) in &fetched.visits[..fetched.count] {
                self.visit(index, hash, on);
            }
            fetched = next;
            if done && !self.wheel.turn(now) {
                break;
            }
        }
        self.wheel.settle(&self.table.entries);
        looked
    }

    /// Takes the next entries of the wheel's current tick, and starts to load the buckets of those
    /// whose time is over.
    #[inline]
    fn fetch(&mut self) -> Visits {
        let table = &*self.table;
        let now = self.wheel.now();
        let mut batch = [0; LANES];
        let count = self.wheel.pop(&table.entries, &mut batch, |next| table.prefetch_line(next));
        for &index in &batch[..count] {
            table.prefetch_second(index);
        }
        let mut visits = Visits { count, ..Visits::default() };
        for (visit, &index) in visits.visits.iter_mut().zip(&batch[..count]) {
            *visit = (index, table.prefetch_expired(index, now));
        }
        visits
    }

    /// Looks at an entry that the wheel gave out at its current tick; `hash` if it is known.
    #[inline]
    fn visit(&mut self, index: u32, hash: Option<u64>, on: &mut impl OnExpiry) {
        let now = self.wheel.now();
        let entry = &self.table.entries[index as usize];
        let Some(words) = self.table.read(index) else { return self.visit_gone(index) };
        if words.expires().is_past(now) {
            match on.expired(&words.conn(index)) {
                Verdict::Keep { timeout } => entry.rearm(&words, now, timeout),
                Verdict::Remove if entry.doom(&words) => {
                    return self.finish(index, words, hash, on);
                }
                Verdict::Remove => {}
            }
        }
        // Read again: a rearm, or a packet that came meanwhile.
        let wait = entry.expires().since(now).0.clamp(1, VISIT_CAP.0);
        self.wheel.link(&self.table.entries, index, now.after(Ticks(wait)));
    }

    /// Takes a doomed connection out.
    #[inline]
    fn finish(&mut self, index: u32, words: Words, hash: Option<u64>, on: &mut impl OnExpiry) {
        let Some(last) = self.take_out(index, words, hash) else { return self.visit_gone(index) };
        self.release(index);
        on.removed(&last.conn(index));
    }

    /// Takes a connection of this owner out of the index.
    #[inline]
    fn take_out(&self, index: u32, words: Words, hash: Option<u64>) -> Option<Words> {
        let last = self.table.take_out(index, words, hash)?;
        self.table.live[usize::from(self.worker)].add_own(-1);
        Some(last)
    }

    /// Frees an entry that another thread removed, or waits for that thread to finish.
    fn visit_gone(&mut self, index: u32) {
        match self.table.entries[index as usize].life().1 {
            Life::Left => self.release(index),
            life => {
                debug_assert_eq!(life, Life::Leaving);
                self.wheel.link(&self.table.entries, index, self.wheel.now().after(Ticks(8)));
            }
        }
    }

    /// Handles what other workers posted; returns how many that was.
    fn read_inbox(&mut self, budget: usize) -> usize {
        let mut read = 0;
        while read < budget
            && let Some(id) = self.table.inboxes[usize::from(self.worker)].pop()
        {
            read += 1;
            // A post that comes after its entry was visited, or even reused, is of another
            // generation; one that names a connection removed is followed by that removal's.
            match self.table.entries[id.index as usize].life() {
                (generation, Life::Left) if generation == id.generation.wrapping_add(1) => {
                    self.wheel.unlink(&self.table.entries, id.index);
                    self.release(id.index);
                }
                (generation, Life::Live) if generation == id.generation => self.reschedule(id),
                _ => {}
            }
        }
        read
    }

    fn release(&mut self, index: u32) {
        self.table.entries[index as usize].release();
        self.magazine.give(&self.table.free, index);
    }
}

/// Entries that the wheel has given out, with the hashes of those that expire.
#[derive(Default)]
struct Visits {
    visits: [(u32, Option<u64>); LANES],
    count: usize,
}
