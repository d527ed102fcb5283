//! The ICMPv6 header (RFC 4443).

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
    /// The packet could not be delivered.
    pub const DEST_UNREACHABLE: u8 = 1;
    /// The packet is too big for the next link.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// The hop limit was used up.
    pub const TIME_EXCEEDED: u8 = 3;
    /// The first type that is no error: an echo, a neighbour's solicitation ...
    pub const INFORMATIONAL: u8 = 128;
    /// Another router is nearer. No error by its number, but nothing to answer with one either.
    pub const REDIRECT: u8 = 137;
}

/// A view of an ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp6<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Icmp6<T> {
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

    /// The checksum, which covers a pseudo header too.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::CHECKSUM))
    }

    /// The last four bytes of the header, whose meaning is the type's.
    #[inline]
    pub fn rest(&self) -> [u8; 4] {
        read(self.buffer.as_ref(), field::REST)
    }

    /// Whether the message tells of a packet that failed.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.kind() < kind::INFORMATIONAL
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Icmp6<T> {
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
        let icmp = Icmp6::new_checked(hex("02001234000005a8")).unwrap();
        assert_eq!((icmp.kind(), icmp.code()), (kind::PACKET_TOO_BIG, 0));
        assert_eq!((icmp.checksum(), icmp.rest()), (0x1234, [0, 0, 5, 0xa8]));
        assert!(icmp.is_error());
        assert!(!Icmp6::new_unchecked([128]).is_error());
    }

    #[test]
    fn writes_a_message() {
        let mut icmp = Icmp6::new_checked([0; 8]).unwrap();
        icmp.set_kind(3);
        icmp.set_code(1);
        icmp.set_checksum(0x1234);
        icmp.set_rest([5, 6, 7, 8]);
        assert_eq!(icmp.buffer, [3, 1, 0x12, 0x34, 5, 6, 7, 8]);
    }

    #[test]
    fn a_short_message_is_truncated() {
        assert_eq!(Icmp6::new_checked([0; 7]).err(), Some(Malformed::Truncated));
    }
}
