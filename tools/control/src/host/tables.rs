//! What the kernel told so far, as far as a [`Fib`] is made of it.
//!
//! Read are the tables `local` and `main`, in that order, as the kernel's own first and second
//! rule have it (`ip rule`). Other tables, rules, and routes for one type of service only are not
//! followed.

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType,
};
use uvs_engine::address::Address;
use uvs_engine::fib::{Fib, NextHop, Route, Target};
use uvs_engine::link::{Link, LinkId};

use super::links;

// Numbers of the tables, linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

/// A neighbour whose Ethernet address the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    mac: [u8; 6],
    /// Whether the kernel would use it without asking the neighbour again.
    fresh: bool,
}

/// Links, routes and neighbours as the kernel told them last.
pub(super) struct Tables {
    links: Vec<Link>,
    /// Links whose interface is no more, by its index: to say it once.
    gone: HashSet<u32>,
    routes: Vec<Route>,
    neighbours: HashMap<(LinkId, Address), Neighbour>,
    /// The routes alone: without neighbours each lookup names the neighbour that it needs.
    ways: Fib,
}

impl Tables {
    pub(super) fn new(links: Vec<Link>) -> Self {
        let ways = Fib::new(links.clone(), &[], []);
        let (gone, routes, neighbours) = Default::default();
        Self { links, gone, routes, neighbours, ways }
    }

