//! The configuration as the workers see it: immutable, swapped whole (INV-6).
//!
//! The control plane builds a [`Snapshot`] and [publishes](crate::publish) it. What lives longer
//! than a snapshot (connection counts, statistics, a scheduler's cursor) is shared between
//! snapshots by `Arc`.

mod ends;
mod next;

use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use uvs_forward::Method;
use uvs_forward::tun::Kind;
use uvs_forward::wire::protocol;
use uvs_sched::ServerId;

use crate::address::Address;
use crate::fib::{Fib, NextHop};
use crate::marks::Marks;
use crate::proto::Timeouts;
use crate::service::{Dest, Endpoint, FTP, Service, ServiceKey};
use crate::settings::Settings;
use crate::table::{Conn, flag};
use ends::Ends;

/// Where a server's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The next hop.
    pub hop: NextHop,
    /// Source address of tunnel packets.
    pub source: Address,
    /// Largest IP packet of the link.
    pub mtu: u16,
}

/// What a snapshot is made of, but for the services.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Timeouts of the connection states.
    pub timeouts: Timeouts,
    /// The settings.
    pub settings: Settings,
    /// Firewall marks.
    pub marks: Arc<Marks>,
}

/// The whole configuration at one time.
#[derive(Debug)]
pub struct Snapshot {
    services: HashMap<ServiceKey, u32, RandomState>,
    /// Which of the rarer kinds of services there are, so that nobody looks for them in vain.
    kinds: Kinds,
    list: Vec<Arc<Service>>,
    nat_servers: Ends,
    tunnels: Ends,
    dests: Vec<Option<Arc<Dest>>>,
    /// By [`ServerId`]: in which service, and where in its list.
    places: Vec<Option<(u32, u32)>>,
    exits: Vec<Exit>,
    /// Links, routes, neighbours.
    pub fib: Arc<Fib>,
    /// Timeouts, settings, marks.
    pub rules: Rules,
    /// Whether a service has timeouts of its own.
    pub own_timeouts: bool,
    /// Counts changes of what services, servers and tunnels there are, and so of what is to be
    /// steered; weights, thresholds and the like leave it as it is.
    pub layout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kinds {
    any_port: bool,
    ftp: bool,
    /// NAT servers that answer from any port or with any protocol.
    wide_nat: bool,
}

impl Snapshot {
    /// A snapshot of these services; `dests` by [`ServerId`], also those that are no longer in a
    /// service but still have connections.
    pub fn new(
        list: Vec<Arc<Service>>,
        dests: Vec<Option<Arc<Dest>>>,
        fib: Arc<Fib>,
        rules: Rules,
    ) -> Self {
        let services: HashMap<_, _, _> = list.iter().zip(0..).map(|(s, at)| (s.key, at)).collect();
        let mut nat_servers = Ends::default();
        let mut tunnels = Ends::default();
        for dest in dests.iter().flatten() {
            nat_servers.change(None, replying(dest));
            tunnels.change(None, tunnel(dest));
        }
        let kinds = Kinds::of(&list, &nat_servers);
        let places = places(&list, dests.len());
        let exits = exits(&dests, &fib);
        let own_timeouts = dests.iter().flatten().any(|dest| dest.timeouts.is_some());
        Self {
            services,
            kinds,
            list,
            nat_servers,
            tunnels,
            dests,
            places,
            exits,
            fib,
            rules,
            own_timeouts,
            layout: 0,
        }
    }

    /// Nothing configured.
    pub fn empty(fib: Arc<Fib>) -> Self {
        Self::new(Vec::new(), Vec::new(), fib, Rules::default())
    }

    /// The same services with newer routes and neighbours.
    pub fn with_fib(&self, fib: Arc<Fib>) -> Self {
        Self {
            services: self.services.clone(),
            kinds: self.kinds,
            list: self.list.clone(),
            nat_servers: self.nat_servers.clone(),
            tunnels: self.tunnels.clone(),
            dests: self.dests.clone(),
            places: self.places.clone(),
            exits: exits(&self.dests, &fib),
            fib,
            rules: self.rules.clone(),
            own_timeouts: self.own_timeouts,
            layout: self.layout,
        }
    }

