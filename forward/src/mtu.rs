//! Whether a packet fits its way on, and what becomes of it if not (the kernel's
//! `ensure_mtu_is_adequate`, `ip_forward` and `ip_fragment`).

use crate::wire::{Ipv4, ipv6};
use crate::{Family, Offsets, Refused};

/// The least that a tunnel over IPv4 must leave for the packet inside, in bytes.
const MIN_INSIDE_V4: u16 = 68;

/// What about a packet counts when it is to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes from its IP header on.
    pub len: u32,
    /// The largest of the fragments that it came in, in bytes from the IP header on; 0 if it came
    /// whole.
    pub largest: u16,
    /// Its family.
    pub family: Family,
    /// IPv4: whether it may not be fragmented.
    pub dont_fragment: bool,
    /// Whether it is ICMP, which IPVS does not hold against DF on its way to a server.
    pub icmp: bool,
}

impl Size {
    /// Of a received frame. `largest` is 0, or what [`Reassembled`](crate::reassembly::Reassembled)
    /// says.
    ///
    /// # Errors
    ///
    /// [`Refused::Truncated`] when `at` is not of this frame.
    #[inline]
    pub fn of(frame: &[u8], at: Offsets, largest: u16) -> Result<Self, Refused> {
        let dont_fragment = match at.family {
            Family::V4 => Ipv4::new_unchecked(at.header::<[u8; 4]>(frame)?).dont_fragment(),
            Family::V6 => false,
        };
        Ok(Self {
            len: at.end.saturating_sub(at.l3.into()),
            largest,
            family: at.family,
            dont_fragment,
            icmp: at.protocol == at.family.icmp(),
        })
    }
}

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The path MTU, in bytes from the outermost IP header on.
    pub mtu: u16,
    /// The family and [`Kind::room`](crate::tun::Kind::room) of a tunnel.
    pub tunnel: Option<(Family, u16)>,
    /// `pmtu_disc`.
    pub pmtu_disc: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It leaves as it is.
    Whole,
    /// It leaves in fragments of at most so many bytes ([`Splitter`](crate::fragment::Splitter)),
    /// even if that is one.
    Split(u16),
    /// Its sender is told to send at most so many bytes
    /// ([`frag_needed`](crate::icmp::frag_needed)).
    TooBig(u16),
    /// The tunnel leaves less than any packet needs: it is dropped.
    Narrow,
}

/// What becomes of a packet on its way to a server.
#[inline]
pub fn to_server(size: &Size, way: &Way) -> Fit {
    let room = way.tunnel.map_or(0, |(_, room)| room);
    let inside = way.mtu.saturating_sub(room);
    // Nearly every packet.
    if size.len <= inside.into() && size.largest == 0 && way.tunnel.is_none() {
        return Fit::Whole;
    }
    let least = match way.tunnel {
        None => 0,
        Some((Family::V4, _)) => MIN_INSIDE_V4,
        Some((Family::V6, _)) => ipv6::MIN_MTU,
    };
    if inside < least {
        return Fit::Narrow;
    }
    let too_big = match size.family {
        Family::V6 => whole_or_largest(size) > inside.into(),
        // A tunnel's own packet is fragmented then.
        Family::V4 if way.tunnel.is_some() && !way.pmtu_disc => false,
        Family::V4 => size.dont_fragment && !size.icmp && size.len > inside.into(),
    };
    if too_big {
        return Fit::TooBig(inside);
    }
    let outer = way.tunnel.map_or(size.family, |(family, _)| family);
    // The other family's fragments say nothing about this one's.
    let largest = if outer == size.family { size.largest } else { 0 };
    at_output(outer, size.len + u32::from(room), largest, way.mtu)
}

/// What becomes of a packet on its way through NAT back to a client; `mtu` is that of the way.
#[inline]
pub fn to_client(size: &Size, mtu: u16) -> Fit {
    let too_big = match size.family {
        Family::V6 => whole_or_largest(size) > mtu.into(),
        Family::V4 => size.dont_fragment && size.len.max(size.largest.into()) > mtu.into(),
    };
    if too_big { Fit::TooBig(mtu) } else { at_output(size.family, size.len, size.largest, mtu) }
}

/// In IPv6 only the sender fragments, so it is its fragments that have to fit.
fn whole_or_largest(size: &Size) -> u32 {
    if size.largest == 0 { size.len } else { size.largest.into() }
}

