//! The header of generic UDP encapsulation, variant 0 (draft-ietf-intarea-gue), as IPVS sends it:
//! nothing optional but remote checksum offload.

use super::{Malformed, read, write};
use crate::checksum::Sum;

mod field {
    pub const VERSION_LEN: usize = 0;
    pub const PROTOCOL: usize = 1;
    pub const FLAGS: usize = 2;
    pub const PRIVATE_FLAGS: usize = 4;
    pub const START: usize = 8;
    pub const OFFSET: usize = 10;
}

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 4;
/// Bytes of the header with remote checksum offload: private flags, and where to sum.
pub const REMOTE_HEADER_LEN: usize = 12;

const CONTROL: u8 = 0x20;
const PRIVATE: u16 = 0x0001;
const REMOTE_CHECKSUM: u32 = 0x8000_0000;

/// A view of a GUE packet, behind its UDP header.
#[derive(Clone, Copy, Debug)]
pub struct Gue<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Gue<T> {
    /// The view of a data packet of variant 0 that holds the whole header.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`]; [`Malformed::Version`] for another variant or a control message.
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        let bytes = buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let first = bytes[field::VERSION_LEN];
        if first >> 6 != 0 || first & CONTROL != 0 {
            return Err(Malformed::Version);
        }
        if bytes.len() < (Gue { buffer: bytes }).header_len() {
            return Err(Malformed::Truncated);
        }
        Ok(Self { buffer })
    }

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + usize::from(self.buffer.as_ref()[field::VERSION_LEN] & 0x1f) * 4
    }

    /// What the packet carries; see [`protocol`](super::protocol).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.buffer.as_ref()[field::PROTOCOL]
    }

    /// Of a packet with remote checksum offload: where its receiver is to sum from and where to
    /// put the result, in bytes from the inner packet's first.
    pub fn remote_checksum(&self) -> Option<(u16, u16)> {
        let bytes = self.buffer.as_ref();
        let private = u16::from_be_bytes(read(bytes, field::FLAGS)) & PRIVATE != 0;
        if !private || self.header_len() < REMOTE_HEADER_LEN {
            return None;
        }
        let flags = u32::from_be_bytes(read(bytes, field::PRIVATE_FLAGS));
        let word = |at| u16::from_be_bytes(read(bytes, at));
        (flags & REMOTE_CHECKSUM != 0).then(|| (word(field::START), word(field::OFFSET)))
    }
}

/// The header's bytes without options.
#[inline]
pub fn plain(protocol: u8) -> [u8; HEADER_LEN] {
    [0, protocol, 0, 0]
}

/// The header's bytes with remote checksum offload; `start` and `offset` as
/// [`Gue::remote_checksum`] gives them.
#[inline]
pub fn remote(protocol: u8, start: u16, offset: u16) -> [u8; REMOTE_HEADER_LEN] {
    let mut bytes = [0; REMOTE_HEADER_LEN];
    bytes[field::VERSION_LEN] = ((REMOTE_HEADER_LEN - HEADER_LEN) / 4) as u8;
    bytes[field::PROTOCOL] = protocol;
    write(&mut bytes, field::FLAGS, &PRIVATE.to_be_bytes());
    write(&mut bytes, field::PRIVATE_FLAGS, &REMOTE_CHECKSUM.to_be_bytes());
    write(&mut bytes, field::START, &start.to_be_bytes());
    write(&mut bytes, field::OFFSET, &offset.to_be_bytes());
    bytes
}

/// The sum of [`plain`]'s bytes.
#[inline]
pub(crate) const fn plain_sum(protocol: u8) -> Sum {
    Sum::word(protocol as u16)
}

/// The sum of [`remote`]'s bytes.
#[inline]
pub(crate) fn remote_sum(protocol: u8, start: u16, offset: u16) -> Sum {
    const LENGTH: u16 = ((REMOTE_HEADER_LEN - HEADER_LEN) / 4) as u16;
    let first = Sum::word(LENGTH << 8 | protocol as u16) + Sum::word(PRIVATE);
    first + Sum::word32(REMOTE_CHECKSUM) + Sum::word(start) + Sum::word(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn a_header_is_its_bytes() {
        assert_eq!(plain(41)[..], hex("00290000"));
        // Recorded: partial_tun_gue_remcsum_v4, syn.
        assert_eq!(remote(4, 0x14, 0x24)[..], hex("020400018000000000140024"));
    }

    #[test]
    fn the_sums_are_those_of_the_bytes() {
        let same = |sum: Sum, bytes: &[u8]| assert_eq!(sum.finish(), Sum::of(bytes).finish());
        same(plain_sum(41), &plain(41));
        same(remote_sum(4, 0x14, 0x24), &remote(4, 0x14, 0x24));
    }

    #[test]
    fn reads_both_headers_and_no_others() {
        let read = |text| {
            let gue = Gue::new_checked(hex(text));
            gue.map(|gue| (gue.protocol(), gue.header_len(), gue.remote_checksum()))
        };
        assert_eq!(read("00290000"), Ok((41, 4, None)));
        assert_eq!(read("020400018000000000140024"), Ok((4, 12, Some((20, 36)))));
        assert_eq!(read("0204000180000000001400"), Err(Malformed::Truncated));
        assert_eq!(read("002900"), Err(Malformed::Truncated));
        assert_eq!(read("40040000"), Err(Malformed::Version), "variant 1");
        assert_eq!(read("20040000"), Err(Malformed::Version), "control");
    }
}