    /// The number of the service for a packet to this endpoint with this firewall mark: that of
    /// the mark, of the endpoint, for data connections of FTP that of FTP, or of any port
    /// (ip_vs_ctl.c, ip_vs_service_find).
    #[inline]
    pub fn find_service(&self, mark: u32, to: &Endpoint) -> Option<u32> {
        let v6 = !to.address.is_v4();
        if mark != 0
            && let Some(service) = self.services.get(&ServiceKey::Mark { mark, v6 })
        {
            return Some(*service);
        }
        let at = |port| {
            let key = ServiceKey::Endpoint(Endpoint { port, ..*to });
            self.services.get(&key).copied()
        };
        at(to.port).or_else(|| {
            let data = to.protocol == protocol::TCP && (to.port == FTP - 1 || to.port >= 1024);
            let ftp = || if self.kinds.ftp && data { at(FTP) } else { None };
            ftp().or_else(|| if self.kinds.any_port { at(0) } else { None })
        })
    }

    /// Whether there is a service on FTP's port.
    #[inline]
    pub fn has_ftp(&self) -> bool {
        self.kinds.ftp
    }

    /// A service by its number in this snapshot.
    #[inline]
    pub fn service(&self, number: u32) -> Option<&Service> {
        self.list.get(number as usize).map(|service| &**service)
    }

    /// All services.
    pub fn services(&self) -> &[Arc<Service>] {
        &self.list
    }

    /// Whether replies of a NAT server come from this endpoint.
    #[inline]
    pub fn is_nat_server(&self, endpoint: &Endpoint) -> bool {
        if self.nat_servers.is_empty() {
            return false;
        }
        let any_port = Endpoint { port: 0, ..*endpoint };
        self.nat_servers.contains(endpoint)
            || self.kinds.wide_nat
                && (self.nat_servers.contains(&any_port)
                    || self.nat_servers.contains(&Endpoint { protocol: 0, ..any_port })
                    || self.nat_servers.contains(&Endpoint { protocol: 0, ..*endpoint }))
    }

    /// The endpoints from which replies of NAT servers come; port 0 is any, and so is protocol 0.
    pub fn nat_servers(&self) -> impl Iterator<Item = &Endpoint> {
        self.nat_servers.iter()
    }

    /// The ends of tunnels: a server with the protocol that carries the packets, and the port of
    /// GUE.
    pub fn tunnels(&self) -> impl Iterator<Item = &Endpoint> {
        self.tunnels.iter()
    }

    /// Whether a server's tunnel ends here.
    pub fn is_tunnel(&self, endpoint: &Endpoint) -> bool {
        self.tunnels.contains(endpoint)
    }

    /// The servers whose tunnels end here, one of each service. Walks over all where there is one.
    pub fn tunnelled(&self, endpoint: Endpoint) -> impl Iterator<Item = &Dest> {
        let dests = if self.is_tunnel(&endpoint) { &self.dests[..] } else { &[] };
        dests.iter().flatten().map(|dest| &**dest).filter(move |it| tunnel(it) == Some(endpoint))
    }

    /// All servers that connections remember, by [`ServerId`].
    pub fn dests(&self) -> &[Option<Arc<Dest>>] {
        &self.dests
    }

    /// A server that connections remember.
    #[inline]
    pub fn dest(&self, id: ServerId) -> Option<&Dest> {
        self.dests.get(id.0 as usize)?.as_deref()
    }

    /// Counts a new connection in at its server.
    pub fn bind(&self, dest: &Dest) {
        dest.bind();
        self.changed(dest.id);
    }

    /// Counts a new template in at its server.
    pub fn bind_template(&self, dest: &Dest) {
        dest.bind_template();
        self.changed(dest.id);
    }

