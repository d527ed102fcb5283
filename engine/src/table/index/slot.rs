//! One slot's word: what it says of its connection, and what a lookup wants of it.
//!
//! ```text
//! passed 11 | out tag 10 | in tag 10 | pending 1 | occupied 1 | entry 31     0: empty
//! ```

use super::SLOTS;
use crate::address::Address;
use crate::table::sync::{AtomicU64, Ordering};

const TAG_BITS: u32 = 10;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;
pub(super) const ENTRY_MASK: u64 = (1 << 31) - 1;
pub(super) const OCCUPIED: u64 = 1 << 31;
pub(super) const PENDING: u64 = 1 << 32;
const IN_SHIFT: u32 = 33;
const OUT_SHIFT: u32 = IN_SHIFT + TAG_BITS;
pub(super) const PASSED_SHIFT: u32 = OUT_SHIFT + TAG_BITS;
pub(super) const PASSED_ONE: u64 = 1 << PASSED_SHIFT;
pub(super) const PASSED_MAX: u64 = u64::MAX >> PASSED_SHIFT;
pub(super) const CONTENT: u64 = PASSED_ONE - 1;

/// Which slots are worth a look at their entry.
#[derive(Clone, Copy)]
pub(in super::super) struct Wanted {
    mask: u64,
    value: u64,
}

/// What a slot says of the connection in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Content(pub(super) u64);

impl Content {
    /// For the entry at `index`; pending, so that no lookup takes it for a connection yet.
    pub(in super::super) fn pending(
        hash: u64,
        index: u32,
        virt: (Address, u16),
        dest: (Address, u16),
    ) -> Self {
        Self(
            tag(hash, dest) << OUT_SHIFT
                | tag(hash, virt) << IN_SHIFT
                | PENDING
                | OCCUPIED
                | u64::from(index),
        )
    }

    /// The entry's index.
    #[inline(always)]
    pub(in super::super) fn entry(self) -> u32 {
        (self.0 & ENTRY_MASK) as u32
    }

    pub(in super::super) fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }
}

impl Wanted {
    /// Connections of the way in.
    #[inline(always)]
    pub(in super::super) fn inward(hash: u64, virt: (Address, u16)) -> Self {
        Self {
            mask: TAG_MASK << IN_SHIFT | PENDING | OCCUPIED,
            value: tag(hash, virt) << IN_SHIFT | OCCUPIED,
        }
    }

    /// Connections of the way out.
    #[inline(always)]
    pub(in super::super) fn outward(hash: u64, dest: (Address, u16)) -> Self {
        Self {
            mask: TAG_MASK << OUT_SHIFT | PENDING | OCCUPIED,
            value: tag(hash, dest) << OUT_SHIFT | OCCUPIED,
        }
    }

    /// The same, and those that are pending as well.
    pub(super) fn or_pending(self) -> Self {
        Self { mask: self.mask & !PENDING, value: self.value }
    }

    #[inline(always)]
    pub(super) fn covers(self, slot: u64) -> bool {
        slot & self.mask == self.value
    }

    /// A bit for each slot that is covered. No branch hangs on where in the bucket that is, which
    /// no processor could foretell: a lookup in the cache takes 17 ns so, and 30 with the branch.
    #[inline(always)]
    pub(super) fn hits(self, slots: &[AtomicU64; SLOTS]) -> u32 {
        slots.iter().enumerate().fold(0, |hits, (at, slot)| {
            // Acquire: a lookup reads the passed count after these slots, and that one then is
            // at least as new.
            hits | u32::from(self.covers(slot.load(Ordering::Acquire))) << at
        })
    }
}

/// The numbers of the bits that are set, from below.
pub(super) struct Hits(pub(super) u32);

impl Iterator for Hits {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let at = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (at < SLOTS).then_some(at)
    }
}

/// Ten bits of an address and port, mixed with the secret hash so that nobody can choose them.
#[inline(always)]
fn tag(hash: u64, (addr, port): (Address, u16)) -> u64 {
    let (high, low) = addr.words();
    let end = high.rotate_left(32) ^ low.rotate_left(16) ^ u64::from(port);
    let mixed = u128::from(hash ^ end) * 0x9e37_79b9_7f4a_7c15;
    ((mixed >> 64) as u64 ^ mixed as u64) & TAG_MASK
}
