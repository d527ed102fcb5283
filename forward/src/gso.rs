//! One frame that stands for several segments (the kernel's GSO), cut into them as
//! `tcp_gso_segment` and `__udp_gso_segment` do.
//!
//! ```text
//! | link, IP, TCP or UDP | payload, of many segments        |
//! | link, IP, TCP or UDP | size bytes | and | so | on ...
//! ```
//!
//! Each segment has the headers of the whole; lengths, IPv4's identification, TCP's sequence number
//! and the checksums are its own. FIN and PSH are the last one's, CWR is the first one's.

use crate::checksum::{self, Sum};
use crate::wire::tcp::flag;
use crate::wire::{Ipv4, Ipv6, ipv4, ipv6, protocol, tcp, udp};
use crate::{Address as _, Family, Offsets, Refused};

/// Where TCP's sequence number, its flags and its checksum stand.
const SEQ: usize = 4;
const FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
/// Where UDP's length and checksum stand.
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;

/// Bytes of a TCP or UDP header with its options.
fn transport_len(frame: &[u8], at: Offsets) -> Option<usize> {
    let l4 = usize::from(at.l4);
    match at.protocol {
        protocol::TCP => {
            let len = usize::from(frame.get(l4 + 12)? >> 4) * 4;
            (len >= tcp::HEADER_LEN).then_some(len)
        }
        protocol::UDP => Some(udp::HEADER_LEN),
        _ => None,
    }
}

/// Bytes of a full segment, from the IP header on, with so many bytes of payload.
pub fn segment_len(frame: &[u8], at: Offsets, size: u16) -> Option<u32> {
    // A TCP header is 60 bytes at most.
    let transport = transport_len(frame, at)? as u32;
    Some(u32::from(at.l4.checked_sub(at.l3)?) + transport + u32::from(size))
}

/// The segments of a frame, one after the other.
#[derive(Clone, Debug)]
pub struct Segmenter<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    at: Offsets,
    size: usize,
    done: usize,
    count: u16,
}

impl<'a> Segmenter<'a> {
    /// Of a frame whose segments have `size` bytes of payload. Its checksum is not looked at.
    ///
    /// # Errors
    ///
    /// [`Refused::Protocol`] if it is neither TCP nor UDP, [`Refused::Fragment`],
    /// [`Refused::Truncated`] if `at` is not of this frame or `size` is 0.
    pub fn new(frame: &'a [u8], at: Offsets, size: u16) -> Result<Self, Refused> {
        if at.fragment {
            return Err(Refused::Fragment);
        }
        let transport = match at.protocol {
            protocol::TCP | protocol::UDP => transport_len(frame, at),
            _ => return Err(Refused::Protocol),
        };
        let headers = usize::from(at.l4) + transport.ok_or(Refused::Truncated)?;
        let whole = frame.get(..at.end as usize).ok_or(Refused::Truncated)?;
        let ip = whole.get(at.l3.into()..at.l4.into()).ok_or(Refused::Truncated)?;
        let ip_len = match at.family {
            Family::V4 if ip.len() >= ipv4::HEADER_LEN => Ipv4::new_unchecked(ip).header_len(),
            Family::V4 => ipv4::HEADER_LEN,
            Family::V6 => ipv6::HEADER_LEN,
        };
        if ip.len() < ip_len || size == 0 {
            return Err(Refused::Truncated);
        }
        let (headers, payload) = whole.split_at_checked(headers).ok_or(Refused::Truncated)?;
        Ok(Self { headers, payload, at, size: size.into(), done: 0, count: 0 })
    }

    /// Writes the next segment's frame at the front of `out`; gives its length in bytes. `None` when
    /// there are no more, or `out` is too short.
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        let part = self.payload.get(self.done..).filter(|rest| !rest.is_empty())?;
        let part = &part[..part.len().min(self.size)];
        let (l3, l4, len) =
            (usize::from(self.at.l3), usize::from(self.at.l4), self.headers.len() + part.len());
        let out = out.get_mut(..len)?;
        let (headers, payload) = out.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(part);
        let (front, transport) = out.split_at_mut(l4);
        let pseudo = self.write_ip(&mut front[l3..], transport.len());
        match self.at.protocol {
            protocol::TCP => self.write_tcp(transport, pseudo, part.len()),
            _ => write_udp(transport, pseudo),
        }
        self.done += part.len();
        self.count = self.count.wrapping_add(1);
        Some(len)
    }

    /// Writes the IP header of a segment; gives the sum of its pseudo header.
    fn write_ip(&self, ip: &mut [u8], transport: usize) -> Sum {
        match self.at.family {
            Family::V4 => {
                // Less than the whole, which is an IPv4 packet.
                let total = (ip.len() + transport) as u16;
                let mut view = Ipv4::new_unchecked(ip);
                view.set_id(view.id().wrapping_add(self.count));
                view.set_total_len(total);
                view.fill_checksum();
                <[u8; 4]>::pseudo(view.src(), view.dst(), self.at.protocol, transport as u32)
            }
            Family::V6 => {
                let payload = (ip.len() - ipv6::HEADER_LEN + transport) as u16;
                let mut view = Ipv6::new_unchecked(ip);
                view.set_payload_len(payload);
                <[u8; 16]>::pseudo(view.src(), view.dst(), self.at.protocol, transport as u32)
            }
        }
    }

    fn write_tcp(&self, segment: &mut [u8], pseudo: Sum, part: usize) {
        let seq = [0, 1, 2, 3].map(|byte| segment[SEQ + byte]);
        let seq = u32::from_be_bytes(seq).wrapping_add(self.done as u32);
        segment[SEQ..SEQ + 4].copy_from_slice(&seq.to_be_bytes());
        if self.done > 0 {
            segment[FLAGS] &= !flag::CWR;
        }
        if self.done + part < self.payload.len() {
            segment[FLAGS] &= !(flag::FIN | flag::PSH);
        }
        segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].fill(0);
        let check = (pseudo + Sum::of(segment)).finish();
        segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
    }
}

