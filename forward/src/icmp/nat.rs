//! NAT of errors about connections: the address outside, address and port of the carried packet.
//!
//! The ICMP checksum is brought up to date. The carried packet's IPv4 header checksum is computed
//! anew, as the kernel does; its transport's checksum is left: nobody can know whether it was
//! right, and it is often cut off.

use super::Related;
use crate::checksum::{Sum, update};
use crate::wire::{Icmp4, Ipv4, icmp4, protocol};
use crate::{Address, End, Family, Hop, Offsets, Refused};

/// Which end of the carried packet is translated. Its way was the other one than the error's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Src,
    Dst,
}

/// Turns an error from the client's side, about a reply of the virtual service, into one about
/// that reply as the server `dest` sent it.
///
/// # Errors
///
/// [`Refused::Ttl`], and [`Refused::Truncated`] or [`Refused::Family`] when `at` or `related` are
/// not of this frame.
pub fn to_server<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    related: &Related<A>,
    dest: impl Into<End<A>>,
    hop: &Hop,
) -> Result<(), Refused> {
    let dest = dest.into();
    translate(frame, at, related.cited, (Side::Src, dest), hop)
}

/// Turns an error from the server's side, about a request to the server, into one from the virtual
/// service `vip` about the request as the client sent it. Its sender becomes the virtual address
/// even if a router on the way sent it.
///
/// # Errors
///
/// As [`to_server`].
pub fn to_client<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    related: &Related<A>,
    vip: impl Into<End<A>>,
    hop: &Hop,
) -> Result<(), Refused> {
    let vip = vip.into();
    translate(frame, at, related.cited, (Side::Dst, vip), hop)
}

fn translate<A: Address>(
    frame: &mut [u8],
    at: Offsets,
    cited: Offsets,
    (side, new): (Side, End<A>),
    hop: &Hop,
) -> Result<(), Refused> {
    let parts = at.parts::<A>(frame)?;
    if A::ttl(parts.ip) <= 1 {
        return Err(Refused::Ttl);
    }
    let (icmp, packet) = parts
        .transport
        .split_at_mut_checked(icmp4::HEADER_LEN)
        .filter(|_| usize::from(cited.l3) == usize::from(at.l4) + icmp4::HEADER_LEN)
        .ok_or(Refused::Truncated)?;
    let inside = translate_cited(packet, cited, side, new)?;
    // A carried request went to the server, so its error comes from there, and the other way.
    let old = if side == Side::Src { A::dst(parts.ip) } else { A::src(parts.ip) };
    let outside = A::change(old, new.address);
    match side {
        Side::Src => A::set_dst(parts.ip, new.address),
        Side::Dst => A::set_src(parts.ip, new.address),
    }
    A::forward(parts.ip, outside);
    let pseudo = if A::FAMILY == Family::V6 { outside } else { Sum::NOTHING };
    let mut icmp = Icmp4::new_unchecked(icmp);
    let check = update(icmp.checksum(), inside + pseudo);
    icmp.set_checksum(check);
    hop.write(parts.link);
    Ok(())
}

/// Translates the carried packet; gives what the ICMP checksum has to take in.
fn translate_cited<A: Address>(
    packet: &mut [u8],
    cited: Offsets,
    side: Side,
    new: End<A>,
) -> Result<Sum, Refused> {
    let header_len = usize::from(cited.l4).checked_sub(cited.l3.into());
    let header_len = header_len.filter(|len| *len >= A::HEADER_LEN).ok_or(Refused::Truncated)?;
    let (network, transport) = packet.split_at_mut_checked(header_len).ok_or(Refused::Truncated)?;
    let port = translate_port(transport, cited.protocol, side, new.port)?;
    let header = A::header_mut(network).ok_or(Refused::Truncated)?;
    let old = if side == Side::Src { A::src(header) } else { A::dst(header) };
    match side {
        Side::Src => A::set_src(header, new.address),
        Side::Dst => A::set_dst(header, new.address),
    }
    let own_checksum = match A::FAMILY {
        Family::V4 => header_checksum(network),
        Family::V6 => Sum::NOTHING,
    };
    Ok(A::change(old, new.address) + port + own_checksum)
}

fn translate_port(
    transport: &mut [u8],
    protocol: u8,
    side: Side,
    port: u16,
) -> Result<Sum, Refused> {
    // AH and ESP have none.
    if !matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP) {
        return Ok(Sum::NOTHING);
    }
    let ports: &mut [u8; 4] = transport.first_chunk_mut().ok_or(Refused::Truncated)?;
    let [s0, s1, d0, d1] = *ports;
    let (old, at) = match side {
        Side::Src => ([s0, s1], 0),
        Side::Dst => ([d0, d1], 2),
    };
    ports[at..at + 2].copy_from_slice(&port.to_be_bytes());
    Ok(Sum::change16(u16::from_be_bytes(old), port))
}

/// Computes the header checksum of an IPv4 packet anew; routers that cite a packet have changed
/// its time to live and may not have minded the checksum.
fn header_checksum(network: &mut [u8]) -> Sum {
    let mut ip = Ipv4::new_unchecked(network);
    let old = ip.checksum();
    ip.fill_checksum();
    Sum::change16(old, ip.checksum())
}
