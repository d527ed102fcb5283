//! Direct routing: the packet goes to the server's Ethernet address as it is.
//!
//! Bypass of a cache is the same, with the next hop to the packet's own destination.

use crate::checksum::Sum;
use crate::{Address, Family, Hop, Offsets, Refused};

/// Sends a frame on to `hop`: the time to live or hop limit goes down, the Ethernet addresses
/// change.
///
/// # Errors
///
/// [`Refused::Ttl`], and [`Refused::Truncated`] when `at` is not of this frame.
#[inline]
pub fn forward(frame: &mut [u8], at: Offsets, hop: &Hop) -> Result<(), Refused> {
    match at.family {
        Family::V4 => forward_as::<[u8; 4]>(frame, at, hop),
        Family::V6 => forward_as::<[u8; 16]>(frame, at, hop),
    }
}

#[inline]
fn forward_as<A: Address>(frame: &mut [u8], at: Offsets, hop: &Hop) -> Result<(), Refused> {
    let (link, ip) = at.head::<A>(frame)?;
    if A::ttl(ip) <= 1 {
        return Err(Refused::Ttl);
    }
    A::forward(ip, Sum::NOTHING);
    hop.write(link);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;

    const HOP: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };

    fn forwarded(frame: &str) -> Result<Vec<u8>, Refused> {
        let mut frame = hex(frame);
        let before = frame.clone();
        let at = Offsets::of(&frame).unwrap();
        let result = forward(&mut frame, at, &HOP);
        if result.is_err() {
            assert_eq!(frame, before, "a refused frame stays as it was");
        }
        result.map(|()| frame)
    }

    #[test]
    fn options_are_kept() {
        // Recorded: hdr_dr_v4, opt_ra.
        let out = forwarded(
            "0200000000c10200000000c008004600002c0014000040062c9cac1003070a000001940400001\
             57e0050000003e80000000050022000bd140000",
        );
        let expected =
            hex("0200000001010200000000e108004600002c001400003f062d9cac1003070a000001940400001\
             57e0050000003e80000000050022000bd140000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn a_flow_label_is_kept() {
        // Recorded: hdr_dr_v6, flowlabel.
        let out = forwarded(
            "0200000000c10200000000c086dd600abcde00140640fd00000c000000000000000000030007fd00\
             00000000000000000000000000011518005000\
             0003e800000000500220007c7a0000",
        );
        let expected =
            hex("0200000001010200000000e186dd600abcde0014063ffd00000c000000000000000000030007fd00\
             0000000000000000000000000001151800500000\
             03e800000000500220007c7a0000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn vlan_tags_are_kept() {
        let out = forwarded(
            "0200000000c10200000000c088a80064810000c808004500002800060000020\
             6ffb2ac1003070a00000113890050000003e80000000050022000bf090000",
        );
        let expected =
            hex("0200000001010200000000e188a80064810000c808004500002800060000010600b3ac1003070a\
             00000113890050000003e80000000050022000bf090000");
        assert_eq!(out, Ok(expected));
    }

    #[test]
    fn a_used_up_time_to_live_is_refused() {
        // Recorded: hdr_dr_v4, ttl1 and ttl0.
        let ttl1 = "0200000000c10200000000c008004500002800050000010600b4ac1003070a00000113\
                    880050000003e80000000050022000bf0a0000";
        let ttl0 = "0200000000c10200000000c008004500002800080000000601b1ac1003070a00000113\
                    8b0050000003e80000000050022000bf070000";
        assert_eq!(forwarded(ttl1), Err(Refused::Ttl));
        assert_eq!(forwarded(ttl0), Err(Refused::Ttl));
    }
}