    /// The table for the workers.
    pub(super) fn fib(&self) -> Fib {
        let neighbours = self.neighbours.iter().map(|((link, ip), n)| (*link, *ip, n.mac));
        Fib::new(self.links.clone(), &self.routes, neighbours)
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    /// Takes addresses, MTU and MAC of the links as they are now; true when anything changed. A
    /// link that is gone stays as it was: the kernel has taken its routes and neighbours away.
    pub(super) fn set_links(&mut self, all: &[LinkMessage], addresses: &[AddressMessage]) -> bool {
        let mut changed = false;
        for link in &mut self.links {
            let message = all.iter().find(|message| message.header.index == link.ifindex);
            let Some(now) = message.and_then(|message| links::read(message, addresses)) else {
                if self.gone.insert(link.ifindex) {
                    let link = &link.name;
                    tracing::warn!(link, "the interface is gone; restart uvs when it is back");
                }
                continue;
            };
            changed |= *link != now;
            *link = now;
        }
        changed
    }

    /// Takes the routes as they are now; true when they changed.
    pub(super) fn set_routes(&mut self, messages: &[RouteMessage]) -> bool {
        let mut read: Vec<Read> = messages.iter().filter_map(|m| self.read_route(m)).collect();
        // Preferred ones first, as the Fib wants them: table local before main, then the metric.
        // Stable, so that of equals the kernel's first stays first.
        read.sort_by_key(|read| (read.table != TABLE_LOCAL, read.metric));
        let local: HashSet<(u128, u32)> =
            read.iter().filter(|r| r.table == TABLE_LOCAL).map(|r| network(&r.route)).collect();
        // What lies inside a route of table local is never looked up in main, be it longer.
        read.retain(|r| r.table == TABLE_LOCAL || !is_inside(&r.route, &local));
        let routes: Vec<Route> = read.into_iter().map(|read| read.route).collect();
        let changed = routes != self.routes;
        if changed {
            self.ways = Fib::new(self.links.clone(), &routes, []);
            self.routes = routes;
        }
        changed
    }

    /// Takes the neighbours as they are now; true when they changed.
    pub(super) fn set_neighbours(&mut self, messages: &[NeighbourMessage]) -> bool {
        let before = std::mem::take(&mut self.neighbours);
        for message in messages {
            self.note_neighbour(message, false);
        }
        let macs = |all: &HashMap<_, Neighbour>| -> HashMap<_, _> {
            all.iter().map(|(key, neighbour)| (*key, neighbour.mac)).collect()
        };
        macs(&before) != macs(&self.neighbours)
    }

    /// Takes a change of one neighbour; true when it matters to the workers.
    pub(super) fn note_neighbour(&mut self, message: &NeighbourMessage, gone: bool) -> bool {
        let Some(link) = self.link_of(message.header.ifindex) else { return false };
        let (mut ip, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    ip = Some(Address::from(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    ip = Some(Address::from(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok();
                }
                _ => {}
            }
        }
        let Some(ip) = ip else { return false };
        let before = self.neighbours.get(&(link, ip)).map(|neighbour| neighbour.mac);
        let fresh = freshness(message.header.state).filter(|_| !gone);
        match (fresh, mac) {
            (Some(fresh), Some(mac)) => {
                self.neighbours.insert((link, ip), Neighbour { mac, fresh });
                before != Some(mac)
            }
            _ => self.neighbours.remove(&(link, ip)).is_some(),
        }
    }

    /// The neighbour that packets to `destination` are handed to.
    pub(super) fn way(&self, destination: Address) -> Option<(LinkId, Address)> {
        match self.ways.next_hop(destination) {
            NextHop::Unresolved(link, neighbour) => Some((link, neighbour)),
            _ => None,
        }
    }

    /// Whether the kernel knows this neighbour and has heard of it of late.
    pub(super) fn is_fresh(&self, link: LinkId, neighbour: Address) -> bool {
        self.neighbours.get(&(link, neighbour)).is_some_and(|known| known.fresh)
    }

    fn link_of(&self, ifindex: u32) -> Option<LinkId> {
        let at = self.links.iter().position(|link| link.ifindex == ifindex)?;
        Some(LinkId(at as u8))
    }

    fn read_route(&self, message: &RouteMessage) -> Option<Read> {
        let header = &message.header;
        let mut read = Read {
            table: u32::from(header.table),
            metric: 0,
            route: Route {
                network: match header.address_family {
                    AddressFamily::Inet6 => Address::from(Ipv6Addr::UNSPECIFIED),
                    _ => Address::UNSPECIFIED,
                },
                prefix: header.destination_prefix_length,
                target: Target::Elsewhere,
            },
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => read.route.network = address(to)?,
                RouteAttribute::Priority(metric) => read.metric = *metric,
                RouteAttribute::Table(table) => read.table = *table,
                _ => {}
            }
        }
        let followed = matches!(read.table, TABLE_LOCAL | TABLE_MAIN)
            && header.tos == 0
            && !header.flags.intersects(RouteFlags::Cloned | RouteFlags::Dead);
        read.route.target = match header.kind {
            RouteType::Unicast => self.unicast(&message.attributes),
            RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => {
                Target::Local
            }
            // The lookup goes on in the next table; of those that are followed main is the last.
            RouteType::Throw if read.table == TABLE_LOCAL => return None,
            _ => Target::Elsewhere,
        };
        followed.then_some(read)
    }

    fn unicast(&self, attributes: &[RouteAttribute]) -> Target {
        let mut interface = None;
        let mut gateway = None;
        for attribute in attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Gateway(router) => gateway = address(router),
                RouteAttribute::MultiPath(hops) => {
                    // The first that is alive serves for all.
                    let dead = RouteNextHopFlags::Dead;
                    let alive = hops.iter().find(|hop| !hop.flags.contains(dead));
                    return alive.map_or(Target::Elsewhere, |hop| {
                        let out = RouteAttribute::Oif(hop.interface_index);
                        self.unicast(&[&[out], hop.attributes.as_slice()].concat())
                    });
                }
                // A router of another family, or a tunnel of the kernel's own.
                RouteAttribute::Via(_) | RouteAttribute::Encap(_) => return Target::Elsewhere,
                _ => {}
            }
        }
        match (interface.and_then(|index| self.link_of(index)), gateway) {
            (Some(link), Some(router)) => Target::Gateway(link, router),
            (Some(link), None) => Target::Link(link),
            (None, _) => Target::Elsewhere,
        }
    }
}

