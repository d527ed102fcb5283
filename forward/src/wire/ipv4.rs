//! The IPv4 header (RFC 791).

use super::{Malformed, read, write};
use crate::checksum::{Sum, update};

mod field {
    pub const VERSION_IHL: usize = 0;
    pub const TOS: usize = 1;
    pub const TOTAL_LEN: usize = 2;
    pub const ID: usize = 4;
    pub const FLAGS_FRAGMENT: usize = 6;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: usize = 10;
    pub const SRC: usize = 12;
    pub const DST: usize = 16;
}

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of options at most.
pub const MAX_OPTIONS: usize = 40;

const DF: u16 = 0x4000;
const MF: u16 = 0x2000;

/// What the header checksum takes in when the time to live, the high byte of its word, goes down
/// by one.
pub(crate) const TTL_DOWN: Sum = Sum::change16(0x0100, 0);

/// A view of an IPv4 packet or of its header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv4<T> {
    /// The view of a packet that the kernel's `ip_rcv` would take: version 4, a whole header, a
    /// total length that the buffer holds, a right header checksum. Bytes behind the total length
    /// are padding.
    ///
    /// # Errors
    ///
    /// Any [`Malformed`] that is about IPv4.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        let bytes = buffer.as_ref();
        if bytes.len() < HEADER_LEN {
            return Err(Malformed::Truncated);
        }
        let ip = Ipv4 { buffer: bytes };
        let (header_len, total_len) = (ip.header_len(), usize::from(ip.total_len()));
        if bytes[field::VERSION_IHL] >> 4 != 4 {
            return Err(Malformed::Version);
        }
        if header_len < HEADER_LEN || total_len < header_len {
            return Err(Malformed::HeaderLength);
        }
        if bytes.len() < total_len {
            return Err(Malformed::TotalLength);
        }
        // The sum over a header with its right checksum is 0xffff.
        let check = match bytes.first_chunk::<HEADER_LEN>() {
            // A length known when compiled needs no loop: 2 ns instead of 8.
            Some(header) if header_len == HEADER_LEN => Sum::of(header).finish(),
            _ => sum_with_options(&bytes[..header_len]),
        };
        if check != 0 {
            return Err(Malformed::Checksum);
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

    /// Bytes of the header, options included.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[field::VERSION_IHL] & 0x0f) * 4
    }

    /// Whether options follow the header's 20 bytes.
    #[inline]
    pub fn has_options(&self) -> bool {
        self.header_len() > HEADER_LEN
    }

    /// Type of service: six bits of DSCP, two of ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.buffer.as_ref()[field::TOS]
    }

    /// Bytes of the packet, header included.
    #[inline]
    pub fn total_len(&self) -> u16 {
        self.be16(field::TOTAL_LEN)
    }

    /// Identification, common to all fragments of a packet.
    #[inline]
    pub fn id(&self) -> u16 {
        self.be16(field::ID)
    }

    /// Whether the packet may not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.be16(field::FLAGS_FRAGMENT) & DF != 0
    }

    /// Whether more fragments follow.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.be16(field::FLAGS_FRAGMENT) & MF != 0
    }

    /// Where this fragment's payload begins in the whole packet's, in bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.be16(field::FLAGS_FRAGMENT) & 0x1fff) * 8
    }

    /// Whether this is a part of a packet only.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.be16(field::FLAGS_FRAGMENT) & !DF & 0x3fff != 0
    }

    /// Time to live, in hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.buffer.as_ref()[field::TTL]
    }

    /// What the packet carries; see [`protocol`](super::protocol).
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.buffer.as_ref()[field::PROTOCOL]
    }

    /// The header checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.be16(field::CHECKSUM)
    }

    /// The sender.
    #[inline]
    pub fn src(&self) -> [u8; 4] {
        read(self.buffer.as_ref(), field::SRC)
    }

    /// The receiver.
    #[inline]
    pub fn dst(&self) -> [u8; 4] {
        read(self.buffer.as_ref(), field::DST)
    }
}

