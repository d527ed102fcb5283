//! Addresses and protocols, as services and destinations have them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ValueError;

/// `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// `AF_INET`: IPv4.
    Inet,
    /// `AF_INET6`: IPv6.
    Inet6,
}

impl AddressFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Inet } else { Self::Inet6 }
    }

    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Inet => libc::AF_INET as u16,
            Self::Inet6 => libc::AF_INET6 as u16,
        }
    }

    pub(crate) fn read(number: u16, attribute: &'static str) -> Result<Self, ValueError> {
        match i32::from(number) {
            libc::AF_INET => Ok(Self::Inet),
            libc::AF_INET6 => Ok(Self::Inet6),
            _ => Err(ValueError::Unknown { attribute, value: number.into() }),
        }
    }

    /// The address in a `union nf_inet_addr`.
    pub(crate) fn address(self, union: [u8; 16]) -> IpAddr {
        let [a, b, c, d, ..] = union;
        match self {
            Self::Inet => Ipv4Addr::new(a, b, c, d).into(),
            Self::Inet6 => Ipv6Addr::from(union).into(),
        }
    }
}

/// An address as a `union nf_inet_addr`.
pub(crate) fn union(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut union = [0; 16];
            union[..4].copy_from_slice(&address.octets());
            union
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// An IP protocol, by its number. IPVS serves three of them, but takes any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u16);

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self(libc::IPPROTO_TCP as u16);
    /// UDP.
    pub const UDP: Self = Self(libc::IPPROTO_UDP as u16);
    /// SCTP.
    pub const SCTP: Self = Self(libc::IPPROTO_SCTP as u16);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.pad("TCP"),
            Self::UDP => f.pad("UDP"),
            Self::SCTP => f.pad("SCTP"),
            Self(number) => write!(f, "protocol {number}"),
        }
    }
}
