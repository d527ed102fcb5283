//! Where a packet goes next: the kernel's routes and neighbours, as the workers read them.
//!
//! Built off the workers from what the kernel tells by netlink. Routes of any prefix lengths are
//! flattened into ranges that do not overlap, so that a lookup is one binary search however long
//! the routing table is. Both families are in one table: IPv4's addresses are IPv4-mapped ones.

use ahash::RandomState;
use hashbrown::HashMap;
use uvs_forward::Hop;

use crate::address::Address;
use crate::link::{Link, LinkId};

/// A route, as it is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network's address.
    pub network: Address,
    /// Its prefix length: 0 to 32 of IPv4, 0 to 128 of IPv6.
    pub prefix: u8,
    /// Where its packets go.
    pub target: Target,
}

impl Route {
    /// How many bits of the network's address count, of its 128.
    pub fn bits(&self) -> u32 {
        u32::from(self.prefix) + if self.network.is_v4() { 96 } else { 0 }
    }
}

/// Where packets of a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the destination itself, which is on this link.
    Link(LinkId),
    /// To a router on this link.
    Gateway(LinkId, Address),
    /// To the host itself: a local address.
    Local,
    /// Nowhere the engine reaches: blackhole, unreachable, or an interface that is none of its
    /// links.
    Elsewhere,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Send on this link, with these Ethernet addresses.
    Ready(LinkId, Hop),
    /// The Ethernet address of this neighbour on this link is not known yet.
    Unresolved(LinkId, Address),
    /// The host itself.
    Local,
    /// There is no way.
    NoRoute,
}

/// Links, routes and neighbours at one time.
#[derive(Clone, Debug)]
pub struct Fib {
    links: Vec<Link>,
    /// First address of each range, ascending; a range ends where the next begins.
    starts: Vec<u128>,
    /// The target of each range.
    targets: Vec<Target>,
    neighbours: HashMap<(LinkId, Address), [u8; 6], RandomState>,
}

impl Fib {
    /// A table over `links`, in the order of their [`LinkId`]s.
    pub fn new(
        links: Vec<Link>,
        routes: &[Route],
        neighbours: impl IntoIterator<Item = (LinkId, Address, [u8; 6])>,
    ) -> Self {
        let (starts, targets) = flatten(routes);
        let neighbours = neighbours.into_iter().map(|(link, ip, mac)| ((link, ip), mac)).collect();
        Self { links, starts, targets, neighbours }
    }

    /// The links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// A link by its number.
    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(usize::from(id.0))
    }

    /// The Ethernet addresses to reach `neighbour` on `link`, when they are known.
    pub fn resolve(&self, link: LinkId, neighbour: Address) -> Option<Hop> {
        let dst = *self.neighbours.get(&(link, neighbour))?;
        Some(Hop { src: self.link(link)?.mac, dst })
    }

    /// The next hop towards `destination`.
    pub fn next_hop(&self, destination: Address) -> NextHop {
        let (link, neighbour) = match self.target(destination) {
            Target::Link(link) => (link, destination),
            Target::Gateway(link, router) => (link, router),
            Target::Local => return NextHop::Local,
            Target::Elsewhere => return NextHop::NoRoute,
        };
        match self.resolve(link, neighbour) {
            Some(hop) => NextHop::Ready(link, hop),
            None => NextHop::Unresolved(link, neighbour),
        }
    }

    /// Whether an address is the host's own.
    pub fn is_local(&self, address: Address) -> bool {
        self.target(address) == Target::Local
    }

    fn target(&self, destination: Address) -> Target {
        let bits = destination.to_bits();
        let after = self.starts.partition_point(|start| *start <= bits);
        self.targets[after - 1]
    }
}

/// Cuts the address space into ranges with one target each. The first route of a given network
/// and prefix wins, so callers put in the preferred ones (lower metric) first.
fn flatten(routes: &[Route]) -> (Vec<u128>, Vec<Target>) {
    // ::/0 has the IPv4-mapped addresses in it, but no say over IPv4.
    let no_ipv4 = Route { network: Address::UNSPECIFIED, prefix: 0, target: Target::Elsewhere };
    let mut sorted: Vec<&Route> = routes.iter().chain([&no_ipv4]).collect();
    // Outer networks before the ones inside; stable, so that of equals the first stays first.
    sorted.sort_by_key(|route| (range(route).0, route.bits()));
    sorted.dedup_by_key(|route| (range(route).0, route.bits()));

    let mut ranges = Ranges::default();
    let mut open: Vec<(u128, Target)> = vec![(u128::MAX, Target::Elsewhere)];
    ranges.begin(0, Target::Elsewhere);
    for route in sorted {
        let (first, last) = range(route);
        while open.len() > 1 && open[open.len() - 1].0 < first {
            let (end, _) = open.remove(open.len() - 1);
            ranges.begin(end + 1, open[open.len() - 1].1);
        }
        ranges.begin(first, route.target);
        open.push((last, route.target));
    }
    while open.len() > 1 {
        let (end, _) = open.remove(open.len() - 1);
        if end < u128::MAX {
            ranges.begin(end + 1, open[open.len() - 1].1);
        }
    }
    (ranges.starts, ranges.targets)
}

