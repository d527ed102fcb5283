use super::*;
use crate::wire::{Ipv4Header, hex};
use proptest::prelude::*;

const HOP: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };

fn outer(id: u16) -> Outer<[u8; 4]> {
    Outer { src: [10, 0, 1, 254], dst: [10, 0, 1, 1], id, pmtu_disc: true }
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
    for (total_len, result) in [(65515u16, Ok(())), (65516, Err(Refused::TooLong))] {
        let end = 14 + u32::from(total_len);
        let at = Offsets { end, l3: 14, l4: 34, ..Offsets::default() };
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
        let end = (frame.len() - ROOM) as u32;
        let at = Offsets { end, l3: 14, l4: 34, ..Offsets::default() };
        prop_assert_eq!(ipip(&mut frame, at, &outer(id), &HOP), Ok(()));
        let outside = Ipv4::new_checked(&frame[14..]).unwrap();
        let inside = Ipv4::new_checked(&frame[34..]).unwrap();
        prop_assert_eq!(usize::from(outside.total_len()), frame.len() - 14);
        prop_assert_eq!((outside.ttl(), inside.ttl()), (ttl - 1, ttl - 1));
        prop_assert_eq!(outside.dont_fragment(), df);
        prop_assert_eq!(inside.id(), id);
    }
}

#[test]
fn the_room_is_what_the_path_mtu_loses() {
    // Recorded: big_tun_*.
    let gue = |checksum| Kind::Gue { port: 6080, checksum };
    let kinds = [
        (Kind::Ipip, 20, 40),
        (Kind::Gre { checksum: false }, 24, 44),
        (Kind::Gre { checksum: true }, 28, 48),
        (gue(Checksum::None), 32, 52),
        (gue(Checksum::Whole), 32, 52),
        (gue(Checksum::Remote), 32, 52),
    ];
    for (kind, over_v4, over_v6) in kinds {
        assert_eq!(
            (kind.room(Family::V4, false), kind.room(Family::V6, false)),
            (over_v4, over_v6)
        );
    }
    assert_eq!(gue(Checksum::Remote).room(Family::V6, true), MAX_ROOM);
    assert_eq!(gue(Checksum::Whole).room(Family::V6, true), 52, "it is finished first");
    assert_eq!(Kind::default().room(Family::V4, true), ROOM);
}

#[test]
fn source_ports_are_those_of_the_kernels_sockets() {
    assert_eq!((source_port(0), source_port(u32::MAX)), (32768, 60999));
    assert_eq!(source_port(1 << 31), 32768 + 14116);
}
