//! Checksums and lengths by the plainest code, which shares none with what it judges.

use uvs_forward::wire::Malformed;
use uvs_forward::{Family, Offsets};

/// One's complement sum of parts, all but the last of an even length.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

/// By how much a sum is wrong: 0 is right, whichever of its two forms zero has.
fn error_of(sum: u16) -> u16 {
    !sum % 0xffff
}

/// CRC32c bit by bit.
pub fn crc(parts: &[&[u8]]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).to_le_bytes()
}

/// Protocol numbers with a checksum, and where in their header it stands.
fn field(protocol: u8) -> Option<usize> {
    match protocol {
        6 => Some(16),
        17 => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

/// The pseudo header of a packet's transport; ICMP has none.
fn pseudo(frame: &[u8], at: Offsets, len: usize) -> Vec<u8> {
    let packet = &frame[at.l3.into()..];
    let addresses = match at.family {
        _ if at.protocol == 1 => return vec![],
        Family::V4 => &packet[12..20],
        Family::V6 => &packet[8..40],
    };
    [addresses, &(len as u32).to_be_bytes(), &[0, 0, 0, at.protocol]].concat()
}

/// What a sender that leaves its transport's checksum open writes in its place.
pub fn pseudo_sum(frame: &[u8], at: Offsets) -> u16 {
    sum(&[&pseudo(frame, at, at.transport(frame).unwrap_or_default().len())])
}

/// By how much the checksum of a whole packet's transport is wrong; `None` where it has none.
pub fn transport_error(frame: &[u8], at: Offsets) -> Option<u16> {
    let transport = at.transport(frame)?;
    let field = field(at.protocol).filter(|_| !at.fragment)?;
    let check = transport.get(field..field + 2)?;
    if at.protocol == 17 && check == [0, 0] {
        return None;
    }
    Some(error_of(sum(&[&pseudo(frame, at, transport.len()), transport])))
}

/// Whether the CRC of a whole SCTP packet is right.
pub fn crc_is_right(transport: &[u8]) -> bool {
    transport.len() >= 12 && crc(&[&transport[..8], &[0; 4], &transport[12..]]) == transport[8..12]
}

/// What is wrong with a frame that the engine may have sent: lengths, and checksums of all headers
/// and of the packet in a tunnel from one of the `own` addresses.
pub fn fault(frame: &[u8], own: &[&[u8]]) -> Option<&'static str> {
    let at = match Offsets::of(frame) {
        Ok(at) => at,
        // A first fragment whose extension headers were cut: of its transport nothing is there.
        Err(Malformed::Extension) => return None,
        Err(_) => return Some("no right packet"),
    };
    if at.end as usize != frame.len() {
        return Some("something behind the packet");
    }
    let packet = &frame[at.l3.into()..];
    let (source, header) = match at.family {
        Family::V4 => (&packet[12..16], sum(&[&packet[..usize::from(at.l4 - at.l3)]])),
        Family::V6 => (&packet[8..24], 0xffff),
    };
    if header != 0xffff {
        return Some("the IPv4 header's checksum");
    }
    if at.fragment {
        return None;
    }
    let transport = &frame[at.l4.into()..];
    if transport_error(frame, at).is_some_and(|error| error != 0) {
        return Some("the transport's checksum");
    }
    if at.protocol == 132 && !crc_is_right(transport) {
        return Some("the CRC");
    }
    let inside = own.contains(&source).then(|| inside(at.protocol, transport)).flatten()?;
    match inside {
        Err(fault) => Some(fault),
        Ok((ethertype, packet)) => {
            let link = [&[0; 12], &ethertype.to_be_bytes()[..]].concat();
            fault_of_carried(&[&link, packet].concat())
        }
    }
}

/// As [`fault`], of what a tunnel carries.
fn fault_of_carried(frame: &[u8]) -> Option<&'static str> {
    fault(frame, &[]).map(|_| "the packet in the tunnel")
}

/// The packet in a tunnel with its ethertype; `None` when there is no tunnel.
fn inside(protocol: u8, transport: &[u8]) -> Option<Result<(u16, &[u8]), &'static str>> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    match (protocol, transport) {
        (4, packet) => Some(Ok((IPV4, packet))),
        (41, packet) => Some(Ok((IPV6, packet))),
        (47, [0, 0, high, low, packet @ ..]) => {
            Some(Ok((u16::from_be_bytes([*high, *low]), packet)))
        }
        (47, [0x80, 0, high, low, _, _, 0, 0, packet @ ..]) => match sum(&[transport]) {
            0xffff => Some(Ok((u16::from_be_bytes([*high, *low]), packet))),
            _ => Some(Err("GRE's checksum")),
        },
        (47, _) => Some(Err("GRE's header")),
        // To the port of all GUE tunnels here, 6080.
        (17, [_, _, 0x17, 0xc0, _, _, _, _, 0, next, 0, 0, packet @ ..]) => match next {
            4 => Some(Ok((IPV4, packet))),
            41 => Some(Ok((IPV6, packet))),
            _ => Some(Err("GUE's header")),
        },
        (17, [_, _, 0x17, 0xc0, ..]) => Some(Err("GUE's header")),
        _ => None,
    }
}

/// Makes the checksums of a frame right, as far as it is one: so the fuzzer need not guess them.
pub fn mend(frame: &mut [u8]) {
    mend_header(frame);
    let Ok(at) = Offsets::of(frame) else { return };
    let (start, end) = (usize::from(at.l4), at.end as usize);
    if at.protocol == 132 && !at.fragment && end >= start + 12 {
        frame[start + 8..start + 12].fill(0);
        let crc = crc(&[&frame[start..end]]);
        frame[start + 8..start + 12].copy_from_slice(&crc);
    }
    let Some(field) = field(at.protocol).filter(|_| !at.fragment) else { return };
    if end < start + field + 2 {
        return;
    }
    frame[start + field..start + field + 2].fill(0);
    let check = match !sum(&[&pseudo(frame, at, end - start), &frame[start..end]]) {
        0 => 0xffff,
        check => check,
    };
    frame[start + field..start + field + 2].copy_from_slice(&check.to_be_bytes());
}

/// The checksum of an IPv4 header behind up to two tags.
fn mend_header(frame: &mut [u8]) {
    let tagged = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8]));
    let l3 = match (tagged(12), tagged(16)) {
        (false, _) => 14,
        (true, false) => 18,
        (true, true) => 22,
    };
    let Some(&first) = frame.get(l3) else { return };
    let len = usize::from(first & 15) * 4;
    if first >> 4 != 4 || len < 20 {
        return;
    }
    let Some(header) = frame.get_mut(l3..l3 + len) else { return };
    header[10..12].fill(0);
    let check = !sum(&[header]);
    header[10..12].copy_from_slice(&check.to_be_bytes());
}