#[derive(Default)]
struct Ranges {
    starts: Vec<u128>,
    targets: Vec<Target>,
}

impl Ranges {
    /// From `start` on, until the next call, `target` holds.
    fn begin(&mut self, start: u128, target: Target) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.targets.pop();
        }
        if self.targets.last() != Some(&target) {
            self.starts.push(start);
            self.targets.push(target);
        }
    }
}

/// First and last address of a route.
fn range(route: &Route) -> (u128, u128) {
    let host_bits = u128::MAX.checked_shr(route.bits()).unwrap_or(0);
    let first = route.network.to_bits() & !host_bits;
    (first, first | host_bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Forwards;

    fn link(name: &str, mac: u8) -> Link {
        Link {
            name: name.into(),
            ifindex: 1,
            mac: [mac; 6],
            mtu: 1500,
            addresses: vec![],
            forwards: Forwards::ALL,
        }
    }

    fn route(network: [u8; 4], prefix: u8, target: Target) -> Route {
        Route { network: network.into(), prefix, target }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let out = Target::Gateway(LinkId(0), [192, 168, 1, 1].into());
        let fib = Fib::new(
            vec![link("out", 1), link("in", 2)],
            &[
                route([0, 0, 0, 0], 0, out),
                route([10, 0, 0, 0], 8, Target::Elsewhere),
                route([10, 0, 1, 0], 24, Target::Link(LinkId(1))),
                route([10, 0, 1, 254], 32, Target::Local),
            ],
            [(LinkId(1), [10, 0, 1, 1].into(), [7; 6])],
        );
        let next = |ip: [u8; 4]| fib.next_hop(ip.into());
        assert_eq!(next([8, 8, 8, 8]), NextHop::Unresolved(LinkId(0), [192, 168, 1, 1].into()));
        assert_eq!(next([10, 9, 9, 9]), NextHop::NoRoute);
        assert_eq!(
            next([10, 0, 1, 1]),
            NextHop::Ready(LinkId(1), Hop { src: [2; 6], dst: [7; 6] })
        );
        assert_eq!(next([10, 0, 1, 2]), NextHop::Unresolved(LinkId(1), [10, 0, 1, 2].into()));
        assert_eq!(next([10, 0, 1, 254]), NextHop::Local);
        assert_eq!(next([255, 255, 255, 255]), next([0, 0, 0, 0]));
        assert_eq!(Fib::new(vec![], &[], []).next_hop([1, 1, 1, 1].into()), NextHop::NoRoute);
    }

    /// The rule without any cleverness.
    fn slow(routes: &[Route], ip: Address) -> Target {
        let inside = |route: &&Route| {
            let (first, last) = range(route);
            route.network.is_v4() == ip.is_v4() && (first..=last).contains(&ip.to_bits())
        };
        let mut best: Option<&Route> = None;
        for route in routes.iter().filter(inside) {
            if best.is_none_or(|b| route.prefix > b.prefix) {
                best = Some(route);
            }
        }
        best.map_or(Target::Elsewhere, |route| route.target)
    }

    proptest::proptest! {
        #[test]
        fn ranges_hold_what_the_routes_say(
            routes in proptest::collection::vec((0u32..256, 0u8..=32, 0u8..4, proptest::prelude::any::<bool>()), 0..24),
            probes in proptest::collection::vec((0u32..256, proptest::prelude::any::<bool>()), 32),
        ) {
            // Networks that differ in their first and last four bits, to meet and nest often.
            let spread = |n: u32, v6: bool| match v6 {
                false => Address::from((n >> 4 << 28 | n & 15).to_be_bytes()),
                true => Address::from((u128::from(n) >> 4 << 124 | u128::from(n) & 15).to_be_bytes()),
            };
            let routes: Vec<Route> = routes
                .into_iter()
                .map(|(n, prefix, id, v6)| Route {
                    network: spread(n, v6),
                    prefix: prefix * if v6 { 4 } else { 1 },
                    target: Target::Link(LinkId(id)),
                })
                .collect();
            let fib = Fib::new(vec![], &routes, []);
            for (probe, v6) in probes {
                let ip = spread(probe, v6);
                proptest::prop_assert_eq!(fib.target(ip), slow(&routes, ip));
            }
        }
    }
}