/// Apart, so that the compiler does not fold the usual header into this one's loop.
#[cold]
#[inline(never)]
fn sum_with_options(header: &[u8]) -> u16 {
    Sum::of(header).finish()
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv4<T> {
    /// Sets the header checksum.
    #[inline]
    pub fn set_checksum(&mut self, check: u16) {
        write(self.buffer.as_mut(), field::CHECKSUM, &check.to_be_bytes());
    }

    /// Sets the sender.
    #[inline]
    pub fn set_src(&mut self, address: [u8; 4]) {
        write(self.buffer.as_mut(), field::SRC, &address);
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_dst(&mut self, address: [u8; 4]) {
        write(self.buffer.as_mut(), field::DST, &address);
    }

    /// Takes a change of the header into its checksum.
    #[inline]
    pub(crate) fn update_checksum(&mut self, change: Sum) {
        let check = update(self.checksum(), change);
        self.set_checksum(check);
    }

    /// Computes the header checksum anew.
    pub(crate) fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let header_len = self.header_len();
        let check = Sum::of(&self.buffer.as_ref()[..header_len]).finish();
        self.set_checksum(check);
    }

    /// Sets the length of the packet, the header's included.
    #[inline]
    pub(crate) fn set_total_len(&mut self, len: u16) {
        write(self.buffer.as_mut(), field::TOTAL_LEN, &len.to_be_bytes());
    }

    /// Sets the identification.
    #[inline]
    pub(crate) fn set_id(&mut self, id: u16) {
        write(self.buffer.as_mut(), field::ID, &id.to_be_bytes());
    }

    /// Sets type of service.
    #[inline]
    pub(crate) fn set_tos(&mut self, tos: u8) {
        self.buffer.as_mut()[field::TOS] = tos;
    }

    /// Sets what the header says of fragments: whether there may be any, whether more follow, and
    /// where this one's payload begins, a multiple of 8 bytes.
    #[inline]
    pub(crate) fn set_fragment(&mut self, dont_fragment: bool, more: bool, offset: u16) {
        let flags = if dont_fragment { DF } else { 0 } | if more { MF } else { 0 };
        let flags_fragment = flags | (offset / 8);
        write(self.buffer.as_mut(), field::FLAGS_FRAGMENT, &flags_fragment.to_be_bytes());
    }

    /// Takes one off the time to live, which is not 0, and brings the checksum up to date with
    /// that.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        self.decrement_ttl_and(Sum::NOTHING);
    }

    /// Makes the packet `more` bytes longer, or shorter.
    pub fn grow(&mut self, more: i16) {
        let (old, new) = (self.total_len(), self.total_len().wrapping_add_signed(more));
        write(self.buffer.as_mut(), field::TOTAL_LEN, &new.to_be_bytes());
        let check = update(self.checksum(), Sum::change16(old, new));
        self.set_checksum(check);
    }

    /// As [`decrement_ttl`](Self::decrement_ttl), with another change of the header taken into
    /// the checksum.
    #[inline(always)]
    pub(crate) fn decrement_ttl_and(&mut self, change: Sum) {
        let check = update(self.checksum(), change + TTL_DOWN);
        self.set_checksum(check);
        let ttl = &mut self.buffer.as_mut()[field::TTL];
        *ttl = ttl.wrapping_sub(1);
    }
}

/// The fields of an IPv4 header without options, of a packet that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Type of service.
    pub tos: u8,
    /// Bytes of the packet, header included.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Whether the packet may not be fragmented.
    pub dont_fragment: bool,
    /// Time to live, in hops.
    pub ttl: u8,
    /// What the packet carries.
    pub protocol: u8,
    /// The sender.
    pub src: [u8; 4],
    /// The receiver.
    pub dst: [u8; 4],
}

impl Ipv4Header {
    /// The header's bytes, checksum included.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let flags = if self.dont_fragment { DF } else { 0 };
        let word = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
        let first = word(0x4500 | u16::from(self.tos), self.total_len);
        let second = word(self.id, flags);
        let third = word(u16::from_be_bytes([self.ttl, self.protocol]), 0);
        let (src, dst) = (u32::from_be_bytes(self.src), u32::from_be_bytes(self.dst));
        // Summed word by word: to read back what was just written in pieces takes longer.
        let sum = [first, second, third, src, dst].into_iter().map(Sum::word32);
        let check = sum.fold(Sum::NOTHING, |sum, word| sum + word).finish();
        let words = [first, second, third | u32::from(check), src, dst];
        let mut bytes = [0; HEADER_LEN];
        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_be_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    const UDP: &str = "45b80021004e40003d11c466ac1003070a0000019c400050000d5a437175657279";

