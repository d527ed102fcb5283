//! nq, never queue (kernel: ip_vs_nq.c).
//!
//! The rule: the first available server without an active connection; when there is none, as
//! sed: the one whose active connections, with the new one, are fewest for its weight.

use crate::least::{Burden, Least};
use crate::{Flags, Flow, Load, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Nq(Least<Queue>);

/// As sed, but nothing at all for an idle server: that is before all others, and of several the
/// first.
#[derive(Debug)]
struct Queue;

impl Burden for Queue {
    #[inline]
    fn over(load: &Load) -> u64 {
        match load.active() {
            0 => 0,
            active => u64::from(active) + 1,
        }
    }

    fn under(weight: u32) -> u32 {
        weight
    }
}

impl Schedule for Nq {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self(Least::of(servers))
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.0.pick()
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
    fn an_idle_server_before_a_faster_one() {
        let list = servers(&[100, 1, 0]);
        let nq = Nq::build(list.clone(), Flags::default());
        open(&nq, &list, 0, true);
        assert_eq!(nq.pick(&flow()), Some(1));
        open(&nq, &list, 1, true);
        assert_eq!(nq.pick(&flow()), Some(0));
    }
}
