//! The servers of an lblcr entry, newest first.
//!
//! A list of nodes out of one pool. Readers never wait: they note the state of the set, go
//! through the nodes, and look whether the state is still the same. A writer claims the set with
//! one swap, and if another has it, leaves its change be: the kernel too uses a server that it
//! has no memory to remember.

use crate::cache::Value;
use crate::sync::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// How many servers all sets of a cache can hold together.
const NODES: usize = if cfg!(loom) { 3 } else { 4 * 16 * 1024 };

/// Low half of a word: the number of a node and 1; 0 for none.
const NODE: u64 = u32::MAX as u64;

/// What a set adds to its state's high half with each change; odd while it is claimed.
const CLAIM: u64 = NODE + 1;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Set {
    /// How often it was claimed and released, and the first node.
    state: AtomicU64,
    /// When a server was added or removed.
    modified: AtomicU32,
}

/// The nodes that are in sets or free.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Of each node: the server's number and 1 (0 when it is free), and the next node.
    nodes: Box<[AtomicU64]>,
    /// How often it was changed, and the first free node.
    free: AtomicU64,
}

/// A set that this thread alone changes.
struct Claimed<'a> {
    set: &'a Set,
    pool: &'a Pool,
    state: u64,
}

impl Default for Pool {
    fn default() -> Self {
        let free = |next: u64| AtomicU64::new(if next > NODES as u64 { 0 } else { next });
        Self { nodes: (2..).map(free).take(NODES).collect(), free: AtomicU64::new(1) }
    }
}

impl Pool {
    /// The numbers of all servers that are in sets.
    pub(crate) fn servers(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().filter_map(|node| server(node.load(Relaxed)))
    }

    fn node(&self, number: u64) -> Option<&AtomicU64> {
        self.nodes.get((number & NODE).checked_sub(1)? as usize)
    }

    /// Takes a free node; its number and 1, or none when all are in sets.
    fn take(&self) -> Option<u64> {
        // Acquire, here and below: pairs with the Release in `give`; what the node was is over.
        let mut free = self.free.load(Acquire);
        loop {
            let next = self.node(free)?.load(Relaxed) & NODE;
            let taken = (free & !NODE).wrapping_add(CLAIM) | next;
            match self.free.compare_exchange_weak(free, taken, Acquire, Acquire) {
                Ok(_) => return Some(free & NODE),
                Err(now) => free = now,
            }
        }
    }

    fn give(&self, number: u64) {
        let Some(node) = self.node(number) else { return };
        let mut free = self.free.load(Relaxed);
        loop {
            node.store(free & NODE, Relaxed);
            let given = (free & !NODE).wrapping_add(CLAIM) | number & NODE;
            // Release: pairs with the Acquire in `take`.
            match self.free.compare_exchange_weak(free, given, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => free = now,
            }
        }
    }
}

fn server(word: u64) -> Option<u32> {
    (word >> 32).checked_sub(1).map(|number| number as u32)
}

fn word(server: u32, next: u64) -> u64 {
    (u64::from(server) + 1) << 32 | next & NODE
}

/// The state in which a set was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(u64);

impl Set {
    /// What `look` makes of the servers of the set, and in which state of it. None when the set
    /// changes all the time.
    pub(crate) fn look<T>(
        &self,
        pool: &Pool,
        look: impl Fn(Members<'_>) -> T,
    ) -> Option<(Seen, T)> {
        for _ in 0..3 {
            // Acquire: pairs with the Release in `Claimed::release`, which published the nodes.
            let state = self.state.load(Acquire);
            let made = look(Members { pool, next: state & NODE, left: NODES });
            // Pairs with the fence in `claim`: who read a node that a later claim changed sees
            // that claim in the state.
            fence(Acquire);
            if self.state.load(Relaxed) == state && state & CLAIM == 0 {
                return Some((Seen(state), made));
            }
        }
        None
    }

    /// When it was changed last.
    pub(crate) fn modified(&self) -> u32 {
        self.modified.load(Relaxed)
    }

    /// Adds a server that is not in the set yet. `seen`: or nothing, if the set changed since.
    pub(crate) fn insert(&self, pool: &Pool, seen: Seen, number: u32, now: u32) {
        let Some(mut claimed) = self.claim(pool, seen) else { return };
        if let Some(node) = pool.take() {
            pool.nodes[node as usize - 1].store(word(number, claimed.state), Relaxed);
            claimed.state = claimed.state & !NODE | node;
            self.modified.store(now, Relaxed);
        }
        claimed.release();
    }

    /// Removes a server. `seen`: as in [`insert`](Self::insert).
    pub(crate) fn remove(&self, pool: &Pool, seen: Seen, number: u32, now: u32) {
        let Some(mut claimed) = self.claim(pool, seen) else { return };
        claimed.unlink(number);
        self.modified.store(now, Relaxed);
        claimed.release();
    }

    fn claim<'a>(&'a self, pool: &'a Pool, Seen(state): Seen) -> Option<Claimed<'a>> {
        let claimed = state.wrapping_add(CLAIM);
        // Acquire: pairs with the Release in `Claimed::release`: the nodes are as it left them.
        self.state.compare_exchange(state, claimed, Acquire, Relaxed).ok()?;
        // Pairs with the fence in `look`.
        fence(Release);
        Some(Claimed { set: self, pool, state: claimed })
    }
}

/// The numbers of the servers of a set. Of no more than there are nodes: a set that is changed
/// meanwhile may lead round in a circle.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pool: &'a Pool,
    next: u64,
    left: usize,
}

impl Iterator for Members<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let word = self.pool.node(self.next)?.load(Relaxed);
        self.next = word & NODE;
        server(word)
    }
}

impl Claimed<'_> {
    fn unlink(&mut self, number: u32) {
        let (mut before, mut at) = (None, self.state & NODE);
        while let Some(node) = self.pool.node(at) {
            let content = node.load(Relaxed);
            if server(content) != Some(number) {
                (before, at) = (Some(node), content & NODE);
                continue;
            }
            match before {
                Some(before) => {
                    before.store(before.load(Relaxed) & !NODE | content & NODE, Relaxed)
                }
                None => self.state = self.state & !NODE | content & NODE,
            }
            return self.pool.give(at);
        }
    }

    fn release(self) {
        // Release: pairs with the Acquire in `look` and `claim`.
        self.set.state.store(self.state.wrapping_add(CLAIM), Release);
    }
}

impl Value for Set {
    type Shared = Pool;

    fn clear(&self, pool: &Pool) -> bool {
        let seen = Seen(self.state.load(Relaxed));
        if seen.0 & CLAIM != 0 {
            return false;
        }
        let Some(mut claimed) = self.claim(pool, seen) else { return false };
        while let Some(node) = pool.node(claimed.state) {
            let next = node.load(Relaxed) & NODE;
            pool.give(claimed.state);
            claimed.state = claimed.state & !NODE | next;
        }
        claimed.release();
        true
    }
}