/// A route and what decides between it and others.
struct Read {
    table: u32,
    metric: u32,
    route: Route,
}

/// Whether a neighbour in this state is known, and if so, whether it is fresh.
fn freshness(state: NeighbourState) -> Option<bool> {
    match state {
        NeighbourState::Stale => Some(false),
        NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => Some(true),
        _ => None,
    }
}

fn address(address: &RouteAddress) -> Option<Address> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn network(route: &Route) -> (u128, u32) {
    (masked(route.network, route.bits()), route.bits())
}

/// The first `bits` of an address's 128.
fn masked(address: Address, bits: u32) -> u128 {
    address.to_bits() & !u128::MAX.checked_shr(bits).unwrap_or(0)
}

fn is_inside(route: &Route, networks: &HashSet<(u128, u32)>) -> bool {
    (0..=route.bits()).any(|bits| networks.contains(&(masked(route.network, bits), bits)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;
    use uvs_forward::Hop;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OUT: LinkId = LinkId(0);
    const IN: LinkId = LinkId(1);

    fn tables() -> Tables {
        let link = |name: &str, ifindex| Link {
            name: name.into(),
            ifindex,
            mac: [ifindex as u8; 6],
            mtu: 1500,
            addresses: vec![],
            forwards: uvs_engine::link::Forwards::ALL,
        };
        Tables::new(vec![link("out", 11), link("in", 12)])
    }

    fn route(kind: RouteType, to: ([u8; 4], u8), attributes: &[RouteAttribute]) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.header.table = TABLE_MAIN as u8;
        message.header.destination_prefix_length = to.1;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(to.0.into()))];
        message.attributes.extend_from_slice(attributes);
        message
    }

    fn out(ifindex: u32) -> RouteAttribute {
        RouteAttribute::Oif(ifindex)
    }

    fn via(ip: [u8; 4]) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip.into()))
    }

    fn neighbour(ifindex: u32, ip: [u8; 4], state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = ifindex;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip.into())),
            NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
        ];
        message
    }

    /// Where a packet goes over these routes.
    fn next(routes: &[RouteMessage], ip: [u8; 4]) -> NextHop {
        let mut tables = tables();
        tables.set_routes(routes);
        tables.fib().next_hop(ip.into())
    }

    #[test]
    fn each_type_of_route_has_its_target() {
        let any = ([10, 0, 0, 0], 8);
        let hop = |kind, attributes: &[_]| next(&[route(kind, any, attributes)], [10, 1, 1, 1]);
        let there = [10, 1, 1, 1].into();
        assert_eq!(hop(RouteType::Unicast, &[out(12)]), NextHop::Unresolved(IN, there));
        let router = [10, 0, 0, 1].into();
        assert_eq!(
            hop(RouteType::Unicast, &[out(11), via([10, 0, 0, 1])]),
            NextHop::Unresolved(OUT, router)
        );
        assert_eq!(hop(RouteType::Unicast, &[out(99)]), NextHop::NoRoute, "no link of the engine");
        assert_eq!(hop(RouteType::Local, &[out(11)]), NextHop::Local);
        assert_eq!(hop(RouteType::Broadcast, &[out(11)]), NextHop::Local);
        for none in [RouteType::BlackHole, RouteType::Unreachable, RouteType::Prohibit] {
            assert_eq!(hop(none, &[]), NextHop::NoRoute);
        }
    }

    #[test]
    fn the_lower_metric_wins_whatever_the_order() {
        let any = ([0; 4], 0);
        let metric = |m| RouteAttribute::Priority(m);
        let far = route(RouteType::Unicast, any, &[out(11), metric(100)]);
        let near = route(RouteType::Unicast, any, &[out(12), metric(10)]);
        let expected = NextHop::Unresolved(IN, [8, 8, 8, 8].into());
        assert_eq!(next(&[far.clone(), near.clone()], [8, 8, 8, 8]), expected);
        assert_eq!(next(&[near, far], [8, 8, 8, 8]), expected);
    }

    #[test]
    fn of_many_paths_the_first_alive_is_taken() {
        let path = |ifindex, flags| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = ifindex;
            hop.flags = flags;
            hop.attributes = vec![via([10, 0, 0, 1])];
            hop
        };
        let dead = RouteNextHopFlags::Dead;
        let paths = vec![path(11, dead), path(12, RouteNextHopFlags::empty())];
        let many = route(RouteType::Unicast, ([0; 4], 0), &[RouteAttribute::MultiPath(paths)]);
        assert_eq!(next(&[many], [8; 4]), NextHop::Unresolved(IN, [10, 0, 0, 1].into()));
    }

    #[test]
    fn table_local_comes_before_longer_routes_of_main() {
        let mut anyip = route(RouteType::Local, ([10, 0, 0, 0], 8), &[out(1)]);
        anyip.header.table = TABLE_LOCAL as u8;
        let longer = route(RouteType::Unicast, ([10, 1, 0, 0], 16), &[out(11)]);
        let routes = [longer.clone(), anyip];
        assert_eq!(next(&routes, [10, 1, 0, 1]), NextHop::Local);
        assert_eq!(next(&[longer], [10, 1, 0, 1]), NextHop::Unresolved(OUT, [10, 1, 0, 1].into()));
    }

    #[test]
    fn other_tables_and_types_of_service_are_not_followed() {
        let plain = || route(RouteType::Unicast, ([0; 4], 0), &[out(11)]);
        let mut table = plain();
        table.attributes.push(RouteAttribute::Table(1000));
        let mut service = plain();
        service.header.tos = 16;
        assert_eq!(next(&[table, service], [8; 4]), NextHop::NoRoute);
    }

    #[test]
    fn a_neighbour_serves_in_the_states_in_which_the_kernel_uses_it() {
        use NeighbourState::*;
        let mut tables = tables();
        tables.set_routes(&[route(RouteType::Unicast, ([10, 0, 0, 0], 8), &[out(12)])]);
        let ip = [10, 0, 0, 5];
        for state in [Reachable, Stale, Delay, Probe, Permanent, Noarp] {
            assert!(tables.note_neighbour(&neighbour(12, ip, state), false), "{state}: new");
            assert!(!tables.note_neighbour(&neighbour(12, ip, Stale), false), "{state}: same MAC");
            let hop = Hop { src: [12; 6], dst: MAC };
            assert_eq!(tables.fib().next_hop(ip.into()), NextHop::Ready(IN, hop));
            assert!(tables.note_neighbour(&neighbour(12, ip, Failed), false), "{state}: lost");
            assert_eq!(tables.fib().next_hop(ip.into()), NextHop::Unresolved(IN, ip.into()));
        }
        assert!(!tables.note_neighbour(&neighbour(12, ip, Incomplete), false));
        assert!(!tables.note_neighbour(&neighbour(99, ip, Reachable), false), "not our link");
        tables.note_neighbour(&neighbour(12, ip, Reachable), false);
        assert!(tables.is_fresh(IN, ip.into()));
        assert!(tables.note_neighbour(&neighbour(12, ip, Reachable), true), "deleted");
        assert!(!tables.is_fresh(IN, ip.into()));
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut tables = tables();
        let routes = [route(RouteType::Unicast, ([0; 4], 0), &[out(11), via([10, 0, 0, 1])])];
        assert!(tables.set_routes(&routes) && !tables.set_routes(&routes));
        let all = [neighbour(11, [10, 0, 0, 1], NeighbourState::Reachable)];
        assert!(tables.set_neighbours(&all) && !tables.set_neighbours(&all));
        assert!(tables.set_neighbours(&[]));
        assert_eq!(tables.way([8; 4].into()), Some((OUT, [10, 0, 0, 1].into())));
    }
}
