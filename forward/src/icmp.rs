//! The ICMP errors that the director itself sends (RFC 792, RFC 1191).
//!
//! Each is built into a buffer of the caller's, as a whole frame that goes back the way the
//! offending one came: Ethernet addresses swapped, tags kept. The offending frame is the one
//! received, not yet rewritten. How many may be sent in a second is the caller's business.

use std::net::Ipv4Addr;

use crate::Offsets;
use crate::checksum::Sum;
use crate::wire::icmp4::{self, Icmp4, kind};
use crate::wire::ipv4::{self, Ipv4, Ipv4Header};
use crate::wire::{Ethernet, ethernet, protocol};

/// The longest ICMP packet, IPv4 header included: more might not reach the sender (RFC 1812,
/// 4.3.2.3).
pub const MAX_PACKET: usize = 576;

/// Bytes that any frame built here fits in.
pub const MAX_FRAME: usize = ethernet::MAX_HEADER_LEN + MAX_PACKET;

/// Bytes in front of the embedded packet: IPv4 and ICMP.
const HEADERS: usize = ipv4::HEADER_LEN + icmp4::HEADER_LEN;

/// DSCP CS6, internetwork control: what the kernel sends its ICMP errors with (RFC 1812, 4.3.2.5).
const TOS: u8 = 0xc0;
const TTL: u8 = 64;

/// Codes of "destination unreachable".
pub mod code {
    /// Nobody listens on the port: IPVS's answer when a service has no usable server.
    pub const PORT: u8 = 3;
    /// The packet is too large for the next link, and may not be fragmented.
    pub const FRAG_NEEDED: u8 = 4;
}

/// The director, as an ICMP error shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// From which of its addresses: the virtual one, for a client's packet.
    pub src: [u8; 4],
    /// The identification of the packet.
    pub id: u16,
}

/// The frame that an error is about, as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Offender<'a> {
    /// Its bytes.
    pub frame: &'a [u8],
    /// Where its headers begin.
    pub at: Offsets,
    /// How the error shows its time to live.
    pub ttl: CitedTtl,
}

/// Which time to live the embedded header shows. It tells how far the packet had come in the
/// kernel when the error was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CitedTtl {
    /// That of the frame: no server, time exceeded, a NAT reply too large for the client's side.
    Received,
    /// One less: too large on the way to a server, a reply of no connection (`nat_icmp_send`).
    Lowered,
}

/// Tells the sender of a frame that it cannot be delivered, with one of [`code`]'s reasons.
///
/// Returns the length of the frame built at the front of `out`, in bytes; `None` when `out` is
/// too short ([`MAX_FRAME`] is enough), the offsets are not of the frame, or nobody may be told:
/// about an ICMP error, a fragment other than the first, a broadcast or multicast (RFC 1122,
/// 3.2.2).
pub fn dest_unreachable(
    offender: Offender<'_>,
    sender: Sender,
    code: u8,
    out: &mut [u8],
) -> Option<usize> {
    build(offender, sender, Message { kind: kind::DEST_UNREACHABLE, code, rest: [0; 4] }, out)
}

/// Tells the sender of a frame that packets of more than `mtu` bytes do not fit the way: the path
/// MTU less what a tunnel adds. Returns as [`dest_unreachable`].
pub fn frag_needed(
    offender: Offender<'_>,
    sender: Sender,
    mtu: u16,
    out: &mut [u8],
) -> Option<usize> {
    let [high, low] = mtu.to_be_bytes();
    let rest = [0, 0, high, low];
    let message = Message { kind: kind::DEST_UNREACHABLE, code: code::FRAG_NEEDED, rest };
    build(offender, sender, message, out)
}

/// Tells the sender of a frame that its time to live was used up here. Returns as
/// [`dest_unreachable`].
pub fn time_exceeded(offender: Offender<'_>, sender: Sender, out: &mut [u8]) -> Option<usize> {
    build(offender, sender, Message { kind: kind::TIME_EXCEEDED, code: 0, rest: [0; 4] }, out)
}

/// An ICMP header but its checksum.
struct Message {
    kind: u8,
    code: u8,
    rest: [u8; 4],
}

fn build(
    offender: Offender<'_>,
    sender: Sender,
    message: Message,
    out: &mut [u8],
) -> Option<usize> {
    let Offender { frame, at, ttl } = offender;
    let (link, packet) = frame.get(..at.ipv4_end(frame))?.split_at_checked(at.l3.into())?;
    let header: &[u8; ipv4::HEADER_LEN] = packet.first_chunk()?;
    let ip = Ipv4::new_unchecked(header);
    if !may_answer(Ethernet::new_checked(link).ok()?, ip, packet) {
        return None;
    }
    let cited = packet.len().min(MAX_PACKET - HEADERS);
    let len = link.len() + HEADERS + cited;
    let (out_link, out_packet) = out.get_mut(..len)?.split_at_mut(link.len());
    turn(link, out_link);
    let header = Ipv4Header {
        tos: TOS,
        // At most MAX_PACKET.
        total_len: (HEADERS + cited) as u16,
        id: sender.id,
        dont_fragment: false,
        ttl: TTL,
        protocol: protocol::ICMP,
        src: sender.src,
        dst: ip.src(),
    };
    let (out_header, out_icmp) = out_packet.split_at_mut(ipv4::HEADER_LEN);
    out_header.copy_from_slice(&header.to_bytes());
    let (_, out_cited) = out_icmp.split_at_mut(icmp4::HEADER_LEN);
    out_cited.copy_from_slice(&packet[..cited]);
    if ttl == CitedTtl::Lowered {
        Ipv4::new_unchecked(out_cited).decrement_ttl();
    }
    write_header(&message, out_icmp);
    Some(len)
}

