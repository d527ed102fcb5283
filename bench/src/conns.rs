//! Connections for a table, by number: each of a client of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use uvs_engine::address::Address;
use uvs_engine::clock::Ticks;
use uvs_engine::table::{InKey, NewConn, flag};
use uvs_forward::wire::protocol;

use crate::services;

/// Which addresses they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4: a connection takes one line.
    V4,
    /// IPv6: two.
    V6,
}

impl Family {
    /// As in `v4 connection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    fn address(self, bits: u32) -> Address {
        match self {
            Self::V4 => Ipv4Addr::from_bits(bits).into(),
            Self::V6 => {
                let [a, b, c, d] = bits.to_be_bytes().map(u16::from);
                Ipv6Addr::new(0x2001, 0xdb8, a, b, 0, 0, c, d).into()
            }
        }
    }
}

/// What a packet of the client of connection `number` tells: 1024 ports a client address.
#[inline]
pub fn key(family: Family, number: u32) -> InKey {
    InKey {
        proto: protocol::UDP,
        caddr: family.address(0x0b00_0000 + number / 1024),
        cport: (1024 + number % 1024) as u16,
        vaddr: family.address(services::vip(0).to_bits()),
        vport: services::PORT,
        template: false,
        name: 0,
    }
}

/// The connection of this key.
pub fn conn(family: Family, key: &InKey, timeout: Ticks) -> NewConn {
    NewConn {
        proto: key.proto,
        caddr: key.caddr,
        cport: key.cport,
        vaddr: key.vaddr,
        vport: key.vport,
        daddr: family.address(services::server(0).to_bits()),
        dport: services::PORT,
        dest: 0,
        mark: 0,
        flags: flag::DROUTE,
        state: 0,
        timeout,
        control: None,
        extra: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_client_of_its_family() {
        for (family, v4) in [(Family::V4, true), (Family::V6, false)] {
            let clients = (0..5000).map(|number| key(family, number));
            let seen: std::collections::HashSet<_> =
                clients.map(|key| (key.caddr, key.cport)).collect();
            assert_eq!(seen.len(), 5000);
            assert!(seen.iter().all(|(caddr, _)| caddr.is_v4() == v4));
        }
    }
}
