//! The ICMP header (RFC 792).

use super::{Malformed, read, write};

mod field {
    pub const TYPE: usize = 0;
    pub const CODE: usize = 1;
    pub const CHECKSUM: usize = 2;
    pub const REST: usize = 4;
}

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// The types that uvs knows by name.
pub mod kind {
    /// The answer to an echo.
    pub const ECHO_REPLY: u8 = 0;
    /// The packet could not be delivered.
    pub const DEST_UNREACHABLE: u8 = 3;
    /// A question for an answer (ping).
    pub const ECHO: u8 = 8;
    /// The receiver is overloaded; nobody sends it any more (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// The time to live was used up.
    pub const TIME_EXCEEDED: u8 = 11;
    /// A field of the IP header makes no sense.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// A view of an ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp4<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Icmp4<T> {
    /// The view of a message that holds the header.
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

    /// The message's type; see [`kind`].
    #[inline]
    pub fn kind(&self) -> u8 {
        self.buffer.as_ref()[field::TYPE]
    }

    /// The code, which says more about the type.
    #[inline]
    pub fn code(&self) -> u8 {
        self.buffer.as_ref()[field::CODE]
    }

    /// The checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::CHECKSUM))
    }

    /// The last four bytes of the header, whose meaning is the type's.
    #[inline]
    pub fn rest(&self) -> [u8; 4] {
        read(self.buffer.as_ref(), field::REST)
    }

    /// Whether no error may be sent about this message: all but the queries and their answers
    /// (echo, timestamp, information, address mask) count as errors (RFC 1122, 3.2.2).
    #[inline]
    pub fn is_error(&self) -> bool {
        !matches!(self.kind(), kind::ECHO_REPLY | kind::ECHO | 13..=18)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmp4<T> {
    /// Sets the type.
    #[inline]
    pub fn set_kind(&mut self, kind: u8) {
        self.buffer.as_mut()[field::TYPE] = kind;
    }

    /// Sets the code.
    #[inline]
    pub fn set_code(&mut self, code: u8) {
        self.buffer.as_mut()[field::CODE] = code;
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, check: u16) {
        write(self.buffer.as_mut(), field::CHECKSUM, &check.to_be_bytes());
    }

    /// Sets the last four bytes of the header.
    #[inline]
    pub fn set_rest(&mut self, rest: [u8; 4]) {
        write(self.buffer.as_mut(), field::REST, &rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    #[test]
    fn reads_a_message() {
        let icmp = Icmp4::new_checked(hex("0304b67e00000564")).unwrap();
        assert_eq!((icmp.kind(), icmp.code()), (kind::DEST_UNREACHABLE, 4));
        assert_eq!((icmp.checksum(), icmp.rest()), (0xb67e, [0, 0, 5, 0x64]));
    }

    #[test]
    fn writes_a_message() {
        let mut icmp = Icmp4::new_checked([0; 8]).unwrap();
        icmp.set_kind(11);
        icmp.set_code(1);
        icmp.set_checksum(0x1234);
        icmp.set_rest([5, 6, 7, 8]);
        assert_eq!(icmp.buffer, [11, 1, 0x12, 0x34, 5, 6, 7, 8]);
    }

    #[test]
    fn a_short_message_is_truncated() {
        assert_eq!(Icmp4::new_checked([0; 7]).err(), Some(Malformed::Truncated));
    }

    #[test]
    fn only_queries_are_no_errors() {
        let error = |kind| Icmp4::new_checked([kind, 0, 0, 0, 0, 0, 0, 0]).unwrap().is_error();
        let queries: Vec<u8> = (0..=255).filter(|kind| !error(*kind)).collect();
        assert_eq!(queries, [0, 8, 13, 14, 15, 16, 17, 18]);
    }
}
