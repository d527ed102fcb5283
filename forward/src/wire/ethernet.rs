//! Ethernet II, with up to two VLAN tags (802.1Q, 802.1ad).

use super::{Malformed, ethertype, read, write};

mod field {
    pub const DST: usize = 0;
    pub const SRC: usize = 6;
}

/// Bytes of the header without tags.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// Tags that are skipped; a frame with more is not looked into.
pub const MAX_TAGS: usize = 2;
/// Bytes of the header with all its tags.
pub const MAX_HEADER_LEN: usize = HEADER_LEN + MAX_TAGS * TAG_LEN;

/// A view of an Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ethernet<T> {
    /// The view of a frame that holds the whole header, tags included.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        let bytes = buffer.as_ref();
        let mut len = HEADER_LEN;
        while bytes.len() >= len && len < MAX_HEADER_LEN && is_tag(be16(bytes, len - 2)) {
            len += TAG_LEN;
        }
        if bytes.len() < len { Err(Malformed::Truncated) } else { Ok(Self { buffer }) }
    }

    /// The view of a frame that was checked before.
    #[inline]
    pub fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// The receiver's address.
    #[inline]
    pub fn dst(&self) -> [u8; 6] {
        read(self.buffer.as_ref(), field::DST)
    }

    /// The sender's address.
    #[inline]
    pub fn src(&self) -> [u8; 6] {
        read(self.buffer.as_ref(), field::SRC)
    }

    /// Whether the frame went to more than one receiver (broadcast is a kind of multicast).
    #[inline]
    pub fn is_multicast(&self) -> bool {
        self.dst()[0] & 1 != 0
    }

    /// What the frame carries, behind its tags.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        be16(self.buffer.as_ref(), self.header_len() - 2)
    }

    /// Where the payload begins: bytes of the header, tags included.
    #[inline]
    pub fn header_len(&self) -> usize {
        let bytes = self.buffer.as_ref();
        let mut len = HEADER_LEN;
        while len < MAX_HEADER_LEN && is_tag(be16(bytes, len - 2)) {
            len += TAG_LEN;
        }
        len
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ethernet<T> {
    /// Sets the receiver's address.
    #[inline]
    pub fn set_dst(&mut self, address: [u8; 6]) {
        write(self.buffer.as_mut(), field::DST, &address);
    }

    /// Sets the sender's address.
    #[inline]
    pub fn set_src(&mut self, address: [u8; 6]) {
        write(self.buffer.as_mut(), field::SRC, &address);
    }
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(read(bytes, at))
}

#[inline]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::QINQ)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    const ADDRESSES: &str = "0200000000c10200000000c0";

    fn view(rest: &str) -> Result<Ethernet<Vec<u8>>, Malformed> {
        Ethernet::new_checked(hex(&format!("{ADDRESSES}{rest}")))
    }

    #[test]
    fn reads_the_header() {
        let ethernet = view("0800").unwrap();
        assert_eq!(ethernet.dst(), [2, 0, 0, 0, 0, 0xc1]);
        assert_eq!(ethernet.src(), [2, 0, 0, 0, 0, 0xc0]);
        assert_eq!((ethernet.ethertype(), ethernet.header_len()), (0x0800, 14));
        assert!(!ethernet.is_multicast());
    }

    #[test]
    fn skips_up_to_two_tags() {
        let tagged = |rest| view(rest).map(|e| (e.ethertype(), e.header_len()));
        assert_eq!(tagged("810000640800"), Ok((0x0800, 18)));
        assert_eq!(tagged("88a80064810000c80800"), Ok((0x0800, 22)));
        assert_eq!(tagged("88a80064810000c88100006408000000"), Ok((0x8100, 22)));
    }

    #[test]
    fn a_cut_tag_is_truncated() {
        for rest in ["08", "8100", "81000064", "8100006408", "88a80064810000c8"] {
            assert_eq!(view(rest).err(), Some(Malformed::Truncated), "{rest}");
        }
    }

    #[test]
    fn writes_the_addresses() {
        let mut ethernet = view("0800").unwrap();
        ethernet.set_dst([0xff; 6]);
        ethernet.set_src([7; 6]);
        assert_eq!(ethernet.buffer, hex("ffffffffffff0707070707070800"));
        assert!(ethernet.is_multicast());
    }

    proptest! {
        #[test]
        fn no_accessor_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..40), tags in 0usize..4,
        ) {
            for tag in 0..tags {
                if let Some(ethertype) = bytes.get_mut(12 + 4 * tag..14 + 4 * tag) {
                    ethertype.copy_from_slice(&[0x81, 0]);
                }
            }
            if let Ok(mut ethernet) = Ethernet::new_checked(&mut bytes[..]) {
                let _ = (ethernet.dst(), ethernet.src(), ethernet.ethertype());
                ethernet.set_dst([0; 6]);
                ethernet.set_src([0; 6]);
                prop_assert!(ethernet.header_len() <= bytes.len());
            }
        }
    }
}
