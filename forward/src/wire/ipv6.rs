//! The IPv6 header (RFC 8200). What may stand between it and the transport header is in
//! [`extension`](super::extension).

use super::{Malformed, read, write};

mod field {
    pub const VERSION_CLASS_LABEL: usize = 0;
    pub const PAYLOAD_LEN: usize = 4;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SRC: usize = 8;
    pub const DST: usize = 24;
}

/// Bytes of the header.
pub const HEADER_LEN: usize = 40;

/// The packet size that every link carries (RFC 8200, section 5), in bytes.
pub const MIN_MTU: u16 = 1280;

/// A view of an IPv6 packet or of its header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Ipv6<T> {
    /// The view of a packet that the kernel's `ip6_rcv_core` would take: version 6, a whole
    /// header, a payload length that the buffer holds. Bytes behind the payload are padding.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`], [`Malformed::Version`], [`Malformed::TotalLength`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        let bytes = buffer.as_ref();
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let ip = Ipv6 { buffer: header };
        if header[field::VERSION_CLASS_LABEL] >> 4 != 6 {
            return Err(Malformed::Version);
        }
        if bytes.len() - HEADER_LEN < usize::from(ip.payload_len()) {
            return Err(Malformed::TotalLength);
        }
        Ok(Self { buffer })
    }

    /// The view of bytes that were checked before, or whose type says that they are enough.
    #[inline]
    pub fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    #[inline]
    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(read(self.buffer.as_ref(), at))
    }

    /// Traffic class: six bits of DSCP, two of ECN, as IPv4's type of service.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.be32(field::VERSION_CLASS_LABEL) >> 20) as u8
    }

    /// The flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.be32(field::VERSION_CLASS_LABEL) & 0xf_ffff
    }

    /// Bytes behind the header, extension headers included.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::PAYLOAD_LEN))
    }

    /// What follows: an extension header or the transport's; see [`protocol`](super::protocol).
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.buffer.as_ref()[field::NEXT_HEADER]
    }

    /// Hops that the packet may still go.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.buffer.as_ref()[field::HOP_LIMIT]
    }

    /// The sender.
    #[inline]
    pub fn src(&self) -> [u8; 16] {
        read(self.buffer.as_ref(), field::SRC)
    }

    /// The receiver.
    #[inline]
    pub fn dst(&self) -> [u8; 16] {
        read(self.buffer.as_ref(), field::DST)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ipv6<T> {
    /// Sets the two bits of ECN in the traffic class.
    #[inline]
    pub(crate) fn set_ecn(&mut self, ecn: u8) {
        let class_low = &mut self.buffer.as_mut()[field::VERSION_CLASS_LABEL + 1];
        *class_low = *class_low & 0xcf | (ecn & 3) << 4;
    }

    /// Sets how many bytes follow the header.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        write(self.buffer.as_mut(), field::PAYLOAD_LEN, &len.to_be_bytes());
    }

    /// Sets what follows the header.
    #[inline]
    pub fn set_next_header(&mut self, protocol: u8) {
        self.buffer.as_mut()[field::NEXT_HEADER] = protocol;
    }

    /// Sets the sender.
    #[inline]
    pub fn set_src(&mut self, address: [u8; 16]) {
        write(self.buffer.as_mut(), field::SRC, &address);
    }

    /// Sets the receiver.
    #[inline]
    pub fn set_dst(&mut self, address: [u8; 16]) {
        write(self.buffer.as_mut(), field::DST, &address);
    }

    /// Takes one off the hop limit, which is not 0.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        let hops = &mut self.buffer.as_mut()[field::HOP_LIMIT];
        *hops = hops.wrapping_sub(1);
    }
}

/// The fields of an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Header {
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label, of which the low 20 bits are used.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// What follows the header.
    pub next_header: u8,
    /// Hops that the packet may go.
    pub hop_limit: u8,
    /// The sender.
    pub src: [u8; 16],
    /// The receiver.
    pub dst: [u8; 16],
}