fn write_udp(datagram: &mut [u8], pseudo: Sum) {
    // Less than the whole, which is a datagram.
    let length = datagram.len() as u16;
    datagram[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
    datagram[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
    let check = checksum::udp((pseudo + Sum::of(datagram)).finish());
    datagram[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Numbers;
    use proptest::prelude::*;

    /// A frame of either family and protocol with so much payload, and its offsets.
    fn whole(family: Family, protocol: u8, flags: u8, payload: &[u8]) -> (Vec<u8>, Offsets) {
        let transport = match protocol {
            protocol::TCP => {
                let mut header = vec![0x1f, 0x90, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x60];
                header.extend([flags, 1, 0, 0xde, 0xad, 0, 0, 1, 1, 1, 0]);
                header
            }
            _ => vec![0, 53, 0, 53, 0, 0, 0xde, 0xad],
        };
        let len = transport.len() + payload.len();
        let mut frame = vec![2; 12];
        frame.extend(family.ethertype().to_be_bytes());
        match family {
            Family::V4 => {
                frame.extend([0x45, 0]);
                frame.extend((20 + len as u16).to_be_bytes());
                frame.extend([0xff, 0xff, 0x40, 0, 64, protocol, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
                Ipv4::new_unchecked(&mut frame[14..34]).fill_checksum();
            }
            Family::V6 => {
                frame.extend([0x60, 0, 0, 0]);
                frame.extend((len as u16).to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend([7; 32]);
            }
        }
        frame.extend(transport);
        frame.extend(payload);
        let at = Offsets::of(&frame).unwrap();
        (frame, at)
    }

    fn segments(frame: &[u8], at: Offsets, size: u16) -> Vec<Vec<u8>> {
        let mut segmenter = Segmenter::new(frame, at, size).unwrap();
        let mut out = [0; 2048];
        std::iter::from_fn(|| segmenter.next(&mut out).map(|len| out[..len].to_vec())).collect()
    }

    #[test]
    fn flags_are_where_they_belong() {
        let all = flag::CWR | flag::ACK | flag::PSH | flag::FIN;
        let (frame, at) = whole(Family::V4, protocol::TCP, all, &[7; 25]);
        let flags: Vec<u8> =
            segments(&frame, at, 10).iter().map(|segment| segment[34 + FLAGS]).collect();
        let (first, last) = (flag::CWR | flag::ACK, flag::ACK | flag::PSH | flag::FIN);
        assert_eq!(flags, [first, flag::ACK, last]);
        assert_eq!(segments(&frame, at, 25).len(), 1);
        assert_eq!(segment_len(&frame, at, 10), Some(20 + 24 + 10));
    }

    #[test]
    fn what_has_no_segments_is_refused() {
        let (frame, at) = whole(Family::V4, protocol::TCP, 0, b"abc");
        let refused = |frame: &[u8], at, size| Segmenter::new(frame, at, size).err();
        assert_eq!(refused(&frame, at, 0), Some(Refused::Truncated));
        assert_eq!(refused(&frame[..40], at, 1), Some(Refused::Truncated));
        let sctp = Offsets { protocol: protocol::SCTP, ..at };
        assert_eq!(refused(&frame, sctp, 1), Some(Refused::Protocol));
    }

    proptest! {
        #[test]
        fn together_they_are_the_whole(
            v6: bool, tcp: bool, payload in proptest::collection::vec(any::<u8>(), 1..5000),
            size in 1u16..1600,
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            let (frame, at) = whole(family, protocol, flag::ACK, &payload);
            let mut together: Vec<u8> = vec![];
            for (number, segment) in (0u16..).zip(segments(&frame, at, size)) {
                // It looks at the lengths, and at IPv4's checksum.
                let its = Offsets::of(&segment).unwrap();
                prop_assert_eq!(its.end as usize, segment.len());
                let transport = its.transport(&segment).unwrap();
                let len = transport.len() as u32;
                let pseudo = match family {
                    Family::V4 => {
                        let ip = Ipv4::new_checked(&segment[14..]).unwrap();
                        prop_assert_eq!(ip.id(), 0xffffu16.wrapping_add(number));
                        <[u8; 4]>::pseudo(ip.src(), ip.dst(), protocol, len)
                    }
                    Family::V6 => <[u8; 16]>::pseudo([7; 16], [7; 16], protocol, len),
                };
                prop_assert_eq!((pseudo + Sum::of(transport)).finish(), 0);
                if tcp {
                    let numbers = Numbers::of(&segment, its.l4, segment.len()).unwrap();
                    prop_assert_eq!(numbers.seq, 0xffff_ff00u32.wrapping_add(together.len() as u32));
                }
                let header = if tcp { 24 } else { 8 };
                prop_assert!(transport.len() - header <= size.into());
                together.extend(&transport[header..]);
            }
            prop_assert_eq!(together, payload);
        }

        #[test]
        fn anything_is_cut_without_harm(
            frame: Vec<u8>, l3: u8, l4: u8, end: u16, protocol in prop_oneof![Just(6u8), Just(17)],
            v6: bool, size: u16,
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let (l3, l4) = (l3.into(), l4.into());
            let at = Offsets { end: end.into(), l3, l4, protocol, family, fragment: false };
            if let Ok(mut segmenter) = Segmenter::new(&frame, at, size) {
                let mut out = [0; 512];
                while segmenter.next(&mut out).is_some() {}
            }
        }
    }
}
