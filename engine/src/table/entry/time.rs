//! The time word: when a packet was last seen, and how long the connection lasts from then on.
//!
//! ```text
//! last seen 32 | doomed 1 | life 2 | timeout 29
//! ```
//!
//! This word alone decides between a packet and the expiry of its connection, for both are a
//! compare-and-swap of it. Expiry dooms the word that it has found to be over: a packet that was
//! seen before makes that fail, and one that comes after finds its connection gone.
//!
//! `life` is of the entry's generation. So one who was held up and comes to write when the entry
//! is another connection's finds another word, even if that one began in the same tick.

use super::{CONTROL, Entry, TIME, Words, generation, pack, same_state};
use crate::clock::Ticks;
use crate::table::sync::Ordering;

const DOOMED: u64 = 1 << 31;
const LIFE_SHIFT: u32 = 29;
const LIFE_MASK: u64 = 3 << LIFE_SHIFT;
const TIMEOUT_MASK: u32 = (1 << LIFE_SHIFT) - 1;

/// The longest timeout: far from half the clock's circle, so that moments always compare rightly.
const TIMEOUT_MAX: u32 = TIMEOUT_MASK;

/// The word, read or to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Time(pub(super) u64);

impl Time {
    /// Of a connection of this generation that was seen now.
    #[inline(always)]
    pub(super) fn new(generation: u32, now: Ticks, timeout: Ticks) -> Self {
        Self(pack(now.0, timeout.0.min(TIMEOUT_MAX)) | life(generation))
    }

    #[inline(always)]
    pub(super) fn last_seen(self) -> Ticks {
        Ticks((self.0 >> 32) as u32)
    }

    #[inline(always)]
    pub(super) fn timeout(self) -> Ticks {
        Ticks(self.0 as u32 & TIMEOUT_MASK)
    }

    /// When the connection expires if no further packet comes.
    #[inline(always)]
    pub(in super::super) fn expires(self) -> Ticks {
        self.last_seen().after(self.timeout())
    }

    /// The same, with a packet seen now.
    #[inline(always)]
    pub(super) fn seen(self, now: Ticks) -> Self {
        Self(pack(now.0, self.0 as u32))
    }

    /// The same, at its end.
    #[inline(always)]
    pub(super) fn doomed(self) -> Self {
        Self(self.0 | DOOMED)
    }

    #[inline(always)]
    pub(super) fn is_doomed(self) -> bool {
        self.0 & DOOMED != 0
    }

    /// Whether it is, as far as it shows, of this generation, and not doomed.
    #[inline(always)]
    pub(super) fn is_of(self, generation: u32) -> bool {
        self.0 & (DOOMED | LIFE_MASK) == life(generation)
    }
}

/// The lowest bit of the generation of whatever has a time is 0, so it is left out.
#[inline(always)]
fn life(generation: u32) -> u64 {
    u64::from(generation) << (LIFE_SHIFT - 1) & LIFE_MASK
}

impl Entry {
    /// Dooms the connection of `words`, whose time is over: from now on it is gone for everybody,
    /// and the caller makes it so. False when it was touched since, or given another timeout.
    pub(in super::super) fn doom(&self, words: &Words) -> bool {
        let time = words.time();
        // Relaxed, both: the word decides by itself, and nothing is published through it.
        self.words[TIME]
            .compare_exchange(time.0, time.doomed().0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Sets the timeout that belongs to `control`, unless a later transition has taken over or
    /// the connection is gone.
    pub(super) fn set_time(&self, control: u64, now: Ticks, timeout: Ticks) {
        let generation = generation(control);
        let next = Time::new(generation, now, timeout);
        // Acquire: pairs with the Release below, so that a time that a later transition wrote
        // shows its control word as well.
        let mut time = Time(self.words[TIME].load(Ordering::Acquire));
        // Relaxed: ordered by the Acquire of the time.
        while time.is_of(generation)
            && same_state(control, self.words[CONTROL].load(Ordering::Relaxed))
        {
            // AcqRel, and Acquire when it fails: as the load above.
            match self.words[TIME].compare_exchange_weak(
                time.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(seen) => time = Time(seen),
            }
        }
    }

    /// Notes that a packet was seen; writes only when the tick is a new one. False when the
    /// connection is gone, or its time was over before.
    #[inline(always)]
    pub(in super::super) fn touch(&self, generation: u32, now: Ticks) -> bool {
        // Acquire: pairs with the Release stores of the control word.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        // Relaxed: the time is a value by itself.
        let time = Time(self.words[TIME].load(Ordering::Relaxed));
        if super::generation(control) != generation || !time.is_of(generation) {
            return false;
        }
        if now.is_past(time.last_seen()) {
            return true;
        }
        // Release: keeps the chain from `set_time` to the next `set_time`. Relaxed when it fails:
        // unless the connection is gone, somebody has just written a tick that is as good. One
        // try: never waits.
        self.words[TIME]
            .compare_exchange(time.0, time.seen(now).0, Ordering::Release, Ordering::Relaxed)
            .map_or_else(|seen| Time(seen).is_of(generation), |_| true)
    }

    /// Gives an expired connection another `timeout` from `now` on, unless it was touched since
    /// `words` were read.
    pub(in super::super) fn rearm(&self, words: &Words, now: Ticks, timeout: Ticks) {
        let next = Time::new(words.generation(), now, timeout);
        // Release and Relaxed: as in `touch`.
        let _ = self.words[TIME].compare_exchange(
            words.time().0,
            next.0,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// When the connection expires, as far as is known now.
    pub(in super::super) fn expires(&self) -> Ticks {
        // Relaxed: a value by itself; a later touch only moves it further away, and whoever
        // moves it nearer tells the owner.
        Time(self.words[TIME].load(Ordering::Relaxed)).expires()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_longest_timeout_is_cut_and_its_neighbours_stay() {
        let time = Time::new(6, Ticks(u32::MAX), Ticks(u32::MAX));
        assert_eq!((time.last_seen(), time.timeout()), (Ticks(u32::MAX), Ticks(TIMEOUT_MAX)));
        assert!(time.is_of(6) && time.is_of(14) && !time.is_of(4) && !time.is_of(8));
        assert!(time.doomed().is_doomed() && !time.is_doomed() && !time.doomed().is_of(6));
        assert_eq!(time.doomed().expires(), time.expires());
        assert_eq!(time.seen(Ticks(7)).expires(), Ticks(7 + TIMEOUT_MAX));
    }
}
