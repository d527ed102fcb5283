//! wlc, weighted least connections (kernel: ip_vs_wlc.c).
//!
//! The rule: of the available servers the one whose overhead (256 * active + inactive) is
//! smallest for its weight; of equals the first in the list. Compared by cross-multiplication in
//! 64 bits, not by division.

use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Wlc {
    servers: Servers,
}

impl Schedule for Wlc {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.servers.least(|server| (server.load.overhead(), server.weight.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn least_for_the_weight_and_first_of_equals() {
        let list = servers(&[1, 3, 3, 0]);
        let wlc = Wlc::build(list.clone(), Flags::default());
        assert_eq!(wlc.pick(&flow()), Some(0), "all idle: the first");
        list[0].load.open(true);
        assert_eq!(wlc.pick(&flow()), Some(1));
        for server in &list[1..3] {
            (0..3).for_each(|_| {
                server.load.open(true);
            });
        }
        assert_eq!(wlc.pick(&flow()), Some(0), "256/1 is 768/3: the first");
        list[0].load.open(false);
        assert_eq!(wlc.pick(&flow()), Some(1));
        list[1].load.set_overloaded(true);
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
