//! mh, Maglev hashing (kernel: ip_vs_mh.c; the table is that of Eisenbud et al., "Maglev: A Fast
//! and Reliable Software Network Load Balancer", NSDI 2016, with weights).
//!
//! The rule: each server that had a weight last walks the table in an order of its own (an
//! offset and a skip, both hashed from its address and port) and takes the first free places, in
//! each round as many as its turns, until the table is full. The client's address (with
//! `mh-port` plus its port) picks a place. When its server is not available, none; with
//! `mh-fallback` the client is hashed with another offset, from its own place on, until an
//! available server is found.

use std::net::IpAddr;

use crate::hash::fold;
use crate::server::gcd_of;
use crate::{Flags, Flow, Schedule, Server, Servers};

/// Places of the table, a prime: the kernel's default (CONFIG_IP_VS_MH_TAB_INDEX 12).
pub const PLACES: usize = 4093;

/// Turns a server may have in a round: weights are scaled down to this many bits, half of the
/// table's.
const TURN_BITS: u32 = 6;

/// The keys of the two hashes. They are the same everywhere, so that all directors agree.
const OFFSET_KEY: u64 = 2_654_435_761;
const SKIP_KEY: u64 = 2_654_446_892;

/// See the module.
#[derive(Debug)]
pub struct Mh {
    servers: Servers,
    /// The server of each place; empty when no server has a weight now.
    places: Box<[u32]>,
    flags: Flags,
}

/// A server's walk through the table.
struct Walk {
    server: u32,
    place: usize,
    skip: usize,
    turns: u32,
}

impl Walk {
    fn new(at: usize, server: &Server, gcd: u32, shift: u32) -> Self {
        let hashed = |key| hash(server.address, server.port, 0, key) as usize;
        Self {
            server: at as u32,
            place: hashed(OFFSET_KEY) % PLACES,
            skip: hashed(SKIP_KEY) % (PLACES - 1) + 1,
            turns: ((server.last_weight / gcd) >> shift).max(1),
        }
    }

    /// Takes the next free place. There has to be one.
    fn take(&mut self, places: &mut [u32]) {
        while places[self.place] != FREE {
            self.place = (self.place + self.skip) % PLACES;
        }
        places[self.place] = self.server;
    }
}

const FREE: u32 = u32::MAX;

fn populate(servers: &Servers) -> Box<[u32]> {
    // Nobody to find: no pick shall look through the whole table for that.
    if servers.iter().all(|server| server.weight == 0) {
        return Box::default();
    }
    let gcd = gcd_of(servers.iter().map(|server| server.last_weight));
    let largest = servers.iter().map(|server| server.last_weight).max().unwrap_or(0) / gcd;
    let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(TURN_BITS);
    let weighted = servers.iter().enumerate().filter(|(_, server)| server.last_weight > 0);
    let mut walks: Vec<Walk> =
        weighted.map(|(at, server)| Walk::new(at, server, gcd, shift)).collect();
    if walks.is_empty() {
        return Box::default();
    }
    let mut places = vec![FREE; PLACES].into_boxed_slice();
    let mut free = PLACES;
    loop {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                walk.take(&mut places);
                free -= 1;
                if free == 0 {
                    return places;
                }
            }
        }
    }
}

impl Mh {
    fn server_at(&self, flow: &Flow, offset: u32) -> Option<usize> {
        let place = self.place(flow, offset);
        self.places.get(place).map(|at| *at as usize)
    }

    fn place(&self, flow: &Flow, offset: u32) -> usize {
        let port = if self.flags.port { flow.source_port } else { 0 };
        hash(flow.source, port, offset, OFFSET_KEY) as usize % PLACES
    }
}

impl Schedule for Mh {
    fn build(servers: Servers, flags: Flags) -> Self {
        Self { places: populate(&servers), servers, flags }
    }

    #[inline]
    fn pick(&self, flow: &Flow) -> Option<usize> {
        let at = self.server_at(flow, 0)?;
        if self.servers[at].available() {
            return Some(at);
        }
        if !self.flags.fallback {
            return None;
        }
        let own = self.place(flow, 0);
        let offsets = (0..PLACES).map(|by| ((own + by) % PLACES) as u32);
        let others = offsets.filter_map(|offset| self.server_at(flow, offset));
        others.into_iter().find(|at| self.servers[*at].available())
    }
}

/// SipHash-1-3 over one 32-bit word, cut to 32 bits: the kernel's hsiphash on 64-bit machines
/// (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
#[inline]
fn hash(address: IpAddr, port: u16, offset: u32, key: u64) -> u32 {
    let word = fold(address).wrapping_add(port.into()).wrapping_add(offset);
    let last = 4 << 56 | u64::from(word);
    let mut v = [
        0x736f_6d65_7073_6575 ^ key,
        0x646f_7261_6e64_6f6d ^ key,
        0x6c79_6765_6e65_7261 ^ key,
        0x7465_6462_7974_6573 ^ key,
    ];
    v[3] ^= last;
    sip_round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    (0..3).for_each(|_| sip_round(&mut v));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) as u32
}

#[inline]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
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
    fn shares_of_the_table_follow_the_weights() {
        let mh = Mh::build(servers(&[3, 1, 0]), Flags::default());
        let share = |at: u32| mh.places.iter().filter(|place| **place == at).count();
        assert_eq!(share(0) + share(1), PLACES);
        assert!(share(0).abs_diff(PLACES * 3 / 4) <= 3, "{}", share(0));
    }

    #[test]
    fn few_flows_move_when_a_server_goes() {
        let list = servers(&[1; 10]);
        let all = Mh::build(list.clone(), Flags::default());
        let nine = Mh::build(list[..9].iter().cloned().collect(), Flags::default());
        let flows = (0..4096).map(from);
        let kept = flows.filter(|flow| all.pick(flow) == nine.pick(flow)).count();
        assert!(kept > 4096 * 8 / 10, "{kept} of 4096 kept");
    }

    #[test]
    fn another_server_is_looked_for_only_with_fallback() {
        let list = servers(&[1, 1]);
        let plain = Mh::build(list.clone(), Flags::default());
        let fallback = plain.rebuild(list.clone(), Flags { fallback: true, port: false });
        let at = plain.pick(&flow()).unwrap();
        list[at].load.set_overloaded(true);
        assert_eq!((plain.pick(&flow()), fallback.pick(&flow())), (None, Some(1 - at)));
        list[1 - at].load.set_overloaded(true);
        assert_eq!(fallback.pick(&flow()), None);
        assert_eq!(Mh::build(servers(&[0]), Flags::default()).pick(&flow()), None);
    }
}
