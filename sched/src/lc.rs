//! lc, least connections (kernel: ip_vs_lc.c).
//!
//! The rule: of the available servers the one with the smallest overhead (256 * active +
//! inactive), whatever its weight; of equals the first in the list.

use crate::least::{Burden, Least};
use crate::{Flags, Flow, Load, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Lc(Least<Overhead>);

/// The overhead, whatever the weight.
#[derive(Debug)]
struct Overhead;

impl Burden for Overhead {
    #[inline]
    fn over(load: &Load) -> u64 {
        load.overhead()
    }

    fn under(_weight: u32) -> u32 {
        1
    }
}

impl Schedule for Lc {
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
    fn fewest_whatever_the_weight() {
        let list = servers(&[1, 100, 0]);
        let lc = Lc::build(list.clone(), Flags::default());
        assert_eq!(lc.pick(&flow()), Some(0));
        open(&lc, &list, 0, false);
        assert_eq!(lc.pick(&flow()), Some(1));
        open(&lc, &list, 1, true);
        assert_eq!(lc.pick(&flow()), Some(0), "256 inactive ones weigh an active one");
    }
}
