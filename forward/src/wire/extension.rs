//! IPv6's extension headers (RFC 8200, section 4): what is skipped on the way to the transport
//! header, as the kernel's `ipv6_find_hdr` does for IPVS, and the fragment header.

use super::{Malformed, ipv6, protocol, read, write};

/// Extension headers in one packet; one with more is not looked into, so that nobody can make us
/// walk through 64 KB of them.
pub const MAX_HEADERS: usize = 8;

/// Bytes of the fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// What follows the extension headers. Offsets count from the IPv6 header's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The transport's protocol number.
    pub protocol: u8,
    /// Where its header begins, or in a later fragment its part of the payload.
    pub at: usize,
    /// Where the fragment header stands, if there is one.
    pub fragment: Option<usize>,
}

/// Skips the extension headers of a packet that [`Ipv6::new_checked`](super::Ipv6) took, cut at
/// its end.
///
/// An authentication header is one of them: IPVS sees the protocol behind it. Behind the fragment
/// header of a later fragment nothing is a header any more.
///
/// # Errors
///
/// [`Malformed::Extension`]: one is cut off, there are more than [`MAX_HEADERS`], or a hop-by-hop
/// option that nobody knows asks for the packet to be discarded.
#[inline]
pub fn upper(packet: &[u8]) -> Result<Upper, Malformed> {
    let header: &[u8; ipv6::HEADER_LEN] = packet.first_chunk().ok_or(Malformed::Truncated)?;
    let next = ipv6::Ipv6::new_unchecked(header).next_header();
    let upper = Upper { protocol: next, at: ipv6::HEADER_LEN, fragment: None };
    // Nearly every packet has none.
    if is_extension(next) { skip(packet, upper) } else { Ok(upper) }
}

#[cold]
fn skip(packet: &[u8], mut upper: Upper) -> Result<Upper, Malformed> {
    for _ in 0..MAX_HEADERS {
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
        let rest = packet.get(upper.at..).ok_or(Malformed::Extension)?;
        let header: &[u8; 8] = rest.first_chunk().ok_or(Malformed::Extension)?;
        let len = match upper.protocol {
            protocol::FRAGMENT => FRAGMENT_LEN,
            protocol::AH => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        let options = rest.get(2..len).ok_or(Malformed::Extension)?;
        if upper.protocol == protocol::HOP_BY_HOP {
            hop_by_hop(options)?;
        }
        let is_fragment = upper.protocol == protocol::FRAGMENT;
        if is_fragment {
            upper.fragment = Some(upper.at);
        }
        upper.protocol = header[0];
        upper.at += len;
        if is_fragment && Fragment::new_unchecked(header).offset() != 0 {
            return Ok(upper);
        }
    }
    if is_extension(upper.protocol) { Err(Malformed::Extension) } else { Ok(upper) }
}

/// Whether skipping goes on here. 59 says that nothing follows, so it ends the walk.
const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION_OPTIONS
    )
}

/// Every node on the way looks at these options: one that it does not know and whose two highest
/// bits are not 0 discards the packet (RFC 8200, 4.2). Jumbograms are such: no frame holds one.
fn hop_by_hop(mut options: &[u8]) -> Result<(), Malformed> {
    const PAD_1: u8 = 0;
    while let Some(&kind) = options.first() {
        if kind >> 6 != 0 {
            return Err(Malformed::Extension);
        }
        let len = match (kind, options.get(1)) {
            (PAD_1, _) => 1,
            (_, Some(len)) => 2 + usize::from(*len),
            _ => return Err(Malformed::Extension),
        };
        options = options.get(len..).ok_or(Malformed::Extension)?;
    }
    Ok(())
}

/// How many bytes of a packet stand in front of what fragments share out: the IPv6 header and the
/// extension headers that every router looks at (the kernel's `ip6_find_1stfragopt`); and where
/// the number of the first header behind them stands. Both count from the packet's first byte.
///
/// `None` when a header is cut off, or they are too many.
pub(crate) fn unfragmentable(packet: &[u8]) -> Option<(usize, usize)> {
    let (mut len, mut next_at) = (ipv6::HEADER_LEN, 6);
    let mut routed = false;
    for _ in 0..MAX_HEADERS {
        match *packet.get(next_at)? {
            protocol::HOP_BY_HOP => {}
            protocol::ROUTING => routed = true,
            // Those behind a routing header are for the last receiver alone.
            protocol::DESTINATION_OPTIONS if !routed => {}
            _ => return Some((len, next_at)),
        }
        next_at = len;
        len += (usize::from(*packet.get(len + 1)?) + 1) * 8;
    }
    None
}

mod field {
    pub const NEXT_HEADER: usize = 0;
    pub const OFFSET_MORE: usize = 2;
    pub const ID: usize = 4;
}

/// A view of a fragment header.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Fragment<T> {
    /// The view of bytes that hold the header.
    ///
    /// # Errors
    ///
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Malformed> {
        if buffer.as_ref().len() < FRAGMENT_LEN {
            return Err(Malformed::Truncated);
        }
        Ok(Self { buffer })
    }

    /// The view of bytes that were checked before, or whose type says that they are enough.
    #[inline]
    pub fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// What the fragments are parts of.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.buffer.as_ref()[field::NEXT_HEADER]
    }

    /// Where this part begins in the whole, in bytes.
    #[inline]
    pub fn offset(&self) -> u16 {
        self.offset_more() & !7
    }

    /// Whether more parts follow.
    #[inline]
    pub fn more(&self) -> bool {
        self.offset_more() & 1 != 0
    }

    /// Identification, common to all fragments of a packet.
    #[inline]
    pub fn id(&self) -> u32 {
        u32::from_be_bytes(read(self.buffer.as_ref(), field::ID))
    }

    #[inline]
    fn offset_more(&self) -> u16 {
        u16::from_be_bytes(read(self.buffer.as_ref(), field::OFFSET_MORE))
    }
}

