//! IP in IP (RFC 2003, RFC 2473, RFC 4213).

use super::{Outer, Tunnel};
use crate::{Address, Hop, Offsets, Refused};

/// Puts a packet into another one and sends it on to `hop`. The room in front of the frame is the
/// outer header's length.
///
/// # Errors
///
/// [`Refused::Ttl`], [`Refused::TooLong`], and [`Refused::Truncated`] when `at` is not of this
/// frame. What then is to be said about the frame, as with ICMP, begins behind the room.
#[inline]
pub fn ipip<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    outer: &Outer<A>,
    hop: &Hop,
) -> Result<(), Refused> {
    let tunnel = Tunnel::begin(frame, at, A::HEADER_LEN, false)?;
    tunnel.end(at.family.protocol(), outer, hop);
    Ok(())
}
