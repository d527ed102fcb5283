//! What dh and sh (and lblc and lblcr) share: an address folded to 32 bits, and buckets of servers.

use std::net::IpAddr;

/// How many buckets there are (the kernel's default for both).
pub(crate) const BUCKETS: usize = 1 << BITS;
const BITS: u32 = 8;

/// Multiplicative hashing by the golden ratio, as the kernel's hash_32 does it.
const GOLDEN_RATIO: u32 = 0x61c8_8647;

/// An address as a number: the four words of an IPv6 address are added by XOR.
#[inline]
pub(crate) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let words = address.to_bits();
            (words >> 96) as u32 ^ (words >> 64) as u32 ^ (words >> 32) as u32 ^ words as u32
        }
    }
}

/// The bucket of a key.
#[inline]
pub(crate) fn hash(key: u32) -> usize {
    golden(key, BITS) as usize
}

/// A key in so many bits.
#[inline]
pub(crate) fn golden(key: u32, bits: u32) -> u32 {
    key.wrapping_mul(GOLDEN_RATIO) >> (u32::BITS - bits)
}

/// A server's place for each hash.
#[derive(Debug)]
pub(crate) struct Buckets(Box<[u32]>);

impl Buckets {
    /// Buckets with these places in order; none when there is no server.
    pub(crate) fn fill(places: impl Iterator<Item = usize>) -> Self {
        // A list has far fewer than 2^32 servers.
        Self(places.map(|at| at as u32).collect())
    }

    /// The place in a bucket; numbers go round.
    #[inline]
    pub(crate) fn get(&self, bucket: usize) -> Option<usize> {
        self.0.get(bucket % BUCKETS).map(|at| *at as usize)
    }
}