/// Writes the ICMP header in front of what is cited, and the checksum over both.
fn write_header(message: &Message, out: &mut [u8]) {
    let mut icmp = Icmp4::new_unchecked(&mut *out);
    icmp.set_kind(message.kind);
    icmp.set_code(message.code);
    icmp.set_rest(message.rest);
    icmp.set_checksum(0);
    let check = Sum::of(out).finish();
    Icmp4::new_unchecked(out).set_checksum(check);
}

/// The Ethernet header of the answer to a frame with the header `link`.
fn turn(link: &[u8], out: &mut [u8]) {
    out.copy_from_slice(link);
    let received = Ethernet::new_unchecked(link);
    let mut answer = Ethernet::new_unchecked(out);
    answer.set_dst(received.src());
    answer.set_src(received.dst());
}

/// Whether an error may be sent about a packet: not one that went to many, has no single sender,
/// is a later fragment, or is an ICMP error itself.
fn may_answer(ethernet: Ethernet<&[u8]>, ip: Ipv4<&[u8; 20]>, packet: &[u8]) -> bool {
    let (src, dst) = (Ipv4Addr::from(ip.src()), Ipv4Addr::from(ip.dst()));
    let to_many = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast();
    if ethernet.is_multicast() || to_many(dst) || ip.fragment_offset() != 0 {
        return false;
    }
    if to_many(src) || src.is_loopback() || src.octets()[0] == 0 {
        return false;
    }
    if ip.protocol() != protocol::ICMP {
        return true;
    }
    let icmp = packet.get(ip.header_len()..).unwrap_or_default();
    Icmp4::new_checked(icmp).is_ok_and(|icmp| !icmp.is_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    const VIP: [u8; 4] = [10, 0, 0, 1];

    fn sender(id: u16) -> Sender {
        Sender { src: VIP, id }
    }

    fn built(
        frame: &[u8],
        ttl: CitedTtl,
        build: impl Fn(Offender<'_>, &mut [u8]) -> Option<usize>,
    ) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_FRAME];
        let at = Offsets::of_ipv4(frame).unwrap();
        let len = build(Offender { frame, at, ttl }, &mut out)?;
        Some(out[..len].to_vec())
    }

    fn unreachable(frame: &[u8], id: u16) -> Option<Vec<u8>> {
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
        let out = built(&ttl1, CitedTtl::Received, |about, out| {
            time_exceeded(about, sender(0x84f3), out)
        });
        assert_eq!(out, Some(expected));
        let ttl0 = hex("0200000000c10200000000c008004500002800080000000601b1ac1003070a000001\
                        138b0050000003e80000000050022000bf070000");
        let expected = hex("0200000000c00200000000c1080045c0004484f4000040013bed0a000001ac10\
                            03070b00ae32000000004500002800080000000601b1ac1003070a000001138b\
                            0050000003e80000000050022000bf070000");
        let out = built(&ttl0, CitedTtl::Received, |about, out| {
            time_exceeded(about, sender(0x84f4), out)
        });
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
        let at = Offsets::of_ipv4(&frame).unwrap();
        let mut out = [0; 70];
        let about = Offender { frame: &frame, at, ttl: CitedTtl::Received };
        let needed = time_exceeded(about, sender(1), &mut out).unwrap();
        assert_eq!(needed, 14 + HEADERS + 28);
        assert_eq!(time_exceeded(about, sender(1), &mut out[..needed - 1]), None);
    }

    proptest! {
        #[test]
        fn both_checksums_are_right(payload in 0usize..1473, byte: u8, mtu: u16, id: u16) {
            let total_len = 28 + payload;
            let mut frame = changed(17, |frame| {
                frame[16..18].copy_from_slice(&(total_len as u16).to_be_bytes());
            });
            frame.resize(14 + total_len, byte);
            let out = built(&frame, CitedTtl::Lowered, |about, out| {
                frag_needed(about, sender(id), mtu, out)
            });
            let out = out.unwrap();
            prop_assert_eq!(out.len() - 14, (total_len + HEADERS).min(MAX_PACKET));
            prop_assert!(Ipv4::new_checked(&out[14..]).is_ok());
            prop_assert_eq!(Sum::of(&out[34..]).finish(), 0);
            prop_assert_eq!(Sum::of(&out[42..62]).finish(), 0);
        }
    }
}
