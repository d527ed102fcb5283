//! The timer wheel of one worker: a slot a tick, entries linked through their own words.
//!
//! An entry is linked under the tick of its next visit, at most [`VISIT_CAP`] away. The wheel does
//! not know when a connection expires; the visit finds out, and links it again if that is later.
//! So a packet never touches the wheel, and no timeout is too long for it.
//!
//! Each slot has eight lists, by the entry's index, so that a worker loads eight entries from
//! memory at once where one list would make it wait for each.

use super::entry::{Entry, NONE};
use crate::clock::Ticks;

/// Slots, one a tick: 81.92 s.
const SLOTS: u32 = if cfg!(loom) { 64 } else { 8192 };

/// Lists of a slot.
pub(super) const LANES: usize = if cfg!(loom) { 1 } else { 8 };

/// The longest time between two visits of an entry; less than the wheel's way round.
pub(super) const VISIT_CAP: Ticks = if cfg!(loom) { Ticks(32) } else { Ticks::from_secs(60) };
const _: () = assert!(VISIT_CAP.0 < SLOTS);

/// Marks a `previous` link that names a list instead of an entry (indexes have 31 bits).
const LIST: u32 = 1 << 31;

pub(super) struct Wheel {
    /// First entry of each list: slot by slot, lane by lane.
    heads: Box<[u32]>,
    /// A bit a slot: clear when all its lists are empty.
    occupied: Box<[u64]>,
    /// The slots before this tick are done; nothing is ever linked there.
    next: Ticks,
}

impl Wheel {
    pub(super) fn new(now: Ticks) -> Self {
        Self {
            heads: vec![NONE; SLOTS as usize * LANES].into(),
            occupied: vec![0; SLOTS as usize / 64].into(),
            next: now,
        }
    }

    /// Bytes that a wheel takes.
    pub(super) const fn bytes() -> u64 {
        (SLOTS as usize * LANES * size_of::<u32>() + SLOTS as usize / 8) as u64
    }

    /// The tick up to which the wheel was turned.
    pub(super) fn now(&self) -> Ticks {
        self.next
    }

