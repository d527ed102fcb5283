//! From a hash to entries: buckets of one cache line, eight slots each. What a slot holds stands
//! in `slot`.
//!
//! A connection stands in its hash's home bucket or, while that is full, in the first of the
//! following ones with room. `passed`, in a bucket's first slot only, counts the connections that
//! went past the bucket on their way; a lookup goes on to the next bucket only while it is not
//! zero. (A count, not a mark that stays: after weeks of coming and going, every bucket would be
//! marked and every miss would read the whole reach.)
//!
//! The hash is over protocol, client address and client port, which both directions carry
//! (INV-3); the tags tell the connections of one client port apart, by the virtual end on the way
//! in and by the server's end on the way out, without a look at their entries.

mod slot;

use super::CapacityError;
use super::memory::{Memory, prefetch};
use super::sync::{AtomicU64, Ordering};

use self::slot::{
    CONTENT, ENTRY_MASK, Hits, OCCUPIED, PASSED_MAX, PASSED_ONE, PASSED_SHIFT, PENDING,
};
pub(super) use self::slot::{Content, Wanted};

/// Slots of a bucket; loom gets a small world.
#[cfg(not(loom))]
pub(super) const SLOTS: usize = 8;
#[cfg(loom)]
pub(super) const SLOTS: usize = 1;

/// How far from home a connection may stand, in buckets; bounds every lookup (INV-8), and the
/// connections of one client port to about 500.
const REACH: usize = 64;

/// Slots over connections is 5/3: at most 60 % of the slots are ever in use.
const LOAD: (usize, usize) = (3, 5);

/// One cache line of slots.
#[cfg_attr(not(loom), repr(C, align(64)))]
#[derive(Default)]
pub(super) struct Bucket {
    slots: [AtomicU64; SLOTS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 64);

/// A slot that was taken: bucket and slot, and how many buckets were passed on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    bucket: usize,
    slot: usize,
    passed: usize,
}

impl Spot {
    /// The slot's number in the whole index: the same for everybody, so it can decide a contest.
    pub(super) fn position(self) -> usize {
        self.bucket * SLOTS + self.slot
    }
}

/// The buckets.
pub(super) struct Index {
    buckets: Memory<Bucket>,
    reach: usize,
}

impl Index {
    pub(super) fn new(capacity: usize) -> Result<Self, CapacityError> {
        let buckets = Memory::new(Self::buckets(capacity))?;
        let reach = buckets.len().min(REACH);
        Ok(Self { buckets, reach })
    }

    fn buckets(capacity: usize) -> usize {
        (capacity * LOAD.1).div_ceil(LOAD.0 * SLOTS)
    }

    /// Bytes that an index for `capacity` connections takes.
    pub(super) fn bytes(capacity: usize) -> u64 {
        (Self::buckets(capacity) * size_of::<Bucket>()) as u64
    }

