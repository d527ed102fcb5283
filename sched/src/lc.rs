//! lc, least connections (kernel: ip_vs_lc.c).
//!
//! The rule: of the available servers the one with the smallest overhead (256 * active +
//! inactive), whatever its weight; of equals the first in the list.

use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Lc {
    servers: Servers,
}

impl Schedule for Lc {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.servers.least(|server| (server.load.overhead(), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn fewest_whatever_the_weight() {
        let list = servers(&[1, 100, 0]);
        let lc = Lc::build(list.clone(), Flags::default());
        assert_eq!(lc.pick(&flow()), Some(0));
        list[0].load.open(false);
        assert_eq!(lc.pick(&flow()), Some(1));
        list[1].load.open(true);
        assert_eq!(lc.pick(&flow()), Some(0), "256 inactive ones weigh an active one");
    }
}
