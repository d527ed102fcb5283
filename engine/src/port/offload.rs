//! What the sender of a frame left to the network card: to finish the checksum, to cut segments.
//!
//! A sender on this machine, at the other end of a veth pair, leaves both; so does the kernel when
//! it has put segments together that came in (GRO). Packet sockets and TAP devices tell of it, and
//! are told, in front of the frame:
//!
//! ```text
//! 0       1          2         4          6            8             10
//! | flags | gso type | hdr len | gso size | csum start | csum offset |   numbers as the host has them
//! ```
//!
//! That is `struct virtio_net_hdr` of `linux/virtio_net.h` (virtio 1.2, 5.1.6); "start" counts from
//! the frame's first byte.

use uvs_forward::Unfinished;

/// Bytes of the header.
pub(super) const HEADER: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;

/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCPV4: u8 = 1;

/// Where SCTP's checksum stands in its header. It is no sum, so nobody further on would finish it.
const SCTP_FIELD: u8 = 8;

/// What is left to be done to a frame; nothing, nearly always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// From where on is to be summed; 0 when the checksum is there.
    start: u16,
    /// Bytes of payload of a segment; 0 when it is one segment.
    size: u16,
    /// From `start` to where the checksum goes.
    field: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    kind: u8,
}

impl Offload {
    /// Nothing.
    pub const NONE: Self = Self { start: 0, size: 0, field: 0, kind: 0 };

    /// Only a checksum.
    pub fn checksum(unfinished: Unfinished) -> Self {
        let field = unfinished.field.saturating_sub(unfinished.start);
        Self { start: unfinished.start, field: field as u8, ..Self::NONE }
    }

    /// A checksum, and segments of so many bytes of payload, of TCP over IPv4.
    pub fn segments(unfinished: Unfinished, size: u16) -> Self {
        Self { size, kind: GSO_TCPV4, ..Self::checksum(unfinished) }
    }

    /// What a header says of the frame behind it.
    pub(super) fn read(header: &[u8; HEADER]) -> Self {
        let number = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let mut offload = Self::NONE;
        if header[0] & NEEDS_CSUM != 0 {
            // A field further from its header's start than any protocol has it is none.
            (offload.start, offload.field) = (number(6), u8::try_from(number(8)).unwrap_or(0));
        }
        if header[1] != 0 {
            (offload.kind, offload.size) = (header[1], number(4));
        }
        offload
    }

    /// The header that says so.
    pub(super) fn header(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        if self.start != 0 {
            header[0] = NEEDS_CSUM;
            header[6..8].copy_from_slice(&self.start.to_ne_bytes());
            header[8..10].copy_from_slice(&u16::from(self.field).to_ne_bytes());
        }
        if self.size != 0 {
            header[1] = self.kind;
            header[4..6].copy_from_slice(&self.size.to_ne_bytes());
        }
        header
    }

    /// Whether nothing is left to be done.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Where a checksum is to be finished.
    #[inline]
    pub fn unfinished(self) -> Option<Unfinished> {
        let (start, field) = (self.start, self.start.saturating_add(self.field.into()));
        (start != 0).then_some(Unfinished { start, field })
    }

    /// Whether that checksum is one that no network card finishes.
    pub(super) fn is_sctp(self) -> bool {
        self.start != 0 && self.field == SCTP_FIELD
    }

    /// Bytes of payload of each segment that the frame stands for; 0 when it is one.
    #[inline]
    pub fn segment_size(self) -> u16 {
        self.size
    }

    /// The same of a frame whose packet stands so many bytes further on.
    pub(super) fn further(self, bytes: i16) -> Self {
        match self.start {
            0 => self,
            start => Self { start: start.saturating_add_signed(bytes), ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_written() {
        // A TCP segment of IPv6, cut at 1,428 bytes: VIRTIO_NET_HDR_GSO_TCPV6.
        let mut header = [NEEDS_CSUM, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        header[4..6].copy_from_slice(&1428u16.to_ne_bytes());
        header[6..8].copy_from_slice(&54u16.to_ne_bytes());
        header[8..10].copy_from_slice(&16u16.to_ne_bytes());
        let offload = Offload::read(&header);
        assert_eq!(offload.unfinished(), Some(Unfinished { start: 54, field: 70 }));
        assert_eq!((offload.segment_size(), offload.header()), (1428, header));
        let tagged = offload.further(4);
        assert_eq!(tagged.unfinished(), Some(Unfinished { start: 58, field: 74 }));
        assert_eq!(tagged.further(-4), offload);
    }

    #[test]
    fn nothing_is_zeros_and_what_the_kernel_vouches_for_is_nothing() {
        assert_eq!(Offload::NONE.header(), [0; HEADER]);
        // VIRTIO_NET_HDR_F_DATA_VALID.
        assert!(Offload::read(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert_eq!(Offload::NONE.further(4), Offload::NONE);
    }

    #[test]
    fn any_header_is_read() {
        let offload = Offload::read(&[0xff; HEADER]);
        assert_eq!(offload.unfinished(), Some(Unfinished { start: 0xffff, field: 0xffff }));
        assert_eq!(offload.further(4).unfinished().unwrap().start, 0xffff);
    }
}
