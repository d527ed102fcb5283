//! The configuration as the workers see it: immutable, swapped whole (INV-6).
//!
//! The control plane builds a [`Snapshot`] and publishes it; a worker looks once a batch whether
//! there is a newer one. What lives longer than a snapshot (connection counts, statistics, a
//! scheduler's cursor) is shared between snapshots by `Arc`. A worker never frees a snapshot: the
//! publisher keeps a reference until the workers have let go, and drops it on its own thread.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use uvs_forward::Method;
use uvs_sched::{Load, Scheduler, ServerId};

use crate::counters::Traffic;
use crate::fib::{Fib, NextHop};
use crate::proto::Timeouts;
use crate::table::{Conn, flag};

/// What names a service, or a server's end of a connection: protocol, address, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// IP protocol number.
    pub protocol: u8,
    /// IPv4 address.
    pub address: Ipv4Addr,
    /// Port.
    pub port: u16,
}

/// As one number, which a hasher takes in one step; derived, it would be three writes and a loop.
impl Hash for Endpoint {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let address = u64::from(self.address.to_bits());
        state.write_u64(u64::from(self.protocol) << 48 | u64::from(self.port) << 32 | address);
    }
}

/// A virtual service.
#[derive(Debug)]
pub struct Service {
    /// Protocol, virtual address and port.
    pub endpoint: Endpoint,
    /// Who picks the server.
    pub scheduler: Scheduler,
    /// The servers, in the order in which the scheduler numbers them.
    pub servers: Vec<Arc<Dest>>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
}

/// A real server of one service.
#[derive(Debug)]
pub struct Dest {
    /// Which server; connections remember this.
    pub id: ServerId,
    /// The service's protocol.
    pub protocol: u8,
    /// The server's address.
    pub address: Ipv4Addr,
    /// The server's port; DR and TUN leave the packet's port as it is.
    pub port: u16,
    /// How packets get there. Connections keep the method with which they were opened.
    pub method: Method,
    /// Whether replies of it may need translation: its method is NAT, or was while connections
    /// were opened that are still there.
    pub masqueraded: bool,
    /// Connections at which it counts as overloaded; 0 is never.
    pub upper_threshold: u32,
    /// Connections below which it no longer does; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
    /// False once it was removed while connections are left: their packets are dropped.
    pub available: bool,
    /// Its connections.
    pub load: Arc<Load>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
    /// Those of its service, which outlive it.
    pub service_traffic: Arc<Traffic>,
}

impl Dest {
    /// The server's end of its connections.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { protocol: self.protocol, address: self.address, port: self.port }
    }

    /// Counts a new connection in, inactive as in the kernel (ip_vs_conn.c, ip_vs_bind_dest).
    pub fn bind(&self) {
        let conns = self.load.open(false);
        if self.upper_threshold != 0 && conns >= self.upper_threshold {
            self.load.set_overloaded(true);
        }
    }

    /// Counts a connection out (ip_vs_conn.c, ip_vs_unbind_dest).
    pub fn unbind(&self, active: bool) {
        let conns = u64::from(self.load.close(active));
        let (upper, lower) = (u64::from(self.upper_threshold), u64::from(self.lower_threshold));
        let relieved = match (lower, upper) {
            (0, 0) => true,
            (0, upper) => conns * 4 < upper * 3,
            (lower, _) => conns < lower,
        };
        if relieved {
            self.load.set_overloaded(false);
        }
    }
}

/// Where a server's packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The next hop.
    pub hop: NextHop,
    /// Source address of tunnel packets.
    pub source: Ipv4Addr,
    /// Largest IP packet of the link.
    pub mtu: u16,
}

/// The whole configuration at one time.
#[derive(Debug)]
pub struct Snapshot {
    services: HashMap<Endpoint, u32, RandomState>,
    list: Vec<Arc<Service>>,
    nat_servers: HashSet<Endpoint, RandomState>,
    dests: Vec<Option<Arc<Dest>>>,
    exits: Vec<Exit>,
    /// Links, routes, neighbours.
    pub fib: Arc<Fib>,
    /// Timeouts of the connection states.
    pub timeouts: Timeouts,
}

impl Snapshot {
    /// A snapshot of these services; `dests` by [`ServerId`], also those that are no longer in a
    /// service but still have connections.
    pub fn new(
        list: Vec<Arc<Service>>,
        dests: Vec<Option<Arc<Dest>>>,
        fib: Arc<Fib>,
        timeouts: Timeouts,
    ) -> Self {
        let services = list.iter().zip(0..).map(|(s, at)| (s.endpoint, at)).collect();
        let replying = dests.iter().flatten().filter(|dest| dest.masqueraded);
        let nat_servers = replying.map(|dest| dest.endpoint()).collect();
        let exits = exits(&dests, &fib);
        Self { services, list, nat_servers, dests, exits, fib, timeouts }
    }

