//! Where the headers of a frame begin, and the parts of it that every method writes.

use crate::family::{Address, Family};
use crate::wire::{
    Ethernet, Ipv4, Ipv6, Malformed, Sctp, Tcp, Udp, ethertype, extension, ipv6, protocol,
};
use crate::{Hop, Refused};

/// Where the headers of a parsed frame begin, in bytes from the frame's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Where the packet ends. What follows is padding that Ethernet's shortest frame needed; IPVS
    /// never sends it on, so the caller cuts the frame here.
    pub end: u32,
    /// The network header: 14 without VLAN tags, 18 with one, 22 with two.
    pub l3: u16,
    /// The transport header, behind all IP options and extension headers; in a fragment other
    /// than the first, its part of the payload.
    pub l4: u16,
    /// What is at [`l4`](Self::l4): a protocol number.
    pub protocol: u8,
    /// IPv4 or IPv6.
    pub family: Family,
    /// Whether this is a part of a packet, or has an IPv6 fragment header all the same.
    pub fragment: bool,
}

/// The parts of a frame, borrowed apart from each other.
pub(crate) struct Parts<'a, A: Address> {
    /// Ethernet's two addresses.
    pub link: &'a mut [u8; 12],
    /// The IP header but its options.
    pub ip: &'a mut A::Header,
    /// From the transport header to the packet's end.
    pub transport: &'a mut [u8],
}

impl Offsets {
    /// The offsets in a frame of either family, once every header in it that forwarding touches is
    /// whole.
    ///
    /// # Errors
    ///
    /// What is wrong with the first header that is not right.
    #[inline]
    pub fn of(frame: &[u8]) -> Result<Self, Malformed> {
        let ethernet = Ethernet::new_checked(frame)?;
        match ethernet.ethertype() {
            ethertype::IPV4 => Self::behind_ethernet_v4(frame, ethernet.header_len()),
            ethertype::IPV6 => Self::behind_ethernet_v6(frame, ethernet.header_len()),
            _ => Err(Malformed::NotIp),
        }
    }

    /// As [`of`](Self::of), of an IPv4 frame only.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    #[inline]
    pub fn of_ipv4(frame: &[u8]) -> Result<Self, Malformed> {
        let ethernet = Ethernet::new_checked(frame)?;
        if ethernet.ethertype() != ethertype::IPV4 {
            return Err(Malformed::NotIp);
        }
        Self::behind_ethernet_v4(frame, ethernet.header_len())
    }

    #[inline]
    fn behind_ethernet_v4(frame: &[u8], l3: usize) -> Result<Self, Malformed> {
        let ip = Ipv4::new_checked(&frame[l3..])?;
        let (l4, end) = (l3 + ip.header_len(), l3 + usize::from(ip.total_len()));
        let (protocol, fragment) = (ip.protocol(), ip.is_fragment());
        if !fragment {
            transport_is_whole(protocol, &frame[l4..end])?;
        }
        // At most 22 + 65535, 22 and 22 + 60.
        let (end, l3, l4) = (end as u32, l3 as u16, l4 as u16);
        Ok(Self { end, l3, l4, protocol, family: Family::V4, fragment })
    }

    #[inline]
    fn behind_ethernet_v6(frame: &[u8], l3: usize) -> Result<Self, Malformed> {
        let ip = Ipv6::new_checked(&frame[l3..])?;
        let end = l3 + ipv6::HEADER_LEN + usize::from(ip.payload_len());
        let upper = extension::upper(&frame[l3..end])?;
        let (l4, fragment) = (l3 + upper.at, upper.fragment.is_some());
        if !fragment {
            transport_is_whole(upper.protocol, &frame[l4..end])?;
        }
        // Extension headers are at most 8 times 2 KB.
        let (end, l3, l4) = (end as u32, l3 as u16, l4 as u16);
        Ok(Self { end, l3, l4, protocol: upper.protocol, family: Family::V6, fragment })
    }

    /// Where the IPv4 packet ends in `frame`, in bytes from the frame's first: [`end`](Self::end)
    /// for one who has not kept it.
    #[inline]
    pub fn ipv4_end(self, frame: &[u8]) -> usize {
        let l3 = usize::from(self.l3);
        let header = frame.get(l3..).and_then(|packet| packet.first_chunk::<20>());
        let total_len = header.map_or(0, |header| Ipv4::new_unchecked(header).total_len());
        frame.len().min(l3 + usize::from(total_len))
    }

    /// The packet, without what Ethernet put around it.
    #[inline]
    pub fn packet(self, frame: &[u8]) -> Option<&[u8]> {
        frame.get(usize::from(self.l3)..self.end as usize)
    }

    /// From the transport header to the packet's end.
    #[inline]
    pub fn transport(self, frame: &[u8]) -> Option<&[u8]> {
        frame.get(usize::from(self.l4)..self.end as usize)
    }

    /// The fixed IP header.
    #[inline]
    pub(crate) fn header<A: Address>(self, frame: &[u8]) -> Result<&A::Header, Refused> {
        if self.family != A::FAMILY {
            return Err(Refused::Family);
        }
        A::header(self.packet(frame).ok_or(Refused::Truncated)?).ok_or(Refused::Truncated)
    }