/// The fields of a fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentHeader {
    /// What the fragments are parts of.
    pub next_header: u8,
    /// Where this part begins in the whole: a multiple of 8 bytes.
    pub offset: u16,
    /// Whether more parts follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl FragmentHeader {
    /// The header's bytes.
    #[inline]
    pub fn to_bytes(&self) -> [u8; FRAGMENT_LEN] {
        let mut bytes = [0; FRAGMENT_LEN];
        bytes[field::NEXT_HEADER] = self.next_header;
        let offset_more = self.offset & !7 | u16::from(self.more);
        write(&mut bytes, field::OFFSET_MORE, &offset_more.to_be_bytes());
        write(&mut bytes, field::ID, &self.id.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    /// An IPv6 header whose next header is `next`, with `rest` behind it.
    fn packet(next: u8, rest: &str) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.resize(40, 0xfd);
        bytes.extend(hex(rest));
        bytes
    }

    fn walk(next: u8, rest: &str) -> Result<(u8, usize, Option<usize>), Malformed> {
        upper(&packet(next, rest)).map(|upper| (upper.protocol, upper.at, upper.fragment))
    }

    const TCP: &str = "15e10050000003e8";

    #[test]
    fn none_and_each_of_the_recorded_are_skipped() {
        // Recorded: hdr_dr_v6, ext_hbh, ext_dstopts, ext_rh0_segleft0, ext_atomic_frag.
        assert_eq!(walk(6, TCP), Ok((6, 40, None)));
        assert_eq!(walk(0, &format!("0600010400000000{TCP}")), Ok((6, 48, None)));
        assert_eq!(walk(60, &format!("0600010400000000{TCP}")), Ok((6, 48, None)));
        assert_eq!(walk(43, &format!("0600000000000000{TCP}")), Ok((6, 48, None)));
        assert_eq!(walk(44, &format!("0600000000000009{TCP}")), Ok((6, 48, Some(40))));
        assert_eq!(walk(59, ""), Ok((59, 40, None)));
        // Authentication: its length counts words of four bytes, less two.
        assert_eq!(walk(51, &format!("060100000000000000000000{TCP}")), Ok((6, 52, None)));
        let all = format!("2b00010400000000{}{}{TCP}", "2c00000000000000", "0600000000000009");
        assert_eq!(walk(0, &all), Ok((6, 64, Some(56))));
    }

    #[test]
    fn behind_a_later_fragment_nothing_is_a_header() {
        assert_eq!(walk(44, "3c00000900000009ffffffffffffffff"), Ok((60, 48, Some(40))));
    }

    #[test]
    fn cut_off_endless_or_discarding_headers_are_refused() {
        let refused = Err(Malformed::Extension);
        assert_eq!(walk(0, "06000104000000"), refused, "seven bytes");
        assert_eq!(walk(60, "0601010400000000"), refused, "sixteen are promised");
        assert_eq!(walk(0, "0600c20400000000"), refused, "a jumbogram");
        assert_eq!(walk(0, "0600010600000000"), refused, "an option that ends outside");
        assert_eq!(walk(0, "06001e0400000000"), Ok((6, 48, None)), "unknown, to be skipped");
        let many = "3c00010400000000".repeat(MAX_HEADERS);
        assert_eq!(walk(60, &many), refused);
        let last = format!("{}0600010400000000", &many[16..]);
        assert_eq!(walk(60, &last), Ok((6, 40 + 8 * MAX_HEADERS, None)));
    }

    #[test]
    fn a_fragment_header_is_its_bytes() {
        let header = FragmentHeader { next_header: 17, offset: 1448, more: true, id: 0x1234_5678 };
        assert_eq!(header.to_bytes()[..], hex("110005a912345678"));
        let view = Fragment::new_checked(header.to_bytes()).unwrap();
        assert_eq!((view.next_header(), view.offset()), (17, 1448));
        assert_eq!((view.more(), view.id()), (true, 0x1234_5678));
        assert_eq!(Fragment::new_checked([0; 7]).err(), Some(Malformed::Truncated));
    }

    #[test]
    fn the_part_that_is_not_shared_out() {
        let of = |next, rest| unfragmentable(&packet(next, rest));
        assert_eq!(of(17, ""), Some((40, 6)));
        assert_eq!(of(0, "1100010400000000"), Some((48, 40)));
        assert_eq!(of(60, "1100010400000000"), Some((48, 40)));
        assert_eq!(of(43, "3c000000000000001100010400000000"), Some((48, 40)));
        assert_eq!(of(0, ""), None);
    }

    proptest! {
        #[test]
        fn no_walk_panics(
            next in prop_oneof![Just(0u8), Just(43), Just(44), Just(51), Just(60), any::<u8>()],
            rest in proptest::collection::vec(prop_oneof![Just(0u8), Just(60), any::<u8>()], 0..90),
        ) {
            let mut packet = packet(next, "");
            packet.extend(rest);
            if let Ok(upper) = upper(&packet) {
                prop_assert!(upper.at <= packet.len());
            }
            let _ = unfragmentable(&packet);
        }
    }
}
