//! ovf, overflow (kernel: ip_vs_ovf.c).
//!
//! The rule: the available server with the highest weight among those whose active connections
//! are not more than their weight; of equals the first in the list. When all have more, none.

use crate::ranked::{Rank, Ranked, by_weight};
use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Ovf(Ranked<NotFull>);

/// The highest weight first of those that have room.
#[derive(Debug)]
struct NotFull;

impl Rank for NotFull {
    #[inline]
    fn key(server: &Server) -> Option<u64> {
        let room = server.available() && server.load.active() <= server.weight;
        room.then(|| by_weight(server.weight))
    }
}

impl Schedule for Ovf {
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
    use crate::tests::{flow, open};

    #[test]
    fn the_weight_is_how_many_fit_and_one_more() {
        let list = servers(&[1, 2]);
        let ovf = Ovf::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        while let Some(at) = ovf.pick(&flow()) {
            picks.push(at);
            open(&ovf, &list, at, true);
        }
        assert_eq!(picks, [1, 1, 1, 0, 0]);
    }
}