    /// Links an entry for a visit at `due`, or at the next turn when that is past.
    ///
    /// A `due` further away than the wheel is round is visited early, which is harmless.
    pub(super) fn link(&mut self, entries: &[Entry], index: u32, due: Ticks) {
        let due = if due.is_past(self.next) { self.next } else { due };
        let slot = due.0 % SLOTS;
        let list = slot as usize * LANES + index as usize % LANES;
        let first = self.heads[list];
        entries[index as usize].set_links(LIST | list as u32, first);
        if first != NONE {
            let entry = &entries[first as usize];
            entry.set_links(index, entry.links().1);
        }
        self.heads[list] = index;
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Takes a linked entry out.
    pub(super) fn unlink(&mut self, entries: &[Entry], index: u32) {
        let (previous, next) = entries[index as usize].links();
        if next != NONE {
            let entry = &entries[next as usize];
            entry.set_links(previous, entry.links().1);
        }
        if previous & LIST != 0 {
            self.heads[(previous & !LIST) as usize] = next;
        } else {
            let entry = &entries[previous as usize];
            entry.set_links(entry.links().0, next);
        }
    }

    /// Unlinks up to one entry a list of the slot of the current tick; says how many.
    ///
    /// `soon` is told the entries that come next, to load them: until then they are not touched,
    /// so the first of each list still has a link to the one taken. [`settle`](Self::settle) mends
    /// that, before anything else happens to the wheel than links to later ticks.
    pub(super) fn pop(
        &mut self,
        entries: &[Entry],
        batch: &mut [u32; LANES],
        mut soon: impl FnMut(u32),
    ) -> usize {
        let slot = (self.next.0 % SLOTS) as usize;
        let mut count = 0;
        for list in slot * LANES..(slot + 1) * LANES {
            let index = self.heads[list];
            if index != NONE {
                let next = entries[index as usize].links().1;
                self.heads[list] = next;
                batch[count] = index;
                count += 1;
                soon(next);
            }
        }
        if count == 0 {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        count
    }

    /// Makes the lists of the current tick whole again after [`pop`](Self::pop).
    pub(super) fn settle(&mut self, entries: &[Entry]) {
        let slot = (self.next.0 % SLOTS) as usize;
        for list in slot * LANES..(slot + 1) * LANES {
            if self.heads[list] != NONE {
                let first = &entries[self.heads[list] as usize];
                first.set_links(LIST | list as u32, first.links().1);
            }
        }
    }

    /// Turns to the first tick not after `now` that may have entries, which may be the current
    /// one; false when there is none and the wheel stands at `now`.
    pub(super) fn turn(&mut self, now: Ticks) -> bool {
        if !self.next.is_past(now) {
            return false;
        }
        loop {
            let left = now.since(self.next).0;
            let slot = self.next.0 % SLOTS;
            let ahead = self.occupied[slot as usize / 64] >> (slot % 64);
            let skip = if ahead == 0 { 64 - slot % 64 } else { ahead.trailing_zeros() };
            if skip > left {
                self.next = now;
                return false;
            }
            self.next = self.next.after(Ticks(skip));
            if ahead != 0 {
                return true;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn popped(wheel: &mut Wheel, entries: &[Entry], now: Ticks) -> Vec<u32> {
        let mut all = Vec::new();
        let mut batch = [0; LANES];
        while wheel.turn(now) {
            loop {
                match wheel.pop(entries, &mut batch, |_| {}) {
                    0 => break,
                    count => all.extend_from_slice(&batch[..count]),
                }
            }
        }
        wheel.settle(entries);
        all
    }

    #[test]
    fn entries_come_at_their_tick_in_order_also_over_the_wrap() {
        let start = Ticks(u32::MAX - 100);
        let entries: Vec<Entry> = (0..40).map(|_| Entry::default()).collect();
        let mut wheel = Wheel::new(start);
        for index in 0..40 {
            wheel.link(&entries, index, start.after(Ticks(300 - 5 * index)));
        }
        assert_eq!(popped(&mut wheel, &entries, start.after(Ticks(104))), []);
        assert_eq!(popped(&mut wheel, &entries, start.after(Ticks(105))), [39]);
        assert_eq!(
            popped(&mut wheel, &entries, start.after(Ticks(100_000))),
            (0..39).rev().collect::<Vec<_>>()
        );
        assert_eq!(wheel.now(), start.after(Ticks(100_000)));
    }

    #[test]
    fn past_is_now_and_unlinking_works_anywhere_in_a_list() {
        let entries: Vec<Entry> = (0..64).map(|_| Entry::default()).collect();
        let mut wheel = Wheel::new(Ticks(500));
        // One list of four: the indexes are equal modulo LANES.
        for index in [0, 8, 16, 24] {
            wheel.link(&entries, index, Ticks(3));
        }
        wheel.unlink(&entries, 8);
        wheel.unlink(&entries, 0);
        wheel.unlink(&entries, 24);
        assert_eq!(popped(&mut wheel, &entries, Ticks(499)), [], "time never runs back");
        assert_eq!(popped(&mut wheel, &entries, Ticks(500)), [16]);
        wheel.link(&entries, 5, Ticks(500));
        assert_eq!(popped(&mut wheel, &entries, Ticks(500)), [5], "the current tick stays open");
    }

    #[test]
    fn what_is_left_of_a_tick_can_be_unlinked() {
        let entries: Vec<Entry> = (0..64).map(|_| Entry::default()).collect();
        let mut wheel = Wheel::new(Ticks(500));
        for index in 0..64 {
            wheel.link(&entries, index, Ticks(500));
        }
        let mut batch = [0; LANES];
        assert!(wheel.turn(Ticks(500)));
        assert_eq!(wheel.pop(&entries, &mut batch, |_| {}), LANES);
        wheel.settle(&entries);
        let left: Vec<u32> = (0..64).filter(|index| !batch.contains(index)).collect();
        for &index in left.iter().filter(|index| **index % 16 < 8) {
            wheel.unlink(&entries, index);
        }
        let mut rest = popped(&mut wheel, &entries, Ticks(500));
        rest.sort_unstable();
        assert_eq!(rest, left.into_iter().filter(|index| index % 16 >= 8).collect::<Vec<_>>());
    }
}
