//! nq, never queue (kernel: ip_vs_nq.c).
//!
//! The rule: the first available server without an active connection; when there is none, as
//! [`sed`](crate::sed).

use crate::{Flags, Flow, Schedule, Servers, sed};

/// See the module.
#[derive(Debug)]
pub struct Nq {
    servers: Servers,
}

impl Schedule for Nq {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        let idle = self.servers.iter().position(|s| s.available() && s.load.active() == 0);
        idle.or_else(|| self.servers.least(sed::delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn an_idle_server_before_a_faster_one() {
        let list = servers(&[100, 1, 0]);
        let nq = Nq::build(list.clone(), Flags::default());
        list[0].load.open(true);
        assert_eq!(nq.pick(&flow()), Some(1));
        list[1].load.open(true);
        assert_eq!(nq.pick(&flow()), Some(0));
    }
}
