//! Tunnels: the packet goes to the server whole, inside another one.

use crate::wire::ipv4::{self, Ipv4, Ipv4Header};
use crate::wire::{ethernet, protocol};
use crate::{Hop, Offsets, Refused};

/// Bytes that [`ipip`] needs in front of a frame: the outer IPv4 header.
pub const ROOM: usize = ipv4::HEADER_LEN;

/// ECN's two bits of a TOS, both set: congestion was experienced (RFC 3168).
const ECN_CE: u8 = 0b11;
/// The sender can do ECN.
const ECN_ECT_0: u8 = 0b10;

/// What an outer header has that the inner one does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The director's address on the way to the server.
    pub src: [u8; 4],
    /// The server.
    pub dst: [u8; 4],
    /// Identification, used where the packet may be fragmented on its way. Where it may not, it
    /// is sent as 0.
    pub id: u16,
}

/// Puts an IPv4 packet into another one (RFC 2003) and sends it on to `hop`.
///
/// `frame` has [`ROOM`] bytes in front of its Ethernet header, whatever is in them, and ends where
/// its packet ends ([`Offsets::ipv4_end`]): padding would travel as part of the tunnel. `at` is
/// where the headers were without the room. Afterwards the Ethernet header, tags included, stands
/// at the front, the outer header at `at.l3` and the inner packet [`ROOM`] bytes behind that.
///
/// ```text
/// | room 20 | Ethernet, tags | inner packet ...
/// | Ethernet, tags | outer 20 | inner packet ...
/// ```
///
/// The inner TTL goes down, and the outer one begins with what is left. DF is copied, and TOS but
/// for congestion experienced, which the outer header starts without (RFC 3168, 9.1).
///
/// # Errors
///
/// [`Refused::Ttl`], [`Refused::TooLong`], and [`Refused::Truncated`] when `at` is not of this
/// frame. What then is to be said about the frame, as with ICMP, begins behind the room.
#[inline]
pub fn ipip(frame: &mut [u8], at: Offsets, outer: &Outer, hop: &Hop) -> Result<(), Refused> {
    let l3 = usize::from(at.l3);
    let (front, inner) = frame.split_at_mut_checked(ROOM + l3).ok_or(Refused::Truncated)?;
    let inner: &mut [u8; ipv4::HEADER_LEN] = inner.first_chunk_mut().ok_or(Refused::Truncated)?;
    let mut inner = Ipv4::new_unchecked(inner);
    if l3 < ethernet::HEADER_LEN {
        return Err(Refused::Truncated);
    }
    if inner.ttl() <= 1 {
        return Err(Refused::Ttl);
    }
    let total_len = inner.total_len().checked_add(ROOM as u16).ok_or(Refused::TooLong)?;
    inner.decrement_ttl();
    let dont_fragment = inner.dont_fragment();
    let header = Ipv4Header {
        tos: outer_tos(inner.tos()),
        total_len,
        id: if dont_fragment { 0 } else { outer.id },
        dont_fragment,
        ttl: inner.ttl(),
        protocol: protocol::IPIP,
        src: outer.src,
        dst: outer.dst,
    };
    move_link(front, l3);
    front[l3..].copy_from_slice(&header.to_bytes());
    if let Some(link) = front.first_chunk_mut() {
        hop.write(link);
    }
    Ok(())
}

/// Moves ethertype and tags to where they stand once the room in front is used.
#[inline]
fn move_link(front: &mut [u8], l3: usize) {
    const FROM: usize = ROOM + 12;
    // Nearly every frame is without tags; two bytes of known place need no call to memmove.
    if l3 == ethernet::HEADER_LEN {
        front.copy_within(FROM..FROM + 2, 12);
    } else {
        front.copy_within(FROM..ROOM + l3, 12);
    }
}

