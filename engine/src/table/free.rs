//! Free entries: never used ones by a counter, used ones in shared blocks, and a private magazine
//! a worker, so that the shared parts are touched once in many connections.
//!
//! ```text
//! block   next block | up to 62 numbers of free entries       four cache lines
//! ```
//!
//! A list through the free entries themselves would need no blocks; but following it takes a
//! memory access for each entry, one after another, while a block's lines come together. And one
//! who is late with a write to an entry cannot hit the list. Blocks cost 4 bytes an entry, once
//! so many are free.

use super::CapacityError;
use super::entry::{Entry, NONE};
use super::memory::{Memory, prefetch};
use super::sync::{AtomicU64, Ordering};

/// Words of a block: four cache lines.
const WORDS: usize = if cfg!(loom) { 2 } else { 32 };

/// Entries that move between a magazine and the shared parts at once, at most.
const CHUNK: usize = 2 * (WORDS - 1);

/// How many entries before its turn a free one is loaded.
const AHEAD: usize = 8;

/// Numbers of free entries; word 0 links the block.
#[cfg_attr(not(loom), repr(C, align(64)))]
#[derive(Default)]
pub(super) struct Block {
    words: [AtomicU64; WORDS],
}

/// Blocks that anybody may take.
struct Stack {
    /// The top in the lower half; the upper half counts changes, so that a top that went and came
    /// back in between is told from one that stayed.
    head: AtomicU64,
}

impl Stack {
    fn new() -> Self {
        Self { head: AtomicU64::new(u64::from(NONE)) }
    }

