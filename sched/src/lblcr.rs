//! lblcr, locality-based least connections with replication (kernel: ip_vs_lblcr.c).
//!
//! The rule: a virtual address keeps a set of servers. Of those that are available the one with
//! the smallest overhead for its weight, as in wlc, gets the connection, unless it is too busy
//! while others are not (as in lblc). Then, and at first, the server that wlc picks gets it, and
//! joins the set. A set of several servers that did not change for the time that an unused entry
//! is kept loses the one with the largest overhead for its weight, removed servers included. Of
//! equals the one that joined last comes first. Which addresses are remembered for how long: see
//! `cache.rs`.

use std::sync::Arc;

use crate::cache::{Cache, Entry, reached};
use crate::local::Local;
use crate::set::{Members, Seen, Set};
use crate::walk::least_of;
use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Lblcr {
    local: Local,
    cache: Arc<Cache<Set>>,
}

/// What a set of servers comes to.
#[derive(Debug, PartialEq)]
struct Found {
    /// Place of the server to take.
    least: Option<usize>,
    /// Number of the server to remove.
    most: Option<u32>,
    size: usize,
}

fn overhead(server: &Server) -> (u64, u64) {
    (server.load.overhead(), server.weight.into())
}

impl Lblcr {
    fn find(&self, numbers: Members<'_>) -> Found {
        let roster = &self.local.roster;
        let mut size = 0;
        let mut most: Option<(u32, u64, u64)> = None;
        let present = numbers.filter_map(|number| {
            size += 1;
            let server = roster.server(number)?;
            let (over, under) = overhead(server);
            if under > 0 && most.is_none_or(|(_, o, u)| o * under < over * u) {
                most = Some((number, over, under));
            }
            Some((roster.place(number)?, server))
        });
        let least = least_of(present, overhead);
        Found { least, most: most.map(|(number, ..)| number), size }
    }

    /// A set that has not changed for long does with one server less.
    fn shrink(&self, set: &Set, seen: Seen, found: &Found, now: u32) {
        let since = now.wrapping_sub(set.modified());
        let long = since != self.cache.expiration() && reached(since, self.cache.expiration());
        if let Some(number) = found.most.filter(|_| found.size > 1 && long) {
            set.remove(&self.cache.shared, seen, number, now);
        }
    }

    fn known(&self, entry: &Entry<Set>, now: u32) -> Option<usize> {
        let set = &entry.value;
        let (seen, found) = set.look(&self.cache.shared, |numbers| self.find(numbers))?;
        self.shrink(set, seen, &found, now);
        found.least.filter(|at| !self.local.too_busy(*at))
    }

    fn join(&self, entry: &Entry<Set>, place: usize, now: u32) {
        let (set, number) = (&entry.value, self.local.roster.number(place));
        let is_member = |mut numbers: Members<'_>| numbers.any(|n| n == number);
        if let Some((seen, false)) = set.look(&self.cache.shared, is_member) {
            set.insert(&self.cache.shared, seen, number, now);
        }
    }
}

