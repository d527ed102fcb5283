//! wrr, weighted round robin (kernel: ip_vs_wrr.c).
//!
//! The rule: go round the list with a current weight; a server whose weight is at least that
//! gets the connection. Each time the end of the list is passed the current weight goes down by
//! the greatest common divisor of the weights, from the largest weight less (gcd - 1) to 1 and
//! up to the largest again. Any change of the list sends the cursor back to its head.

use crate::fo::Heaviest;
use crate::ranked::{Ranked, by_weight};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Wrr {
    list: Ranked<Heaviest>,
    /// By how much the current weight goes down; the gcd of the weights.
    step: u32,
    /// Where the current weight starts again; 0 when no server has a weight.
    top: u32,
    /// A packed [`Cursor`].
    cursor: AtomicU64,
}

/// Where the sequence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    /// The place at which the next pick starts; 0 also before any pick.
    next: u32,
    /// The current weight.
    weight: u32,
}

impl Cursor {
    fn pack(self) -> u64 {
        u64::from(self.next) << 32 | u64::from(self.weight)
    }

    fn unpack(packed: u64) -> Self {
        Self { next: (packed >> 32) as u32, weight: packed as u32 }
    }
}

impl Wrr {
    fn with_weight(servers: Servers, weight: impl FnOnce(u32, u32) -> u32) -> Self {
        let step = servers.gcd();
        let top = (servers.max_weight() + 1).saturating_sub(step);
        let cursor = Cursor { next: 0, weight: weight(step, top) };
        Self { list: Ranked::of(servers), step, top, cursor: AtomicU64::new(cursor.pack()) }
    }

    /// The current weight after the end of the list was passed.
    fn lower(&self, weight: u32) -> u32 {
        if weight > self.step { weight - self.step } else { self.top }
    }

    /// The largest weight of a server that could take a connection now.
    fn best(&self) -> Option<u32> {
        self.list.tree.least_key().map(|key| !key as u32)
    }

    /// The first server from `from` on that has the current weight.
    #[inline]
    fn find(&self, from: usize, weight: u32) -> Option<usize> {
        self.list.tree.first(from, by_weight(weight))
    }

    /// The server that follows `cursor`, and where the cursor stands after it.
    fn step(&self, cursor: Cursor) -> (Option<usize>, Cursor) {
        let found = |at: usize, weight| (Some(at), Cursor { next: at as u32 + 1, weight });
        if let Some(at) = self.find(cursor.next as usize, cursor.weight) {
            return found(at, cursor.weight);
        }
        let Some(best) = self.best() else {
            // The walk has tried every server with the lowest weight, and stops where that was
            // done: at the end of the list, unless it had begun in the middle of such a round.
            let midway = cursor.next != 0 && cursor.weight <= self.step;
            let weight = if midway { 1 } else { self.top };
            return (None, Cursor { weight, ..cursor });
        };
        let mut weight = self.lower(cursor.weight);
        if let Some(at) = self.find(0, weight) {
            return found(at, weight);
        }
        // A whole round found nobody: go straight to the weight at which there is somebody.
        if weight > best {
            weight -= (weight - best).div_ceil(self.step) * self.step;
        }
        match self.find(0, weight) {
            Some(at) => found(at, weight),
            // Another core's connection overloaded the last server meanwhile.
            None => (None, cursor),
        }
    }
}

impl Schedule for Wrr {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self::with_weight(servers, |_, top| top)
    }

    fn rebuild(&self, servers: Servers, _flags: Flags) -> Self {
        // Relaxed: the cursor stands for itself.
        let old = Cursor::unpack(self.cursor.load(Relaxed)).weight;
        Self::with_weight(servers, |step, top| match old {
            0 => top,
            old if old > top => top,
            old if step > 1 => old / step * step + 1,
            old => old,
        })
    }

    fn renew(&self, servers: Servers, flags: Flags) -> Self {
        let cursor = AtomicU64::new(self.cursor.load(Relaxed));
        Self { cursor, ..Self::build(servers, flags) }
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        // Relaxed: as in rr, the cursor's own order is all that matters.
        let mut packed = self.cursor.load(Relaxed);
        loop {
            let (found, after) = self.step(Cursor::unpack(packed));
            match self.cursor.compare_exchange(packed, after.pack(), Relaxed, Relaxed) {
                Ok(_) => return found,
                Err(now) => packed = now,
            }
        }
    }

    #[inline]
    fn changed(&self, place: usize) {
        self.list.changed(place);
    }

    fn refresh(&self) {
        self.list.refresh();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, overload, picks};

    #[test]
    fn shares_follow_the_weights() {
        assert_eq!(
            picks(&Wrr::build(servers(&[4, 3, 2]), Flags::default()), 9),
            [0, 0, 1, 0, 1, 2, 0, 1, 2],
            "weights 4, 3, 2, 1 in turn"
        );
        assert_eq!(
            picks(&Wrr::build(servers(&[20, 10]), Flags::default()), 3),
            [0, 0, 1],
            "by steps of the gcd"
        );
        assert_eq!(Wrr::build(servers(&[0, 0]), Flags::default()).pick(&flow()), None);
        assert_eq!(Wrr::build(servers(&[]), Flags::default()).pick(&flow()), None);
    }

    #[test]
    fn jumps_over_rounds_in_which_nobody_has_the_weight() {
        let list = servers(&[65_535, 7]);
        let wrr = Wrr::build(list.clone(), Flags::default());
        overload(&wrr, &list, 0, true);
        assert_eq!(picks(&wrr, 2), [1, 1]);
        overload(&wrr, &list, 1, true);
        assert_eq!(wrr.pick(&flow()), None);
    }

    #[test]
    fn a_walk_that_finds_nobody_says_where_the_next_begins() {
        let list = servers(&[3, 2, 1]);
        let wrr = Wrr::build(list.clone(), Flags::default());
        let all = |overloaded| (0..3).for_each(|at| overload(&wrr, &list, at, overloaded));
        assert_eq!(picks(&wrr, 2), [0, 0], "with 3, then with 2");
        all(true);
        assert_eq!(wrr.pick(&flow()), None);
        all(false);
        assert_eq!(picks(&wrr, 3), [0, 1, 0], "behind the first with 3, then with 2, with 1");
        all(true);
        assert_eq!(wrr.pick(&flow()), None);
        all(false);
        assert_eq!(picks(&wrr, 3), [1, 2, 0], "behind the first with 1 still, then with 3");
    }
}
