//! Frames as recorded, against those that leave the engine, byte for byte.

use serde::Deserialize;
use uvs_engine::counters::HostReason;
use uvs_engine::link::LinkId;
use uvs_engine::port::Offload;
use uvs_forward::{Offsets, Unfinished};

use crate::Stop;
use crate::mask::masked;
use crate::rig::{
    CLIENT_SIDE, DIRECTOR_CLIENT_MAC, DIRECTOR_SERVER_MAC, Left, ROUTER_MAC, Rig, SERVER_SIDE,
    server_mac,
};

/// A frame that left.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Output {
    dev: String,
    hex: String,
}

/// Lets a recorded packet, which has no link header, arrive, and compares what leaves.
pub(crate) fn raw(rig: &mut Rig, dev: &str, hex: &str, out: &[Output]) -> Result<(), Stop> {
    let (link, packet) = (link(dev)?, bytes(hex)?);
    let (to, from) = match link {
        CLIENT_SIDE => (DIRECTOR_CLIENT_MAC, ROUTER_MAC),
        // Server n of the lab has n at its address's end.
        _ => (DIRECTOR_SERVER_MAC, server_mac(packet.get(15).copied().unwrap_or_default())),
    };
    let ethertype: [u8; 2] = match packet.first().map_or(4, |first| first >> 4) {
        6 => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    let frame = [&to[..], &from, &ethertype, &packet].concat();
    let left = rig.frame(link, &frame);
    compare(&left, out, &[])
}

/// Compares the frames that left with the recorded ones.
pub(crate) fn compare(left: &Left, out: &[Output], gue: &[u16]) -> Result<(), Stop> {
    let mut expected = Vec::new();
    for output in out {
        let frame = bytes(&output.hex)?;
        // What the host's own stack did with what it was handed.
        let hosts = left.to_host.iter().any(|(why, handed)| is_hosts(&frame, *why, handed))
            || left.asked && is_question(&frame);
        if !hosts {
            expected.push((link(&output.dev)?, frame));
        }
    }
    if expected.len() != left.sent.len() {
        return Err(Stop::Differs(format!(
            "expected {} frames, came {} ({} handed to the host)",
            expected.len(),
            left.sent.len(),
            left.to_host.len()
        )));
    }
    for ((expected_link, expected), (link, frame)) in expected.iter().zip(&left.sent) {
        if expected_link != link || masked(expected, gue) != masked(frame, gue) {
            return Err(Stop::Differs(format!(
                "expected on {}: {}\n    came on {}: {}",
                name(*expected_link),
                digits(expected),
                name(*link),
                digits(frame)
            )));
        }
    }
    Ok(())
}

/// What the sender of a frame left to be done that left its checksum open.
pub(crate) fn unfinished(frame: &[u8]) -> Offload {
    let unfinished = Offsets::of(frame).ok().and_then(Unfinished::of);
    unfinished.map_or(Offload::NONE, Offload::checksum)
}

/// The time that the kernel wrote into an IP timestamp option of a packet that came.
pub(crate) fn stamped(came: &[u8], out: &[Output]) -> Result<Option<u32>, Stop> {
    const OPTIONS: usize = 14 + 20;
    const TIMESTAMP: u8 = 68;
    let is_first = came.get(12..14) == Some(&[8, 0]) && came.get(OPTIONS) == Some(&TIMESTAMP);
    let Some(output) = out.first().filter(|_| is_first && came[14] > 0x45) else {
        return Ok(None);
    };
    let frame = bytes(&output.hex)?;
    // Behind an address, if it has those. What came is the end of what left.
    let at = if came[OPTIONS + 3] & 0xf == 0 { OPTIONS + 4 } else { OPTIONS + 8 };
    let at = (frame.len() + at).saturating_sub(came.len());
    let time = frame.get(at..).and_then(<[u8]>::first_chunk::<4>);
    Ok(time.map(|time| u32::from_be_bytes(*time)))
}

/// Whether a director's own stack made this frame of one that it was `handed`, for this reason.
fn is_hosts(frame: &[u8], why: HostReason, handed: &[u8]) -> bool {
    is_routed(frame, handed)
        || match why {
            // The server is one of its own.
            HostReason::LocalDest => true,
            // Nobody listens.
            HostReason::NoService | HostReason::OtherProtocol => {
                is_own_answer(frame) || is_unreachable(frame)
            }
            _ => is_own_answer(frame),
        }
}

/// Whether it is the same packet, one hop further.
fn is_routed(frame: &[u8], handed: &[u8]) -> bool {
    const L3: usize = 14;
    let plain = |frame: &[u8]| {
        let mut packet = frame.get(L3..).unwrap_or_default().to_vec();
        match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= 20 => {
                packet[8] = 0;
                packet[10..12].fill(0);
            }
            Some(6) if packet.len() >= 40 => packet[7] = 0,
            _ => {}
        }
        packet
    };
    plain(frame) == plain(handed)
}

/// Whether it asks for a neighbour.
fn is_question(frame: &[u8]) -> bool {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(_)), _) => true,
        (_, Some(TransportSlice::Icmpv6(icmp))) => icmp.type_u8() == 135,
        _ => false,
    }
}

/// Whether it is a reset, an abort, an echo reply, ARP or neighbour discovery.
fn is_own_answer(frame: &[u8]) -> bool {
    use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(_)), _) => true,
        (_, Some(TransportSlice::Tcp(tcp))) => tcp.rst(),
        (_, Some(TransportSlice::Icmpv6(icmp))) => {
            (133..=137).contains(&icmp.type_u8())
                || matches!(icmp.icmp_type(), Icmpv6Type::EchoReply(_))
        }
        (_, Some(TransportSlice::Icmpv4(icmp))) => {
            matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(_))
        }
        (Some(net), None) => net.ip_payload_ref().is_some_and(is_sctp_abort),
        _ => false,
    }
}

fn is_sctp_abort(payload: &etherparse::IpPayloadSlice<'_>) -> bool {
    const ABORT: u8 = 6;
    payload.ip_number == etherparse::IpNumber::SCTP && payload.payload.get(12) == Some(&ABORT)
}

/// Whether it says that a port or a protocol is unreachable.
fn is_unreachable(frame: &[u8]) -> bool {
    use etherparse::{SlicedPacket, TransportSlice};
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => icmp.type_u8() == 3,
        Some(TransportSlice::Icmpv6(icmp)) => [1, 4].contains(&icmp.type_u8()),
        _ => false,
    }
}

/// A side of the lab by its letter.
pub(crate) fn link(dev: &str) -> Result<LinkId, Stop> {
    match dev {
        "c" => Ok(CLIENT_SIDE),
        "r" => Ok(SERVER_SIDE),
        other => Err(Stop::Malformed(format!("there is no device {other}"))),
    }
}

fn name(link: LinkId) -> &'static str {
    if link == CLIENT_SIDE { "c" } else { "r" }
}

/// The bytes of hexadecimal digits.
pub(crate) fn bytes(hex: &str) -> Result<Vec<u8>, Stop> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    bytes.ok_or_else(|| Stop::Malformed(format!("`{hex}` is not hexadecimal")))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
