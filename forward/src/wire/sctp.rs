//! The SCTP common header and the header of its first chunk (RFC 9260).

use super::{Malformed, read, write};

mod field {
    pub const SRC_PORT: usize = 0;
    pub const DST_PORT: usize = 2;
    pub const CHECKSUM: usize = 8;
    pub const FIRST_CHUNK_TYPE: usize = 12;
}

/// Bytes of the common header and one chunk's header.
pub const HEADER_LEN: usize = 16;

/// A view of an SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Sctp<T> {
    /// The view of a packet that holds the common header and one chunk's header.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        Ok(Self { buffer })
    }

    /// The view of bytes that were checked before, or whose type says that they are enough.
    #[inline]
    pub fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    #[inline]
    fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), at))
    }

    /// The sender's port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.be16(field::SRC_PORT)
    }

    /// The receiver's port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.be16(field::DST_PORT)
    }

    /// The CRC32c, in the order of its bytes.
    #[inline]
    pub fn checksum(&self) -> [u8; 4] {
        read(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// The type of the first chunk: 0 is DATA, 1 is INIT.
    #[inline]
    pub fn first_chunk_type(&self) -> u8 {
        self.buffer.as_ref()[field::FIRST_CHUNK_TYPE]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Sctp<T> {
    /// Sets the sender's port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        write(self.buffer.as_mut(), field::SRC_PORT, &port.to_be_bytes());
    }

    /// Sets the receiver's port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        write(self.buffer.as_mut(), field::DST_PORT, &port.to_be_bytes());
    }

    /// Sets the CRC32c.
    #[inline]
    pub fn set_checksum(&mut self, crc: [u8; 4]) {
        write(self.buffer.as_mut(), field::CHECKSUM, &crc);
    }
}

/// Computes the CRC32c of a packet anew (RFC 9260, appendix A): over all of it, with zeros where
/// the CRC itself stands. A packet shorter than the common header has none.
///
/// The crate uses the processor's instruction where there is one.
#[inline]
pub fn fill_crc(packet: &mut [u8]) {
    let Some(field) = packet.get_mut(field::CHECKSUM..field::CHECKSUM + 4) else { return };
    field.fill(0);
    let crc = crc32c::crc32c(packet).to_le_bytes();
    packet[field::CHECKSUM..field::CHECKSUM + 4].copy_from_slice(&crc);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const INIT: &str = "9c40005000000000aabbccdd01000014";

    #[test]
    fn reads_a_packet() {
        let sctp = Sctp::new_checked(hex(INIT)).unwrap();
        assert_eq!((sctp.src_port(), sctp.dst_port()), (40000, 80));
        assert_eq!((sctp.checksum(), sctp.first_chunk_type()), ([0xaa, 0xbb, 0xcc, 0xdd], 1));
    }

    #[test]
    fn writes_ports_and_crc() {
        let mut sctp = Sctp::new_checked(hex(INIT)).unwrap();
        sctp.set_src_port(1);
        sctp.set_dst_port(2);
        sctp.set_checksum([1, 2, 3, 4]);
        assert_eq!(sctp.buffer, hex("00010002000000000102030401000014"));
    }

    #[test]
    fn the_crc_of_a_recorded_packet() {
        // Recorded: nat_v6_sctp, cookieack, before and after the port changed.
        let before = hex("1f909c40000000015f79f0db0b000004");
        let after = hex("00509c400000000155f63b2c0b000004");
        for packet in [before, after] {
            let mut wrong = packet.clone();
            wrong[9] ^= 1;
            fill_crc(&mut wrong);
            assert_eq!(wrong, packet);
        }
        let mut short = [7; 11];
        fill_crc(&mut short);
        assert_eq!(short, [7; 11]);
    }

    #[test]
    fn a_chunk_header_is_needed() {
        assert_eq!(Sctp::new_checked(&hex(INIT)[..15]).err(), Some(Malformed::Truncated));
    }
}
