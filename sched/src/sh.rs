//! sh, source hashing (kernel: ip_vs_sh.c), without its flags yet.
//!
//! The rule: the client's address picks one of 256 buckets; the buckets were filled with the
//! servers in the order of the list, each as often as its weight says and at least once, again
//! and again. When the bucket's server is not available, none.

use crate::hash::{BUCKETS, Buckets, fold};
use crate::{Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Sh {
    servers: Servers,
    buckets: Buckets,
}

impl Schedule for Sh {
    fn build(servers: Servers) -> Self {
        let shares = servers.iter().enumerate();
        let round = shares.flat_map(|(at, server)| {
            // No share can be more than all buckets.
            std::iter::repeat_n(at, (server.weight.max(1) as usize).min(BUCKETS))
        });
        let buckets = Buckets::fill(round.cycle().take(BUCKETS));
        Self { servers, buckets }
    }

    fn rebuild(&self, servers: Servers) -> Self {
        Self::build(servers)
    }

    #[inline]
    fn pick(&self, flow: &Flow) -> Option<usize> {
        let at = self.buckets.get(fold(flow.source))?;
        self.servers[at].available().then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn shares_of_the_buckets_follow_the_weights() {
        let sh = Sh::build(servers(&[3, 1]));
        let from = |n: u16| Flow { source: [10, 1, (n >> 8) as u8, n as u8].into(), ..flow() };
        let first = (0..4096).filter(|n| sh.pick(&from(*n)) == Some(0)).count();
        assert!((2900..3250).contains(&first), "{first} of 4096");
        assert_eq!(sh.pick(&from(7)), sh.pick(&Flow { source_port: 9, ..from(7) }));
        assert_eq!(Sh::build(servers(&[])).pick(&flow()), None);
    }

    #[test]
    fn a_server_without_weight_keeps_its_bucket_and_refuses() {
        let sh = Sh::build(servers(&[0]));
        assert_eq!(sh.pick(&flow()), None);
    }
}
