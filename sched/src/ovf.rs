//! ovf, overflow (kernel: ip_vs_ovf.c).
//!
//! The rule: the available server with the highest weight among those whose active connections
//! are not more than their weight; of equals the first in the list. When all have more, none.

use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Ovf {
    servers: Servers,
}

impl Schedule for Ovf {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.servers.heaviest(|server| server.load.active() <= server.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn the_weight_is_how_many_fit_and_one_more() {
        let list = servers(&[1, 2]);
        let ovf = Ovf::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        while let Some(at) = ovf.pick(&flow()) {
            picks.push(at);
            list[at].load.open(true);
        }
        assert_eq!(picks, [1, 1, 1, 0, 0]);
    }
}
