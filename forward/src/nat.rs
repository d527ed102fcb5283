//! Masquerading (NAT): the server's address and port in place of the virtual ones, and back.
//!
//! Checksums are brought up to date, not computed anew, so a wrong one stays wrong and the
//! receiver sees it. The exceptions are IPVS's own: a UDP datagram without a checksum gets one, and
//! SCTP's CRC, which knows no addresses, is computed where the port changes.
//!
//! Not for fragments: only a whole packet has its ports and its payload.

use crate::checksum::{self, Sum, update};
use crate::offsets::Parts;
use crate::wire::{Sctp, Tcp, Udp, protocol, sctp, tcp, udp};
use crate::{Address, End, Hop, Offsets, Refused};

/// Which end of the packet is translated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Src,
    Dst,
}

/// Turns a client's packet to the virtual service into one to the server `dest`, and sends it on
/// to `hop`.
///
/// # Errors
///
/// [`Refused::Ttl`]; [`Refused::Protocol`] for what NAT does not translate, and
/// [`Refused::Fragment`]; [`Refused::Family`] and [`Refused::Truncated`] when `at` is not of this
/// frame or `dest` not of its family.
#[inline]
pub fn to_server<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    dest: impl Into<End<A>>,
    hop: &Hop,
) -> Result<(), Refused> {
    forward(frame, at, Side::Dst, dest.into(), hop)
}

/// Turns a server's packet to the client into one from the virtual service `vip`, and sends it on
/// to `hop`.
///
/// # Errors
///
/// As [`to_server`].
#[inline]
pub fn to_client<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    vip: impl Into<End<A>>,
    hop: &Hop,
) -> Result<(), Refused> {
    forward(frame, at, Side::Src, vip.into(), hop)
}

/// Turns a client's packet into one to `dest`, a server that is this host itself. It goes no hop
/// further, so its time to live and its Ethernet addresses stay.
///
/// # Errors
///
/// As [`to_server`], but for [`Refused::Ttl`].
#[inline]
pub fn to_local<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    dest: impl Into<End<A>>,
) -> Result<(), Refused> {
    let mut parts = at.parts::<A>(frame)?;
    let change = translate(&mut parts, at, Side::Dst, dest.into())?;
    A::changed(parts.ip, change);
    Ok(())
}

/// `side` is a constant of both callers, so inlining leaves no branch on it.
#[inline(always)]
fn forward<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    side: Side,
    new: End<A>,
    hop: &Hop,
) -> Result<(), Refused> {
    let mut parts = at.parts::<A>(frame)?;
    if A::ttl(parts.ip) <= 1 {
        return Err(Refused::Ttl);
    }
    let change = translate(&mut parts, at, side, new)?;
    A::forward(parts.ip, change);
    hop.write(parts.link);
    Ok(())
}

/// Writes the address and the port, and gives what the IP header's own checksum has to take in.
#[inline(always)]
fn translate<A: Address>(
    parts: &mut Parts<'_, A>,
    at: Offsets,
    side: Side,
    new: End<A>,
) -> Result<Sum, Refused> {
    if at.fragment {
        return Err(Refused::Fragment);
    }
    let old = if side == Side::Dst { A::dst(parts.ip) } else { A::src(parts.ip) };
    let address = A::change(old, new.address);
    // The last step that can fail comes before the first that writes.
    match at.protocol {
        protocol::TCP => translate_tcp(parts.transport, side, new.port, address)?,
        protocol::UDP => translate_udp(parts, side, new.port, address)?,
        protocol::SCTP => translate_sctp(parts.transport, side, new.port)?,
        // They have no ports, and IPVS does not look further into them.
        protocol::AH | protocol::ESP => {}
        _ => return Err(Refused::Protocol),
    }
    match side {
        Side::Src => A::set_src(parts.ip, new.address),
        Side::Dst => A::set_dst(parts.ip, new.address),
    }
    Ok(address)
}

#[inline(always)]
fn translate_tcp(transport: &mut [u8], side: Side, port: u16, address: Sum) -> Result<(), Refused> {
    let header: &mut [u8; tcp::HEADER_LEN] =
        transport.first_chunk_mut().ok_or(Refused::Truncated)?;
    let mut tcp = Tcp::new_unchecked(header);
    let old = if side == Side::Dst { tcp.dst_port() } else { tcp.src_port() };
    let check = update(tcp.checksum(), address + Sum::change16(old, port));
    tcp.set_checksum(check);
    match side {
        Side::Src => tcp.set_src_port(port),
        Side::Dst => tcp.set_dst_port(port),
    }
    Ok(())
}

