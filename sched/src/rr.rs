//! rr, round robin (kernel: ip_vs_rr.c).
//!
//! The rule: go round the list from the server after the last one picked; the first that is
//! available gets the connection. Weight counts only as zero or not. Servers that are added go
//! to the head and leave the cursor where it is; when the server under the cursor is removed the
//! cursor falls back to the one before it.

use crate::ranked::{Rank, Ranked};
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Rr {
    list: Ranked<Available>,
    /// Places before this one have had their turn: the next pick starts here. 0 at first.
    next: AtomicUsize,
}

/// All that are available, alike.
#[derive(Debug)]
struct Available;

impl Rank for Available {
    #[inline]
    fn key(server: &Server) -> Option<u64> {
        server.available().then_some(0)
    }
}

impl Schedule for Rr {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { list: Ranked::of(servers), next: AtomicUsize::new(0) }
    }

    fn rebuild(&self, servers: Servers, _flags: Flags) -> Self {
        // Relaxed: the place stands for itself; the list it is a place in does not change.
        let next = self.next.load(Relaxed);
        let mut turns = self.list.servers[..next].iter().rev();
        let survivor = turns.find_map(|server| servers.position(server.id));
        let next = AtomicUsize::new(survivor.map_or(0, |at| at + 1));
        Self { list: Ranked::of(servers), next }
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        // Relaxed: a pick depends on the cursor's value alone, and one cursor's changes are
        // always in one order.
        let mut next = self.next.load(Relaxed);
        loop {
            let tree = &self.list.tree;
            let found = tree.first(next, 0).or_else(|| tree.first(0, 0))?;
            // Losing means that another core picked in between: look again from its place.
            match self.next.compare_exchange(next, found + 1, Relaxed, Relaxed) {
                Ok(_) => return Some(found),
                Err(now) => next = now,
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
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, overload, picks};

    #[test]
    fn goes_round_and_skips_what_is_not_available() {
        let list = servers(&[1, 0, 5, 1]);
        let rr = Rr::build(list.clone(), Flags::default());
        assert_eq!(picks(&rr, 5), [0, 2, 3, 0, 2]);
        overload(&rr, &list, 3, true);
        assert_eq!(picks(&rr, 3), [0, 2, 0]);
    }

    #[test]
    fn no_server_leaves_the_cursor() {
        let list = servers(&[1, 1]);
        let rr = Rr::build(list.clone(), Flags::default());
        assert_eq!(rr.pick(&flow()), Some(0));
        (0..2).for_each(|at| overload(&rr, &list, at, true));
        assert_eq!(rr.pick(&flow()), None);
        (0..2).for_each(|at| overload(&rr, &list, at, false));
        assert_eq!(rr.pick(&flow()), Some(1));
        assert_eq!(Rr::build(servers(&[]), Flags::default()).pick(&flow()), None);
    }

    #[test]
    fn the_cursor_survives_changes_of_the_list() {
        let list = servers(&[1, 1, 1, 1]);
        let rr = Rr::build(list.clone(), Flags::default());
        assert_eq!(picks(&rr, 2), [0, 1]);
        let without_second: Servers =
            [0, 2, 3].into_iter().map(|at: usize| list[at].clone()).collect();
        assert_eq!(picks(&rr.rebuild(without_second, Flags::default()), 3), [1, 2, 0]);
        let without_first: Servers = list[2..].iter().cloned().collect();
        assert_eq!(picks(&rr.rebuild(without_first, Flags::default()), 2), [0, 1]);
    }

    #[test]
    fn threads_share_one_sequence() {
        let list = servers(&[1; 7]);
        let rr = Rr::build(list, Flags::default());
        let counts: Vec<_> = (0..7).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let at = rr.pick(&flow()).unwrap();
                        counts[at].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let counts: Vec<usize> = counts.into_iter().map(AtomicUsize::into_inner).collect();
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(max - min <= 1, "{counts:?}");
    }
}
