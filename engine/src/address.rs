//! An IP address of either family, as a worker handles it: two words, compared without a branch.
//!
//! An IPv4 address is kept as IPv4-mapped (RFC 4291, section 2.5.5.2). Nothing on the wire may
//! have such an IPv6 address, so the two families never meet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bits before an IPv4 address in the lower word.
const MAPPED: u64 = 0xffff << 32;

/// See the module. Ordered as the families are: IPv4 before IPv6, but for addresses like ::1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    high: u64,
    low: u64,
}

impl Address {
    /// 0.0.0.0.
    pub const UNSPECIFIED: Self = Self::v4(Ipv4Addr::UNSPECIFIED);

    /// An IPv4 address.
    #[inline]
    pub const fn v4(address: Ipv4Addr) -> Self {
        Self { high: 0, low: MAPPED | address.to_bits() as u64 }
    }

    /// An IPv6 address.
    #[inline]
    pub const fn v6(address: Ipv6Addr) -> Self {
        Self::from_bits(address.to_bits())
    }

    /// The address of these 128 bits.
    #[inline]
    pub(crate) const fn from_words(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// Its 128 bits, upper half first.
    #[inline]
    pub(crate) const fn words(self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// The address of these 128 bits.
    #[inline]
    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self::from_words((bits >> 64) as u64, bits as u64)
    }

    /// Its 128 bits as one number, by which addresses are ordered.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The lower 32 bits: of an IPv4 address, all of it.
    #[inline]
    pub(crate) const fn low32(self) -> u32 {
        self.low as u32
    }

    /// Whether it is of the older family.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low & !0xffff_ffff == MAPPED
    }

    /// As an IPv4 address, if it is one.
    #[inline]
    pub const fn to_v4(self) -> Option<Ipv4Addr> {
        if self.is_v4() { Some(Ipv4Addr::from_bits(self.low as u32)) } else { None }
    }

    /// As the standard library has it.
    pub const fn to_ip(self) -> IpAddr {
        match self.to_v4() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(self.to_bits())),
        }
    }

    /// The bits that it has in common with `mask`; the family stays.
    #[inline]
    #[must_use]
    pub const fn masked(self, mask: Mask) -> Self {
        Self { high: self.high & mask.0.high, low: self.low & mask.0.low }
    }
}

/// Which bits of an address count: a netmask of `-M`. Of an IPv4 address any bits may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mask(Address);

impl Mask {
    /// All bits.
    pub const ALL: Self = Self(Address { high: u64::MAX, low: u64::MAX });

    /// An IPv4 netmask, contiguous or not.
    pub const fn v4(mask: Ipv4Addr) -> Self {
        Self(Address { high: u64::MAX, low: u64::MAX << 32 | mask.to_bits() as u64 })
    }

    /// An IPv6 prefix of 0 to 128 bits; a longer one counts as 128.
    pub const fn v6(prefix: u8) -> Self {
        let bits = match prefix {
            0 => 0,
            1..=127 => u128::MAX << (128 - prefix),
            _ => u128::MAX,
        };
        Self(Address::from_bits(bits))
    }

    /// Its bits as one number.
    pub(crate) const fn to_bits(self) -> u128 {
        self.0.to_bits()
    }
}

impl From<Ipv4Addr> for Address {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address)
    }
}

impl From<Ipv6Addr> for Address {
    #[inline]
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address)
    }
}

impl From<[u8; 4]> for Address {
    #[inline]
    fn from(octets: [u8; 4]) -> Self {
        Self::v4(octets.into())
    }
}

impl From<[u8; 16]> for Address {
    #[inline]
    fn from(octets: [u8; 16]) -> Self {
        Self::v6(octets.into())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.to_ip()
    }
}

/// Equal to another address as the standard library has it.
impl PartialEq<Ipv4Addr> for Address {
    fn eq(&self, other: &Ipv4Addr) -> bool {
        *self == Self::v4(*other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mask_keeps_the_family() {
        let client: Address = Ipv4Addr::new(10, 1, 2, 3).into();
        assert_eq!(client.masked(Mask::v4(Ipv4Addr::new(255, 0, 255, 0))).to_string(), "10.0.2.0");
        assert_eq!(client.masked(Mask::v4(Ipv4Addr::UNSPECIFIED)).to_string(), "0.0.0.0");
        let client: Address = "2001:db8:ffff::1".parse::<Ipv6Addr>().unwrap().into();
        assert_eq!(client.masked(Mask::v6(36)).to_string(), "2001:db8:f000::");
        assert_eq!(client.masked(Mask::v6(0)).to_string(), "::");
        assert_eq!(client.masked(Mask::ALL), client);
    }

    proptest! {
        #[test]
        fn every_address_comes_back(v4: u32, v6: u128) {
            let v4 = Ipv4Addr::from_bits(v4);
            prop_assert_eq!(Address::from(v4).to_ip(), IpAddr::V4(v4));
            prop_assert_eq!(Address::from(v4).low32(), v4.to_bits());
            let v6 = Ipv6Addr::from_bits(v6);
            prop_assert_eq!(Address::from(v6).to_ip(), IpAddr::V6(v6).to_canonical());
        }
    }
}