    /// Ethernet's two addresses and the fixed IP header: all that direct routing touches.
    #[inline]
    pub(crate) fn head<A: Address>(
        self,
        frame: &mut [u8],
    ) -> Result<(&mut [u8; 12], &mut A::Header), Refused> {
        let (link, packet) =
            frame.split_at_mut_checked(self.l3.into()).ok_or(Refused::Truncated)?;
        let link = link.first_chunk_mut().ok_or(Refused::Truncated)?;
        Ok((link, A::header_mut(packet).ok_or(Refused::Truncated)?))
    }

    /// The parts of a frame that a rewrite touches.
    #[inline]
    pub(crate) fn parts<A: Address>(self, frame: &mut [u8]) -> Result<Parts<'_, A>, Refused> {
        if self.family != A::FAMILY {
            return Err(Refused::Family);
        }
        let Self { l3, l4, end, .. } = self;
        let network_len = l4.checked_sub(l3).ok_or(Refused::Truncated)?;
        let frame = frame.get_mut(..end as usize).ok_or(Refused::Truncated)?;
        let (link, packet) = frame.split_at_mut_checked(l3.into()).ok_or(Refused::Truncated)?;
        let (network, transport) =
            packet.split_at_mut_checked(network_len.into()).ok_or(Refused::Truncated)?;
        Ok(Parts {
            link: link.first_chunk_mut().ok_or(Refused::Truncated)?,
            ip: A::header_mut(network).ok_or(Refused::Truncated)?,
            transport,
        })
    }
}

#[inline]
fn transport_is_whole(protocol: u8, transport: &[u8]) -> Result<(), Malformed> {
    match protocol {
        protocol::TCP => Tcp::new_checked(transport).map(drop),
        protocol::UDP => Udp::new_checked(transport).map(drop),
        protocol::SCTP => Sctp::new_checked(transport).map(drop),
        _ => Ok(()),
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
        let udp = Offsets { end: 47, l3: 14, l4: 34, protocol: 17, ..Offsets::default() };
        assert_eq!(at, udp);
        assert_eq!(Offsets::of(&frame), Ok(at));
        assert_eq!(at.ipv4_end(&frame), frame.len());
        frame.extend([0xee; 13]);
        assert_eq!(Offsets::of_ipv4(&frame), Ok(at));
        assert_eq!((at.ipv4_end(&frame), at.end), (47, 47));
        assert_eq!(at.packet(&frame), Some(&frame[14..47]));
        assert_eq!(at.transport(&frame), Some(&frame[34..47]));
    }

    #[test]
    fn every_cut_is_truncated() {
        let frame = frame();
        for len in 0..frame.len() {
            assert!(Offsets::of_ipv4(&frame[..len]).is_err(), "{len} bytes");
        }
    }

    /// Recorded: hdr_dr_v6, ext_hbh.
    const HOP_BY_HOP: &str = "0200000000c10200000000c086dd60000000001c0040fd00000c000000000000000000\
                              030007fd000000000000000000000000000001060001040000000015e10050000003e8\
                              00000000500220007bb10000";

    #[test]
    fn finds_the_headers_of_ipv6() {
        let mut frame = hex(HOP_BY_HOP);
        let at = Offsets::of(&frame).unwrap();
        let tcp = Offsets { end: 82, l3: 14, l4: 62, protocol: 6, ..Offsets::default() };
        assert_eq!(at, Offsets { family: Family::V6, ..tcp });
        assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::NotIp));
        for len in 0..frame.len() {
            assert!(Offsets::of(&frame[..len]).is_err(), "{len} bytes");
        }
        frame.extend([0xee; 13]);
        assert_eq!(Offsets::of(&frame), Ok(at));
        frame[14] = 0x45;
        assert_eq!(Offsets::of(&frame), Err(Malformed::Version));
    }

    #[test]
    fn an_ipv6_fragment_is_known_even_if_it_is_the_only_one() {
        // Recorded: hdr_dr_v6, ext_atomic_frag.
        let mut frame = hex(HOP_BY_HOP);
        frame[20] = 44;
        frame[54..62].copy_from_slice(&hex("0600000000000009"));
        let at = Offsets::of(&frame).unwrap();
        assert_eq!((at.l4, at.protocol, at.fragment), (62, 6, true));
    }

    #[test]
    fn a_later_fragment_needs_no_transport_header() {
        // Twelve bytes of a TCP segment, from its byte 8 on.
        let mut frame = hex("0200000000c10200000000c0080045000020000100014006c1beac1003070a000001\
                             000102030405060708090a0b");
        let at = Offsets::of_ipv4(&frame).unwrap();
        assert_eq!((at.l4, at.end, at.fragment), (34, 46, true));
        // The same as a whole packet.
        frame[21] = 0;
        frame[25] += 1;
        assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::Truncated));
    }

    #[test]
    fn only_ipv4_is_taken() {
        let mut frame = frame();
        for ethertype in [0x86dd, 0x0806, 0x0801_u16] {
            frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            assert_eq!(Offsets::of_ipv4(&frame), Err(Malformed::NotIp));
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
