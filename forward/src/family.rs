//! IPv4 and IPv6: what a rule that is the same for both needs to know of either.

use std::fmt::Debug;
use std::hash::Hash;

use crate::checksum::Sum;
use crate::wire::{Ipv4, Ipv4Header, Ipv6, Ipv6Header, ethertype, ipv4, ipv6, protocol};

/// Which of the two a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    #[default]
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// What Ethernet and GRE call it.
    #[inline]
    pub const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ethertype::IPV4,
            Self::V6 => ethertype::IPV6,
        }
    }

    /// What another IP packet, or GUE, calls it.
    #[inline]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => protocol::IPIP,
            Self::V6 => protocol::IPV6,
        }
    }

    /// The protocol number of its ICMP.
    #[inline]
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }
}

/// An address of either family, as octets; its type says which rules hold for its packets.
pub trait Address: sealed::Sealed + Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// The fixed part of the IP header.
    type Header;

    /// The family.
    const FAMILY: Family;
    /// Bytes of [`Header`](Self::Header).
    const HEADER_LEN: usize;

    /// The header at the front of `bytes`, if they hold it.
    fn header(bytes: &[u8]) -> Option<&Self::Header>;
    /// As [`header`](Self::header), to be written.
    fn header_mut(bytes: &mut [u8]) -> Option<&mut Self::Header>;
    /// The header with these fields.
    fn write_header(fields: &Fields<Self>) -> Self::Header;
    /// The header's bytes.
    fn bytes(header: &Self::Header) -> &[u8];

    /// The sender.
    fn src(header: &Self::Header) -> Self;
    /// The receiver.
    fn dst(header: &Self::Header) -> Self;
    /// Hops that the packet may still go.
    fn ttl(header: &Self::Header) -> u8;

    /// Sets the sender, and leaves checksums alone.
    fn set_src(header: &mut Self::Header, address: Self);
    /// Sets the receiver, and leaves checksums alone.
    fn set_dst(header: &mut Self::Header, address: Self);
    /// Takes one off the hops, which are not 0. `change` is what else changed in the header: IPv4's
    /// own checksum takes in both.
    fn forward(header: &mut Self::Header, change: Sum);
    /// Takes a change of the header into its own checksum, where it has one.
    fn changed(header: &mut Self::Header, change: Sum);

    /// What a checksum has to take in when an address goes from `old` to `new`.
    fn change(old: Self, new: Self) -> Sum;
    /// The sum of the pseudo header over which transport checksums go; `len` is that of the
    /// transport header and its payload, in bytes.
    fn pseudo(src: Self, dst: Self, protocol: u8, len: u32) -> Sum;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for [u8; 4] {}
    impl Sealed for [u8; 16] {}
}

/// The fields of an IP header that the director makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields<A> {
    /// Type of service or traffic class.
    pub tos: u8,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// IPv4: the identification.
    pub id: u16,
    /// IPv4: whether the packet may not be fragmented.
    pub dont_fragment: bool,
    /// IPv6: the flow label.
    pub flow_label: u32,
    /// Hops.
    pub ttl: u8,
    /// What the packet carries.
    pub protocol: u8,
    /// The sender.
    pub src: A,
    /// The receiver.
    pub dst: A,
}

impl Address for [u8; 4] {
    type Header = [u8; ipv4::HEADER_LEN];

    const FAMILY: Family = Family::V4;
    const HEADER_LEN: usize = ipv4::HEADER_LEN;

    #[inline]
    fn header(bytes: &[u8]) -> Option<&Self::Header> {
        bytes.first_chunk()
    }

    #[inline]
    fn header_mut(bytes: &mut [u8]) -> Option<&mut Self::Header> {
        bytes.first_chunk_mut()
    }

    #[inline]
    fn write_header(fields: &Fields<Self>) -> Self::Header {
        Ipv4Header {
            tos: fields.tos,
            total_len: fields.payload_len.saturating_add(ipv4::HEADER_LEN as u16),
            id: fields.id,
            dont_fragment: fields.dont_fragment,
            ttl: fields.ttl,
            protocol: fields.protocol,
            src: fields.src,
            dst: fields.dst,
        }
        .to_bytes()
    }

    #[inline]
    fn bytes(header: &Self::Header) -> &[u8] {
        header
    }

