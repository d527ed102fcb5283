//! dh, destination hashing (kernel: ip_vs_dh.c).
//!
//! The rule: the virtual address picks one of 256 buckets; the buckets were filled with the
//! servers in the order of the list, again and again. When the bucket's server is not available,
//! none.

use crate::hash::{BUCKETS, Buckets, fold, hash};
use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Dh {
    servers: Servers,
    buckets: Buckets,
}

impl Schedule for Dh {
    fn build(servers: Servers, _flags: Flags) -> Self {
        let buckets = Buckets::fill((0..servers.len()).cycle().take(BUCKETS));
        Self { servers, buckets }
    }

    #[inline]
    fn pick(&self, flow: &Flow) -> Option<usize> {
        let at = self.buckets.get(hash(fold(flow.destination)))?;
        self.servers[at].available().then_some(at)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    #[test]
    fn one_address_is_one_server_until_that_fails() {
        let list = servers(&[1, 1, 1]);
        let dh = Dh::build(list.clone(), Flags::default());
        let at = dh.pick(&flow()).unwrap();
        let other_client = Flow { source: [9, 9, 9, 9].into(), source_port: 9, ..flow() };
        assert_eq!(dh.pick(&other_client), Some(at));
        list[at].load.set_overloaded(true);
        assert_eq!(dh.pick(&flow()), None);
        assert_eq!(Dh::build(servers(&[]), Flags::default()).pick(&flow()), None);
    }
}
