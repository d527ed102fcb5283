//! The internet checksum (RFC 1071): in full, and brought up to date after a change (RFC 1624).

use std::ops::Add;

/// A one's complement sum of 16-bit big-endian words, not yet folded.
///
/// Sums of parts add up to the sum of the whole as long as each part but the last has an even
/// number of bytes. 64 bits hold more words than any packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd last byte counts as if a zero byte followed.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        // Summed as little-endian words, eight bytes each: the byte order only swaps the two bytes
        // of the result (RFC 1071, 2B), and that is what times 256 does modulo 65535.
        let mut sum = 0u128;
        let mut add = |words: &[u8]| {
            for word in words.as_chunks::<8>().0 {
                sum += u128::from(u64::from_le_bytes(*word));
            }
        };
        // Lengths known when compiled need no loops; short packets get by with two of these.
        let (large, mut left) = bytes.as_chunks::<32>();
        large.iter().for_each(|part| add(part));
        if let Some((part, behind)) = left.split_first_chunk::<16>() {
            add(part);
            left = behind;
        }
        if let Some((part, behind)) = left.split_first_chunk::<8>() {
            add(part);
            left = behind;
        }
        sum += u128::from(rest(bytes, left.len()));
        let carries = (sum >> 64) as u64;
        Self((halves(sum as u64) + carries) << 8)
    }

    /// The sum of the two words that 32 bits are.
    #[inline]
    pub const fn word32(words: u32) -> Self {
        Self(words as u64)
    }

    /// The sum of one word.
    #[inline]
    pub const fn word(word: u16) -> Self {
        Self(word as u64)
    }

    /// The sum of the pseudo header of TCP and UDP over IPv4 (RFC 768, RFC 9293). `len` is that of
    /// the transport header and its payload, in bytes.
    #[inline]
    pub const fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u16) -> Self {
        let addresses = u32::from_be_bytes(src) as u64 + u32::from_be_bytes(dst) as u64;
        Self(addresses + protocol as u64 + len as u64)
    }

    /// The sum of the pseudo header over IPv6 (RFC 8200, 8.1).
    #[inline]
    pub const fn pseudo_v6(src: [u8; 16], dst: [u8; 16], protocol: u8, len: u32) -> Self {
        let (src, dst) = (words(u128::from_be_bytes(src)), words(u128::from_be_bytes(dst)));
        Self(src + dst + protocol as u64 + len as u64)
    }

    /// The sum that adds nothing.
    pub const NOTHING: Self = Self(0);

    /// What a checksum has to take in when a 16-bit word goes from `old` to `new`; for
    /// [`update`].
    #[inline]
    pub const fn change16(old: u16, new: u16) -> Self {
        Self(!old as u64 + new as u64)
    }

    /// As [`change16`](Self::change16) for 32 bits that begin at an even byte.
    #[inline]
    pub const fn change32(old: u32, new: u32) -> Self {
        Self(!old as u64 + new as u64)
    }

    /// What a checksum has to take in when the bytes of this sum go away; for [`update`].
    #[inline]
    #[must_use]
    pub const fn removed(self) -> Self {
        Self(!fold(self.0) as u64)
    }

    /// As [`change32`](Self::change32) for 128 bits.
    #[inline]
    pub const fn change128(old: u128, new: u128) -> Self {
        Self(words(!old) + words(new))
    }

    /// The sum folded to 16 bits, not complemented: what the checksum field of an unfinished frame
    /// holds of the pseudo header.
    #[inline]
    pub const fn folded(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: folded to 16 bits and complemented.
    #[inline]
    pub const fn finish(self) -> u16 {
        !fold(self.0)
    }
}

impl Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// `check` after `change`: equation 3 of RFC 1624. A wrong checksum stays as wrong as it was.
#[inline]
pub const fn update(check: u16, change: Sum) -> u16 {
    !fold(!check as u64 + change.0)
}

