//! GRE (RFC 2784).

use super::{Outer, Tunnel};
use crate::wire::{gre as header, protocol};
use crate::{Address, Hop, Offsets, Refused};

/// Puts a packet into GRE and that into another packet, and sends it on to `hop`. The checksum
/// goes over the GRE header and the packet; only a full one can, as the packet has none.
///
/// # Errors
///
/// As [`ipip`](super::ipip).
#[inline]
pub fn gre<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    checksum: bool,
    outer: &Outer<A>,
    hop: &Hop,
) -> Result<(), Refused> {
    let ethertype = at.family.ethertype();
    if checksum {
        let room = A::HEADER_LEN + header::CHECKSUM_HEADER_LEN;
        let mut tunnel = Tunnel::begin(frame, at, room, true)?;
        tunnel.put(&header::with_checksum(ethertype, tunnel.sum));
        tunnel.end(protocol::GRE, outer, hop);
    } else {
        let room = A::HEADER_LEN + header::HEADER_LEN;
        let mut tunnel = Tunnel::begin(frame, at, room, false)?;
        tunnel.put(&header::plain(ethertype));
        tunnel.end(protocol::GRE, outer, hop);
    }
    Ok(())
}
