//! The TCP header (RFC 9293).

use super::{Malformed, read, write};

mod field {
    pub const SRC_PORT: usize = 0;
    pub const DST_PORT: usize = 2;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;
}

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;

/// Flags, as bits of [`Tcp::flags`].
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers: a connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is reset.
    pub const RST: u8 = 0x04;
    /// Data is to be handed on at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement is valid.
    pub const ACK: u8 = 0x10;
    /// The sender has slowed down, as it was told (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// A view of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Tcp<T> {
    /// The view of a segment that holds the header's 20 fixed bytes. Its data offset is not
    /// looked at: IPVS does not either.
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

    /// The flags, CWR in the highest bit and FIN in the lowest; see [`flag`].
    #[inline]
    pub fn flags(&self) -> u8 {
        self.buffer.as_ref()[field::FLAGS]
    }

    /// The checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.be16(field::CHECKSUM)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
    #[inline]
    fn set_be16(&mut self, at: usize, value: u16) {
        write(self.buffer.as_mut(), at, &value.to_be_bytes());
    }

    /// Sets the sender's port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        self.set_be16(field::SRC_PORT, port);
    }

    /// Sets the receiver's port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        self.set_be16(field::DST_PORT, port);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, check: u16) {
        self.set_be16(field::CHECKSUM, check);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const SYN: &str = "9c4000500000006400000000a0022000d1f20000020405b40402080a00000001";

    #[test]
    fn reads_a_segment() {
        let tcp = Tcp::new_checked(hex(SYN)).unwrap();
        assert_eq!((tcp.src_port(), tcp.dst_port()), (40000, 80));
        assert_eq!((tcp.flags(), tcp.checksum()), (flag::SYN, 0xd1f2));
    }

    #[test]
    fn writes_ports_and_checksum() {
        let mut tcp = Tcp::new_checked(hex(SYN)).unwrap();
        tcp.set_src_port(0x1234);
        tcp.set_dst_port(0x5678);
        tcp.set_checksum(0x9abc);
        assert_eq!(tcp.buffer, hex(&SYN.replace("9c400050", "12345678").replace("d1f2", "9abc")));
    }

    #[test]
    fn the_fixed_header_is_enough_and_needed() {
        let bytes = hex(SYN);
        assert!(Tcp::new_checked(&bytes[..20]).is_ok());
        assert_eq!(Tcp::new_checked(&bytes[..19]).err(), Some(Malformed::Truncated));
        let tcp = Tcp::new_checked([0xff; 20]).unwrap();
        assert_eq!((tcp.src_port(), tcp.flags(), tcp.checksum()), (0xffff, 0xff, 0xffff));
    }
}
