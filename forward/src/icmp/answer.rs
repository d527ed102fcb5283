//! The errors that the director itself sends.
//!
//! Each is built into a buffer of the caller's, as a whole frame that goes back the way the
//! offending one came: Ethernet addresses swapped, tags kept. The offending frame is the one
//! received, not yet rewritten. How many may be sent in a second is the caller's business.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{MAX_PACKET, MAX_PACKET_V6, code, code6};
use crate::checksum::Sum;
use crate::wire::{Ethernet, Icmp4, Icmp6, Ipv4, icmp4, icmp6};
use crate::{Address, Family, Fields, Offsets};

/// Bytes of both ICMP headers.
const HEADER_LEN: usize = icmp4::HEADER_LEN;

/// DSCP CS6, internetwork control: what the kernel sends its ICMP errors with (RFC 1812, 4.3.2.5).
/// Its ICMPv6 errors have no class.
const TOS: u8 = 0xc0;
const TTL: u8 = 64;

/// The director, as an ICMP error shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender<A> {
    /// From which of its addresses: the virtual one, for a client's packet.
    pub src: A,
    /// The identification of an IPv4 packet, in its low 16 bits; the flow label of an IPv6 one, in
    /// its low 20.
    pub id: u32,
}

/// The frame that an error is about, as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Offender<'a> {
    /// Its bytes.
    pub frame: &'a [u8],
    /// Where its headers begin.
    pub at: Offsets,
    /// How the error shows its time to live.
    pub ttl: CitedTtl,
}

/// Which time to live the embedded header shows. It tells how far the packet had come in the
/// kernel when the error was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CitedTtl {
    /// That of the frame: no server, time exceeded, a NAT reply too large for the client's side.
    Received,
    /// One less: too large on the way to a server, a reply of no connection (`nat_icmp_send`).
    Lowered,
}

/// Tells the sender of a frame that it cannot be delivered, with one of [`code`]'s or [`code6`]'s
/// reasons.
///
/// Returns the length of the frame built at the front of `out`, in bytes; `None` when `out` is
/// too short ([`MAX_FRAME`](super::MAX_FRAME) is enough), the offsets are not of the frame, or
/// nobody may be told: about an ICMP error, a fragment other than the first, a broadcast or
/// multicast (RFC 1122, 3.2.2; RFC 4443, 2.4).
pub fn dest_unreachable<A: Address>(
    offender: Offender<'_>,
    sender: Sender<A>,
    code: u8,
    out: &mut [u8],
) -> Option<usize> {
    let kind = match A::FAMILY {
        Family::V4 => icmp4::kind::DEST_UNREACHABLE,
        Family::V6 => icmp6::kind::DEST_UNREACHABLE,
    };
    build(offender, sender, Message { kind, code, rest: [0; 4] }, out)
}

/// Tells the sender of a frame that no server is there for it. Returns as [`dest_unreachable`].
pub fn port_unreachable<A: Address>(
    offender: Offender<'_>,
    sender: Sender<A>,
    out: &mut [u8],
) -> Option<usize> {
    let code = match A::FAMILY {
        Family::V4 => code::PORT,
        Family::V6 => code6::PORT,
    };
    dest_unreachable(offender, sender, code, out)
}

/// Tells the sender of a frame that packets of more than `mtu` bytes do not fit the way: the path
/// MTU less what a tunnel adds. In IPv6 this is "packet too big". Returns as [`dest_unreachable`].
pub fn frag_needed<A: Address>(
    offender: Offender<'_>,
    sender: Sender<A>,
    mtu: u16,
    out: &mut [u8],
) -> Option<usize> {
    let [high, low] = mtu.to_be_bytes();
    let (kind, code) = match A::FAMILY {
        Family::V4 => (icmp4::kind::DEST_UNREACHABLE, code::FRAG_NEEDED),
        Family::V6 => (icmp6::kind::PACKET_TOO_BIG, 0),
    };
    build(offender, sender, Message { kind, code, rest: [0, 0, high, low] }, out)
}

/// Tells the sender of a frame that its time to live or hop limit was used up here. Returns as
/// [`dest_unreachable`].
pub fn time_exceeded<A: Address>(
    offender: Offender<'_>,
    sender: Sender<A>,
    out: &mut [u8],
) -> Option<usize> {
    let kind = match A::FAMILY {
        Family::V4 => icmp4::kind::TIME_EXCEEDED,
        Family::V6 => icmp6::kind::TIME_EXCEEDED,
    };
    build(offender, sender, Message { kind, code: 0, rest: [0; 4] }, out)
}

/// Tells the sender of an IPv4 frame that the byte at `pointer` of its header makes no sense, as
/// [`options::fill`](crate::options::fill) finds. Returns as [`dest_unreachable`].
pub fn parameter_problem(
    offender: Offender<'_>,
    sender: Sender<[u8; 4]>,
    pointer: u8,
    out: &mut [u8],
) -> Option<usize> {
    let kind = icmp4::kind::PARAMETER_PROBLEM;
    build(offender, sender, Message { kind, code: 0, rest: [pointer, 0, 0, 0] }, out)
}