impl Schedule for Lblcr {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { local: Local::of(servers), cache: Arc::new(Cache::new()) }
    }

    fn rebuild(&self, servers: Servers, _flags: Flags) -> Self {
        let remembered = self.cache.shared.servers().collect();
        Self { local: self.local.after(servers, &remembered), cache: self.cache.clone() }
    }

    fn pick(&self, flow: &Flow) -> Option<usize> {
        let key = self.cache.key(flow.destination);
        let entry = self.cache.get(key, flow.now);
        if let Some(at) = entry.and_then(|entry| self.known(entry, flow.now)) {
            return Some(at);
        }
        let at = self.local.least()?;
        if let Some(entry) = entry.or_else(|| self.cache.insert(key, flow.now)) {
            self.join(entry, at, flow.now);
        }
        Some(at)
    }

    #[inline]
    fn changed(&self, place: usize) {
        self.local.changed(place);
    }

    fn refresh(&self) {
        self.local.refresh();
    }

    fn set_expiration(&self, ticks: u32) {
        self.cache.set_expiration(ticks);
    }

    fn tick(&self, now: u32) {
        self.cache.tick(now);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, open, overload};

    const SECOND: u32 = 100;

    /// Picks and opens so many connections; the servers' places.
    fn serve(lblcr: &Lblcr, list: &Servers, now: u32, count: usize) -> Vec<usize> {
        let mut picks = Vec::new();
        for _ in 0..count {
            let at = lblcr.pick(&Flow { now, ..flow() }).unwrap();
            open(lblcr, list, at, true);
            picks.push(at);
        }
        picks
    }

    fn with_weights(list: &Servers, weights: &[u32]) -> Servers {
        let weighted = list.iter().zip(weights);
        weighted.map(|(server, weight)| Server { weight: *weight, ..server.clone() }).collect()
    }

    /// What Linux 6.1 did with these servers, weights and pauses.
    #[test]
    fn a_set_grows_when_it_is_busy_and_shrinks_when_it_is_not_changed() {
        let list = servers(&[2, 2, 2, 2]);
        let lblcr = Lblcr::build(list.clone(), Flags::default());
        lblcr.set_expiration(3 * SECOND);
        assert_eq!(serve(&lblcr, &list, 0, 12), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        let list = with_weights(&list, &[1000, 1000, 1000, 100]);
        let lblcr = lblcr.rebuild(list.clone(), Flags::default());
        assert_eq!(serve(&lblcr, &list, 4 * SECOND, 4), [2, 1, 0, 2], "without the last");
        assert_eq!(serve(&lblcr, &list, 8 * SECOND, 6), [1, 0, 1, 0, 1, 0], "without the third");
        assert_eq!(serve(&lblcr, &list, 12 * SECOND, 3), [1, 0, 0], "without the second");
        assert_eq!(serve(&lblcr, &list, 99 * SECOND, 9), [0; 9], "never without the only one");
    }

    #[test]
    fn exactly_the_expiration_is_not_long_enough() {
        let list = servers(&[1, 1]);
        let lblcr = Lblcr::build(list.clone(), Flags::default());
        lblcr.set_expiration(300);
        assert_eq!(serve(&lblcr, &list, 0, 4), [0, 0, 1, 1]);
        let list = with_weights(&list, &[100, 100]);
        let lblcr = lblcr.rebuild(list.clone(), Flags::default());
        assert_eq!(serve(&lblcr, &list, 300, 4), [1, 0, 1, 0]);
        assert_eq!(serve(&lblcr, &list, 301, 3), [1, 0, 0]);
    }

    #[test]
    fn a_marked_server_stays_in_the_set_but_is_not_taken() {
        let list = servers(&[100, 100]);
        let lblcr = Lblcr::build(list.clone(), Flags::default());
        assert_eq!(serve(&lblcr, &list, 0, 3), [0, 0, 0]);
        overload(&lblcr, &list, 0, true);
        assert_eq!(serve(&lblcr, &list, 0, 4), [1, 1, 1, 1]);
        overload(&lblcr, &list, 0, false);
        assert_eq!(serve(&lblcr, &list, 0, 1), [0], "both are in it");
    }

    #[test]
    fn a_removed_server_counts_as_a_member() {
        let list = servers(&[1, 1]);
        let lblcr = Lblcr::build(list.clone(), Flags::default());
        assert_eq!(serve(&lblcr, &list, 0, 4), [0, 0, 1, 1]);
        open(&lblcr, &list, 0, true);
        let rest: Servers = list[1..].iter().cloned().collect();
        let lblcr = lblcr.rebuild(rest.clone(), Flags::default());
        let now = 2 * crate::cache::EXPIRATION;
        assert_eq!(serve(&lblcr, &rest, now, 1), [0]);
        // The removed one had most, and went; so it is no member when it comes back.
        let back = with_weights(&list, &[100, 100]);
        let lblcr = lblcr.rebuild(back.clone(), Flags::default());
        assert_eq!(serve(&lblcr, &back, now, 3), [1, 1, 1]);
    }
}
