use super::super::MAX_FRAME;
use super::*;
use crate::wire::{Ipv4Header, hex};
use proptest::prelude::*;

const VIP: [u8; 4] = [10, 0, 0, 1];

fn sender(id: u32) -> Sender<[u8; 4]> {
    Sender { src: VIP, id }
}

fn built(
    frame: &[u8],
    ttl: CitedTtl,
    build: impl Fn(Offender<'_>, &mut [u8]) -> Option<usize>,
) -> Option<Vec<u8>> {
    let mut out = [0xaa; MAX_FRAME];
    let at = Offsets::of(frame).unwrap();
    let len = build(Offender { frame, at, ttl }, &mut out)?;
    Some(out[..len].to_vec())
}

fn unreachable(frame: &[u8], id: u32) -> Option<Vec<u8>> {
    let ttl = CitedTtl::Received;
    built(frame, ttl, |about, out| dest_unreachable(about, sender(id), code::PORT, out))
}

#[test]
fn no_server_for_tcp() {
    // Recorded: nodest_v4_tcp.
    let frame = hex("0200000000c10200000000c0080045000028008000004006c138ac1003070a000001\
                     00010050000003e80000000050022000d2910000");
    let expected = "0200000000c00200000000c1080045c00044128400004001ae5d0a000001ac100307\
                    0303b62f0000000045000028008000004006c138ac1003070a00000100010050\
                    000003e80000000050022000d2910000";
    assert_eq!(unreachable(&frame, 0x1284), Some(hex(expected)));
    // Padding is not cited.
    let padded = [&frame[..], &[0xee; 6]].concat();
    assert_eq!(unreachable(&padded, 0x1284), Some(hex(expected)));
    // Tags are kept.
    let tag = hex("81000064");
    let tagged = [&frame[..12], &tag, &frame[12..]].concat();
    let expected = hex(expected);
    let expected = [&expected[..12], &tag, &expected[12..]].concat();
    assert_eq!(unreachable(&tagged, 0x1284), Some(expected));
}

#[test]
fn no_server_for_udp() {
    // Recorded: weight0_v4_udp.
    let frame = hex("0200000000c10200000000c0080045000044008000004011c111ac1003070a000001\
                     0001005000306948717171717171717171717171717171717171717171717171\
                     71717171717171717171717171717171");
    let expected = hex("0200000000c00200000000c1080045c00060011700004001bfae0a000001ac10\
                        03070303b6560000000045000044008000004011c111ac1003070a0000010001\
                        0050003069487171717171717171717171717171717171717171717171717171\
                        7171717171717171717171717171");
    assert_eq!(unreachable(&frame, 0x0117), Some(expected));
}

#[test]
fn the_time_to_live_is_cited_as_it_came() {
    // Recorded: hdr_dr_v4, ttl1 and ttl0.
    let ttl1 = hex("0200000000c10200000000c008004500002800050000010600b4ac1003070a000001\
                    13880050000003e80000000050022000bf0a0000");
    let expected = hex("0200000000c00200000000c1080045c0004484f3000040013bee0a000001ac10\
                        03070b00ae32000000004500002800050000010600b4ac1003070a0000011388\
                        0050000003e80000000050022000bf0a0000");
    let out =
        built(&ttl1, CitedTtl::Received, |about, out| time_exceeded(about, sender(0x84f3), out));
    assert_eq!(out, Some(expected));
    let ttl0 = hex("0200000000c10200000000c008004500002800080000000601b1ac1003070a000001\
                    138b0050000003e80000000050022000bf070000");
    let expected = hex("0200000000c00200000000c1080045c0004484f4000040013bed0a000001ac10\
                        03070b00ae32000000004500002800080000000601b1ac1003070a000001138b\
                        0050000003e80000000050022000bf070000");
    let out =
        built(&ttl0, CitedTtl::Received, |about, out| time_exceeded(about, sender(0x84f4), out));
    assert_eq!(out, Some(expected));
}

#[test]
fn too_large_for_the_tunnel() {
    // Recorded: big_tun_ipip_v4_rsmtu1400, df_1500; its payload is zeros.
    let mut frame = hex("0200000000c10200000000c00800450005dc0055400040067bafac1003070a00\
                         00011b580050000003e80000000050102000b1780000");
    frame.resize(1514, 0);
    let mut expected = hex("0200000000c00200000000c1080045c00240759800004001494d0a000001\
                            ac1003070304b67e00000564450005dc005540003f067cafac1003070a00\
                            00011b580050000003e80000000050102000b1780000");
    expected.resize(14 + MAX_PACKET, 0);
    let out = built(&frame, CitedTtl::Lowered, |about, out| {
        frag_needed(about, sender(0x7598), 1380, out)
    });
    assert_eq!(out, Some(expected));
}

#[test]
fn a_reply_too_large_for_the_client_is_cited_as_it_came() {
    // Recorded: big_reply_nat_v4_climtu1300, df_1301; its payload is zeros.
    let mut frame = hex("0200000000e102000000010108004500051500664000\
                         40067b650a000101ac1003071f901b58000003e8000000005018200091f70000");
    frame.resize(1315, 0);
    let mut expected = hex("0200000001010200000000e1080045c00240645300004001fcab0a0001fe\
                            0a0001010304b7070000051445000515006640004006\
                            7b650a000101ac1003071f901b58000003e8000000005018200091f70000");
    expected.resize(14 + MAX_PACKET, 0);
    let director = Sender { src: [10, 0, 1, 254], id: 0x6453 };
    let out =
        built(&frame, CitedTtl::Received, |about, out| frag_needed(about, director, 1300, out));
    assert_eq!(out, Some(expected));
}

#[test]
fn a_reply_of_no_connection_is_cited_one_hop_on() {
    // Recorded: nonhit_reply_v4_udp_P_nat_icmp_send1.
    let frame = hex("0200000000e102000000010108004500001d008100004011c0370a000101ac100307\
                     005003e70009d08c71");
    let expected = hex("0200000001010200000000e1080045c00039951000004001cdf50a0001fe0a00\
                        01010303b72f000000004500001d008100003f11c1370a000101ac1003070050\
                        03e70009d08c71");
    let director = Sender { src: [10, 0, 1, 254], id: 0x9510 };
    let out = built(&frame, CitedTtl::Lowered, |about, out| {
        dest_unreachable(about, director, code::PORT, out)
    });
    assert_eq!(out, Some(expected));
}

/// A UDP or ICMP frame with `change` made to it, behind a right header checksum.
fn changed(protocol: u8, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let header = Ipv4Header {
        tos: 0,
        total_len: 28,
        id: 0,
        dont_fragment: false,
        ttl: 64,
        protocol,
        src: [172, 16, 3, 7],
        dst: VIP,
    };
    let mut frame = hex("0200000000c10200000000c00800");
    frame.extend(header.to_bytes());
    frame.extend([8, 0, 0, 0, 0, 0, 0, 0]);
    change(&mut frame);
    frame[24..26].fill(0);
    let check = Sum::of(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(&check.to_be_bytes());
    frame
}

#[test]
fn nobody_is_told_about_what_has_no_one_sender_or_is_an_error() {
    let told =
        |protocol, change: fn(&mut [u8])| unreachable(&changed(protocol, change), 1).is_some();
    assert!(told(17, |_| {}));
    assert!(told(1, |_| {}), "an echo may be answered with an error");
    assert!(told(17, |frame| frame[20] = 0x20), "the first fragment");
    assert!(!told(17, |frame| frame[21] = 1), "a later fragment");
    assert!(!told(1, |frame| frame[34] = 3), "an ICMP error");
    assert!(!told(17, |frame| frame[0] = 0x01), "Ethernet multicast");
    assert!(!told(17, |frame| frame[30] = 224), "IP multicast");
    for src in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let frame = changed(17, |frame| frame[26..30].copy_from_slice(&src));
        assert_eq!(unreachable(&frame, 1), None, "{src:?}");
    }
}

#[test]
fn a_short_buffer_is_refused() {
    let frame = changed(17, |_| {});
    let at = Offsets::of(&frame).unwrap();
    let mut out = [0; 70];
    let about = Offender { frame: &frame, at, ttl: CitedTtl::Received };
    let needed = time_exceeded(about, sender(1), &mut out).unwrap();
    assert_eq!(needed, 14 + 28 + 28);
    assert_eq!(time_exceeded(about, sender(1), &mut out[..needed - 1]), None);
}

proptest! {
    #[test]
    fn both_checksums_are_right(payload in 0usize..1473, byte: u8, mtu: u16, id: u32) {
        let total_len = 28 + payload;
        let mut frame = changed(17, |frame| {
            frame[16..18].copy_from_slice(&(total_len as u16).to_be_bytes());
        });
        frame.resize(14 + total_len, byte);
        let out = built(&frame, CitedTtl::Lowered, |about, out| {
            frag_needed(about, sender(id), mtu, out)
        });
        let out = out.unwrap();
        prop_assert_eq!(out.len() - 14, (total_len + 28).min(MAX_PACKET));
        prop_assert!(Ipv4::new_checked(&out[14..]).is_ok());
        prop_assert_eq!(Sum::of(&out[34..]).finish(), 0);
        prop_assert_eq!(Sum::of(&out[42..62]).finish(), 0);
    }
}
