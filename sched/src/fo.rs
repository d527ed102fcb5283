//! fo, failover (kernel: ip_vs_fo.c).
//!
//! The rule: the available server with the highest weight; of equals the first in the list.

use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Fo {
    servers: Servers,
}

impl Schedule for Fo {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.servers.heaviest(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn the_next_one_when_the_best_fails() {
        let list = servers(&[1, 5, 5, 2]);
        let fo = Fo::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        while let Some(at) = fo.pick(&flow()) {
            picks.push(at);
            list[at].load.set_overloaded(true);
        }
        assert_eq!(picks, [1, 2, 3, 0]);
    }
}