    /// The packet with a right header checksum.
    fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
        let header_len = (usize::from(bytes[0] & 15) * 4).clamp(20, bytes.len());
        bytes[10..12].fill(0);
        let check = Sum::of(&bytes[..header_len]).finish();
        bytes[10..12].copy_from_slice(&check.to_be_bytes());
        bytes
    }

    fn error(bytes: &[u8]) -> Option<Malformed> {
        Ipv4::new_checked(bytes).err()
    }

    #[test]
    fn reads_a_header() {
        let ip = Ipv4::new_checked(summed(hex(UDP))).unwrap();
        assert_eq!((ip.header_len(), ip.has_options(), ip.tos()), (20, false, 0xb8));
        assert_eq!((ip.total_len(), ip.id(), ip.ttl(), ip.protocol()), (33, 0x4e, 61, 17));
        assert!(ip.dont_fragment() && !ip.more_fragments() && !ip.is_fragment());
        assert_eq!((ip.src(), ip.dst()), ([172, 16, 3, 7], [10, 0, 0, 1]));
    }

    #[test]
    fn reads_fragments() {
        let mut bytes = hex(UDP);
        bytes[6..8].copy_from_slice(&[0x20, 0xb9]);
        let ip = Ipv4::new_checked(summed(bytes.clone())).unwrap();
        assert!(ip.more_fragments() && ip.is_fragment() && !ip.dont_fragment());
        assert_eq!(ip.fragment_offset(), 1480);
        bytes[6..8].copy_from_slice(&[0x20, 0]);
        assert!(Ipv4::new_checked(summed(bytes.clone())).unwrap().is_fragment());
        bytes[6..8].copy_from_slice(&[0, 1]);
        assert!(Ipv4::new_checked(summed(bytes)).unwrap().is_fragment());
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = summed(hex(UDP));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            error(&summed(bytes))
        };
        assert_eq!(error(&good), None);
        assert_eq!(error(&good[..19]), Some(Malformed::Truncated));
        assert_eq!(error(&good[..32]), Some(Malformed::TotalLength));
        assert_eq!(with(0, 0x65), Some(Malformed::Version));
        assert_eq!(with(0, 0x44), Some(Malformed::HeaderLength));
        assert_eq!(with(0, 0x4f), Some(Malformed::HeaderLength), "60 bytes of 33");
        assert_eq!(with(3, 19), Some(Malformed::HeaderLength));
        assert_eq!(with(3, 34), Some(Malformed::TotalLength));
        let mut bad = good.clone();
        bad[10] ^= 1;
        assert_eq!(error(&bad), Some(Malformed::Checksum));
    }

    #[test]
    fn padding_is_allowed_and_options_are_seen() {
        let mut bytes = summed(hex(UDP));
        bytes.extend([0xee; 13]);
        assert_eq!(error(&bytes), None);
        // Recorded: hdr_dr_v4, opt_ra.
        let router_alert = hex("4600002c0014000040062c9cac1003070a00000194040000157e005000000\
                                3e80000000050022000bd140000");
        let ip = Ipv4::new_checked(router_alert).unwrap();
        assert_eq!((ip.header_len(), ip.has_options()), (24, true));
    }

    #[test]
    fn a_header_is_its_bytes() {
        // Recorded: hdr_tun_ipip_v4, df.
        let header = Ipv4Header {
            tos: 0,
            total_len: 60,
            id: 0,
            dont_fragment: true,
            ttl: 63,
            protocol: 4,
            src: [10, 0, 1, 254],
            dst: [10, 0, 1, 1],
        };
        assert_eq!(header.to_bytes()[..], hex("4500003c000040003f0424c00a0001fe0a000101"));
    }

    proptest! {
        #[test]
        fn a_lower_ttl_has_its_full_checksum(bytes: [u8; 20], ttl in 1u8..) {
            let mut bytes = bytes.to_vec();
            bytes[0] = 0x45;
            bytes[8] = ttl;
            let mut ip = Ipv4::new_unchecked(summed(bytes));
            ip.decrement_ttl();
            prop_assert_eq!(ip.ttl(), ttl - 1);
            prop_assert_eq!(ip.buffer.clone(), summed(ip.buffer));
        }

        #[test]
        fn no_accessor_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            ihl in 0u8..16, len in 0u8..80, right: bool,
        ) {
            let mut bytes = bytes;
            if right && bytes.len() >= 20 {
                bytes[0] = 0x40 | ihl;
                bytes[2..4].copy_from_slice(&[0, len]);
                bytes = summed(bytes);
            }
            if let Ok(mut ip) = Ipv4::new_checked(&mut bytes[..]) {
                let _ = (ip.tos(), ip.id(), ip.dont_fragment(), ip.more_fragments());
                let _ = (ip.fragment_offset(), ip.is_fragment(), ip.protocol(), ip.checksum());
                let _ = (ip.src(), ip.dst());
                ip.decrement_ttl();
                ip.set_src([0; 4]);
                ip.set_dst([0; 4]);
                ip.set_checksum(0);
                let (header_len, total_len) = (ip.header_len(), usize::from(ip.total_len()));
                prop_assert!(20 <= header_len && header_len <= total_len);
                prop_assert!(total_len <= bytes.len());
            }
        }
    }
}
