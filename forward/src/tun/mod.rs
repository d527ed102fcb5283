//! Tunnels: the packet goes to the server whole, inside another one.
//!
//! ```text
//! | room        | Ethernet, tags        | inner packet ...
//! | Ethernet, tags | outer IP | GRE or UDP and GUE | inner packet ...
//! ```
//!
//! The outer header is IPv4 or IPv6 by the server's address, whatever the inner packet is. The
//! caller has made room in front of the frame's Ethernet header ([`Kind::room`]), whatever is in it,
//! and cut the frame where its packet ends ([`Offsets::end`]). `at` is where the headers were
//! without the room. Afterwards the Ethernet header, tags included, stands at the front and the
//! outer header at `at.l3`; the inner packet has not moved.
//!
//! The inner time to live goes down, and the outer one begins with what is left. Type of service
//! is copied but for congestion experienced, which the outer header starts without (RFC 3168,
//! 9.1). DF is copied from IPv4 into IPv4 as long as `pmtu_disc` is set.

mod gre;
mod gue;
mod ipip;

pub use gre::gre;
pub use gue::{Checksum, Gue, gue, source_port};
pub use ipip::ipip;

use crate::checksum::Sum;
use crate::wire::{Ipv4, Ipv6};
use crate::wire::{ethernet, gre as gre_header, gue as gue_header, ipv4, udp};
use crate::{Address, Family, Fields, Hop, Offsets, Refused};

/// Bytes that [`ipip`] needs in front of a frame to an IPv4 server: the outer IPv4 header.
pub const ROOM: usize = ipv4::HEADER_LEN;

/// Bytes that any tunnel needs at most: IPv6, UDP, and GUE with remote checksum offload.
pub const MAX_ROOM: usize = 40 + udp::HEADER_LEN + gue_header::REMOTE_HEADER_LEN;

/// ECN's two bits of a TOS, both set: congestion was experienced (RFC 3168).
const ECN_CE: u8 = 0b11;
/// The sender can do ECN.
const ECN_ECT_0: u8 = 0b10;

/// What stands between the outer IP header and the inner packet: `--tun-type` and its options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing.
    #[default]
    Ipip,
    /// GRE.
    Gre {
        /// `--tun-csum`.
        checksum: bool,
    },
    /// UDP and GUE.
    Gue {
        /// `--tun-port`: the server's.
        port: u16,
        /// `--tun-nocsum`, `--tun-csum` or `--tun-remcsum`.
        checksum: Checksum,
    },
}

impl Kind {
    /// Bytes that the tunnel puts in front of a packet, to a server of this family. A frame whose
    /// checksum is `unfinished` may need more.
    #[inline]
    pub const fn room(self, outer: Family, unfinished: bool) -> usize {
        let ip = match outer {
            Family::V4 => <[u8; 4]>::HEADER_LEN,
            Family::V6 => <[u8; 16]>::HEADER_LEN,
        };
        ip + match self {
            Self::Ipip => 0,
            Self::Gre { checksum: false } => gre_header::HEADER_LEN,
            Self::Gre { checksum: true } => gre_header::CHECKSUM_HEADER_LEN,
            Self::Gue { checksum: Checksum::Remote, .. } if unfinished => {
                udp::HEADER_LEN + gue_header::REMOTE_HEADER_LEN
            }
            Self::Gue { .. } => udp::HEADER_LEN + gue_header::HEADER_LEN,
        }
    }
}

/// What an outer header has that the inner one does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer<A> {
    /// The director's address on the way to the server.
    pub src: A,
    /// The server.
    pub dst: A,
    /// IPv4: the identification, used where the packet may be fragmented on its way. Where it may
    /// not, it is sent as 0.
    pub id: u16,
    /// `pmtu_disc`: whether DF is copied from the inner header.
    pub pmtu_disc: bool,
}

