//! Free entries: never used ones by a counter, used ones on a shared stack, and a private
//! magazine a worker, so that the shared parts are touched once in many connections.

use super::entry::{Entry, NONE};
use super::memory::prefetch;
use super::sync::{AtomicU64, Ordering};

/// Entries that move between a magazine and the shared parts at once.
const CHUNK: usize = 64;

/// How many entries before its turn a free one is loaded.
const AHEAD: usize = 8;

/// The entries that belong to no worker.
pub(super) struct FreeList {
    /// The stack's top in the lower half; the upper half counts changes, so that a top that went
    /// and came back in between is told from one that stayed.
    head: AtomicU64,
    /// The first entry that was never used.
    unused: AtomicU64,
    capacity: u64,
}

impl FreeList {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            head: AtomicU64::new(u64::from(NONE)),
            unused: AtomicU64::new(0),
            capacity: capacity as u64,
        }
    }

    /// Moves up to `most` entries to `into`.
    fn draw(&self, entries: &[Entry], most: usize, into: &mut Vec<u32>) {
        if !self.pop(entries, most, into) {
            self.draw_unused(most as u64, into);
        }
    }

    fn draw_unused(&self, most: u64, into: &mut Vec<u32>) {
        // Relaxed, both: the counter gives out numbers; what is never used has no history.
        if self.unused.load(Ordering::Relaxed) >= self.capacity {
            return;
        }
        let first = self.unused.fetch_add(most, Ordering::Relaxed);
        let end = (first + most).min(self.capacity);
        into.extend((first..end).rev().map(|index| index as u32));
    }

    /// Takes up to `most` entries off the stack; false when it is empty.
    pub(super) fn pop(&self, entries: &[Entry], most: usize, into: &mut Vec<u32>) -> bool {
        // Acquire, here and below: pairs with the Release in `push`, for the links and for all
        // that happened to the entries.
        let mut head = self.head.load(Ordering::Acquire);
        while head as u32 != NONE {
            let start = into.len();
            let mut next = head as u32;
            // While we walk, others may take these entries and link them elsewhere. Then we read
            // nonsense, but inside the array, and the exchange fails.
            while next != NONE && into.len() - start < most {
                into.push(next);
                next = entries.get(next as usize).map_or(NONE, |entry| entry.links().1);
            }
            let changed = (head >> 32).wrapping_add(1) << 32;
            match self.head.compare_exchange_weak(
                head,
                changed | u64::from(next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return true,
                Err(now) => head = now,
            }
            into.truncate(start);
        }
        false
    }

    /// Puts the caller's entries on the stack.
    pub(super) fn push(&self, entries: &[Entry], mut given: impl Iterator<Item = u32>) {
        let Some(top) = given.next() else { return };
        let mut last = top;
        for index in given {
            entries[last as usize].set_links(NONE, index);
            last = index;
        }
        // Relaxed: the exchange orders; the value is only linked to, not looked into.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            entries[last as usize].set_links(NONE, head as u32);
            let changed = (head >> 32).wrapping_add(1) << 32;
            // Release: pairs with the Acquire in `pop`.
            match self.head.compare_exchange_weak(
                head,
                changed | u64::from(top),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// One worker's private stock of free entries.
pub(super) struct Magazine {
    stock: Vec<u32>,
    chunk: usize,
}

impl Magazine {
    /// For one of `workers` on a table of `capacity`: small tables get small magazines, so that
    /// one worker does not sit on entries that another needs.
    pub(super) fn new(capacity: usize, workers: usize) -> Self {
        let chunk = (capacity / (16 * workers)).clamp(1, CHUNK);
        Self { stock: Vec::with_capacity(2 * chunk), chunk }
    }

    /// A free entry, the worker's own from now on.
    #[inline]
    pub(super) fn take(&mut self, free: &FreeList, entries: &[Entry]) -> Option<u32> {
        if self.stock.is_empty() {
            free.draw(entries, self.chunk, &mut self.stock);
        }
        let taken = self.stock.pop();
        // One that will be filled soon; its line is cold when it comes from far back.
        if let Some(soon) = self.stock.len().checked_sub(AHEAD) {
            prefetch(entries, self.stock[soon] as usize);
        }
        taken
    }

    /// Gives a free entry back.
    #[inline]
    pub(super) fn give(&mut self, free: &FreeList, entries: &[Entry], index: u32) {
        if self.stock.len() == 2 * self.chunk {
            // The oldest half; what was used last is still in the cache and stays.
            free.push(entries, self.stock.drain(..self.chunk));
        }
        self.stock.push(index);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn entries(count: usize) -> Vec<Entry> {
        (0..count).map(|_| Entry::default()).collect()
    }

    #[test]
    fn every_entry_is_given_out_once_and_comes_round() {
        let entries = entries(1000);
        let free = FreeList::new(1000);
        let mut one = Magazine::new(1000, 2);
        let mut two = Magazine::new(1000, 2);
        for _ in 0..3 {
            let mut seen = HashSet::new();
            while let Some(index) = one.take(&free, &entries) {
                assert!(index < 1000 && seen.insert(index));
            }
            assert!(seen.len() >= 1000 - two.stock.len());
            for index in seen {
                two.give(&free, &entries, index);
            }
        }
    }

    #[test]
    fn threads_never_hold_the_same_entry() {
        const COUNT: usize = if cfg!(miri) { 20 } else { 200 };
        let entries = entries(COUNT);
        let free = FreeList::new(COUNT);
        let held: Vec<AtomicU64> = (0..COUNT).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut magazine = Magazine::new(COUNT, 3);
                    let mut mine = Vec::new();
                    for step in 0..if cfg!(miri) { 300 } else { 100_000 } {
                        if step % 200 < 100 {
                            if let Some(index) = magazine.take(&free, &entries) {
                                assert_eq!(held[index as usize].swap(1, Ordering::Relaxed), 0);
                                mine.push(index);
                            }
                        } else if let Some(index) = mine.pop() {
                            held[index as usize].store(0, Ordering::Relaxed);
                            magazine.give(&free, &entries, index);
                        }
                    }
                });
            }
        });
    }
}
