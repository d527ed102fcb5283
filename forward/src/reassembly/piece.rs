//! What a fragment says of itself.

use super::{FragmentRefused, MAX_PAYLOAD};
use crate::wire::{Ipv4, Ipv6, extension, ipv4, ipv6, protocol, sctp, tcp, udp};
use crate::{Address, Family, Offsets};

/// Fragments with the same key are parts of the same packet (RFC 791, 3.2; RFC 8200, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<A> {
    /// Who sends.
    pub src: A,
    /// Who is to get it.
    pub dst: A,
    /// Identification.
    pub id: u32,
    /// IPv4: what the packet carries. IPv6: 0, as the identification is enough.
    pub protocol: u8,
}

/// What a frame says of the part that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the part begins in the payload of the whole packet, in bytes.
    pub offset: u16,
    /// Its bytes.
    pub len: u16,
    /// Whether more parts follow.
    pub more: bool,
    /// Where it begins in the frame.
    pub(super) at: u16,
    /// Where the packet begins in the frame.
    pub(super) l3: u16,
    pub(super) family: Family,
    /// Bytes from the IP header on.
    pub(super) packet_len: u16,
    pub(super) dont_fragment: bool,
    pub(super) ecn: u8,
}

impl Piece {
    /// The part in a frame whose offsets say that it is a fragment, and to which packet it belongs.
    ///
    /// # Errors
    ///
    /// [`FragmentRefused::Truncated`], [`Length`](FragmentRefused::Length),
    /// [`Oversize`](FragmentRefused::Oversize), [`TinyFirst`](FragmentRefused::TinyFirst).
    pub fn of<A: Address>(frame: &[u8], at: Offsets) -> Result<(Key<A>, Self), FragmentRefused> {
        let header = at.header::<A>(frame).map_err(|_| FragmentRefused::Truncated)?;
        let packet = at.packet(frame).ok_or(FragmentRefused::Truncated)?;
        let (piece, id, key_protocol, first) = match A::FAMILY {
            Family::V4 => Self::of_ipv4(packet, at)?,
            Family::V6 => Self::of_ipv6(packet, at)?,
        };
        if u32::from(piece.offset) + u32::from(piece.len) > MAX_PAYLOAD {
            return Err(FragmentRefused::Oversize);
        }
        let part = frame.get(usize::from(piece.at)..).unwrap_or_default();
        let part = part.get(..piece.len.into()).ok_or(FragmentRefused::Truncated)?;
        if piece.offset == 0 && is_tiny(first, part, at, piece.at) {
            return Err(FragmentRefused::TinyFirst);
        }
        let (src, dst) = (A::src(header), A::dst(header));
        Ok((Key { src, dst, id, protocol: key_protocol }, piece))
    }

    fn of_ipv4(packet: &[u8], at: Offsets) -> Result<(Self, u32, u8, u8), FragmentRefused> {
        let header: &[u8; ipv4::HEADER_LEN] =
            packet.first_chunk().ok_or(FragmentRefused::Truncated)?;
        let ip = Ipv4::new_unchecked(header);
        let header_len = at.l4.checked_sub(at.l3).ok_or(FragmentRefused::Truncated)?;
        let (packet_len, more) = (packet.len() as u16, ip.more_fragments());
        let len = packet_len.checked_sub(header_len).ok_or(FragmentRefused::Truncated)?;
        // The kernel cuts what is left over a multiple of 8.
        let len = if more { len & !7 } else { len };
        if len == 0 {
            return Err(FragmentRefused::Length);
        }
        let piece = Self {
            // At most 13 bits times 8.
            offset: ip.fragment_offset() as u16,
            len,
            more,
            at: at.l4,
            l3: at.l3,
            family: Family::V4,
            packet_len,
            dont_fragment: ip.dont_fragment(),
            ecn: ip.tos() & 3,
        };
        Ok((piece, ip.id().into(), ip.protocol(), ip.protocol()))
    }

    fn of_ipv6(packet: &[u8], at: Offsets) -> Result<(Self, u32, u8, u8), FragmentRefused> {
        let upper = extension::upper(packet).map_err(|_| FragmentRefused::Truncated)?;
        let fragment_at = upper.fragment.ok_or(FragmentRefused::Truncated)?;
        let fragment = packet.get(fragment_at..).unwrap_or_default();
        let fragment = extension::Fragment::new_checked(fragment);
        let fragment = fragment.map_err(|_| FragmentRefused::Truncated)?;
        let part_at = fragment_at + extension::FRAGMENT_LEN;
        let (len, more) = (packet.len() - part_at, fragment.more());
        // Alone it may be empty: a packet without payload, which is no use to IPVS.
        if len == 0 || more && len % 8 != 0 {
            return Err(FragmentRefused::Length);
        }
        let header: &[u8; ipv6::HEADER_LEN] =
            packet.first_chunk().ok_or(FragmentRefused::Truncated)?;
        let part_at = u16::try_from(usize::from(at.l3) + part_at);
        let piece = Self {
            offset: fragment.offset(),
            // Parts of an IPv6 packet.
            len: len as u16,
            more,
            at: part_at.map_err(|_| FragmentRefused::Truncated)?,
            l3: at.l3,
            family: Family::V6,
            packet_len: packet.len().min(65535) as u16,
            dont_fragment: false,
            ecn: Ipv6::new_unchecked(header).traffic_class() & 3,
        };
        Ok((piece, fragment.id(), 0, upper.protocol))
    }
}

/// Whether a first part ends before its transport header does. In IPv6 there may be extension
/// headers in front of that; the parse has walked through them.
fn is_tiny(transport: u8, part: &[u8], at: Offsets, part_at: u16) -> bool {
    let needed = match transport {
        protocol::TCP => tcp::HEADER_LEN,
        protocol::UDP => udp::HEADER_LEN,
        protocol::SCTP => sctp::HEADER_LEN,
        _ => 0,
    };
    part.len() < usize::from(at.l4.saturating_sub(part_at)) + needed
}
