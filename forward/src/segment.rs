//! The TCP segments that the director itself sends: resets, and the question to a client whether
//! it still knows a connection (RFC 9293, section 3.5.2 and 3.10.7).
//!
//! A segment has no payload and no options.

use std::net::{IpAddr, SocketAddr};

use crate::Hop;
use crate::checksum::{Sum, update};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::tcp::{self, flag};
use crate::wire::{Ethernet, Tcp, ethernet, protocol};

/// Bytes of an IPv6 header.
const IPV6_LEN: usize = 40;

/// Bytes that any frame built here fits in.
pub const MAX_FRAME: usize = ethernet::MAX_HEADER_LEN + IPV6_LEN + tcp::HEADER_LEN;

const TTL: u8 = 64;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// A segment without payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// As who it is sent; of the same family as `dst`.
    pub src: SocketAddr,
    /// To whom.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; 0 without the flag ACK.
    pub ack: u32,
    /// [`flag`] bits.
    pub flags: u8,
    /// The IPv4 packet's identification.
    pub id: u16,
}

/// The numbers of a segment that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// [`flag`] bits.
    pub flags: u8,
    /// Bytes of payload.
    pub payload: u32,
}

impl Numbers {
    /// The numbers of the segment at `l4`, whose packet ends at `end`; `None` when it is too short.
    pub fn of(frame: &[u8], l4: u16, end: usize) -> Option<Self> {
        let segment = frame.get(l4.into()..end)?;
        let header: &[u8; tcp::HEADER_LEN] = segment.first_chunk()?;
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let data = usize::from(header[12] >> 4) * 4;
        Some(Self {
            seq: number(4),
            ack: number(8),
            flags: header[13],
            payload: segment.len().saturating_sub(data) as u32,
        })
    }

    /// Sequence and acknowledgement number and flags of the reset that answers this segment,
    /// where there is no connection; `None` to a reset.
    pub fn reset(&self) -> Option<(u32, u32, u8)> {
        if self.flags & flag::RST != 0 {
            return None;
        }
        if self.flags & flag::ACK != 0 {
            return Some((self.ack, 0, flag::RST));
        }
        let counted =
            u32::from(self.flags & flag::SYN != 0) + u32::from(self.flags & flag::FIN != 0);
        let after = self.seq.wrapping_add(self.payload).wrapping_add(counted);
        Some((0, after, flag::RST | flag::ACK))
    }
}

/// Makes a reset of the segment at `l4` of a frame, with the sequence number that it has.
pub fn reset(frame: &mut [u8], l4: u16) {
    let Some(header) = frame.get_mut(l4.into()..).and_then(<[u8]>::first_chunk_mut) else { return };
    let header: &mut [u8; tcp::HEADER_LEN] = header;
    let old = u16::from_be_bytes([header[12], header[13]]);
    header[13] = flag::RST;
    let new = u16::from_be_bytes([header[12], header[13]]);
    let mut view = Tcp::new_unchecked(&mut header[..]);
    let check = update(view.checksum(), Sum::change16(old, new));
    view.set_checksum(check);
}

impl Segment {
    /// Builds the frame to `hop` at the front of `out`; gives its length in bytes. `None` when
    /// `out` is too short ([`MAX_FRAME`] is enough) or the ends are of two families.
    pub fn build(&self, hop: &Hop, out: &mut [u8]) -> Option<usize> {
        let (link, packet) = out.split_at_mut_checked(ethernet::HEADER_LEN)?;
        link[..6].copy_from_slice(&hop.dst);
        link[6..12].copy_from_slice(&hop.src);
        let ethertype = if self.src.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        link[12..].copy_from_slice(&ethertype);
        Some(ethernet::HEADER_LEN + self.packet(packet)?)
    }

    /// Builds the frame that goes back the way one with the link header `link` came, tags and
    /// all. Returns as [`build`](Self::build).
    pub fn build_back(&self, link: &[u8], out: &mut [u8]) -> Option<usize> {
        let received = Ethernet::new_checked(link).ok()?;
        let (back, packet) = out.split_at_mut_checked(link.len())?;
        back.copy_from_slice(link);
        let mut back = Ethernet::new_unchecked(back);
        back.set_dst(received.src());
        back.set_src(received.dst());
        Some(link.len() + self.packet(packet)?)
    }

