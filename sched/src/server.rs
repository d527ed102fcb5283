//! A server as a scheduler sees it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Which server, over all services and for as long as connections remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// The connections of one server, counted by the workers and read by the schedulers.
///
/// All counters are Relaxed: they are numbers that stand for themselves, nothing else is
/// published through them.
#[derive(Debug, Default)]
pub struct Load {
    active: AtomicU32,
    inactive: AtomicU32,
    overloaded: AtomicBool,
}

impl Load {
    /// Connections in an active state (TCP: SYN_RECV and ESTABLISHED).
    #[inline]
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Connections in any other state.
    #[inline]
    pub fn inactive(&self) -> u32 {
        self.inactive.load(Ordering::Relaxed)
    }

    /// Whether the upper threshold was reached and the lower not yet passed again.
    #[inline]
    pub fn overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// What lc and wlc compare: an active connection costs as much as 256 inactive ones
    /// (ip_vs.h, ip_vs_dest_conn_overhead). At most 32 bits, so that times a weight it fits 64.
    #[inline]
    pub fn overhead(&self) -> u64 {
        (256 * u64::from(self.active()) + u64::from(self.inactive())).min(u32::MAX.into())
    }

    /// Counts a connection in; `active` or not. Returns how many there are now.
    pub fn open(&self, active: bool) -> u32 {
        self.side(active).fetch_add(1, Ordering::Relaxed);
        self.active() + self.inactive()
    }

    /// Counts a connection out of the side it was on. Returns how many are left.
    pub fn close(&self, active: bool) -> u32 {
        let side = self.side(active);
        // A count never goes below zero, whatever a bug elsewhere does to it.
        let before = side.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        debug_assert!(before.is_ok(), "a connection was counted out twice");
        self.active() + self.inactive()
    }

    /// Moves a connection from one side to the other.
    pub fn turn(&self, active: bool) {
        self.side(active).fetch_add(1, Ordering::Relaxed);
        self.close(!active);
    }

    /// Sets or clears the overload mark.
    pub fn set_overloaded(&self, overloaded: bool) {
        // Read first: the mark rarely changes, and a write would take the line from other cores.
        if self.overloaded() != overloaded {
            self.overloaded.store(overloaded, Ordering::Relaxed);
        }
    }

    fn side(&self, active: bool) -> &AtomicU32 {
        if active { &self.active } else { &self.inactive }
    }
}

/// One server of a service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Which server.
    pub id: ServerId,
    /// Its share; 0 takes no new connections.
    pub weight: u32,
    /// Its connections.
    pub load: Arc<Load>,
}

impl Server {
    /// Whether it may get a new connection: it has a weight and is not overloaded.
    #[inline]
    pub fn available(&self) -> bool {
        self.weight > 0 && !self.load.overloaded()
    }
}

/// The servers of a service in the kernel's order: a new server goes to the head of the list.
#[derive(Clone, Debug, Default)]
pub struct Servers(Arc<[Server]>);

impl Servers {
    /// The greatest common divisor of the weights above 0; 1 when there is none.
    pub fn gcd(&self) -> u32 {
        let gcd = self.iter().map(|server| server.weight).fold(0, gcd);
        if gcd == 0 { 1 } else { gcd }
    }

    /// The largest weight; 0 when there is no server.
    pub fn max_weight(&self) -> u32 {
        self.iter().map(|server| server.weight).max().unwrap_or(0)
    }

    /// The place of a server in the list.
    pub fn position(&self, id: ServerId) -> Option<usize> {
        self.iter().position(|server| server.id == id)
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Deref for Servers {
    type Target = [Server];

    fn deref(&self) -> &[Server] {
        &self.0
    }
}

impl FromIterator<Server> for Servers {
    fn from_iter<I: IntoIterator<Item = Server>>(servers: I) -> Self {
        Self(servers.into_iter().collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Servers 1, 2, 3 ... with these weights, in list order.
    pub(crate) fn servers(weights: &[u32]) -> Servers {
        let server = |(at, weight): (usize, &u32)| Server {
            id: ServerId(at as u32 + 1),
            weight: *weight,
            load: Arc::default(),
        };
        weights.iter().enumerate().map(server).collect()
    }

    #[test]
    fn gcd_leaves_out_servers_without_weight() {
        assert_eq!(servers(&[4, 0, 6]).gcd(), 2);
        assert_eq!(servers(&[0, 0]).gcd(), 1);
        assert_eq!(servers(&[]).gcd(), 1);
    }

    #[test]
    fn a_connection_is_counted_on_one_side() {
        let load = Load::default();
        assert_eq!((load.open(true), load.open(false)), (1, 2));
        load.turn(false);
        assert_eq!((load.active(), load.inactive(), load.overhead()), (0, 2, 2));
        assert_eq!(load.close(false), 1);
    }
}
