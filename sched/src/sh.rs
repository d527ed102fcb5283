//! sh, source hashing (kernel: ip_vs_sh.c).
//!
//! The rule: the client's address (with `sh-port` plus its port) picks one of 256 buckets; the
//! buckets were filled with the servers in the order of the list, each as often as its weight
//! says and at least once, again and again. When the bucket's server is not available, none; with
//! `sh-fallback` the hash is turned on by one bucket after another, from its own on, until one
//! has an available server.

use crate::hash::{BUCKETS, Buckets, fold, hash};
use crate::{Flags, Flow, Schedule, Servers};

/// See the module.
#[derive(Debug)]
pub struct Sh {
    servers: Servers,
    buckets: Buckets,
    flags: Flags,
}

impl Schedule for Sh {
    fn build(servers: Servers, flags: Flags) -> Self {
        let shares = servers.iter().enumerate();
        let round = shares.flat_map(|(at, server)| {
            // No share can be more than all buckets.
            std::iter::repeat_n(at, (server.weight.max(1) as usize).min(BUCKETS))
        });
        let buckets = Buckets::fill(round.cycle().take(BUCKETS));
        Self { servers, buckets, flags }
    }

    #[inline]
    fn pick(&self, flow: &Flow) -> Option<usize> {
        let port = if self.flags.port { flow.source_port.into() } else { 0 };
        let own = hash(fold(flow.source).wrapping_add(port));
        let at = self.buckets.get(own)?;
        if self.servers[at].available() {
            return Some(at);
        }
        if !self.flags.fallback {
            return None;
        }
        let turned = (0..BUCKETS).map(|by| own + (own + by) % BUCKETS);
        let others = turned.filter_map(|bucket| self.buckets.get(bucket));
        others.into_iter().find(|at| self.servers[*at].available())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::flow;

    fn from(n: u16) -> Flow {
        Flow { source: [10, 1, (n >> 8) as u8, n as u8].into(), ..flow() }
    }

    #[test]
    fn shares_of_the_buckets_follow_the_weights() {
        let sh = Sh::build(servers(&[3, 1]), Flags::default());
        let first = (0..4096).filter(|n| sh.pick(&from(*n)) == Some(0)).count();
        assert!((2900..3250).contains(&first), "{first} of 4096");
        assert_eq!(sh.pick(&from(7)), sh.pick(&Flow { source_port: 9, ..from(7) }));
        assert_eq!(Sh::build(servers(&[]), Flags::default()).pick(&flow()), None);
    }

    #[test]
    fn with_the_port_one_client_has_several_servers() {
        let flags = Flags { port: true, ..Flags::default() };
        let sh = Sh::build(servers(&[1, 1, 1]), flags);
        let picks = (0..64).filter_map(|source_port| sh.pick(&Flow { source_port, ..flow() }));
        let picks: std::collections::HashSet<usize> = picks.collect();
        assert_eq!(picks.len(), 3);
    }

    #[test]
    fn another_server_is_looked_for_only_with_fallback() {
        let list = servers(&[1, 1]);
        let plain = Sh::build(list.clone(), Flags::default());
        let fallback = plain.rebuild(list.clone(), Flags { fallback: true, port: false });
        let at = plain.pick(&flow()).unwrap();
        list[at].load.set_overloaded(true);
        assert_eq!((plain.pick(&flow()), fallback.pick(&flow())), (None, Some(1 - at)));
        list[1 - at].load.set_overloaded(true);
        assert_eq!(fallback.pick(&flow()), None);
    }

    #[test]
    fn a_server_without_weight_keeps_its_bucket_and_refuses() {
        let sh = Sh::build(servers(&[0]), Flags::default());
        assert_eq!(sh.pick(&flow()), None);
    }
}
