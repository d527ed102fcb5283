//! Frames whose checksum the sender left to the next who knows how (the kernel's
//! `CHECKSUM_PARTIAL`): the field holds the folded sum of the pseudo header only.
//!
//! DR leaves it as it is. [`nat`](crate::nat)'s arithmetic is for a whole checksum: behind it the sum
//! is written anew ([`Unfinished::reopen`]). Whoever else rewrites the transport header, cuts the
//! packet or wraps it finishes the checksum before, unless a GUE tunnel with remote checksum offload
//! takes it as it is.

use crate::checksum::{self, Sum};
use crate::wire::{Ipv4, Ipv6, ipv4, ipv6, protocol, sctp};
use crate::{Family, Offsets, Refused};

/// Where the rest of the work is, in bytes from the frame's first: `csum_start` and
/// `csum_start + csum_offset` of a `virtio_net_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// From where to the packet's end is to be summed.
    pub start: u16,
    /// Where the result goes.
    pub field: u16,
}

impl Unfinished {
    /// Where it is in a TCP or UDP packet; `None` for others.
    pub fn of(at: Offsets) -> Option<Self> {
        let field = match at.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => return None,
        };
        Some(Self { start: at.l4, field: at.l4 + field })
    }

    /// Sums what is left, and writes the checksum; SCTP's is its CRC32c.
    ///
    /// # Errors
    ///
    /// [`Refused::Truncated`] when it is not inside the packet.
    pub fn finish(self, frame: &mut [u8], at: Offsets) -> Result<(), Refused> {
        let summed = frame.get_mut(self.start.into()..at.end as usize).ok_or(Refused::Truncated)?;
        if at.protocol == protocol::SCTP {
            sctp::fill_crc(summed);
            return Ok(());
        }
        let check = Sum::of(summed).finish();
        let check = if at.protocol == protocol::UDP { checksum::udp(check) } else { check };
        let field = usize::from(self.field);
        let inside = self.start <= self.field && field + 2 <= at.end as usize;
        let bytes = frame.get_mut(field..field + 2).filter(|_| inside);
        bytes.ok_or(Refused::Truncated)?.copy_from_slice(&check.to_be_bytes());
        Ok(())
    }

    /// Writes the sum of TCP's or UDP's pseudo header as it is now; the rest is still to be done.
    ///
    /// # Errors
    ///
    /// [`Refused::Truncated`] when it is not inside the packet.
    pub fn reopen(self, frame: &mut [u8], at: Offsets) -> Result<(), Refused> {
        let len = at.end.checked_sub(self.start.into()).ok_or(Refused::Truncated)?;
        let packet = at.packet(frame).ok_or(Refused::Truncated)?;
        let sum = match at.family {
            Family::V4 => {
                let header: &[u8; ipv4::HEADER_LEN] =
                    packet.first_chunk().ok_or(Refused::Truncated)?;
                let ip = Ipv4::new_unchecked(header);
                // An IPv4 packet's length.
                Sum::pseudo_v4(ip.src(), ip.dst(), at.protocol, len as u16)
            }
            Family::V6 => {
                let header: &[u8; ipv6::HEADER_LEN] =
                    packet.first_chunk().ok_or(Refused::Truncated)?;
                let ip = Ipv6::new_unchecked(header);
                Sum::pseudo_v6(ip.src(), ip.dst(), at.protocol, len)
            }
        };
        let field = frame.get_mut(self.field.into()..).and_then(<[u8]>::first_chunk_mut);
        *field.ok_or(Refused::Truncated)? = sum.folded().to_be_bytes();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn a_recorded_frame_is_finished() {
        // Recorded: partial_dr_v4, udp: 5 bytes in the padding's place are not summed.
        let mut frame = hex("0200000000c10200000000c0080045000021000100004011c1b3ac1003070a000001\
                             00050050000db936");
        frame.extend(b"hello");
        frame.extend([0xee; 5]);
        let at = Offsets::of(&frame).unwrap();
        let todo = Unfinished::of(at).unwrap();
        assert_eq!(todo, Unfinished { start: 34, field: 40 });
        let pseudo = Sum::pseudo_v4([172, 16, 3, 7], [10, 0, 0, 1], 17, 13);
        assert_eq!(pseudo.folded(), 0xb936);
        let open = frame.clone();
        todo.finish(&mut frame, at).unwrap();
        let whole = pseudo + Sum::of(at.transport(&frame).unwrap());
        assert_eq!(whole.finish(), 0);
        todo.reopen(&mut frame, at).unwrap();
        assert_eq!(frame, open);
    }

    #[test]
    fn what_is_outside_is_refused() {
        let mut frame = [0; 60];
        let at = Offsets { end: 50, l3: 14, l4: 34, ..Offsets::default() };
        for (start, field) in [(34, 49), (51, 50), (34, 33), (60, 60), (u16::MAX, u16::MAX)] {
            let todo = Unfinished { start, field };
            assert_eq!(todo.finish(&mut frame, at), Err(Refused::Truncated), "{todo:?}");
            let _ = todo.reopen(&mut frame, at);
        }
        assert_eq!(Unfinished::of(Offsets { protocol: 132, ..at }), None);
    }
}