    /// Nothing configured.
    pub fn empty(fib: Arc<Fib>) -> Self {
        Self::new(Vec::new(), Vec::new(), fib, Timeouts::default())
    }

    /// The same services with newer routes and neighbours.
    pub fn with_fib(&self, fib: Arc<Fib>) -> Self {
        Self {
            services: self.services.clone(),
            list: self.list.clone(),
            nat_servers: self.nat_servers.clone(),
            dests: self.dests.clone(),
            exits: exits(&self.dests, &fib),
            fib,
            timeouts: self.timeouts.clone(),
        }
    }

    /// The number of the service at this endpoint.
    #[inline]
    pub fn find_service(&self, endpoint: &Endpoint) -> Option<u32> {
        self.services.get(endpoint).copied()
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
        !self.nat_servers.is_empty() && self.nat_servers.contains(endpoint)
    }

    /// The endpoints from which replies of NAT servers come.
    pub fn nat_servers(&self) -> impl Iterator<Item = &Endpoint> {
        self.nat_servers.iter()
    }

    /// A server that connections remember.
    #[inline]
    pub fn dest(&self, id: ServerId) -> Option<&Dest> {
        self.dests.get(id.0 as usize)?.as_deref()
    }

    /// Counts a connection that is gone out of its server.
    pub fn unbind(&self, conn: &Conn) {
        if let Some(dest) = self.dest(ServerId(conn.dest)) {
            dest.unbind(conn.flags & flag::INACTIVE == 0);
        }
    }

    /// Where packets to a server leave.
    #[inline]
    pub fn exit(&self, id: ServerId) -> Option<&Exit> {
        self.exits.get(id.0 as usize)
    }
}

fn exits(dests: &[Option<Arc<Dest>>], fib: &Fib) -> Vec<Exit> {
    let exit = |dest: &Option<Arc<Dest>>| {
        let hop = dest.as_ref().map_or(NextHop::NoRoute, |dest| fib.next_hop(dest.address));
        let link = match hop {
            NextHop::Ready(link, _) | NextHop::Unresolved(link, _) => fib.link(link),
            NextHop::Local | NextHop::NoRoute => None,
        };
        let source = link.and_then(|l| l.addresses.first().copied());
        Exit {
            hop,
            source: source.unwrap_or(Ipv4Addr::UNSPECIFIED),
            mtu: link.map_or(u16::MAX, |link| link.mtu),
        }
    };
    dests.iter().map(exit).collect()
}

/// The place where the newest snapshot is found.
#[derive(Debug)]
pub struct Published {
    version: AtomicU64,
    current: Mutex<Arc<Snapshot>>,
    /// Snapshots that a worker may still be using; see [`Published::publish`].
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

impl Published {
    /// Publishes a first snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(1),
            current: Mutex::new(Arc::new(first)),
            retired: Mutex::new(Vec::new()),
        })
    }

    /// Makes `next` the newest snapshot and frees those that no worker uses any more.
    pub fn publish(&self, next: Snapshot) {
        let next = Arc::new(next);
        let old = std::mem::replace(&mut *lock(&self.current), next);
        // Release: pairs with the Acquire in `Reader::refresh`; who sees the new number finds at
        // least this snapshot in `current`.
        self.version.fetch_add(1, Ordering::Release);
        lock(&self.retired).push(old);
        self.settled();
    }

    /// Whether every worker uses the newest snapshot. Frees the older ones that none uses.
    pub fn settled(&self) -> bool {
        let mut retired = lock(&self.retired);
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        retired.is_empty()
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        lock(&self.current).clone()
    }

    /// A worker's way to the newest snapshot.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let snapshot = self.current();
        Reader { published: self.clone(), version: 0, snapshot }
    }
}

/// Locks; a panic of another holder leaves the value whole, for it is only ever replaced.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A worker's view of the newest snapshot.
#[derive(Debug)]
pub struct Reader {
    published: Arc<Published>,
    version: u64,
    snapshot: Arc<Snapshot>,
}

impl Reader {
    /// Looks for a newer snapshot, once a batch; true when there was one.
    ///
    /// Never waits: while the publisher holds the lock the old snapshot serves one batch more.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        // Acquire: pairs with the Release in `Published::publish`.
        let version = self.published.version.load(Ordering::Acquire);
        if version == self.version {
            return false;
        }
        let newest = match self.published.current.try_lock() {
            Ok(current) => current.clone(),
            Err(TryLockError::Poisoned(current)) => current.into_inner().clone(),
            Err(TryLockError::WouldBlock) => return false,
        };
        // The publisher still holds the old one in `retired`, so that this never frees it.
        self.snapshot = newest;
        self.version = version;
        true
    }

    /// The snapshot that serves.
    #[inline]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}
