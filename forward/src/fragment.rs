//! A packet into fragments, as the kernel's `ip_do_fragment` and `ip6_fragment` make them.
//!
//! The frame is complete but for its size: rewritten, its Ethernet addresses those of the next
//! hop. A packet that came in fragments keeps their boundaries where they fit; any other is cut
//! into equal ones.

use crate::wire::extension::{FRAGMENT_LEN, FragmentHeader, unfragmentable};
use crate::wire::{Ipv4, Ipv6, ipv4, ipv6, protocol};
use crate::{Family, Offsets, Refused, options};

/// How a packet is to be cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut<'a> {
    /// Bytes of a fragment at most, from its IP header on.
    pub mtu: u16,
    /// IPv6: the identification. (An IPv4 packet has its own.)
    pub id: u32,
    /// Bytes of payload of each fragment that the packet came in, in order; empty if it came
    /// whole. What a tunnel has put in front of it is the first one's. If it came in some, its DF
    /// stays on each that leaves.
    pub pieces: &'a [u16],
}

/// The fragments of a packet, one after the other.
#[derive(Clone, Debug)]
pub struct Splitter<'a> {
    link: &'a [u8],
    /// The IP header with what each fragment has of it: options, unfragmentable extensions.
    header: &'a [u8],
    payload: &'a [u8],
    family: Family,
    /// IPv6: where in the header the number of what is fragmented stands.
    next_at: usize,
    cut: Cut<'a>,
    /// Bytes of payload that a fragment has room for.
    room: usize,
    /// Of the payload, what stands in front of the first piece: a tunnel's header and the inner one.
    in_front: usize,
    dont_fragment: bool,
    done: usize,
    finished: bool,
}

impl<'a> Splitter<'a> {
    /// Of a frame as it would leave whole. Of `at` only the start and end of the packet count.
    ///
    /// # Errors
    ///
    /// [`Refused::Truncated`] when `at` is not of this frame; [`Refused::TooLong`] when the header
    /// alone leaves no room for 8 bytes of payload in a fragment.
    pub fn new(frame: &'a [u8], at: Offsets, cut: Cut<'a>) -> Result<Self, Refused> {
        let packet = at.packet(frame).ok_or(Refused::Truncated)?;
        let link = frame.get(..at.l3.into()).ok_or(Refused::Truncated)?;
        let (header_len, next_at, more) = match at.family {
            Family::V4 => {
                let header: &[u8; ipv4::HEADER_LEN] =
                    packet.first_chunk().ok_or(Refused::Truncated)?;
                let len = Ipv4::new_unchecked(header).header_len();
                (len.max(ipv4::HEADER_LEN), 0, 0)
            }
            Family::V6 => {
                let (len, next_at) = unfragmentable(packet).ok_or(Refused::Truncated)?;
                (len, next_at, FRAGMENT_LEN)
            }
        };
        let (header, payload) = packet.split_at_checked(header_len).ok_or(Refused::Truncated)?;
        let room = usize::from(cut.mtu).saturating_sub(header_len + more);
        if room < 8 {
            return Err(Refused::TooLong);
        }
        let pieces: usize = cut.pieces.iter().map(|piece| usize::from(*piece)).sum();
        let in_front = payload.len().checked_sub(pieces);
        let in_front = in_front.filter(|front| fits(cut.pieces, *front, room));
        Ok(Self {
            link,
            header,
            payload,
            family: at.family,
            next_at,
            room,
            dont_fragment: !cut.pieces.is_empty(),
            cut: if in_front.is_some() { cut } else { Cut { pieces: &[], ..cut } },
            in_front: in_front.unwrap_or(0),
            done: 0,
            finished: false,
        })
    }