#[inline]
fn outer_tos(inner: u8) -> u8 {
    if inner & ECN_CE == ECN_CE { inner & !ECN_CE | ECN_ECT_0 } else { inner }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    const HOP: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };

    fn outer(id: u16) -> Outer {
        Outer { src: [10, 0, 1, 254], dst: [10, 0, 1, 1], id }
    }

    fn tunnelled(frame: &str, id: u16) -> Result<Vec<u8>, Refused> {
        let frame = hex(frame);
        let at = Offsets::of_ipv4(&frame).unwrap();
        let mut roomy = vec![0xaa; ROOM];
        roomy.extend(frame);
        let before = roomy.clone();
        let result = ipip(&mut roomy, at, &outer(id), &HOP);
        if result.is_err() {
            assert_eq!(roomy, before, "a refused frame stays as it was");
        }
        result.map(|()| roomy)
    }

    #[test]
    fn df_is_copied_and_the_id_is_zero_then() {
        // Recorded: hdr_tun_ipip_v4, df.
        let out = tunnelled(
            "0200000000c10200000000c008004500002811114000400670a7ac1003070a00000114b40050\
             000003e80000000050022000bdde0000",
            0x1234,
        );
        let expected =
            hex("0200000001010200000000e108004500003c000040003f0424c00a0001fe0a00010145000028\
             111140003f0671a7ac1003070a00000114b40050000003e80000000050022000bdde0000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn congestion_inside_is_not_copied() {
        // Recorded: hdr_tun_ipip_v4, tos0xff.
        let out = tunnelled(
            "0200000000c10200000000c0080045ff0028000900004006c0b0ac1003070a00000114910050\
             000003e80000000050022000be010000",
            0xc4f0,
        );
        let expected =
            hex("0200000001010200000000e1080045fe003cc4f000003f049ed10a0001fe0a00010145ff0028\
             000900003f06c1b0ac1003070a00000114910050000003e80000000050022000be010000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn only_congestion_experienced_changes() {
        for tos in 0..=255 {
            let expected = if tos & 3 == 3 { tos - 1 } else { tos };
            assert_eq!(outer_tos(tos), expected);
        }
    }

    #[test]
    fn options_stay_inside_and_tags_outside() {
        // Recorded without the tags: hdr_tun_ipip_v4, opt_ra.
        let out = tunnelled(
            "0200000000c10200000000c088a80064810000c808004600002c0014000040062c9cac100307\
             0a00000194040000157e0050000003e80000000050022000bd140000",
            0xc4f5,
        );
        let expected =
            hex("0200000001010200000000e188a80064810000c8080045000040c4f500003f049fc60a0001fe\
             0a0001014600002c001400003f062d9cac1003070a00000194040000157e0050000003e80000\
             000050022000bd140000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn a_used_up_ttl_is_refused() {
        let ttl1 = "0200000000c10200000000c008004500002800050000010600b4ac1003070a00000113\
                    880050000003e80000000050022000bf0a0000";
        assert_eq!(tunnelled(ttl1, 1), Err(Refused::Ttl));
    }

    #[test]
    fn a_packet_that_would_pass_65535_bytes_is_refused() {
        let at = Offsets { l3: 14, l4: 34 };
        for (total_len, result) in [(65515u16, Ok(())), (65516, Err(Refused::TooLong))] {
            let mut frame = vec![0; ROOM + 14 + usize::from(total_len)];
            frame[ROOM + 14] = 0x45;
            frame[ROOM + 16..ROOM + 18].copy_from_slice(&total_len.to_be_bytes());
            frame[ROOM + 22] = 64;
            assert_eq!(ipip(&mut frame, at, &outer(1), &HOP), result);
        }
    }

    proptest! {
        #[test]
        fn inside_and_outside_stay_well_formed(
            tos: u8, id: u16, df: bool, ttl in 2u8.., payload in 0usize..64,
        ) {
            let inner = Ipv4Header {
                tos,
                total_len: 20 + payload as u16,
                id,
                dont_fragment: df,
                ttl,
                protocol: 253,
                src: [1, 2, 3, 4],
                dst: [5, 6, 7, 8],
            };
            let mut frame = vec![0; ROOM + 12];
            frame.extend([8, 0]);
            frame.extend(inner.to_bytes());
            frame.extend(vec![7; payload]);
            let at = Offsets { l3: 14, l4: 34 };
            prop_assert_eq!(ipip(&mut frame, at, &outer(id), &HOP), Ok(()));
            let outside = Ipv4::new_checked(&frame[14..]).unwrap();
            let inside = Ipv4::new_checked(&frame[34..]).unwrap();
            prop_assert_eq!(usize::from(outside.total_len()), frame.len() - 14);
            prop_assert_eq!((outside.ttl(), inside.ttl()), (ttl - 1, ttl - 1));
            prop_assert_eq!(outside.dont_fragment(), df);
            prop_assert_eq!(inside.id(), id);
        }
    }
}