impl Ipv6Header {
    /// The header's bytes.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        write(&mut bytes, field::VERSION_CLASS_LABEL, &first.to_be_bytes());
        write(&mut bytes, field::PAYLOAD_LEN, &self.payload_len.to_be_bytes());
        bytes[field::NEXT_HEADER] = self.next_header;
        bytes[field::HOP_LIMIT] = self.hop_limit;
        write(&mut bytes, field::SRC, &self.src);
        write(&mut bytes, field::DST, &self.dst);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    /// Recorded: hdr_dr_v6, flowlabel, but for its traffic class.
    const TCP: &str = "6b9abcde00140640fd00000c000000000000000000030007fd0000000000000000000000\
                       0000000115180050000003e800000000500220007c7a0000";

    #[test]
    fn reads_a_header() {
        let ip = Ipv6::new_checked(hex(TCP)).unwrap();
        assert_eq!((ip.traffic_class(), ip.flow_label()), (0xb9, 0xabcde));
        assert_eq!((ip.payload_len(), ip.next_header(), ip.hop_limit()), (20, 6, 64));
        assert_eq!(ip.src()[..], hex("fd00000c000000000000000000030007"));
        assert_eq!(ip.dst()[..], hex("fd000000000000000000000000000001"));
    }

    #[test]
    fn writes_a_header() {
        let mut ip = Ipv6::new_checked(hex(TCP)).unwrap();
        ip.set_ecn(2);
        ip.set_payload_len(7);
        ip.set_next_header(17);
        ip.set_src([1; 16]);
        ip.set_dst([2; 16]);
        ip.decrement_hop_limit();
        assert_eq!((ip.traffic_class(), ip.flow_label()), (0xba, 0xabcde));
        assert_eq!((ip.payload_len(), ip.next_header(), ip.hop_limit()), (7, 17, 63));
        assert_eq!((ip.src(), ip.dst()), ([1; 16], [2; 16]));
    }

    #[test]
    fn a_header_is_its_bytes() {
        let bytes = hex(TCP);
        let ip = Ipv6::new_checked(&bytes).unwrap();
        let header = Ipv6Header {
            traffic_class: ip.traffic_class(),
            flow_label: ip.flow_label(),
            payload_len: ip.payload_len(),
            next_header: ip.next_header(),
            hop_limit: ip.hop_limit(),
            src: ip.src(),
            dst: ip.dst(),
        };
        assert_eq!(header.to_bytes()[..], bytes[..40]);
    }

    #[test]
    fn each_fault_has_its_name() {
        let bytes = hex(TCP);
        let error = |bytes: &[u8]| Ipv6::new_checked(bytes).err();
        assert_eq!(error(&[&bytes[..], &[0xee; 6]].concat()), None, "padding");
        assert_eq!(error(&bytes[..39]), Some(Malformed::Truncated));
        assert_eq!(error(&bytes[..59]), Some(Malformed::TotalLength));
        let mut other = bytes.clone();
        other[0] = 0x45;
        assert_eq!(error(&other), Some(Malformed::Version));
    }

    proptest! {
        #[test]
        fn no_accessor_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
            if let Some(first) = bytes.first_mut() {
                *first = 0x60 | *first & 15;
            }
            if bytes.len() > 4 {
                bytes[4] = 0;
            }
            if let Ok(mut ip) = Ipv6::new_checked(&mut bytes[..]) {
                let _ = (ip.traffic_class(), ip.flow_label(), ip.next_header(), ip.hop_limit());
                let _ = (ip.src(), ip.dst());
                ip.set_ecn(3);
                ip.set_src([0; 16]);
                ip.set_dst([0; 16]);
                ip.decrement_hop_limit();
                prop_assert!(HEADER_LEN + usize::from(ip.payload_len()) <= bytes.len());
            }
        }
    }
}
