//! Has the kernel resolve neighbours, no more often than is decent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use uvs_engine::address::Address;
use uvs_engine::link::LinkId;

use super::kernel::Kernel;

/// The time between two questions for the same neighbour. The kernel itself sends three ARP
/// requests, a second apart, for each.
const AGAIN: Duration = Duration::from_secs(1);

/// Neighbours asked for within [`AGAIN`]; more are not asked for until some are forgotten, so
/// that a scan of a large network does not grow this without bound (INV-8).
const MOST: usize = 4096;

/// What was asked for of late.
#[derive(Default)]
pub(super) struct Resolver {
    asked: HashMap<(LinkId, Address), Instant>,
}

impl Resolver {
    /// Asks for a neighbour on the interface, unless that was done just now.
    pub(super) fn ask(
        &mut self,
        kernel: &mut Kernel,
        (link, ifindex): (LinkId, u32),
        neighbour: Address,
        now: Instant,
    ) {
        if !self.may_ask(link, neighbour, now) {
            return;
        }
        if let Err(error) = kernel.set_neighbour(question(ifindex, neighbour)) {
            tracing::debug!(%neighbour, %error, "the kernel does not resolve a neighbour");
        }
    }

    /// Forgets what was asked long enough ago; called about once a second.
    pub(super) fn forget(&mut self, now: Instant) {
        self.asked.retain(|_, at| now.duration_since(*at) < AGAIN);
    }

    /// Forgets the questions for neighbours that are known by now: one that the kernel loses
    /// again, by a flush for instance, is asked for at once.
    pub(super) fn forget_answered(&mut self, known: impl Fn(LinkId, Address) -> bool) {
        self.asked.retain(|(link, neighbour), _| !known(*link, *neighbour));
    }

    fn may_ask(&mut self, link: LinkId, neighbour: Address, now: Instant) -> bool {
        let last = self.asked.get(&(link, neighbour));
        let free = match last {
            Some(at) => now.duration_since(*at) >= AGAIN,
            None => self.asked.len() < MOST,
        };
        if free {
            self.asked.insert((link, neighbour), now);
        }
        free
    }
}

/// What makes the kernel send a request for a neighbour it does not know or has not heard of for
/// long, as a packet of its own to the neighbour would (NTF_USE, linux/neighbour.h).
fn question(ifindex: u32, neighbour: Address) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let destination = match neighbour.to_ip() {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message.header.family = match neighbour.is_v4() {
        true => AddressFamily::Inet,
        false => AddressFamily::Inet6,
    };
    message.header.ifindex = ifindex;
    message.header.flags = NeighbourFlags::Use;
    message.attributes = vec![NeighbourAttribute::Destination(destination)];
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_asked_for_once_a_second() {
        let mut resolver = Resolver::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let ip = Address::from([10, 0, 0, 1]);
        assert!(resolver.may_ask(LinkId(0), ip, start));
        assert!(!resolver.may_ask(LinkId(0), ip, at(999)));
        assert!(resolver.may_ask(LinkId(1), ip, at(999)));
        assert!(resolver.may_ask(LinkId(0), ip, at(1000)));
        resolver.forget_answered(|link, _| link == LinkId(1));
        assert!(!resolver.may_ask(LinkId(0), ip, at(1001)));
        assert!(resolver.may_ask(LinkId(1), ip, at(1001)));
    }

    #[test]
    fn a_scan_does_not_grow_the_memory() {
        let mut resolver = Resolver::default();
        let start = Instant::now();
        let asked = (0..100_000)
            .filter(|n| resolver.may_ask(LinkId(0), Address::from(u32::to_be_bytes(*n)), start))
            .count();
        assert_eq!((asked, resolver.asked.len()), (MOST, MOST));
        resolver.forget(start + AGAIN);
        assert!(resolver.asked.is_empty());
    }
}