    /// Counts a connection or template that is gone out of its server.
    pub fn unbind(&self, conn: &Conn) {
        let id = ServerId(conn.dest);
        match self.dest(id) {
            Some(dest) if conn.is_template() => dest.unbind_template(),
            Some(dest) => dest.unbind(conn.flags & flag::INACTIVE == 0),
            None => return,
        }
        self.changed(id);
    }

    /// Moves a connection of a server to its active or inactive ones.
    pub fn turn(&self, id: ServerId, active: bool) {
        if let Some(dest) = self.dest(id) {
            dest.load.turn(active);
            self.changed(id);
        }
    }

    /// Tells the scheduler that a server's load is another one now.
    fn changed(&self, id: ServerId) {
        if let Some(Some((service, place))) = self.places.get(id.0 as usize) {
            self.list[*service as usize].scheduler.changed(*place as usize);
        }
    }

    /// The timeouts of a server's connections.
    #[inline]
    pub fn timeouts(&self, id: ServerId) -> &Timeouts {
        let own = || self.dest(id)?.timeouts.as_deref();
        if self.own_timeouts { own().unwrap_or(&self.rules.timeouts) } else { &self.rules.timeouts }
    }

    /// Where packets to a server leave.
    #[inline]
    pub fn exit(&self, id: ServerId) -> Option<&Exit> {
        self.exits.get(id.0 as usize)
    }
}

impl Kinds {
    fn of(list: &[Arc<Service>], nat_servers: &Ends) -> Self {
        let port = |port| {
            let has = |key: &ServiceKey| !key.is_mark() && key.port() == port;
            list.iter().any(|service| has(&service.key))
        };
        let wide_nat = nat_servers.wide();
        Self { any_port: port(0), ftp: port(FTP), wide_nat }
    }
}

/// The endpoint from which a NAT server replies; one of FTP answers from the ports of its data
/// connections as well.
fn replying(dest: &Dest) -> Option<Endpoint> {
    let end = dest.endpoint();
    dest.masqueraded.then_some(if dest.ftp { Endpoint { port: 0, ..end } } else { end })
}

/// Where the tunnel to a server ends.
fn tunnel(dest: &Dest) -> Option<Endpoint> {
    let (protocol, port) = match dest.tunnel {
        _ if dest.method != Method::Tunnel => return None,
        Kind::Ipip => (protocol::IPIP, 0),
        Kind::Gre { .. } => (protocol::GRE, 0),
        Kind::Gue { port, .. } => (protocol::UDP, port),
    };
    Some(Endpoint { protocol, address: dest.address, port })
}

fn places(list: &[Arc<Service>], dests: usize) -> Vec<Option<(u32, u32)>> {
    let mut places = vec![None; dests];
    for (number, service) in (0..).zip(list) {
        for (place, dest) in (0..).zip(&service.servers) {
            if let Some(entry) = places.get_mut(dest.id.0 as usize) {
                *entry = Some((number, place));
            }
        }
    }
    places
}

fn exits(dests: &[Option<Arc<Dest>>], fib: &Fib) -> Vec<Exit> {
    dests.iter().map(|dest| exit(dest, fib)).collect()
}

fn exit(dest: &Option<Arc<Dest>>, fib: &Fib) -> Exit {
    let address = dest.as_ref().map_or(Address::UNSPECIFIED, |dest| dest.address);
    let hop = dest.as_ref().map_or(NextHop::NoRoute, |_| fib.next_hop(address));
    let link = match hop {
        NextHop::Ready(link, _) | NextHop::Unresolved(link, _) => fib.link(link),
        NextHop::Local | NextHop::NoRoute => None,
    };
    let source = link.and_then(|link| link.source(address));
    Exit {
        hop,
        source: source.unwrap_or(Address::UNSPECIFIED),
        mtu: link.map_or(u16::MAX, |link| link.mtu),
    }
}