    #[inline]
    fn src(header: &Self::Header) -> Self {
        Ipv4::new_unchecked(header).src()
    }

    #[inline]
    fn dst(header: &Self::Header) -> Self {
        Ipv4::new_unchecked(header).dst()
    }

    #[inline]
    fn ttl(header: &Self::Header) -> u8 {
        Ipv4::new_unchecked(header).ttl()
    }

    #[inline]
    fn set_src(header: &mut Self::Header, address: Self) {
        Ipv4::new_unchecked(header).set_src(address);
    }

    #[inline]
    fn set_dst(header: &mut Self::Header, address: Self) {
        Ipv4::new_unchecked(header).set_dst(address);
    }

    #[inline(always)]
    fn forward(header: &mut Self::Header, change: Sum) {
        Ipv4::new_unchecked(header).decrement_ttl_and(change);
    }

    #[inline]
    fn changed(header: &mut Self::Header, change: Sum) {
        Ipv4::new_unchecked(header).update_checksum(change);
    }

    #[inline]
    fn change(old: Self, new: Self) -> Sum {
        Sum::change32(u32::from_be_bytes(old), u32::from_be_bytes(new))
    }

    #[inline]
    fn pseudo(src: Self, dst: Self, protocol: u8, len: u32) -> Sum {
        // An IPv4 packet's payload is never longer.
        Sum::pseudo_v4(src, dst, protocol, len as u16)
    }
}

impl Address for [u8; 16] {
    type Header = [u8; ipv6::HEADER_LEN];

    const FAMILY: Family = Family::V6;
    const HEADER_LEN: usize = ipv6::HEADER_LEN;

    #[inline]
    fn header(bytes: &[u8]) -> Option<&Self::Header> {
        bytes.first_chunk()
    }

    #[inline]
    fn header_mut(bytes: &mut [u8]) -> Option<&mut Self::Header> {
        bytes.first_chunk_mut()
    }

    #[inline]
    fn write_header(fields: &Fields<Self>) -> Self::Header {
        Ipv6Header {
            traffic_class: fields.tos,
            flow_label: fields.flow_label,
            payload_len: fields.payload_len,
            next_header: fields.protocol,
            hop_limit: fields.ttl,
            src: fields.src,
            dst: fields.dst,
        }
        .to_bytes()
    }

    #[inline]
    fn bytes(header: &Self::Header) -> &[u8] {
        header
    }

    #[inline]
    fn src(header: &Self::Header) -> Self {
        Ipv6::new_unchecked(header).src()
    }

    #[inline]
    fn dst(header: &Self::Header) -> Self {
        Ipv6::new_unchecked(header).dst()
    }

    #[inline]
    fn ttl(header: &Self::Header) -> u8 {
        Ipv6::new_unchecked(header).hop_limit()
    }

    #[inline]
    fn set_src(header: &mut Self::Header, address: Self) {
        Ipv6::new_unchecked(header).set_src(address);
    }

    #[inline]
    fn set_dst(header: &mut Self::Header, address: Self) {
        Ipv6::new_unchecked(header).set_dst(address);
    }

    #[inline(always)]
    fn forward(header: &mut Self::Header, _: Sum) {
        Ipv6::new_unchecked(header).decrement_hop_limit();
    }

    #[inline]
    fn changed(_: &mut Self::Header, _: Sum) {}

    #[inline]
    fn change(old: Self, new: Self) -> Sum {
        Sum::change128(u128::from_be_bytes(old), u128::from_be_bytes(new))
    }

    #[inline]
    fn pseudo(src: Self, dst: Self, protocol: u8, len: u32) -> Sum {
        Sum::pseudo_v6(src, dst, protocol, len)
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End<A> {
    /// Its address.
    pub address: A,
    /// Its port, or 0 where the protocol has none.
    pub port: u16,
}

impl From<std::net::SocketAddrV4> for End<[u8; 4]> {
    #[inline]
    fn from(end: std::net::SocketAddrV4) -> Self {
        Self { address: end.ip().octets(), port: end.port() }
    }
}

impl From<std::net::SocketAddrV6> for End<[u8; 16]> {
    #[inline]
    fn from(end: std::net::SocketAddrV6) -> Self {
        Self { address: end.ip().octets(), port: end.port() }
    }
}