    fn packet(&self, out: &mut [u8]) -> Option<usize> {
        let (header, ip_len) = self.ip_header()?;
        let len = ip_len + tcp::HEADER_LEN;
        let out = out.get_mut(..len)?;
        out[..ip_len].copy_from_slice(&header[..ip_len]);
        out[ip_len..].copy_from_slice(&self.tcp_header());
        Some(len)
    }

    fn ip_header(&self) -> Option<([u8; IPV6_LEN], usize)> {
        let mut bytes = [0; IPV6_LEN];
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = Ipv4Header {
                    tos: 0,
                    total_len: (ipv4::HEADER_LEN + tcp::HEADER_LEN) as u16,
                    id: self.id,
                    dont_fragment: true,
                    ttl: TTL,
                    protocol: protocol::TCP,
                    src: src.octets(),
                    dst: dst.octets(),
                };
                bytes[..ipv4::HEADER_LEN].copy_from_slice(&header.to_bytes());
                Some((bytes, ipv4::HEADER_LEN))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes[0] = 0x60;
                bytes[5] = tcp::HEADER_LEN as u8;
                (bytes[6], bytes[7]) = (protocol::TCP, TTL);
                bytes[8..24].copy_from_slice(&src.octets());
                bytes[24..].copy_from_slice(&dst.octets());
                Some((bytes, IPV6_LEN))
            }
            _ => None,
        }
    }

    fn tcp_header(&self) -> [u8; tcp::HEADER_LEN] {
        let mut bytes = [0; tcp::HEADER_LEN];
        bytes[..2].copy_from_slice(&self.src.port().to_be_bytes());
        bytes[2..4].copy_from_slice(&self.dst.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ack.to_be_bytes());
        bytes[12] = (tcp::HEADER_LEN as u8 / 4) << 4;
        bytes[13] = self.flags;
        let sum = address_sum(self.src.ip()) + address_sum(self.dst.ip());
        let rest = Sum::of(&[0, protocol::TCP, 0, tcp::HEADER_LEN as u8]);
        let check = (sum + rest + Sum::of(&bytes)).finish();
        bytes[16..18].copy_from_slice(&check.to_be_bytes());
        bytes
    }
}

fn address_sum(address: IpAddr) -> Sum {
    match address {
        IpAddr::V4(v4) => Sum::of(&v4.octets()),
        IpAddr::V6(v6) => Sum::of(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reset_answers_as_the_rfc_says() {
        let numbers = |flags, payload| Numbers { seq: 100, ack: 200, flags, payload };
        assert_eq!(numbers(flag::ACK, 5).reset(), Some((200, 0, flag::RST)));
        assert_eq!(numbers(flag::SYN, 0).reset(), Some((0, 101, flag::RST | flag::ACK)));
        assert_eq!(numbers(flag::FIN, 5).reset(), Some((0, 106, flag::RST | flag::ACK)));
        assert_eq!(numbers(flag::RST | flag::ACK, 0).reset(), None);
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(
            ends in prop_oneof![any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                                any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)))],
            ports: (u16, u16), seq: u32, ack: u32, flags: u8,
        ) {
            let (src, dst) = (SocketAddr::new(ends.0, ports.0), SocketAddr::new(ends.1, ports.1));
            let segment = Segment { src, dst, seq, ack, flags, id: 7 };
            let mut out = [0; MAX_FRAME];
            let hop = Hop { src: [2; 6], dst: [4; 6] };
            let len = segment.build(&hop, &mut out).unwrap();
            let l4 = len - tcp::HEADER_LEN;
            let numbers = Numbers { seq, ack, flags, payload: 0 };
            prop_assert_eq!(Numbers::of(&out, l4 as u16, len), Some(numbers));
            let sum = address_sum(ends.0) + address_sum(ends.1) + Sum::of(&[0, 6, 0, 20]);
            prop_assert_eq!((sum + Sum::of(&out[l4..len])).finish(), 0, "the checksum is right");
            let (link, mut back) = (out[..14].to_vec(), [0; MAX_FRAME]);
            prop_assert_eq!(segment.build_back(&link, &mut back), Some(len));
            prop_assert_eq!((&back[..6], &back[6..12], &back[12..]), (&[2; 6][..], &[4; 6][..], &out[12..]));
        }

        #[test]
        fn anything_is_read_without_harm(frame: Vec<u8>, l4: u16, end: u16) {
            let _ = Numbers::of(&frame, l4, end.into()).map(|numbers| numbers.reset());
        }
    }
}
