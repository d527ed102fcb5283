//! What the kernel draws at random, and a comparison therefore leaves out. All of it is here:
//!
//! - the IP identification of packets that the director makes (ICMP errors), and of a tunnel's
//!   outer header without DF, with the header checksum that covers it;
//! - the flow label of ICMPv6 errors that the director makes;
//! - the UDP source port of GUE, and what it adds to the UDP checksum;
//! - the identification of IPv6 fragments;
//! - the time in an IP timestamp option, with the header checksum that covers it.

use uvs_forward::checksum::{Sum, update};

/// Offset of the IP header in a frame without tags; the recordings have none.
const L3: usize = 14;
/// The TOS of ICMP errors that a director makes.
const CONTROL: u8 = 0xc0;
/// The TTL with which its packets begin.
const FIRST_TTL: u8 = 64;

mod protocol {
    pub const ICMP: u8 = 1;
    pub const IPIP: u8 = 4;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
}

/// The frame with its random fields set to zero; `gue` has the ports of tunnels.
pub fn masked(frame: &[u8], gue: &[u16]) -> Vec<u8> {
    let mut out = frame.to_vec();
    match frame.get(L3).map(|first| first >> 4) {
        Some(4) if frame.len() >= L3 + 20 => mask_v4(&mut out, gue),
        Some(6) if frame.len() >= L3 + 40 => mask_v6(&mut out, gue),
        _ => {}
    }
    out
}

fn mask_v4(frame: &mut [u8], gue: &[u16]) {
    let header_len = usize::from(frame[L3] & 0xf) * 4;
    let (number, tos) = (frame[L3 + 9], frame[L3 + 1]);
    let transport = L3 + header_len;
    // Of a tunnel's packet: what it carries is cut by its sender.
    let later = u16::from_be_bytes([frame[L3 + 6], frame[L3 + 7]]) & 0x1fff != 0;
    let tunnelled = match number {
        protocol::IPIP | protocol::IPV6 | protocol::GRE => true,
        protocol::UDP if later => !gue.is_empty(),
        protocol::UDP => mask_gue(&mut frame[transport..], gue),
        _ => false,
    };
    let dont_fragment = frame[L3 + 6] & 0x40 != 0;
    let made = number == protocol::ICMP && tos == CONTROL;
    if made || tunnelled && !dont_fragment {
        frame[L3 + 4..L3 + 6].fill(0);
        frame[L3 + 10..L3 + 12].fill(0);
    }
}

fn mask_v6(frame: &mut [u8], gue: &[u16]) {
    match frame[L3 + 6] {
        // An error, and not one of somebody else's that has come this far.
        protocol::ICMPV6 if frame[L3 + 7] == FIRST_TTL => {
            frame[L3 + 1] &= 0xf0;
            frame[L3 + 2..L3 + 4].fill(0);
        }
        protocol::FRAGMENT if frame.len() >= L3 + 48 => {
            frame[L3 + 44..L3 + 48].fill(0);
            if frame[L3 + 40] == protocol::UDP && frame[L3 + 42] == 0 && frame[L3 + 43] & !7 == 0 {
                mask_gue(&mut frame[L3 + 48..], gue);
            }
        }
        protocol::UDP => {
            mask_gue(&mut frame[L3 + 40..], gue);
        }
        _ => {}
    }
}

/// Whether it is GUE; takes its source port out of the checksum (RFC 1624).
fn mask_gue(udp: &mut [u8], gue: &[u16]) -> bool {
    let Some([s0, s1, d0, d1, _, _, c0, c1]) = udp.first_chunk::<8>().copied() else {
        return false;
    };
    if !gue.contains(&u16::from_be_bytes([d0, d1])) {
        return false;
    }
    let (port, check) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([c0, c1]));
    udp[..2].fill(0);
    if check != 0 {
        let check = update(check, Sum::change16(port, 0));
        udp[6..8].copy_from_slice(&check.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GUE packet to port 6080 with this source port, in IPv4, and its UDP checksum.
    fn gue(port: u16) -> Vec<u8> {
        let mut frame = vec![0; L3];
        frame.extend([0x45, 0, 0, 32, 0, 0, 0x40, 0, 63, 17, 0, 0, 10, 0, 1, 254, 10, 0, 1, 1]);
        let port = port.to_be_bytes();
        frame.extend([port[0], port[1], 0x17, 0xc0, 0, 12, 0, 0, 0, 4, 0, 0]);
        let pseudo = [10, 0, 1, 254, 10, 0, 1, 1, 0, 17, 0, 12];
        let sum = (Sum::of(&pseudo) + Sum::of(&frame[L3 + 20..])).finish();
        frame[L3 + 26..L3 + 28].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn of_gue_the_port_is_left_out_and_nothing_else() {
        let (one, other) = (gue(40000), gue(50123));
        assert_ne!(one, other);
        assert_eq!(masked(&one, &[6080]), masked(&other, &[6080]));
        assert_ne!(masked(&one, &[]), masked(&other, &[]));
        for at in (L3 + 2)..one.len() {
            let mut changed = other.clone();
            changed[at] ^= 1;
            let is_port = (L3 + 20..L3 + 22).contains(&at);
            assert!(is_port || masked(&one, &[6080]) != masked(&changed, &[6080]), "byte {at}");
        }
    }
}
