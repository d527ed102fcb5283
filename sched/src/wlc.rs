//! wlc, weighted least connections (kernel: ip_vs_wlc.c).
//!
//! The rule: of the available servers the one whose overhead (256 * active + inactive) is
//! smallest for its weight; of equals the first in the list. Compared by cross-multiplication in
//! 64 bits, not by division.

use crate::least::{Burden, Least};
use crate::{Flags, Flow, Load, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Wlc(Least<Overhead>);

/// The overhead for the weight.
#[derive(Debug)]
pub(crate) struct Overhead;

impl Burden for Overhead {
    #[inline]
    fn over(load: &Load) -> u64 {
        load.overhead()
    }

    fn under(weight: u32) -> u32 {
        weight
    }
}

impl Schedule for Wlc {
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
    use crate::tests::{flow, open, overload};

    #[test]
    fn least_for_the_weight_and_first_of_equals() {
        let list = servers(&[1, 3, 3, 0]);
        let wlc = Wlc::build(list.clone(), Flags::default());
        assert_eq!(wlc.pick(&flow()), Some(0), "all idle: the first");
        open(&wlc, &list, 0, true);
        assert_eq!(wlc.pick(&flow()), Some(1));
        for at in [1, 1, 1, 2, 2, 2] {
            open(&wlc, &list, at, true);
        }
        assert_eq!(wlc.pick(&flow()), Some(0), "256/1 is 768/3: the first");
        open(&wlc, &list, 0, false);
        assert_eq!(wlc.pick(&flow()), Some(1));
        overload(&wlc, &list, 1, true);
        assert_eq!(wlc.pick(&flow()), Some(2));
    }

    #[test]
    fn products_need_64_bits() {
        let list = servers(&[65_535, 65_534]);
        for _ in 0..70_000 {
            list[0].load.open(true);
            list[1].load.open(true);
        }
        assert_eq!(Wlc::build(list, Flags::default()).pick(&flow()), Some(0));
    }
}