/// A computed UDP checksum as it is sent: 0 means that there is none, so 0 goes out as 0xffff,
/// its other form (RFC 768).
#[inline]
pub const fn udp(check: u16) -> u16 {
    if check == 0 { 0xffff } else { check }
}

/// The four words of 32 bits, added up.
#[inline]
const fn words(bits: u128) -> u64 {
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

/// The last `len` bytes, fewer than eight, that begin at a multiple of eight, as a word.
#[inline]
fn rest(bytes: &[u8], len: usize) -> u64 {
    if len == 0 {
        return 0;
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        // The eight bytes that end here, less those that belong to the word before.
        return u64::from_le_bytes(*last) >> (64 - 8 * len);
    }
    let mut word = [0; 8];
    word[..len].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[inline]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Adds up the four words of `sum`, carries at the top coming in again at the bottom: a half added
/// to both halves leaves their sum in the upper one, its carry included.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 in its plainest form.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624() {
        // Section 4: equation 2 would give 0xffff here.
        assert_eq!(update(0xdd2f, Sum::change16(0x5555, 0x3285)), 0x0000);
    }

    #[test]
    fn the_largest_sum_folds() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(Sum::of(&[0xff; 65535]).finish(), reference(&[0xff; 65535]));
        assert_eq!(Sum::of(&[]).finish(), 0xffff);
    }

    #[test]
    fn no_udp_checksum_is_sent_as_zero() {
        assert_eq!((udp(0), udp(1), udp(0xffff)), (0xffff, 1, 0xffff));
    }

    proptest! {
        #[test]
        fn full_equals_the_plain_form(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::of(&bytes).finish(), reference(&bytes));
        }

        #[test]
        fn fold_is_the_sum_modulo_ffff(sum: u64) {
            prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
            prop_assert_eq!(fold(sum) == 0, sum == 0);
        }

        #[test]
        fn parts_add_up(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100,
        ) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let (front, back) = bytes.split_at(cut);
            prop_assert_eq!((Sum::of(front) + Sum::of(back)).finish(), reference(&bytes));
        }

        #[test]
        fn update_equals_full(
            mut bytes in proptest::collection::vec(any::<u8>(), 8..200),
            at: proptest::sample::Index, new16: u16, new32: u32,
        ) {
            // A packet is never all zero, and only then do the two forms of zero differ.
            bytes[0] |= 0x40;
            let at = 2 + 2 * at.index((bytes.len() - 2) / 2 - 2);
            let old16 = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let check = Sum::of(&bytes).finish();
            bytes[at..at + 2].copy_from_slice(&new16.to_be_bytes());
            let check = update(check, Sum::change16(old16, new16));
            prop_assert_eq!(check, Sum::of(&bytes).finish());

            let old32 = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new32.to_be_bytes());
            let check = update(check, Sum::change32(old32, new32));
            prop_assert_eq!(check, Sum::of(&bytes).finish());
        }

        #[test]
        fn the_pseudo_header_is_its_bytes(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u16) {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&src);
            bytes[4..8].copy_from_slice(&dst);
            bytes[9] = protocol;
            bytes[10..].copy_from_slice(&len.to_be_bytes());
            prop_assert_eq!(Sum::pseudo_v4(src, dst, protocol, len).finish(), reference(&bytes));
        }

        #[test]
        fn the_pseudo_header_of_ipv6_is_its_bytes(
            src: [u8; 16], dst: [u8; 16], protocol: u8, len: u32,
        ) {
            let len_bytes = len.to_be_bytes();
            let bytes = [&src[..], &dst, &len_bytes, &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(Sum::pseudo_v6(src, dst, protocol, len).finish(), reference(&bytes));
        }

        #[test]
        fn a_change_of_an_address_equals_full(old: [u8; 16], new: [u8; 16], rest in 1u16..) {
            let sum = |address: [u8; 16]| Sum::of(&address) + Sum::of(&rest.to_be_bytes());
            let change = Sum::change128(u128::from_be_bytes(old), u128::from_be_bytes(new));
            prop_assert_eq!(update(sum(old).finish(), change), sum(new).finish());
        }
    }
}