    /// Multiply-high in place of a division: the number of buckets need not be a power of two.
    #[inline(always)]
    pub(super) fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Starts to load the home bucket.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets, self.home(hash));
    }

    /// The first entry that the home bucket, loaded already, offers: only a hint.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64, wanted: Wanted) -> Option<u32> {
        let slots = &self.buckets[self.home(hash)].slots;
        let slot = Hits(wanted.hits(slots)).next()?;
        // Relaxed: who uses it looks at the entry's own words.
        Some(Content(slots[slot].load(Ordering::Relaxed)).entry())
    }

    /// The first answer of `look`, asked for each entry wanted. Reads at most `REACH` buckets.
    #[inline(always)]
    pub(super) fn find<R>(
        &self,
        hash: u64,
        wanted: Wanted,
        mut look: impl FnMut(u32) -> Option<R>,
    ) -> Option<R> {
        let mut bucket = self.home(hash);
        for _ in 0..self.reach {
            let slots = &self.buckets[bucket].slots;
            for slot in Hits(wanted.hits(slots)) {
                // Acquire: pairs with the Release in `replace`: the entry is filled. Should the
                // slot have changed since `hits`, the entry's own words show it.
                let content = Content(slots[slot].load(Ordering::Acquire));
                if let Some(found) = look(content.entry()) {
                    return Some(found);
                }
            }
            // Acquire: pairs with `pass`, so that the next bucket is as new as its count.
            if slots[0].load(Ordering::Acquire) < PASSED_ONE {
                return None;
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// Takes a free slot for `content`; none when all in reach are taken.
    pub(super) fn place(&self, hash: u64, content: Content) -> Option<Spot> {
        let mut bucket = self.home(hash);
        for passed in 0..self.reach {
            for (slot, word) in self.buckets[bucket].slots.iter().enumerate() {
                if replace(word, 0, content.0) {
                    return Some(Spot { bucket, slot, passed });
                }
            }
            if !self.pass(bucket) {
                self.unpass(hash, passed);
                return None;
            }
            bucket = self.next(bucket);
        }
        self.unpass(hash, self.reach);
        None
    }

    /// Gives a pending slot back, if nobody has taken it away yet.
    pub(super) fn withdraw(&self, hash: u64, spot: Spot, content: Content) {
        self.kill(spot, content);
        self.unpass(hash, spot.passed);
    }

    /// Takes a pending slot away from another inserter; false when it has changed meanwhile.
    pub(super) fn kill(&self, spot: Spot, content: Content) -> bool {
        replace(&self.buckets[spot.bucket].slots[spot.slot], content.0, 0)
    }

    /// Makes a pending slot a connection that lookups find; false when it was taken away.
    pub(super) fn commit(&self, spot: Spot, content: Content) -> bool {
        let slot = &self.buckets[spot.bucket].slots[spot.slot];
        replace(slot, content.0, content.0 & !PENDING)
    }

    /// The first answer of `look`, asked for each slot wanted, pending ones included.
    ///
    /// `look` is asked again about the same slot while its content changes under it
    /// (`Look::Again`).
    pub(super) fn scan<R>(
        &self,
        hash: u64,
        wanted: Wanted,
        mut look: impl FnMut(Spot, Content) -> Look<R>,
    ) -> Option<R> {
        let wanted = wanted.or_pending();
        let mut bucket = self.home(hash);
        for passed in 0..self.reach {
            let slots = &self.buckets[bucket].slots;
            for (slot, word) in slots.iter().enumerate() {
                loop {
                    // Acquire: pairs with the Release in `replace`.
                    let content = word.load(Ordering::Acquire) & CONTENT;
                    if !wanted.covers(content) {
                        break;
                    }
                    match look(Spot { bucket, slot, passed }, Content(content)) {
                        Look::Found(found) => return Some(found),
                        Look::On => break,
                        Look::Again => {}
                    }
                }
            }
            // Acquire: pairs with `pass`.
            if slots[0].load(Ordering::Acquire) < PASSED_ONE {
                return None;
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// Takes the connection with the entry `index` out. The caller has won its removal.
    pub(super) fn clear(&self, hash: u64, index: u32) {
        let mut bucket = self.home(hash);
        for passed in 0..self.reach {
            for slot in &self.buckets[bucket].slots {
                // Relaxed: nobody else changes the content of this entry's slot any more, and
                // the caller has seen the connection, hence its commit.
                let word = slot.load(Ordering::Relaxed);
                if word & (OCCUPIED | PENDING | ENTRY_MASK) == OCCUPIED | u64::from(index) {
                    // Release: whoever takes the slot next comes after.
                    slot.fetch_and(!CONTENT, Ordering::Release);
                    return self.unpass(hash, passed);
                }
            }
            bucket = self.next(bucket);
        }
        debug_assert!(false, "entry {index} is not where its hash says");
    }

    /// Counts a connection that goes past a full bucket; false when no more can be counted.
    fn pass(&self, bucket: usize) -> bool {
        let first = &self.buckets[bucket].slots[0];
        // Relaxed: only the counter's own value matters; the exchange below orders.
        let mut word = first.load(Ordering::Relaxed);
        while word >> PASSED_SHIFT < PASSED_MAX {
            // Release: pairs with the Acquire loads of the first slot in `find` and `scan`.
            match first.compare_exchange_weak(
                word,
                word + PASSED_ONE,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Takes back what the first `count` buckets from home on have counted for one connection.
    fn unpass(&self, hash: u64, count: usize) {
        let mut bucket = self.home(hash);
        for _ in 0..count {
            // Release: who sees the lower count comes after the connection is gone.
            self.buckets[bucket].slots[0].fetch_sub(PASSED_ONE, Ordering::Release);
            bucket = self.next(bucket);
        }
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The content of a slot, unless it is empty, pending, or past the end.
    pub(super) fn committed(&self, bucket: usize, slot: usize) -> Option<Content> {
        // Acquire: pairs with the Release in `replace`: the entry is filled.
        let word = self.buckets.get(bucket)?.slots[slot].load(Ordering::Acquire);
        (word & (OCCUPIED | PENDING) == OCCUPIED).then_some(Content(word & CONTENT))
    }
}

/// What comes of a look at a slot.
pub(super) enum Look<R> {
    /// The scan is over.
    Found(R),
    /// Not this one.
    On,
    /// The slot has changed: read it again.
    Again,
}

/// Exchanges a slot's content, whatever the count beside it does meanwhile; false when the
/// content is another one.
fn replace(slot: &AtomicU64, from: u64, to: u64) -> bool {
    // Relaxed: the exchange orders.
    let mut word = slot.load(Ordering::Relaxed);
    while word & CONTENT == from {
        // AcqRel: Release for the entry that `to` names, pairs with the Acquire loads in `find`
        // and `scan`; Acquire, so that a slot's next content comes after the one before.
        match slot.compare_exchange_weak(
            word,
            word & !CONTENT | to,
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            Ok(_) => return true,
            Err(now) => word = now,
        }
    }
    false
}

#[cfg(all(test, not(loom)))]
mod tests;
