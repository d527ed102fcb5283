//! lblc, locality-based least connections (kernel: ip_vs_lblc.c).
//!
//! The rule: a virtual address keeps the server that it was given, as long as that is in the
//! list, has a weight, and is not too busy while others are not: it is when it has more active
//! connections than its weight and some server has fewer than half of its own. Otherwise, and at
//! first, the address is given the server that wlc picks. That an address's server has reached
//! its upper threshold does not matter. Which addresses are remembered for how long: see
//! `cache.rs`.

use std::sync::Arc;

use crate::cache::{Cache, Value};
use crate::local::Local;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Lblc {
    local: Local,
    cache: Arc<Cache<One>>,
}

/// The server of an address.
///
/// Relaxed: the word stands for itself. A server's number is made known by the snapshot that has
/// it, and one that a worker does not know yet is to it a removed one.
#[derive(Debug, Default)]
pub(crate) struct One {
    /// How often the entry was cleared, then the server's number and 1; 0 for no server.
    word: AtomicU64,
}

const NUMBER: u64 = u32::MAX as u64;

impl One {
    fn server(word: u64) -> Option<u32> {
        (word & NUMBER).checked_sub(1).map(|number| number as u32)
    }

    /// Remembers a server in the place of what `word` says; another may have been faster.
    fn set(&self, word: u64, number: u32) {
        let new = word & !NUMBER | (u64::from(number) + 1);
        if word != new {
            let _ = self.word.compare_exchange(word, new, Relaxed, Relaxed);
        }
    }
}

impl Value for One {
    type Shared = ();

    fn clear(&self, (): &()) -> bool {
        let word = self.word.load(Relaxed);
        let cleared = (word & !NUMBER).wrapping_add(NUMBER + 1);
        self.word.compare_exchange(word, cleared, Relaxed, Relaxed).is_ok()
    }
}

impl Schedule for Lblc {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { local: Local::of(servers), cache: Arc::new(Cache::new()) }
    }

    fn rebuild(&self, servers: Servers, _flags: Flags) -> Self {
        let words = self.cache.values().map(|one| one.word.load(Relaxed));
        let remembered = words.filter_map(One::server).collect();
        Self { local: self.local.after(servers, &remembered), cache: self.cache.clone() }
    }

    fn pick(&self, flow: &Flow) -> Option<usize> {
        let key = self.cache.key(flow.destination);
        let entry = self.cache.get(key, flow.now);
        let word = entry.map(|entry| entry.value.word.load(Relaxed));
        let known = word.and_then(One::server).and_then(|number| self.local.roster.place(number));
        if let Some(at) = known.filter(|at| self.local.has_weight(*at) && !self.local.too_busy(*at))
        {
            return Some(at);
        }
        let at = self.local.least()?;
        let entry = entry.or_else(|| self.cache.insert(key, flow.now));
        if let Some(entry) = entry {
            let word = word.unwrap_or_else(|| entry.value.word.load(Relaxed));
            entry.value.set(word, self.local.roster.number(at));
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

    fn to(last: u8) -> Flow {
        Flow { destination: [10, 9, 0, last].into(), ..flow() }
    }

    #[test]
    fn an_address_keeps_its_server_until_that_is_too_busy() {
        let list = servers(&[2, 4]);
        let lblc = Lblc::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        for _ in 0..7 {
            let at = lblc.pick(&to(1)).unwrap();
            open(&lblc, &list, at, true);
            picks.push(at);
        }
        // The other has fewer than half its weight until it has two.
        assert_eq!(picks, [0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(lblc.pick(&to(2)), Some(1), "as wlc: 3/2 against 4/4");
    }

    #[test]
    fn an_overload_mark_does_not_part_them_but_weight_0_does() {
        let list = servers(&[1, 1]);
        let lblc = Lblc::build(list.clone(), Flags::default());
        assert_eq!(lblc.pick(&to(1)), Some(0));
        overload(&lblc, &list, 0, true);
        assert_eq!((lblc.pick(&to(1)), lblc.pick(&to(2))), (Some(0), Some(1)));
        overload(&lblc, &list, 1, true);
        assert_eq!((lblc.pick(&to(1)), lblc.pick(&to(3))), (Some(0), None));
        overload(&lblc, &list, 1, false);
        let mut quiet: Vec<_> = list.to_vec();
        quiet[0].weight = 0;
        let lblc = lblc.rebuild(quiet.into_iter().collect(), Flags::default());
        assert_eq!(lblc.pick(&to(1)), Some(1));
    }

    #[test]
    fn a_server_that_comes_back_is_remembered() {
        let list = servers(&[1, 1, 1]);
        let lblc = Lblc::build(list.clone(), Flags::default());
        assert_eq!(lblc.pick(&to(1)), Some(0));
        let without = |at: usize| (0..3).filter(|n| *n != at).map(|n| list[n].clone()).collect();
        let mut back = list.to_vec();
        back.rotate_left(1);
        back[2].id = crate::ServerId(77);
        let gone = lblc.rebuild(without(0), Flags::default());
        let unasked = gone.rebuild(back.iter().cloned().collect(), Flags::default());
        assert_eq!(unasked.pick(&to(1)), Some(2), "nobody asked meanwhile");
        let gone = unasked.rebuild(without(0), Flags::default());
        assert_eq!(gone.pick(&to(1)), Some(0), "the first that is left");
        let asked = gone.rebuild(back.into_iter().collect(), Flags::default());
        assert_eq!(asked.pick(&to(1)), Some(0));
    }

    #[test]
    fn an_unused_address_is_forgotten_at_a_full_sweep() {
        const MINUTE: u32 = 60 * 100;
        let start = 0u32.wrapping_sub(10 * MINUTE);
        let at = |minute: u32| start.wrapping_add(minute * MINUTE);
        let list = servers(&[1, 1]);
        let lblc = Lblc::build(list.clone(), Flags::default());
        lblc.tick(start);
        lblc.set_expiration(20 * MINUTE);
        lblc.pick(&Flow { now: at(0), ..to(1) });
        lblc.pick(&Flow { now: at(11), ..to(2) });
        assert_eq!(lblc.cache.len(), 2);
        lblc.tick(at(29));
        assert_eq!(lblc.cache.len(), 2, "expired, but not swept");
        lblc.tick(at(30));
        assert_eq!(lblc.cache.len(), 1);
        lblc.tick(at(59));
        assert_eq!(lblc.cache.len(), 1);
        lblc.tick(at(60));
        assert_eq!(lblc.cache.len(), 0);
        open(&lblc, &list, 0, true);
        assert_eq!(lblc.pick(&Flow { now: at(60), ..to(1) }), Some(1), "picked anew");
    }
}
