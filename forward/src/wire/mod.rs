//! Header views: one file a protocol, one shape in all.
//!
//! A view lays names over bytes. `new_checked` looks at everything that the accessors rely on:
//! after it none of them panics. `new_unchecked` is for bytes whose length the type fixes (as in
//! `Ipv4<&mut [u8; 20]>`) or that were checked before; over fewer bytes than the header has,
//! accessors panic. Setters write one field and leave checksums alone unless they say otherwise.

pub mod ethernet;
pub mod extension;
pub mod gre;
pub mod gue;
pub mod icmp4;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod sctp;
pub mod tcp;
pub mod udp;

pub use ethernet::Ethernet;
pub use gre::Gre;
pub use gue::Gue;
pub use icmp4::Icmp4;
pub use icmp6::Icmp6;
pub use ipv4::{Ipv4, Ipv4Header};
pub use ipv6::{Ipv6, Ipv6Header};
pub use sctp::Sctp;
pub use tcp::Tcp;
pub use udp::{Udp, UdpHeader};

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside the header.
    #[error("the frame ends inside a header")]
    Truncated,
    /// Ethernet carries something else than IP of the family that was asked for.
    #[error("the frame is not IP of this family")]
    NotIp,
    /// The version in the header is not the one that is announced in front of it.
    #[error("the header has another version than announced")]
    Version,
    /// The IPv4 header length is below 20 bytes, or above the total length.
    #[error("the IPv4 header length is impossible")]
    HeaderLength,
    /// The IP length is more than the frame holds.
    #[error("the IP length is more than the frame holds")]
    TotalLength,
    /// The IPv4 header checksum is wrong.
    #[error("the IPv4 header checksum is wrong")]
    Checksum,
    /// The IPv6 extension headers are cut off or too many, or one asks for the packet to be
    /// discarded.
    #[error("an IPv6 extension header is cut off, one too many, or asks for a discard")]
    Extension,
}

/// Ethernet's numbers for what it carries (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An outer VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
}

/// IP's numbers for what it carries (IANA protocol numbers).
pub mod protocol {
    /// IPv6's hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 inside.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 inside.
    pub const IPV6: u8 = 41;
    /// IPv6's routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6's fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6's options for the last receiver.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// The `N` bytes at `at`.
#[inline]
fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[inline]
fn write(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// The bytes of a hexadecimal text, in tests.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
