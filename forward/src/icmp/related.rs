//! Errors about connections: found by the packet that they carry.

use crate::checksum::Sum;
use crate::wire::{Icmp4, Icmp6, Ipv4, extension, icmp4, ipv4};
use crate::{Address, Family, Offsets, Refused, Tuple};

/// An ICMP error about a packet of some connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Related<A> {
    /// The carried packet's tuple, reversed: the way that the error itself goes. The connection is
    /// looked up, and with `schedule_icmp` made, as if a packet had come with it.
    pub tuple: Tuple<A>,
    /// Where the carried packet's headers are, in the frame.
    pub cited: Offsets,
}

impl<A: Address> Related<A> {
    /// What a frame whose protocol is ICMP or ICMPv6 is about.
    ///
    /// The carried packet needs its IP header and the ports, four bytes; anything may be cut off
    /// behind. Of ICMP these are unreachable, source quench and time exceeded; of ICMPv6 all
    /// errors. The rest, an echo for example, is for the host.
    ///
    /// # Errors
    ///
    /// [`Refused::NoError`] for another message, [`Refused::Protocol`] or [`Refused::Fragment`]
    /// when the carried packet has no connection or no ports, [`Refused::Truncated`] when too
    /// little of it is there.
    pub fn of(frame: &[u8], at: Offsets) -> Result<Self, Refused> {
        if at.family != A::FAMILY {
            return Err(Refused::Family);
        }
        if at.fragment {
            return Err(Refused::Fragment);
        }
        let icmp = at.transport(frame).ok_or(Refused::Truncated)?;
        let carries = match (A::FAMILY, at.protocol == A::FAMILY.icmp()) {
            (_, false) => return Err(Refused::Protocol),
            (Family::V4, _) => {
                carries_a_packet(Icmp4::new_checked(icmp).map_err(|_| Refused::Truncated)?)
            }
            (Family::V6, _) => Icmp6::new_checked(icmp).map_err(|_| Refused::Truncated)?.is_error(),
        };
        if !carries {
            return Err(Refused::NoError);
        }
        let cited = cited(frame, A::FAMILY, usize::from(at.l4) + icmp4::HEADER_LEN, at.end)?;
        Ok(Self { tuple: Tuple::of(frame, cited)?.reversed(), cited })
    }
}

/// Whether IPVS follows this message to a connection (`ip_vs_in_icmp`).
pub(super) fn carries_a_packet(icmp: Icmp4<&[u8]>) -> bool {
    use icmp4::kind::{DEST_UNREACHABLE, SOURCE_QUENCH, TIME_EXCEEDED};
    matches!(icmp.kind(), DEST_UNREACHABLE | SOURCE_QUENCH | TIME_EXCEEDED)
}

/// The offsets of a packet that begins at `l3` and may be cut off at `end`, but not before its
/// transport header. The first fragment has one.
pub(super) fn cited(frame: &[u8], family: Family, l3: usize, end: u32) -> Result<Offsets, Refused> {
    let packet = frame.get(l3..end as usize).ok_or(Refused::Truncated)?;
    let (header_len, protocol) = match family {
        Family::V4 => {
            let header: &[u8; ipv4::HEADER_LEN] = packet.first_chunk().ok_or(Refused::Truncated)?;
            let ip = Ipv4::new_unchecked(header);
            if header[0] >> 4 != 4 || ip.header_len() < ipv4::HEADER_LEN {
                return Err(Refused::Truncated);
            }
            if ip.fragment_offset() != 0 {
                return Err(Refused::Fragment);
            }
            (ip.header_len(), ip.protocol())
        }
        Family::V6 => {
            let upper = extension::upper(packet).map_err(|_| Refused::Truncated)?;
            let is_later = |at: usize| {
                let fragment = packet.get(at..).unwrap_or_default();
                extension::Fragment::new_checked(fragment).is_ok_and(|it| it.offset() != 0)
            };
            if packet[0] >> 4 != 6 {
                return Err(Refused::Truncated);
            }
            if upper.fragment.is_some_and(is_later) {
                return Err(Refused::Fragment);
            }
            (upper.at, upper.protocol)
        }
    };
    let at = |at: usize| u16::try_from(at).map_err(|_| Refused::Truncated);
    let (l3, l4) = (at(l3)?, at(l3 + header_len)?);
    Ok(Offsets { end, l3, l4, protocol, family, fragment: false })
}

/// Whether an ICMP or ICMPv6 message has a right checksum. IPVS looks at it once it has found the
/// connection, and drops what is wrong.
pub fn is_intact<A: Address>(frame: &[u8], at: Offsets) -> bool {
    let (Ok(header), Some(icmp)) = (at.header::<A>(frame), at.transport(frame)) else {
        return false;
    };
    let pseudo = match A::FAMILY {
        Family::V4 => Sum::NOTHING,
        Family::V6 => {
            A::pseudo(A::src(header), A::dst(header), A::FAMILY.icmp(), icmp.len() as u32)
        }
    };
    (pseudo + Sum::of(icmp)).finish() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::End;
    use crate::wire::hex;

    /// Recorded: icmp_nat_v4_tcp, cli_unreach_4bytes.
    pub(super) const UNREACHABLE: &str = "0200000000c10200000000c0080045000034007200004001c41dac10ff010a0000010303\
         bd6000000000450000320071000040060000\
         0a000001ac10030700501f40";

    fn frame() -> Vec<u8> {
        let mut frame = hex(UNREACHABLE);
        let check = Sum::of(&frame[14..24]) + Sum::of(&frame[26..34]);
        frame[24..26].copy_from_slice(&check.finish().to_be_bytes());
        frame
    }

    #[test]
    fn four_bytes_of_the_carried_transport_are_enough() {
        let frame = frame();
        let at = Offsets::of(&frame).unwrap();
        let related = Related::<[u8; 4]>::of(&frame, at).unwrap();
        let client = End { address: [172, 16, 3, 7], port: 8000 };
        let vip = End { address: [10, 0, 0, 1], port: 80 };
        assert_eq!(related.tuple, Tuple { protocol: 6, src: client, dst: vip });
        assert_eq!((related.cited.l3, related.cited.l4, related.cited.end), (42, 62, 66));
        for end in 34..66 {
            let cut = Offsets { end, ..at };
            assert_eq!(Related::<[u8; 4]>::of(&frame, cut), Err(Refused::Truncated), "{end}");
        }
    }

    #[test]
    fn only_three_types_are_followed() {
        let mut frame = frame();
        let at = Offsets::of(&frame).unwrap();
        let mut followed = Vec::new();
        for kind in 0..=255 {
            frame[34] = kind;
            match Related::<[u8; 4]>::of(&frame, at) {
                Ok(_) => followed.push(kind),
                Err(refused) => assert_eq!(refused, Refused::NoError),
            }
        }
        assert_eq!(followed, [3, 4, 11]);
    }

    #[test]
    fn a_carried_later_fragment_or_other_protocol_has_no_connection() {
        let of = |at: usize, byte: u8| {
            let mut frame = frame();
            frame[at] = byte;
            Related::<[u8; 4]>::of(&frame, Offsets::of(&frame).unwrap()).err()
        };
        assert_eq!(of(48, 0x20), None, "the first fragment");
        assert_eq!(of(49, 1), Some(Refused::Fragment));
        assert_eq!(of(51, 47), Some(Refused::Protocol));
        assert_eq!(of(51, 50), None, "ESP is found by its key exchange");
        assert_eq!(of(42, 0x65), Some(Refused::Truncated), "IPv6 in ICMPv4");
    }
}
