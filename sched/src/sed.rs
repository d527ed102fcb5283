//! sed, shortest expected delay (kernel: ip_vs_sed.c).
//!
//! The rule: of the available servers the one whose active connections, with the new one, are
//! fewest for its weight; of equals the first in the list. Inactive connections do not count.

use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Sed {
    servers: Servers,
}

/// The delay to expect on a server, as a fraction.
#[inline]
pub(crate) fn delay(server: &Server) -> (u64, u64) {
    (u64::from(server.load.active()) + 1, server.weight.into())
}

impl Schedule for Sed {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self { servers }
    }

    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    #[inline]
    fn pick(&self, _flow: &Flow) -> Option<usize> {
        self.servers.least(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn the_new_connection_counts_already() {
        let list = servers(&[1, 3]);
        let sed = Sed::build(list.clone(), Flags::default());
        let mut picks = Vec::new();
        for _ in 0..4 {
            let at = sed.pick(&flow()).unwrap();
            list[at].load.open(true);
            picks.push(at);
        }
        assert_eq!(picks, [1, 1, 0, 1], "1/3, 2/3, then 1/1 is 3/3: the first");
    }
}