/// An ICMP header but its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    pub code: u8,
    pub rest: [u8; 4],
}

fn build<A: Address>(
    offender: Offender<'_>,
    sender: Sender<A>,
    message: Message,
    out: &mut [u8],
) -> Option<usize> {
    let Offender { frame, at, ttl } = offender;
    let link = frame.get(..at.l3.into())?;
    if !may_answer::<A>(Ethernet::new_checked(link).ok()?, frame, at) {
        return None;
    }
    let (out_link, out_packet) = out.split_at_mut_checked(link.len())?;
    let len = write(at.packet(frame)?, ttl, sender, message, out_packet)?;
    turn(link, out_link);
    Some(link.len() + len)
}

/// Writes an ICMP packet about `packet` to its sender; gives its length in bytes.
pub(super) fn write<A: Address>(
    packet: &[u8],
    ttl: CitedTtl,
    sender: Sender<A>,
    message: Message,
    out: &mut [u8],
) -> Option<usize> {
    let max = match A::FAMILY {
        Family::V4 => MAX_PACKET,
        Family::V6 => MAX_PACKET_V6,
    };
    let cited = packet.get(..packet.len().min(max - A::HEADER_LEN - HEADER_LEN))?;
    let icmp_len = HEADER_LEN + cited.len();
    let dst = A::src(A::header(cited)?);
    let header = A::write_header(&Fields {
        tos: if A::FAMILY == Family::V4 { TOS } else { 0 },
        // At most MAX_PACKET_V6.
        payload_len: icmp_len as u16,
        id: sender.id as u16,
        dont_fragment: false,
        flow_label: sender.id,
        ttl: TTL,
        protocol: A::FAMILY.icmp(),
        src: sender.src,
        dst,
    });
    let len = A::HEADER_LEN + icmp_len;
    let (out_header, out_icmp) = out.get_mut(..len)?.split_at_mut(A::HEADER_LEN);
    let (_, out_cited) = out_icmp.split_at_mut(HEADER_LEN);
    out_header.copy_from_slice(A::bytes(&header));
    out_cited.copy_from_slice(cited);
    if ttl == CitedTtl::Lowered {
        A::forward(A::header_mut(out_cited)?, Sum::NOTHING);
    }
    let pseudo = match A::FAMILY {
        Family::V4 => Sum::NOTHING,
        Family::V6 => A::pseudo(sender.src, dst, A::FAMILY.icmp(), icmp_len as u32),
    };
    write_header(message, pseudo, out_icmp);
    Some(len)
}

/// Writes the ICMP header in front of what is cited, and the checksum over both. Both families'
/// headers have the same fields in the same places.
fn write_header(message: Message, pseudo: Sum, out: &mut [u8]) {
    let mut icmp = Icmp4::new_unchecked(&mut *out);
    icmp.set_kind(message.kind);
    icmp.set_code(message.code);
    icmp.set_rest(message.rest);
    icmp.set_checksum(0);
    let check = (pseudo + Sum::of(out)).finish();
    Icmp4::new_unchecked(out).set_checksum(check);
}

/// The Ethernet header of the answer to a frame with the header `link`.
fn turn(link: &[u8], out: &mut [u8]) {
    out.copy_from_slice(link);
    let received = Ethernet::new_unchecked(link);
    let mut answer = Ethernet::new_unchecked(out);
    answer.set_dst(received.src());
    answer.set_src(received.dst());
}

/// Whether an error may be sent about a packet: not one that went to many, has no single sender,
/// is a later fragment, or is an ICMP error itself.
fn may_answer<A: Address>(ethernet: Ethernet<&[u8]>, frame: &[u8], at: Offsets) -> bool {
    let Ok(header) = at.header::<A>(frame) else { return false };
    let transport = at.transport(frame).unwrap_or_default();
    if ethernet.is_multicast() || may_not_be_told(A::bytes(header)) {
        return false;
    }
    if at.protocol != A::FAMILY.icmp() {
        return true;
    }
    match A::FAMILY {
        Family::V4 => Icmp4::new_checked(transport).is_ok_and(|icmp| !icmp.is_error()),
        Family::V6 => Icmp6::new_checked(transport).is_ok_and(|icmp| !icmp.is_error()),
    }
}

/// Whether the IP header forbids an answer.
fn may_not_be_told(header: &[u8]) -> bool {
    let Some(header) = header.first_chunk::<40>() else {
        let Some(header) = header.first_chunk::<20>() else { return true };
        let ip = Ipv4::new_unchecked(header);
        let (src, dst) = (Ipv4Addr::from(ip.src()), Ipv4Addr::from(ip.dst()));
        let to_many = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast();
        let nobody = to_many(src) || src.is_loopback() || src.octets()[0] == 0;
        return to_many(dst) || nobody || ip.fragment_offset() != 0;
    };
    let ip = crate::wire::Ipv6::new_unchecked(header);
    let (src, dst) = (Ipv6Addr::from(ip.src()), Ipv6Addr::from(ip.dst()));
    dst.is_multicast() || src.is_multicast() || src.is_loopback() || src.is_unspecified()
}

#[cfg(test)]
mod tests;