#[inline(always)]
fn translate_udp<A: Address>(
    parts: &mut Parts<'_, A>,
    side: Side,
    port: u16,
    address: Sum,
) -> Result<(), Refused> {
    let header: &[u8; udp::HEADER_LEN] = parts.transport.first_chunk().ok_or(Refused::Truncated)?;
    let check = match Udp::new_unchecked(header).checksum() {
        0 => missing_udp_checksum(parts),
        check => check,
    };
    let header: &mut [u8; udp::HEADER_LEN] =
        parts.transport.first_chunk_mut().ok_or(Refused::Truncated)?;
    let mut udp = Udp::new_unchecked(header);
    let old = if side == Side::Dst { udp.dst_port() } else { udp.src_port() };
    udp.set_checksum(checksum::udp(update(check, address + Sum::change16(old, port))));
    match side {
        Side::Src => udp.set_src_port(port),
        Side::Dst => udp.set_dst_port(port),
    }
    Ok(())
}

/// The checksum that the sender of this datagram, whose checksum field is 0, could have made. It
/// covers what IP carries, not what the datagram's length field says: that is what the kernel
/// sums.
#[cold]
fn missing_udp_checksum<A: Address>(parts: &Parts<'_, A>) -> u16 {
    // A packet's payload: its length fits.
    let len = parts.transport.len() as u32;
    let pseudo = A::pseudo(A::src(parts.ip), A::dst(parts.ip), protocol::UDP, len);
    (pseudo + Sum::of(parts.transport)).finish()
}