/// A frame with room in front, taken apart, and what the outer header takes over from the inner.
struct Tunnel<'a> {
    /// The room and the Ethernet header.
    front: &'a mut [u8],
    /// Bytes of the inner packet.
    inner_len: usize,
    /// Its sum, if one was asked for.
    sum: Sum,
    at: Offsets,
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl<'a> Tunnel<'a> {
    /// Takes a frame with `room` bytes in front of it apart, and moves its Ethernet header out of
    /// the way. After this nothing is refused. With `summed` the inner packet is summed.
    #[inline(always)]
    fn begin(frame: &'a mut [u8], at: Offsets, room: usize, summed: bool) -> Result<Self, Refused> {
        let l3 = usize::from(at.l3);
        let end = room + at.end as usize;
        let frame = frame.get_mut(..end).ok_or(Refused::Truncated)?;
        let (front, inner) = frame.split_at_mut_checked(room + l3).ok_or(Refused::Truncated)?;
        if l3 < ethernet::HEADER_LEN {
            return Err(Refused::Truncated);
        }
        // What the outer header says of its length, the outer IPv4 header's own included.
        if inner.len() + room > usize::from(u16::MAX) {
            return Err(Refused::TooLong);
        }
        // Before the time to live is written: to read at once what was just written takes longer.
        let mut sum = Sum::NOTHING;
        if summed {
            // An IPv4 header with its right checksum, and Offsets knows no other, adds nothing.
            let from = if at.family == Family::V4 { at.l4.saturating_sub(at.l3) } else { 0 };
            sum = Sum::of(inner.get(from.into()..).ok_or(Refused::Truncated)?);
        }
        let (tos, ttl, dont_fragment) = match at.family {
            Family::V4 => {
                let ip = <[u8; 4]>::header_mut(inner).ok_or(Refused::Truncated)?;
                let view = Ipv4::new_unchecked(&*ip);
                let (tos, dont_fragment) = (view.tos(), view.dont_fragment());
                (tos, one_less::<[u8; 4]>(ip)?, dont_fragment)
            }
            Family::V6 => {
                let ip = <[u8; 16]>::header_mut(inner).ok_or(Refused::Truncated)?;
                let tos = Ipv6::new_unchecked(&*ip).traffic_class();
                // IPv4's own checksum makes up for the lower time to live, IPv6 has none.
                sum = sum + Sum::change16(1, 0);
                (tos, one_less::<[u8; 16]>(ip)?, false)
            }
        };
        move_link(front, room, l3);
        let inner_len = inner.len();
        Ok(Self { front, inner_len, sum, at, tos: outer_tos(tos), ttl, dont_fragment })
    }

    /// Writes what stands directly in front of the inner packet.
    #[inline]
    fn put(&mut self, header: &[u8]) {
        let at = self.front.len() - header.len();
        self.front[at..].copy_from_slice(header);
    }

    /// Writes the outer IP header, of a packet that carries `protocol`, and sends it on.
    #[inline(always)]
    fn end<A: Address>(self, protocol: u8, outer: &Outer<A>, hop: &Hop) {
        let l3 = usize::from(self.at.l3);
        let encapsulation = self.front.len() - l3 - A::HEADER_LEN;
        let dont_fragment = self.dont_fragment && outer.pmtu_disc;
        let header = A::write_header(&Fields {
            tos: self.tos,
            // Looked at when the frame was taken apart.
            payload_len: (encapsulation + self.inner_len) as u16,
            id: if dont_fragment { 0 } else { outer.id },
            dont_fragment,
            flow_label: 0,
            ttl: self.ttl,
            protocol,
            src: outer.src,
            dst: outer.dst,
        });
        if A::FAMILY != self.at.family {
            self.front[l3 - 2..l3].copy_from_slice(&A::FAMILY.ethertype().to_be_bytes());
        }
        self.front[l3..l3 + A::HEADER_LEN].copy_from_slice(A::bytes(&header));
        if let Some(link) = self.front.first_chunk_mut() {
            hop.write(link);
        }
    }
}

#[inline(always)]
fn one_less<A: Address>(header: &mut A::Header) -> Result<u8, Refused> {
    if A::ttl(header) <= 1 {
        return Err(Refused::Ttl);
    }
    A::forward(header, Sum::NOTHING);
    Ok(A::ttl(header))
}

/// Moves ethertype and tags to where they stand once the room in front is used.
#[inline(always)]
fn move_link(front: &mut [u8], room: usize, l3: usize) {
    let from = room + 12;
    // Nearly every frame is without tags; two bytes need no call to memmove.
    if l3 == ethernet::HEADER_LEN {
        let ethertype = [front[from], front[from + 1]];
        front[12..14].copy_from_slice(&ethertype);
    } else {
        front.copy_within(from..room + l3, 12);
    }
}

#[inline]
fn outer_tos(inner: u8) -> u8 {
    if inner & ECN_CE == ECN_CE { inner & !ECN_CE | ECN_ECT_0 } else { inner }
}

#[cfg(test)]
mod tests;