    /// Writes the next fragment, a whole frame, to the front of `out`; gives its length. `None` at
    /// the end, or when `out` is too short for it: another call with more room gives it then.
    pub fn next(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.finished {
            return None;
        }
        let rest = self.payload.get(self.done..)?;
        let len = match self.cut.pieces.first() {
            Some(piece) => usize::from(*piece) + self.in_front,
            None if rest.len() <= self.room => rest.len(),
            None => self.room & !7,
        };
        let part = rest.get(..len)?;
        let more = len < rest.len();
        let link_len = self.link.len();
        let (out_link, packet) = out.split_at_mut_checked(link_len)?;
        out_link.copy_from_slice(self.link);
        let len = match self.family {
            Family::V4 => self.write_v4(part, more, packet)?,
            Family::V6 => self.write_v6(part, more, packet)?,
        };
        self.cut.pieces = self.cut.pieces.get(1..).unwrap_or_default();
        self.in_front = 0;
        self.done += part.len();
        self.finished = !more;
        Some(link_len + len)
    }

    fn write_v4(&self, part: &[u8], more: bool, out: &mut [u8]) -> Option<usize> {
        let header_len = self.header.len();
        let (header, payload) = out.get_mut(..header_len + part.len())?.split_at_mut(header_len);
        header.copy_from_slice(self.header);
        payload.copy_from_slice(part);
        if self.done > 0 {
            options::keep_copied(&mut header[ipv4::HEADER_LEN..]);
        }
        let mut ip = Ipv4::new_unchecked(header);
        let dont_fragment = self.dont_fragment && ip.dont_fragment();
        // Both are parts of an IPv4 packet.
        ip.set_total_len((header_len + part.len()) as u16);
        ip.set_fragment(dont_fragment, more, self.done as u16);
        ip.fill_checksum();
        Some(header_len + part.len())
    }

    fn write_v6(&self, part: &[u8], more: bool, out: &mut [u8]) -> Option<usize> {
        let header_len = self.header.len();
        let len = header_len + FRAGMENT_LEN + part.len();
        let (header, rest) = out.get_mut(..len)?.split_at_mut(header_len);
        let (fragment, payload) = rest.split_at_mut(FRAGMENT_LEN);
        header.copy_from_slice(self.header);
        payload.copy_from_slice(part);
        let next_header = std::mem::replace(header.get_mut(self.next_at)?, protocol::FRAGMENT);
        Ipv6::new_unchecked(header).set_payload_len((len - ipv6::HEADER_LEN) as u16);
        // An offset in an IPv6 packet.
        let offset = self.done as u16;
        let its = FragmentHeader { next_header, offset, more, id: self.cut.id };
        fragment.copy_from_slice(&its.to_bytes());
        Some(len)
    }
}