#[inline]
fn translate_sctp(transport: &mut [u8], side: Side, port: u16) -> Result<(), Refused> {
    let header: &mut [u8; sctp::HEADER_LEN] =
        transport.first_chunk_mut().ok_or(Refused::Truncated)?;
    let mut sctp = Sctp::new_unchecked(header);
    let old = if side == Side::Dst { sctp.dst_port() } else { sctp.src_port() };
    // A wrong CRC stays as it is then, as in the kernel.
    if old == port {
        return Ok(());
    }
    match side {
        Side::Src => sctp.set_src_port(port),
        Side::Dst => sctp.set_dst_port(port),
    }
    sctp::fill_crc(transport);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ipv4, hex};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    const HOP: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };
    const DEST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 1), 8080);

    fn to_dest(frame: &str) -> Result<Vec<u8>, Refused> {
        let mut frame = hex(frame);
        let before = frame.clone();
        let at = Offsets::of(&frame).unwrap();
        let result = to_server(&mut frame, at, DEST, &HOP);
        if result.is_err() {
            assert_eq!(frame, before, "a refused frame stays as it was");
        }
        result.map(|()| frame)
    }

    #[test]
    fn tcp_is_translated_and_padding_left() {
        // Recorded: malformed_v4, trailing_ethernet_padding (the kernel cuts the padding).
        let out = to_dest(
            "0200000000c10200000000c0080045000028000100004006c1b7ac1003070a00000100080050\
             000003e80000000050022000d28a0000eeeeeeeeeeee",
        );
        let expected =
            hex("0200000001010200000000e1080045000028000100003f06c1b7ac1003070a00010100081f90\
             000003e80000000050022000b24a0000eeeeeeeeeeee");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn a_checksum_that_becomes_zero_is_sent_as_ffff() {
        // Recorded: udp_csum_becomes_zero_v4.
        let out = to_dest(
            "0200000000c10200000000c008004500001e000100004011c1b6ac1003070a00000100060050\
             000a2040262c",
        );
        let expected =
            hex("0200000001010200000000e108004500001e000100003f11c1b6ac1003070a00010100061f90\
             000affff262c");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        // Recorded: badcsum_nat_v4_udp.
        let out = to_dest(
            "0200000000c10200000000c0080045000020000100004011c1b4ac1003070a00000100050050\
             000cd4a261626364",
        );
        let expected =
            hex("0200000001010200000000e1080045000020000100003f11c1b4ac1003070a00010100051f90\
             000cb46261626364");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn other_protocols_and_a_used_up_ttl_are_refused() {
        let echo = "0200000000c10200000000c008004500001c00010000400166cdac1003070a000001\
                    0800f7ff00000000";
        let mut echo = hex(echo);
        echo[24..26].fill(0);
        let check = Sum::of(&echo[14..34]).finish();
        echo[24..26].copy_from_slice(&check.to_be_bytes());
        let at = Offsets::of(&echo).unwrap();
        assert_eq!(to_server(&mut echo, at, DEST, &HOP), Err(Refused::Protocol));
        let ttl1 = "0200000000c10200000000c008004500002800050000010600b4ac1003070a00000113\
                    880050000003e80000000050022000bf0a0000";
        assert_eq!(to_dest(ttl1), Err(Refused::Ttl));
    }

    #[test]
    fn of_ah_and_esp_the_address_is_translated() {
        for protocol in [50, 51] {
            let ends = (END_OF_CLIENT, SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 0));
            let (given, at) = frame(0, 0, protocol, ends, 64, b"sealed");
            let mut out = given.clone();
            assert_eq!(to_server(&mut out, at, DEST, &HOP), Ok(()));
            assert_eq!(out[30..34], [10, 0, 1, 1]);
            assert_eq!(out[34..], given[34..], "nothing behind the header");
            assert!(Ipv4::new_checked(&out[14..]).is_ok());
        }
    }

    #[test]
    fn an_sctp_crc_is_made_only_where_the_port_changes() {
        // Recorded: nat_v6_sctp, cookieack: its second word is the CRC.
        let packet = "1f909c4000000001deadbeef0b000004";
        let translated = |port| {
            let mut packet = hex(packet);
            translate_sctp(&mut packet, Side::Src, port).unwrap();
            packet
        };
        assert_eq!(translated(80), hex("00509c400000000155f63b2c0b000004"));
        assert_eq!(translated(8080), hex(packet), "a wrong one stays");
    }

    const END_OF_CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 16, 3, 7), 0);

    /// A frame with right checksums, from its parts.
    fn frame(
        tags: usize,
        options: usize,
        protocol: u8,
        ends: (SocketAddrV4, SocketAddrV4),
        ttl: u8,
        payload: &[u8],
    ) -> (Vec<u8>, Offsets) {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend([8, 0]);
        let l3 = frame.len();
        let header_len = if protocol == protocol::TCP { 20 } else { 8 };
        let total_len = 20 + 4 * options + header_len + payload.len();
        frame.extend([0x45 + options as u8, 0]);
        frame.extend((total_len as u16).to_be_bytes());
        frame.extend([0, 1, 0, 0, ttl, protocol, 0, 0]);
        frame.extend(ends.0.ip().octets());
        frame.extend(ends.1.ip().octets());
        frame.extend(std::iter::repeat_n(1, 4 * options));
        let l4 = frame.len();
        frame.extend(ends.0.port().to_be_bytes());
        frame.extend(ends.1.port().to_be_bytes());
        frame.extend(std::iter::repeat_n(0, header_len - 4));
        frame.extend(payload);
        let (end, l3, l4) = (frame.len() as u32, l3 as u16, l4 as u16);
        let at = Offsets { end, l3, l4, protocol, ..Offsets::default() };
        sum(&mut frame, at);
        (frame, at)
    }

    /// Computes both checksums of a frame anew.
    fn sum(frame: &mut [u8], at: Offsets) {
        let (l3, l4) = (usize::from(at.l3), usize::from(at.l4));
        frame[l3 + 10..l3 + 12].fill(0);
        let check = Sum::of(&frame[l3..l4]).finish();
        frame[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
        let ip = Ipv4::new_unchecked(&frame[l3..]);
        let at = l4 + if ip.protocol() == protocol::TCP { 16 } else { 6 };
        let len = (frame.len() - l4) as u16;
        let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), len);
        let is_udp = ip.protocol() == protocol::UDP;
        frame[at..at + 2].fill(0);
        let check = (pseudo + Sum::of(&frame[l4..])).finish();
        let check = if is_udp { checksum::udp(check) } else { check };
        frame[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }

    fn end() -> impl Strategy<Value = SocketAddrV4> {
        any::<(u32, u16)>().prop_map(|(address, port)| SocketAddrV4::new(address.into(), port))
    }

    proptest! {
        #[test]
        fn incremental_equals_full(
            src in end(), dst in end(), new in end(), tcp: bool, to_the_server: bool,
            no_checksum: bool, tags in 0usize..3, options in 0usize..11, ttl in 2u8..,
            payload in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let protocol = if tcp { protocol::TCP } else { protocol::UDP };
            let (mut given, at) = frame(tags, options, protocol, (src, dst), ttl, &payload);
            let ends = if to_the_server { (src, new) } else { (new, dst) };
            let (mut expected, _) = frame(tags, options, protocol, ends, ttl - 1, &payload);
            expected[..6].copy_from_slice(&HOP.dst);
            expected[6..12].copy_from_slice(&HOP.src);
            if no_checksum && !tcp {
                let at = usize::from(at.l4) + 6;
                given[at..at + 2].fill(0);
            }
            prop_assert_eq!(Offsets::of_ipv4(&given), Ok(at));
            // Padding is no part of the sum.
            given.extend([0xee; 5]);
            let done = match to_the_server {
                true => to_server(&mut given, at, new, &HOP),
                false => to_client(&mut given, at, new, &HOP),
            };
            prop_assert_eq!(done, Ok(()));
            given.truncate(expected.len());
            prop_assert_eq!(given, expected);
        }
    }
}
