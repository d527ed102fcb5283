//! A number for each place of a list, and what they all come to, kept as they change.
//!
//! The numbers are the leaves of a tree. Each node folds the [`WIDTH`] numbers of the block
//! below it: to the least of them ([`Min`]), and which of them that is, or to their sum
//! ([`Sum`]). Who changes a leaf walks towards the root and puts right each node on the way. A
//! node that is right already ends the walk: whoever made it so walks on.
//!
//! Any number of threads do this at once, without a lock and without waiting. Each writes what
//! it reads below, which may be old by then; so after a walk that wrote comes a fence and the
//! same walk again, until nothing was to write. Of all threads that changed a block or its node,
//! take the one with the last fence: it reads what all of them wrote, and leaves the node right.
//! So once all are done, every node is the fold of its block. `loom.rs` has the models.
//!
//! Loads are SeqCst, as are the changes of what the leaves say (see `server::Load`): who changed
//! that and finds its leaf right, and who wrote the leaf and, after its fence, finds it right,
//! cannot both have read what was before. Stores are Relaxed: the fence is their order.

use std::marker::PhantomData;

use crate::sync::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
    fence, in_order,
};

/// How many a node has below it: a cache line. A power of two.
const WIDTH: usize = if cfg!(loom) { 2 } else { 8 };

/// The bits of a [`Min`]'s number that say a slot of the block below.
const SLOT: u64 = WIDTH as u64 - 1;

/// What a node says about the block below it.
pub(crate) trait Fold {
    /// The number of a place that does not count.
    const NONE: u64;

    /// A number as the node above takes it, from this slot of the block.
    fn from(slot: usize, number: u64) -> u64;

    /// Both in one number; in any order, in any grouping.
    fn both(a: u64, b: u64) -> u64;
}

/// The least number, the first of equals. Its lowest bits are the tree's own.
#[derive(Debug)]
pub(crate) struct Min;

impl Min {
    /// How many bits a key may have.
    pub(crate) const KEY_BITS: u32 = 64 - SLOT.count_ones();

    /// The number of a place that counts by this key.
    #[inline]
    pub(crate) fn number(key: u64) -> u64 {
        key << SLOT.count_ones()
    }

    /// The key of a number; none when it is that of a place that does not count.
    #[inline]
    fn key(number: u64) -> Option<u64> {
        (number | SLOT != Self::NONE).then_some(number >> SLOT.count_ones())
    }
}

impl Fold for Min {
    const NONE: u64 = u64::MAX;

    #[inline]
    fn from(slot: usize, number: u64) -> u64 {
        number & !SLOT | slot as u64
    }

    #[inline]
    fn both(a: u64, b: u64) -> u64 {
        a.min(b)
    }
}

/// The sum.
#[derive(Debug)]
pub(crate) struct Sum;

impl Fold for Sum {
    const NONE: u64 = 0;

    #[inline]
    fn from(_slot: usize, number: u64) -> u64 {
        number
    }

    #[inline]
    fn both(a: u64, b: u64) -> u64 {
        // Wrapping: threads in the middle of changes may show a sum of what never was at one time.
        a.wrapping_add(b)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tree<F> {
    /// The leaves, the nodes over their blocks, the nodes over those, ... to a single block.
    levels: Box<[Level]>,
    fold: PhantomData<F>,
}

#[derive(Debug)]
struct Level(Box<[Block]>);

/// Neighbours: those that one node of the level above folds.
#[derive(Debug)]
#[repr(align(64))]
struct Block([AtomicU64; WIDTH]);

impl Level {
    /// Of these numbers; at least one block.
    fn of<F: Fold>(numbers: impl Iterator<Item = u64>) -> Self {
        let mut numbers = numbers.peekable();
        let mut blocks = Vec::new();
        while blocks.is_empty() || numbers.peek().is_some() {
            let mut next = || AtomicU64::new(numbers.next().unwrap_or(F::NONE));
            blocks.push(Block(std::array::from_fn(|_| next())));
        }
        Self(blocks.into())
    }

    #[inline]
    fn node(&self, at: usize) -> &AtomicU64 {
        &self.0[at / WIDTH].0[at % WIDTH]
    }
}

impl Block {
    #[inline]
    fn fold<F: Fold>(&self) -> u64 {
        let mut numbers: [u64; WIDTH] =
            std::array::from_fn(|slot| F::from(slot, self.0[slot].load(SeqCst)));
        // By halves: no number waits for all before it.
        let mut width = WIDTH;
        while width > 1 {
            width /= 2;
            for slot in 0..width {
                numbers[slot] = F::both(numbers[slot], numbers[slot + width]);
            }
        }
        numbers[0]
    }

    /// The first slot, from this one on, that counts by at most this key.
    #[inline]
    fn first(&self, from: usize, key: u64) -> Option<usize> {
        let found = |number: &AtomicU64| Min::key(number.load(SeqCst)).is_some_and(|k| k <= key);
        self.0[from..].iter().position(found).map(|slot| from + slot)
    }
}

impl<F: Fold> Tree<F> {
    /// Of these numbers, in the order of the list.
    pub(crate) fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut levels = vec![Level::of::<F>(numbers.into_iter())];
        while let Some(level) = levels.last().filter(|level| level.0.len() > 1) {
            let above = Level::of::<F>(level.0.iter().map(Block::fold::<F>));
            levels.push(above);
        }
        Self { levels: levels.into(), fold: PhantomData }
    }

    /// Makes the number of a place what `right` says, and puts right what follows from it. To be
    /// called after each change of what `right` reads.
    #[inline]
    pub(crate) fn settle(&self, place: usize, right: impl Fn() -> u64) {
        in_order();
        self.walk(0, 0, place, right);
    }

    /// Walks up from a node that shall be what `right` says, past `least` levels at least.
    #[inline]
    fn walk(&self, bottom: usize, least: usize, node: usize, right: impl Fn() -> u64) {
        let mut reach = bottom + least;
        loop {
            let mut wrote = false;
            let mut at = node;
            for (height, level) in self.levels.iter().enumerate().skip(bottom) {
                let says = match height - bottom {
                    0 => right(),
                    _ => self.levels[height - 1].0[at].fold::<F>(),
                };
                let node = level.node(at);
                if node.load(SeqCst) != says {
                    node.store(says, Relaxed);
                    wrote = true;
                    reach = reach.max(height + 1);
                } else if height >= reach {
                    break;
                }
                at /= WIDTH;
            }
            if !wrote {
                return;
            }
            // Pairs with itself in other threads; see the module.
            fence(SeqCst);
        }
    }

    /// What all come to.
    #[inline]
    fn fold(&self) -> u64 {
        self.levels[self.levels.len() - 1].0[0].fold::<F>()
    }
}

impl Tree<Min> {
    /// The least key; none when no place counts.
    #[inline]
    pub(crate) fn least_key(&self) -> Option<u64> {
        Min::key(self.fold())
    }