/// Whether a packet's own pieces can leave again, with so much in front of the first: each fits,
/// and all but the last end at a multiple of 8.
fn fits(pieces: &[u16], in_front: usize, room: usize) -> bool {
    let Some((last, others)) = pieces.split_last() else { return false };
    let mut in_front = in_front;
    let mut len = |piece: &u16| usize::from(*piece) + std::mem::take(&mut in_front);
    others.iter().all(|piece| {
        let len = len(piece);
        len <= room && len % 8 == 0 && len > 0
    }) && (1..=room).contains(&len(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ethernet;
    use proptest::prelude::*;

    /// A frame of either family whose packet has so much payload, and its offsets.
    fn frame(family: Family, options: &[u8], payload: usize) -> (Vec<u8>, Offsets) {
        let mut frame = vec![0; 12];
        frame.extend(family.ethertype().to_be_bytes());
        match family {
            Family::V4 => {
                frame.extend([0x45 + (options.len() / 4) as u8, 0, 0, 0, 0x12, 0x34, 0x40, 0]);
                frame.extend([63, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
            }
            Family::V6 => {
                frame.extend([0x60, 0, 0, 0, 0, 0, if options.is_empty() { 17 } else { 60 }, 63]);
                frame.extend([7; 32]);
            }
        }
        frame.extend(options);
        let l4 = frame.len() as u16;
        frame.extend((0..payload).map(|byte| byte as u8));
        let end = frame.len() as u32;
        let at = Offsets { end, l3: 14, l4, protocol: 17, family, fragment: false };
        (frame, at)
    }

    fn split(frame: &[u8], at: Offsets, cut: Cut<'_>) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::new(frame, at, cut).unwrap();
        let mut out = [0; 2048];
        std::iter::from_fn(|| splitter.next(&mut out).map(|len| out[..len].to_vec())).collect()
    }

    #[test]
    fn in_equal_parts_as_recorded() {
        // The lengths of big_dr_v4_rsmtu1400_nopmtu, nodf_1401, and of
        // big_tun_gre_csum_v4in6_rsmtu1400, nodf_1400.
        let (v4, at) = frame(Family::V4, &[], 1381);
        let parts = split(&v4, at, Cut { mtu: 1400, ..Cut::default() });
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1410, 14 + 20 + 5]);
        let ip = Ipv4::new_checked(&parts[0][14..]).unwrap();
        assert!(ip.more_fragments() && !ip.dont_fragment(), "DF was the whole packet's");
        let ip = Ipv4::new_checked(&parts[1][14..]).unwrap();
        assert_eq!((ip.id(), ip.fragment_offset(), ip.more_fragments()), (0x1234, 1376, false));
        let (v6, at) = frame(Family::V6, &[], 1408);
        let parts = split(&v6, at, Cut { mtu: 1400, id: 9, ..Cut::default() });
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1414, 14 + 48 + 56]);
    }

    #[test]
    fn its_own_pieces_if_they_fit() {
        let (frame, at) = frame(Family::V4, &[], 1408);
        let lens = |mtu, pieces: &[u16]| {
            let cut = Cut { mtu, pieces, ..Cut::default() };
            split(&frame, at, cut).iter().map(|part| part.len() - 34).collect::<Vec<_>>()
        };
        assert_eq!(lens(1500, &[576, 576, 256]), [576, 576, 256]);
        assert_eq!(lens(596, &[576, 576, 256]), [576, 576, 256]);
        assert_eq!(lens(500, &[576, 576, 256]), [480, 480, 448], "the first is too large");
        assert_eq!(lens(1500, &[570, 582, 256]), [1408], "not a multiple of 8");
        assert_eq!(lens(1500, &[576, 576, 264]), [1408], "more than there is");
        assert_eq!(lens(1500, &[576, 576, 216]), [616, 576, 216], "in a tunnel: 40 more");
        assert_eq!(lens(1500, &[576, 576, 220]), [1408], "36 more do not end at a multiple of 8");
    }

    #[test]
    fn options_that_are_not_copied_are_in_the_first_only() {
        let (frame, at) = frame(Family::V4, &[7, 3, 4, 0, 148, 4, 0, 0], 64);
        let parts = split(&frame, at, Cut { mtu: 64, ..Cut::default() });
        assert_eq!(parts[0][34..42], [7, 3, 4, 0, 148, 4, 0, 0]);
        assert_eq!(parts[1][34..42], [1, 1, 1, 0, 148, 4, 0, 0]);
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn no_room_is_refused_and_a_short_buffer_gives_nothing() {
        let (frame, at) = frame(Family::V4, &[], 64);
        let of = |mtu| Splitter::new(&frame, at, Cut { mtu, ..Cut::default() });
        assert_eq!(of(27).err(), Some(Refused::TooLong));
        let mut splitter = of(28).unwrap();
        assert_eq!(splitter.next(&mut [0; 41]), None);
        assert_eq!(splitter.next(&mut [0; 42]), Some(42));
    }

    proptest! {
        #[test]
        fn together_they_are_the_packet(
            v6: bool, extended: bool, payload in 8usize..3000, mtu in 100u16..1600,
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let options = if extended { &[17, 0, 1, 4, 0, 0, 0, 0][..] } else { &[] };
            let (frame, at) = frame(family, options, payload);
            let mut together: Vec<u8> = vec![];
            for part in split(&frame, at, Cut { mtu, id: 7, ..Cut::default() }) {
                prop_assert_eq!(Ethernet::new_checked(&part).unwrap().ethertype(), family.ethertype());
                prop_assert!(part.len() <= 14 + usize::from(mtu));
                let its = Offsets::of(&part).unwrap();
                prop_assert_eq!((its.end as usize, its.protocol), (part.len(), 17));
                together.extend(&part[usize::from(its.l4)..]);
            }
            prop_assert_eq!(&together[..], &frame[usize::from(at.l4)..]);
        }
    }
}
