//! A server as a scheduler sees it.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::sync::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// Which server, over all services and for as long as connections remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// The connections of one server, counted by the workers and read by the schedulers.
///
/// Both counts stand in one word, so that a connection that turns from one to the other is never
/// seen in neither: a server whose counts are 0 has no connection. Workers may count the steps of
/// one connection in another order than they were made in; a count that is below zero in between
/// comes out right, and reads as 0 until then.
///
/// All is SeqCst, for the sake of the schedulers' trees (`tree.rs`): who changed a load and looks
/// whether its leaf is right, and who wrote a leaf and looks whether the load is still the same,
/// must not both read what was before.
#[derive(Debug, Default)]
pub struct Load {
    /// Active connections times 2^32, plus inactive ones, either of which may be below zero.
    conns: AtomicU64,
    overloaded: AtomicBool,
}

/// One connection more on a side, in [`Load::conns`].
const fn one(active: bool) -> u64 {
    if active { 1 << 32 } else { 1 }
}

/// Active and inactive connections.
#[inline]
const fn split(conns: u64) -> (u32, u32) {
    let inactive = conns as u32 as i32;
    let active = (conns.wrapping_sub(inactive as u64) >> 32) as i32;
    (if active > 0 { active as u32 } else { 0 }, if inactive > 0 { inactive as u32 } else { 0 })
}

impl Load {
    /// Active and inactive connections at one moment.
    #[inline]
    pub fn conns(&self) -> (u32, u32) {
        split(self.conns.load(SeqCst))
    }

    /// Connections in an active state (TCP: SYN_RECV and ESTABLISHED).
    #[inline]
    pub fn active(&self) -> u32 {
        self.conns().0
    }

    /// Connections in any other state.
    #[inline]
    pub fn inactive(&self) -> u32 {
        self.conns().1
    }

    /// Connections in any state.
    #[inline]
    pub fn total(&self) -> u32 {
        let (active, inactive) = self.conns();
        active + inactive
    }

    /// Whether the upper threshold was reached and the lower not yet passed again.
    #[inline]
    pub fn overloaded(&self) -> bool {
        self.overloaded.load(SeqCst)
    }

    /// What lc and wlc compare: an active connection costs as much as 256 inactive ones
    /// (ip_vs.h, ip_vs_dest_conn_overhead). At most 32 bits, so that times a weight it fits 64.
    #[inline]
    pub fn overhead(&self) -> u64 {
        let (active, inactive) = self.conns();
        (256 * u64::from(active) + u64::from(inactive)).min(u32::MAX.into())
    }

    /// Counts a connection in; `active` or not. Returns how many there are now.
    pub fn open(&self, active: bool) -> u32 {
        self.add(one(active))
    }

    /// Counts a connection out of the side it was on. Returns how many are left.
    pub fn close(&self, active: bool) -> u32 {
        self.add(one(active).wrapping_neg())
    }

    /// Moves a connection from one side to the other.
    pub fn turn(&self, active: bool) {
        self.add(one(active).wrapping_sub(one(!active)));
    }

    fn add(&self, change: u64) -> u32 {
        let before = self.conns.fetch_add(change, SeqCst);
        let (active, inactive) = split(before.wrapping_add(change));
        active + inactive
    }

    /// Sets or clears the overload mark.
    pub fn set_overloaded(&self, overloaded: bool) {
        // Read first: the mark rarely changes, and a write would take the line from other cores.
        if self.overloaded() != overloaded {
            self.overloaded.store(overloaded, SeqCst);
        }
    }
}

/// One server of a service.
#[derive(Clone, Debug)]
pub struct Server {
    /// Which server.
    pub id: ServerId,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 in a service without one.
    pub port: u16,
    /// Its share; 0 takes no new connections.
    pub weight: u32,
    /// The last weight that was not 0, or the weight with which it was added: what mh builds
    /// its table with, so that a server at weight 0 keeps its places.
    pub last_weight: u32,
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
        gcd_of(self.iter().map(|server| server.weight))
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

/// The greatest common divisor of the numbers above 0; 1 when there is none.
pub(crate) fn gcd_of(numbers: impl Iterator<Item = u32>) -> u32 {
    numbers.fold(0, gcd).max(1)
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
    use std::net::Ipv4Addr;

    /// Servers 1, 2, 3 ... with these weights, in list order.
    pub(crate) fn servers(weights: &[u32]) -> Servers {
        let server = |(at, weight): (usize, &u32)| Server {
            id: ServerId(at as u32 + 1),
            address: Ipv4Addr::from_bits(0x0a00_0101 + at as u32).into(),
            port: 80,
            weight: *weight,
            last_weight: *weight,
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

    #[test]
    fn the_order_of_counting_does_not_matter() {
        // A connection that opens inactive, becomes active, inactive again, and ends.
        type Step = fn(&Load);
        let steps: [Step; 4] = [
            |load| _ = load.open(false),
            |load| load.turn(true),
            |load| load.turn(false),
            |load| _ = load.close(false),
        ];
        let load = Load::default();
        load.open(true);
        load.open(false);
        for order in 0..4u32.pow(4) {
            let order: Vec<usize> = (0..4).map(|at| (order >> (2 * at) & 3) as usize).collect();
            if (0..4).all(|step| order.contains(&step)) {
                order.iter().for_each(|step| steps[*step](&load));
                assert_eq!(load.conns(), (1, 1), "{order:?}");
            }
        }
        let empty = Load::default();
        empty.turn(true);
        assert_eq!((empty.active(), empty.inactive(), empty.total()), (1, 0, 1));
        assert_eq!(empty.open(false), 1);
    }
}
