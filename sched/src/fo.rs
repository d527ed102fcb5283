//! fo, failover (kernel: ip_vs_fo.c).
//!
//! The rule: the available server with the highest weight; of equals the first in the list.

use crate::ranked::{Rank, Ranked, by_weight};
use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Fo(Ranked<Heaviest>);

/// The highest weight first.
#[derive(Debug)]
pub(crate) struct Heaviest;

impl Rank for Heaviest {
    #[inline]
    fn key(server: &Server) -> Option<u64> {
        server.available().then(|| by_weight(server.weight))
    }
}

impl Schedule for Fo {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self(Ranked::of(servers))
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.0.tree.least()
    }

    #[inline]
    fn changed(&self, place: usize) {
        self.0.changed(place);
    }

    fn refresh(&self) {
        self.0.refresh();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, overload};

    #[test]
    fn the_next_one_when_the_best_fails() {
        let list = servers(&[1, 5, 5, 2]);
        let fo = Fo::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        while let Some(at) = fo.pick(&flow()) {
            picks.push(at);
            overload(&fo, &list, at, true);
        }
        assert_eq!(picks, [1, 2, 3, 0]);
    }
}
