//! Header views: one file a protocol, one shape in all.
//!
//! A view lays names over bytes. `new_checked` looks at everything that the accessors rely on:
//! after it none of them panics. `new_unchecked` is for bytes whose length the type fixes (as in
//! `Ipv4<&mut [u8; 20]>`) or that were checked before; over fewer bytes than the header has,
//! accessors panic. Setters write one field and leave checksums alone unless they say otherwise.

pub mod ethernet;
pub mod icmp4;
pub mod ipv4;
pub mod sctp;
pub mod tcp;
pub mod udp;

pub use ethernet::Ethernet;
pub use icmp4::Icmp4;
pub use ipv4::{Ipv4, Ipv4Header};
pub use sctp::Sctp;
pub use tcp::Tcp;
pub use udp::Udp;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside the header.
    #[error("the frame ends inside a header")]
    Truncated,
    /// Ethernet carries something else than IPv4.
    #[error("the frame is not IPv4")]
    NotIpv4,
    /// The version in the IPv4 header is not 4.
    #[error("the IP version is not 4")]
    Version,
    /// The IPv4 header length is below 20 bytes, or above the total length.
    #[error("the IPv4 header length is impossible")]
    HeaderLength,
    /// The IPv4 total length is more than the frame holds.
    #[error("the IPv4 total length is more than the frame holds")]
    TotalLength,
    /// The IPv4 header checksum is wrong.
    #[error("the IPv4 header checksum is wrong")]
    Checksum,
}

/// Ethernet's numbers for what it carries (IEEE 802 numbers).
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// An outer VLAN tag (802.1ad).
    pub const QINQ: u16 = 0x88a8;
}

/// IP's numbers for what it carries (IANA protocol numbers).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IPv4.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
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