    /// The place with the least key, the first of equals; none when no place counts.
    #[inline]
    pub(crate) fn least(&self) -> Option<usize> {
        'down: loop {
            let mut number = self.fold();
            let mut at = 0;
            for (level, below) in self.levels.iter().enumerate().rev() {
                Min::key(number)?;
                at = at * WIDTH + (number & SLOT) as usize;
                number = below.node(at).load(SeqCst);
                if Min::key(number).is_none() {
                    // Another thread changed it and has not come to the node above.
                    self.walk(level, 1, at, || below.node(at).load(SeqCst));
                    continue 'down;
                }
            }
            return Some(at);
        }
    }

    /// The first place, from this one on, that counts by at most this key.
    #[inline]
    pub(crate) fn first(&self, from: usize, key: u64) -> Option<usize> {
        let (mut level, mut at) = (0, from);
        loop {
            let block = at / WIDTH;
            match self.levels[level].0.get(block)?.first(at % WIDTH, key) {
                Some(slot) if level == 0 => return Some(block * WIDTH + slot),
                // Down to the first of those below.
                Some(slot) => (level, at) = (level - 1, (block * WIDTH + slot) * WIDTH),
                None if level + 1 == self.levels.len() => return None,
                // Up, and on to the right.
                None => (level, at) = (level + 1, block + 1),
            }
        }
    }
}

impl Tree<Sum> {
    /// The sum of all.
    pub(crate) fn sum(&self) -> u64 {
        self.fold()
    }

    /// The first place at which the sum of all up to and with its own is at least `part`, which
    /// is not more than the sum of all.
    pub(crate) fn reach(&self, mut part: u64) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let mut reached = None;
            for (slot, number) in level.0[at].0.iter().enumerate() {
                let number = number.load(SeqCst);
                if number != Sum::NONE {
                    reached = Some(slot);
                    if number >= part {
                        break;
                    }
                    part -= number;
                }
            }
            at = at * WIDTH + reached?;
        }
        Some(at)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_of_the_least_and_the_first_of_at_most(
            keys in prop::collection::vec(prop::option::of(0u64..20), 0..700),
            changes in prop::collection::vec((0usize..700, prop::option::of(0u64..20)), 0..100),
            from in 0usize..700,
            bound in 0u64..20,
        ) {
            let number = |key: Option<u64>| key.map_or(Min::NONE, Min::number);
            let tree = Tree::<Min>::of(keys.iter().copied().map(number));
            let mut keys = keys;
            for (at, key) in changes {
                let Some(old) = keys.get_mut(at) else { continue };
                *old = key;
                tree.settle(at, || number(key));
            }
            let least = keys.iter().flatten().min().copied();
            prop_assert_eq!(tree.least_key(), least);
            let first = least.and_then(|least| keys.iter().position(|key| *key == Some(least)));
            prop_assert_eq!(tree.least(), first);
            let within = |at: &usize| keys[*at].is_some_and(|key| key <= bound);
            prop_assert_eq!(tree.first(from, bound), (from..keys.len()).find(within));
        }

        #[test]
        fn sums_are_reached_where_they_are(
            parts in prop::collection::vec(0u64..5, 1..700),
            changes in prop::collection::vec((0usize..700, 0u64..5), 0..50),
        ) {
            let tree = Tree::<Sum>::of(parts.iter().copied());
            let mut parts = parts;
            for (at, part) in changes {
                let Some(old) = parts.get_mut(at) else { continue };
                *old = part;
                tree.settle(at, || part);
            }
            let place = |at| std::iter::repeat_n(at, parts[at] as usize);
            let places: Vec<usize> = (0..parts.len()).flat_map(place).collect();
            prop_assert_eq!(tree.sum(), places.len() as u64);
            for (part, place) in (1..).zip(places) {
                prop_assert_eq!(tree.reach(part), Some(place));
            }
        }
    }
}
