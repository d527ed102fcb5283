//! What the kernel draws at random, and a comparison therefore leaves out. All of it is here:
//!
//! - the IP identification of packets that the director makes (ICMP errors), and of a tunnel's
//!   outer header without DF, with the header checksum that covers it.

use etherparse::{IpNumber, Ipv4HeaderSlice};

/// Offset of the IPv4 header in a frame without tags; the recordings have none.
const L3: usize = 14;
/// The TOS of ICMP errors that a director makes.
const CONTROL: u8 = 0xc0;

/// The frame with its random fields set to zero.
pub(crate) fn masked(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    let Ok(ip) = Ipv4HeaderSlice::from_slice(frame.get(L3..).unwrap_or_default()) else {
        return out;
    };
    let made = ip.protocol() == IpNumber::ICMP && frame[L3 + 1] == CONTROL;
    let tunnelled = ip.protocol() == IpNumber::IPV4 && !ip.dont_fragment();
    if made || tunnelled {
        out[L3 + 4..L3 + 6].fill(0);
        out[L3 + 10..L3 + 12].fill(0);
    }
    out
}