    fn pop(&self, blocks: &[Block]) -> Option<u32> {
        // Acquire, here and below: pairs with the Release in `push`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let top = head as u32;
            // Relaxed: written before the push. Should another have taken the block meanwhile, we
            // read nonsense and the exchange fails.
            let next = blocks.get(top as usize)?.words[0].load(Ordering::Relaxed) as u32;
            match self.head.compare_exchange_weak(
                head,
                changed(head) | u64::from(next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(top),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, blocks: &[Block], block: u32) {
        // Relaxed: the exchange orders; the value is only linked to, not looked into.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // Relaxed: the block is ours until the exchange.
            blocks[block as usize].words[0].store(u64::from(head as u32), Ordering::Relaxed);
            // Release: pairs with the Acquire in `pop`: for the block's words, and for all that
            // happened to the entries in it.
            match self.head.compare_exchange_weak(
                head,
                changed(head) | u64::from(block),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// The upper half of a stack's next head.
fn changed(head: u64) -> u64 {
    (head >> 32).wrapping_add(1) << 32
}

/// The entries that belong to no worker.
pub(super) struct FreeList {
    blocks: Memory<Block>,
    full: Stack,
    empty: Stack,
    /// The first block that was never used.
    blank: AtomicU64,
    /// The first entry that was never used.
    unused: AtomicU64,
    capacity: u64,
    /// Entries of a full block.
    chunk: usize,
}

impl FreeList {
    pub(super) fn new(capacity: usize, workers: usize) -> Result<Self, CapacityError> {
        Ok(Self {
            blocks: Memory::new(Self::blocks(capacity, workers))?,
            full: Stack::new(),
            empty: Stack::new(),
            blank: AtomicU64::new(0),
            unused: AtomicU64::new(0),
            capacity: capacity as u64,
            chunk: chunk(capacity, workers),
        })
    }

    /// Enough for all entries, and one that each worker reads or writes just now.
    fn blocks(capacity: usize, workers: usize) -> usize {
        capacity / chunk(capacity, workers) + workers
    }

    /// Bytes that it takes.
    pub(super) fn bytes(capacity: usize, workers: usize) -> u64 {
        (Self::blocks(capacity, workers) * size_of::<Block>()) as u64
    }

    /// Moves up to a chunk of entries to the end of `into`.
    pub(super) fn draw(&self, into: &mut Vec<u32>) {
        let Some(block) = self.full.pop(&self.blocks) else { return self.draw_unused(into) };
        let words = &self.blocks[block as usize].words;
        for at in 0..self.chunk {
            // Relaxed: the block is ours since the pop, which ordered it.
            into.push((words[1 + at / 2].load(Ordering::Relaxed) >> (at % 2 * 32)) as u32);
        }
        self.empty.push(&self.blocks, block);
    }

    fn draw_unused(&self, into: &mut Vec<u32>) {
        // Relaxed, both: the counter gives out numbers; what is never used has no history.
        if self.unused.load(Ordering::Relaxed) >= self.capacity {
            return;
        }
        let first = self.unused.fetch_add(self.chunk as u64, Ordering::Relaxed);
        let end = (first + self.chunk as u64).min(self.capacity);
        into.extend((first..end).rev().map(|index| index as u32));
    }

    /// Takes a chunk of the caller's entries.
    pub(super) fn put(&self, given: &[u32]) {
        debug_assert_eq!(given.len(), self.chunk);
        let Some(block) = self.empty_block() else {
            // The caller has a chunk that is in no block, so one is left.
            debug_assert!(false, "no empty block");
            return;
        };
        let words = &self.blocks[block as usize].words[1..];
        for (word, pair) in words.iter().zip(given.chunks(2)) {
            let high = pair.get(1).map_or(0, |&index| u64::from(index) << 32);
            // Relaxed: published by the push.
            word.store(u64::from(pair[0]) | high, Ordering::Relaxed);
        }
        self.full.push(&self.blocks, block);
    }

    fn empty_block(&self) -> Option<u32> {
        self.empty.pop(&self.blocks).or_else(|| {
            // Relaxed: as for the entries in `draw_unused`.
            let blank = self.blank.fetch_add(1, Ordering::Relaxed);
            (blank < self.blocks.len() as u64).then_some(blank as u32)
        })
    }
}

/// Small tables get small blocks, so that one worker does not sit on entries that another needs.
fn chunk(capacity: usize, workers: usize) -> usize {
    (capacity / (16 * workers.max(1))).clamp(1, CHUNK)
}

/// One worker's private stock of free entries.
pub(super) struct Magazine {
    stock: Vec<u32>,
    ahead: usize,
}

impl Magazine {
    pub(super) fn new(free: &FreeList) -> Self {
        Self { stock: Vec::with_capacity(2 * free.chunk), ahead: AHEAD.min(free.chunk / 2) }
    }

    /// A free entry, the worker's own from now on.
    #[inline]
    pub(super) fn take(&mut self, free: &FreeList, entries: &[Entry]) -> Option<u32> {
        if self.stock.len() <= self.ahead {
            self.refill(free);
        }
        let taken = self.stock.pop();
        // One that will be filled soon; its line is cold when it comes from far back.
        if let Some(soon) = self.stock.len().checked_sub(AHEAD) {
            prefetch(entries, self.stock[soon] as usize);
        }
        taken
    }

    /// Puts fresh entries under those that are loaded already.
    fn refill(&mut self, free: &FreeList) {
        let left = self.stock.len();
        free.draw(&mut self.stock);
        self.stock.rotate_left(left);
    }

    /// Gives a free entry back.
    #[inline]
    pub(super) fn give(&mut self, free: &FreeList, index: u32) {
        if self.stock.len() == 2 * free.chunk {
            // The oldest half; what was used last is still in the cache and stays.
            free.put(&self.stock[..free.chunk]);
            self.stock.drain(..free.chunk);
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
        const LARGE: usize = if cfg!(miri) { 50 } else { 5000 };
        for (count, workers) in [(1, 1), (7, 2), (LARGE / 5, 2), (LARGE, 3)] {
            let entries = entries(count);
            let free = FreeList::new(count, workers).unwrap();
            let mut one = Magazine::new(&free);
            let mut two = Magazine::new(&free);
            for _ in 0..4 {
                let mut seen = HashSet::new();
                while let Some(index) = one.take(&free, &entries) {
                    assert!((index as usize) < count && seen.insert(index));
                }
                assert_eq!(seen.len(), count - two.stock.len());
                for index in seen {
                    two.give(&free, index);
                }
                std::mem::swap(&mut one, &mut two);
            }
        }
    }

    #[test]
    fn threads_never_hold_the_same_entry() {
        const COUNT: usize = if cfg!(miri) { 20 } else { 200 };
        let entries = entries(COUNT);
        let free = FreeList::new(COUNT, 3).unwrap();
        let held: Vec<AtomicU64> = (0..COUNT).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut magazine = Magazine::new(&free);
                    let mut mine = Vec::new();
                    for step in 0..if cfg!(miri) { 300 } else { 100_000 } {
                        if step % 200 < 100 {
                            if let Some(index) = magazine.take(&free, &entries) {
                                assert_eq!(held[index as usize].swap(1, Ordering::Relaxed), 0);
                                mine.push(index);
                            }
                        } else if let Some(index) = mine.pop() {
                            held[index as usize].store(0, Ordering::Relaxed);
                            magazine.give(&free, index);
                        }
                    }
                });
            }
        });
    }
}
