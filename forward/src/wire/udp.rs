//! The UDP header (RFC 768).

use super::{Malformed, read, write};
use crate::checksum::Sum;

mod field {
    pub const SRC_PORT: usize = 0;
    pub const DST_PORT: usize = 2;
    pub const LENGTH: usize = 4;
    pub const CHECKSUM: usize = 6;
}

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// A view of a UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Udp<T> {
    /// The view of a datagram that holds the header. Its length field is not looked at: IPVS does
    /// not either.
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

    /// Bytes of the datagram, header included, as the sender says.
    #[inline]
    pub fn length(&self) -> u16 {
        self.be16(field::LENGTH)
    }

    /// The checksum; 0 when the sender made none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.be16(field::CHECKSUM)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Udp<T> {
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

    /// Sets the checksum as it is; see [`checksum::udp`](crate::checksum::udp) for 0.
    #[inline]
    pub fn set_checksum(&mut self, check: u16) {
        self.set_be16(field::CHECKSUM, check);
    }
}

/// The fields of a UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeader {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// Bytes of the datagram, header included.
    pub length: u16,
    /// The checksum.
    pub checksum: u16,
}

impl UdpHeader {
    /// The header's bytes.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let fields = [self.src_port, self.dst_port, self.length, self.checksum];
        let mut bytes = [0; HEADER_LEN];
        for (bytes, field) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(fields) {
            *bytes = field.to_be_bytes();
        }
        bytes
    }

    /// The sum of the fields, of the checksum too.
    #[inline]
    pub(crate) fn sum(&self) -> Sum {
        let ports = Sum::word(self.src_port) + Sum::word(self.dst_port);
        ports + Sum::word(self.length) + Sum::word(self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const QUERY: &str = "9c400050000d5a437175657279";

    #[test]
    fn reads_a_datagram() {
        let udp = Udp::new_checked(hex(QUERY)).unwrap();
        assert_eq!((udp.src_port(), udp.dst_port()), (40000, 80));
        assert_eq!((udp.length(), udp.checksum()), (13, 0x5a43));
    }

    #[test]
    fn writes_ports_and_checksum() {
        let mut udp = Udp::new_checked(hex(QUERY)).unwrap();
        udp.set_src_port(0x1234);
        udp.set_dst_port(0x5678);
        udp.set_checksum(0x9abc);
        assert_eq!(udp.buffer, hex("12345678000d9abc7175657279"));
    }

    #[test]
    fn a_header_is_its_bytes() {
        let header = UdpHeader { src_port: 40000, dst_port: 80, length: 13, checksum: 0x5a43 };
        assert_eq!(header.to_bytes()[..], hex(QUERY)[..8]);
    }

    #[test]
    fn the_header_is_enough_and_needed() {
        let bytes = hex(QUERY);
        assert!(Udp::new_checked(&bytes[..8]).is_ok());
        assert_eq!(Udp::new_checked(&bytes[..7]).err(), Some(Malformed::Truncated));
    }
}