/// Whether the packet as it leaves goes in fragments: what came in some leaves in some, and none is
/// larger than the largest of those.
fn at_output(family: Family, len: u32, largest: u16, mtu: u16) -> Fit {
    match (family, largest) {
        (_, 0) if len <= mtu.into() => Fit::Whole,
        (_, 0) => Fit::Split(mtu),
        (Family::V4, _) => Fit::Split(mtu.min(largest)),
        (Family::V6, _) if len <= largest.into() => Fit::Whole,
        (Family::V6, _) => Fit::Split(largest.max(ipv6::MIN_MTU)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(len: u32, dont_fragment: bool) -> Size {
        Size { len, largest: 0, family: Family::V4, dont_fragment, icmp: false }
    }

    fn v6(len: u32, largest: u16) -> Size {
        Size { len, largest, family: Family::V6, dont_fragment: false, icmp: false }
    }

    const PLAIN: Way = Way { mtu: 1400, tunnel: None, pmtu_disc: true };

    fn tunnel(outer: Family, room: u16) -> Way {
        Way { tunnel: Some((outer, room)), ..PLAIN }
    }

    #[test]
    fn without_a_tunnel() {
        // Recorded: big_dr_v4_rsmtu1400_nopmtu, big_dr_v6_rsmtu1400.
        for pmtu_disc in [false, true] {
            let way = Way { pmtu_disc, ..PLAIN };
            assert_eq!(to_server(&v4(1400, true), &way), Fit::Whole);
            assert_eq!(to_server(&v4(1401, true), &way), Fit::TooBig(1400));
            assert_eq!(to_server(&v4(1401, false), &way), Fit::Split(1400));
            assert_eq!(to_server(&v6(1400, 0), &way), Fit::Whole);
            assert_eq!(to_server(&v6(1401, 0), &way), Fit::TooBig(1400));
        }
        let icmp = Size { icmp: true, ..v4(1401, true) };
        assert_eq!(to_server(&icmp, &PLAIN), Fit::Split(1400));
    }

    #[test]
    fn through_a_tunnel() {
        // Recorded: big_tun_ipip_v4_rsmtu1400, big_tun_gre_csum_v4in6_rsmtu1400(_nopmtu),
        // big_tun_gue_remcsum_v6in4_rsmtu1400_nopmtu.
        let way = tunnel(Family::V4, 20);
        assert_eq!(to_server(&v4(1380, true), &way), Fit::Whole);
        assert_eq!(to_server(&v4(1381, true), &way), Fit::TooBig(1380));
        assert_eq!(to_server(&v4(1381, false), &way), Fit::Split(1400));
        let way = Way { pmtu_disc: false, ..tunnel(Family::V6, 48) };
        assert_eq!(to_server(&v4(1360, true), &way), Fit::Split(1400));
        let way = Way { pmtu_disc: false, ..tunnel(Family::V4, 32) };
        assert_eq!(to_server(&v6(1369, 0), &way), Fit::TooBig(1368));
        assert_eq!(
            to_server(&v4(40, true), &Way { mtu: 1300, ..tunnel(Family::V6, 48) }),
            Fit::Narrow
        );
        assert_eq!(
            to_server(&v4(40, true), &Way { mtu: 80, ..tunnel(Family::V4, 20) }),
            Fit::Narrow
        );
    }

    #[test]
    fn what_came_in_fragments() {
        // Recorded: frag_nat_v4, frag_tun_gre_csum_v4, frag_tun_gue_csum_v6, frag_dr_v6.
        let mtu_1500 = |way| Way { mtu: 1500, ..way };
        let v4 = |len, largest| Size { largest, ..v4(len, false) };
        assert_eq!(to_server(&v4(1428, 596), &mtu_1500(PLAIN)), Fit::Split(596));
        let gre = mtu_1500(tunnel(Family::V4, 28));
        assert_eq!(to_server(&v4(1428, 596), &gre), Fit::Split(596));
        assert_eq!(to_server(&v4(4028, 1500), &gre), Fit::Split(1500));
        let gue = mtu_1500(tunnel(Family::V6, 52));
        assert_eq!(to_server(&v4(1428, 596), &gue), Fit::Whole);
        assert_eq!(to_server(&v4(4028, 1500), &gue), Fit::Split(1500));
        assert_eq!(to_server(&v6(4048, 1496), &gue), Fit::TooBig(1448));
        assert_eq!(to_server(&v6(1448, 600), &gue), Fit::Split(1280));
        assert_eq!(to_server(&v6(1048, 496), &gue), Fit::Split(1280));
        assert_eq!(to_server(&v6(4048, 1496), &mtu_1500(PLAIN)), Fit::Split(1496));
        let over_v4 = mtu_1500(tunnel(Family::V4, 20));
        assert_eq!(to_server(&v6(1448, 600), &over_v4), Fit::Whole);
        // The only fragment of its packet: hdr_dr_v6, ext_atomic_frag.
        assert_eq!(to_server(&v6(60, 68), &PLAIN), Fit::Whole);
    }

    #[test]
    fn back_to_a_client() {
        // Recorded: big_reply_nat_v4_climtu1300, frag_nat_v4.
        assert_eq!(to_client(&v4(1300, true), 1300), Fit::Whole);
        assert_eq!(to_client(&v4(1301, true), 1300), Fit::TooBig(1300));
        assert_eq!(to_client(&v4(1500, false), 1300), Fit::Split(1300));
        assert_eq!(to_client(&Size { largest: 1500, ..v4(3028, false) }, 1500), Fit::Split(1500));
        assert_eq!(to_client(&v6(1301, 0), 1300), Fit::TooBig(1300));
        assert_eq!(to_client(&v6(3000, 1290), 1300), Fit::Split(1290));
    }
}
