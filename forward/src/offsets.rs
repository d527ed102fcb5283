//! Where the headers of a frame begin, and the parts of it that every method writes.

use crate::wire::{Ethernet, Ipv4, Malformed, Sctp, Tcp, Udp, ethertype, protocol};
use crate::{Hop, Refused};

/// Where the headers of a parsed frame begin, in bytes from the frame's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The network header: 14 without VLAN tags, 18 with one, 22 with two.
    pub l3: u16,
    /// The transport header, behind all IP options.
    pub l4: u16,
}

/// The parts of an IPv4 frame, borrowed apart from each other.
pub(crate) struct Parts<'a> {
    /// Ethernet's two addresses.
    pub link: &'a mut [u8; 12],
    /// The IPv4 header but its options.
    pub ip: Ipv4<&'a mut [u8; 20]>,
    /// What follows the IPv4 header and its options, up to the frame's end.
    pub transport: &'a mut [u8],
}

impl Offsets {
    /// The offsets in an IPv4 frame, once every header in it that forwarding touches is whole.
    ///
    /// Of a fragment that is not the first only the IPv4 header is looked at: it has no other.
    ///
    /// # Errors
    ///
    /// What is wrong with the first header that is not right.
    #[inline]
    pub fn of_ipv4(frame: &[u8]) -> Result<Self, Malformed> {
        let ethernet = Ethernet::new_checked(frame)?;
        if ethernet.ethertype() != ethertype::IPV4 {
            return Err(Malformed::NotIpv4);
        }
        let l3 = ethernet.header_len();
        let ip = Ipv4::new_checked(&frame[l3..])?;
        let l4 = l3 + ip.header_len();
        let transport = &frame[l4..l3 + usize::from(ip.total_len())];
        if ip.fragment_offset() == 0 {
            match ip.protocol() {
                protocol::TCP => drop(Tcp::new_checked(transport)?),
                protocol::UDP => drop(Udp::new_checked(transport)?),
                protocol::SCTP => drop(Sctp::new_checked(transport)?),
                _ => {}
            }
        }
        // Both are at most 22 + 60.
        Ok(Self { l3: l3 as u16, l4: l4 as u16 })
    }

    /// Where the IPv4 packet ends in `frame`, in bytes from the frame's first. What follows is
    /// padding that Ethernet's shortest frame needed; IPVS never sends it on, so the caller cuts
    /// the frame here.
    #[inline]
    pub fn ipv4_end(self, frame: &[u8]) -> usize {
        let l3 = usize::from(self.l3);
        let header = frame.get(l3..).and_then(|packet| packet.first_chunk::<20>());
        let total_len = header.map_or(0, |header| Ipv4::new_unchecked(header).total_len());
        frame.len().min(l3 + usize::from(total_len))
    }

    /// The parts of an IPv4 frame that a rewrite touches.
    #[inline]
    pub(crate) fn parts(self, frame: &mut [u8]) -> Result<Parts<'_>, Refused> {
        let Self { l3, l4 } = self;
        let network_len = l4.checked_sub(l3).ok_or(Refused::Truncated)?;
        let (link, packet) = frame.split_at_mut_checked(l3.into()).ok_or(Refused::Truncated)?;
        let (network, transport) =
            packet.split_at_mut_checked(network_len.into()).ok_or(Refused::Truncated)?;
        Ok(Parts {
            link: link.first_chunk_mut().ok_or(Refused::Truncated)?,
            ip: Ipv4::new_unchecked(network.first_chunk_mut().ok_or(Refused::Truncated)?),
            transport,
        })
    }
}

impl Hop {
    /// The two addresses as Ethernet has them: receiver first.
    #[inline]
    pub(crate) fn write(&self, link: &mut [u8; 12]) {
        link[..6].copy_from_slice(&self.dst);
        link[6..].copy_from_slice(&self.src);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    fn frame() -> Vec<u8> {
        hex("0200000000c10200000000c0080045000021004e00003d11c466ac1003070a000001\
             9c400050000d5a437175657279")
    }

    #[test]
    fn finds_the_headers_and_the_end() {
        let mut frame = frame();
        let at = Offsets::of_ipv4(&frame).unwrap();
        assert_eq!(at, Offsets { l3: 14, l4: 34 });
        assert_eq!(at.ipv4_end(&frame), frame.len());
        let len = frame.len();
        frame.extend([0xee; 13]);
        assert_eq!(Offsets::of_ipv4(&frame), Ok(at));
        assert_eq!(at.ipv4_end(&frame), len);
    }

    #[test]
    fn every_cut_is_truncated() {
        let frame = frame();
        for len in 0..frame.len() {
            assert!(Offsets::of_ipv4(&frame[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_later_fragment_needs_no_transport_header() {
        // Twelve bytes of a TCP segment, from its byte 8 on.
        let mut frame = hex("0200000000c10200000000c0080045000020000100014006c1beac1003070a000001\
                             000102030405060708090a0b");
        assert_eq!(Offsets::of_ipv4(&frame), Ok(Offsets { l3: 14, l4: 34 }));
        // The same as a first fragment.
        frame[21] = 0;
        frame[25] += 1;
        assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::Truncated));
    }

    #[test]
    fn only_ipv4_is_taken() {
        let mut frame = frame();
        for ethertype in [0x86dd, 0x0806, 0x0801_u16] {
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::NotIpv4));
        }
    }

    #[test]
    fn a_transport_header_may_not_reach_into_the_padding() {
        // As recorded in malformed_v4: six bytes of UDP are dropped.
        let mut frame = hex("0200000000c10200000000c008004500001a000100004011c1baac1003070a000001\
                             00050050000c");
        frame.extend([0; 20]);
        assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::Truncated));
    }
}
