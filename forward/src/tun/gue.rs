//! Generic UDP encapsulation (draft-ietf-intarea-gue).

use super::{Outer, Tunnel};
use crate::checksum::{self, Sum};
use crate::unfinished::Unfinished;
use crate::wire::{UdpHeader, gue as header, protocol, udp};
use crate::{Address, Hop, Offsets, Refused};

/// What the outer UDP header has for a checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// None, in IPv6 neither.
    #[default]
    None,
    /// One over the whole datagram.
    Whole,
    /// As [`Whole`](Self::Whole); a frame whose own checksum is unfinished stays so, and the
    /// server is told to finish it (remote checksum offload).
    Remote,
}

/// A GUE tunnel of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gue {
    /// See [`source_port`].
    pub src_port: u16,
    /// The server's port.
    pub dst_port: u16,
    /// What the UDP header has for a checksum.
    pub checksum: Checksum,
    /// What is left to do in the frame. Unless [`checksum`](Self::checksum) is `Remote` it has to
    /// be done before: then it is not looked at.
    pub unfinished: Option<Unfinished>,
}

/// Puts a packet into GUE, that into UDP and that into another packet, and sends it on to `hop`.
///
/// # Errors
///
/// As [`ipip`](super::ipip).
#[inline]
pub fn gue<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    gue: Gue,
    outer: &Outer<A>,
    hop: &Hop,
) -> Result<(), Refused> {
    let carried = at.family.protocol();
    match gue.unfinished {
        Some(Unfinished { start, field }) if gue.checksum == Checksum::Remote => {
            // Counted from the inner packet's first byte; both are behind it.
            let (start, field) = (start.saturating_sub(at.l3), field.saturating_sub(at.l3));
            let header = header::remote(carried, start, field);
            let sum = header::remote_sum(carried, start, field);
            put(frame, at, gue, (&header, sum), (outer, hop))
        }
        _ => {
            let sum = header::plain_sum(carried);
            put(frame, at, gue, (&header::plain(carried), sum), (outer, hop))
        }
    }
}

/// Puts a packet behind this GUE header. The header's length is known where this is inlined, and
/// so are all places but those that depend on VLAN tags.
#[inline(always)]
fn put<A: Address, const N: usize>(
    frame: &mut [u8],
    at: Offsets,
    gue: Gue,
    (header, header_sum): (&[u8; N], Sum),
    (outer, hop): (&Outer<A>, &Hop),
) -> Result<(), Refused> {
    let room = A::HEADER_LEN + udp::HEADER_LEN + N;
    let summed = gue.checksum != Checksum::None;
    let mut tunnel = Tunnel::begin(frame, at, room, summed)?;
    tunnel.put(header);
    // Looked at when the frame was taken apart.
    let length = (udp::HEADER_LEN + N + tunnel.inner_len) as u16;
    let (src_port, dst_port) = (gue.src_port, gue.dst_port);
    let mut udp = UdpHeader { src_port, dst_port, length, checksum: 0 };
    if summed {
        let pseudo = A::pseudo(outer.src, outer.dst, protocol::UDP, length.into());
        let sum = pseudo + udp.sum() + header_sum + tunnel.sum;
        udp.checksum = checksum::udp(sum.finish());
    }
    let udp_at = usize::from(at.l3) + A::HEADER_LEN;
    tunnel.front[udp_at..udp_at + udp::HEADER_LEN].copy_from_slice(&udp.to_bytes());
    tunnel.end(protocol::UDP, outer, hop);
    Ok(())
}

/// The source port for a flow with this hash: the same for all its packets, so that routers keep
/// them in order, and spread over the ports from which the kernel's sockets connect
/// (`ip_local_port_range`), as with `udp_flow_src_port`.
#[inline]
pub const fn source_port(hash: u32) -> u16 {
    const FIRST: u32 = 32768;
    const LAST: u32 = 60999;
    let spread = (hash as u64 * (LAST - FIRST + 1) as u64) >> 32;
    FIRST as u16 + spread as u16
}
