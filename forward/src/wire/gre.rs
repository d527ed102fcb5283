//! The GRE header (RFC 2784) as IPVS sends it: nothing optional but a checksum.

use super::{Malformed, read, write};
use crate::checksum::Sum;

mod field {
    pub const FLAGS: usize = 0;
    pub const ETHERTYPE: usize = 2;
    pub const CHECKSUM: usize = 4;
}

/// Bytes of the header without a checksum.
pub const HEADER_LEN: usize = 4;
/// Bytes of the header with one.
pub const CHECKSUM_HEADER_LEN: usize = 8;

const CHECKSUM_PRESENT: u16 = 0x8000;

/// A view of a GRE packet.
#[derive(Clone, Copy, Debug)]
pub struct Gre<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Gre<T> {
    /// The view of a packet that holds the whole header, of version 0 and without a key or a
    /// sequence number, which IPVS does not send.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`], [`Malformed::Version`].
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        let bytes = buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let gre = Gre { buffer: bytes };
        if gre.flags() & !CHECKSUM_PRESENT != 0 {
            return Err(Malformed::Version);
        }
        if bytes.len() < gre.header_len() {
            return Err(Malformed::Truncated);
        }
        Ok(Self { buffer })
    }

    #[inline]
    fn flags(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::FLAGS))
    }

    /// What the packet carries; see [`ethertype`](super::ethertype).
    #[inline]
    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::ETHERTYPE))
    }

    /// Bytes of the header.
    #[inline]
    pub fn header_len(&self) -> usize {
        if self.flags() & CHECKSUM_PRESENT != 0 { CHECKSUM_HEADER_LEN } else { HEADER_LEN }
    }
}

/// The header's bytes without a checksum.
#[inline]
pub fn plain(ethertype: u16) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    write(&mut bytes, field::ETHERTYPE, &ethertype.to_be_bytes());
    bytes
}

/// The header's bytes with a checksum over itself and `payload`.
#[inline]
pub fn with_checksum(ethertype: u16, payload: Sum) -> [u8; CHECKSUM_HEADER_LEN] {
    let mut bytes = [0; CHECKSUM_HEADER_LEN];
    write(&mut bytes, field::FLAGS, &CHECKSUM_PRESENT.to_be_bytes());
    write(&mut bytes, field::ETHERTYPE, &ethertype.to_be_bytes());
    let header = Sum::word(CHECKSUM_PRESENT) + Sum::word(ethertype);
    let check = (header + payload).finish();
    write(&mut bytes, field::CHECKSUM, &check.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn a_header_is_its_bytes() {
        assert_eq!(plain(0x86dd)[..], hex("000086dd"));
        // The sum of both words is 0x8000 + 0x0800; any payload that sums to 0xffff adds nothing.
        assert_eq!(with_checksum(0x0800, Sum::of(&[0xff; 2]))[..], hex("8000080077ff0000"));
    }

    #[test]
    fn reads_both_headers_and_no_others() {
        let read =
            |text| Gre::new_checked(hex(text)).map(|gre| (gre.ethertype(), gre.header_len()));
        assert_eq!(read("000086dd"), Ok((0x86dd, 4)));
        assert_eq!(read("8000080077ff0000"), Ok((0x0800, 8)));
        assert_eq!(read("8000080077ff00"), Err(Malformed::Truncated));
        assert_eq!(read("000008"), Err(Malformed::Truncated));
        assert_eq!(read("2000080000000001"), Err(Malformed::Version), "a key");
        assert_eq!(read("0001880b"), Err(Malformed::Version), "version 1");
    }
}
