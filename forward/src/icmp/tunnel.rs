//! Errors about our own tunnel packets, from the way to a server over IPv4: their cause concerns
//! the sender of the packet inside, who is told.
//!
//! The kernel does this for IPv4 in IPv4 only, and so do we.

use super::answer::{self, CitedTtl, Message, Sender};
use super::related::{carries_a_packet, cited};
use super::{code, is_intact};
use crate::wire::{Gre, Gue, Icmp4, Ipv4, Udp, ethernet, ethertype, icmp4, ipv4, protocol, udp};
use crate::{Family, Hop, Offsets, Refused, Tuple};

/// The smallest path MTU that the kernel believes (`min_pmtu`), in bytes.
const MIN_PMTU: u16 = 552;

/// The kind of tunnel that the carried packet went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
    /// GUE, to this port of the server.
    Gue(u16),
}

/// An ICMP error about a tunnel packet that we sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelError {
    /// The server that the tunnel packet was for. That there is one with such a tunnel is the
    /// caller's to find out.
    pub server: [u8; 4],
    /// The kind of tunnel.
    pub via: Via,
    /// Of the packet inside: from the client to the virtual service.
    pub tuple: Tuple<[u8; 4]>,
    /// Where the packet inside is; its end is that of what the error carries.
    pub inner: Offsets,
    /// When the error says that the tunnel packet was too big: of how many bytes it may be at
    /// most, never less than the kernel believes. The caller lowers its path MTU to the server.
    pub path_mtu: Option<u16>,
    message: Message,
    /// Whether the packet inside may not be fragmented.
    dont_fragment: bool,
}

impl TunnelError {
    /// The error in a frame that is ICMP over IPv4, to an address of the director's own.
    ///
    /// # Errors
    ///
    /// [`Refused::NoError`] for another message, [`Refused::Protocol`] for one about anything but
    /// a tunnel with an IPv4 packet inside, [`Refused::Fragment`], and [`Refused::Truncated`] when
    /// the inner packet is not there as far as its ports.
    pub fn of(frame: &[u8], at: Offsets) -> Result<Self, Refused> {
        if at.family != Family::V4 {
            return Err(Refused::Family);
        }
        if at.fragment {
            return Err(Refused::Fragment);
        }
        let icmp = at.transport(frame).ok_or(Refused::Truncated)?;
        let icmp = Icmp4::new_checked(icmp).map_err(|_| Refused::Truncated)?;
        if at.protocol != protocol::ICMP || !carries_a_packet(icmp) {
            return Err(Refused::NoError);
        }
        let l3 = usize::from(at.l4) + icmp4::HEADER_LEN;
        let outer = cited(frame, Family::V4, l3, at.end)?;
        let (via, header_len) = encapsulation(frame, outer)?;
        let inner = cited(frame, Family::V4, usize::from(outer.l4) + header_len, at.end)?;
        let (outer_ip, inner_ip) = (ip(frame, outer)?, ip(frame, inner)?);
        let [_, _, high, low] = icmp.rest();
        let too_big =
            icmp.kind() == icmp4::kind::DEST_UNREACHABLE && icmp.code() == code::FRAG_NEEDED;
        Ok(Self {
            server: outer_ip.dst(),
            via,
            tuple: Tuple::of(frame, inner)?,
            inner,
            path_mtu: too_big.then(|| u16::from_be_bytes([high, low]).max(MIN_PMTU)),
            message: Message { kind: icmp.kind(), code: icmp.code(), rest: icmp.rest() },
            dont_fragment: inner_ip.dont_fragment(),
        })
    }

    /// Builds the frame that tells the inner packet's sender.
    ///
    /// Returns its length at the front of `out`, in bytes; `None` when nobody is to be told (the
    /// packet was too big but had no DF), the error's own checksum is wrong, or `out` is too
    /// short.
    pub fn relay(
        &self,
        frame: &[u8],
        at: Offsets,
        relay: &Relay<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut message = self.message;
        if self.path_mtu.is_some() {
            if !self.dont_fragment {
                return None;
            }
            let [high, low] = told_mtu(relay.path_mtu).to_be_bytes();
            message.rest = [0, 0, high, low];
        }
        if !is_intact::<[u8; 4]>(frame, at) {
            return None;
        }
        let (link, packet) = out.split_at_mut_checked(ethernet::HEADER_LEN)?;
        let inner = self.inner.packet(frame)?;
        let len = answer::write(inner, CitedTtl::Received, relay.sender, message, packet)?;
        relay.hop.write(link.first_chunk_mut()?);
        link[12..].copy_from_slice(&ethertype::IPV4.to_be_bytes());
        Some(link.len() + len)
    }
}

/// The path MTU that an ICMP error tells of the way to a server's GRE tunnel, whatever was inside:
/// this the kernel's own GRE receiver learns. `None` for any other message.
pub fn gre_path(frame: &[u8], at: Offsets) -> Option<([u8; 4], u16)> {
    let icmp = Icmp4::new_checked(at.transport(frame)?).ok()?;
    let too_big = (icmp4::kind::DEST_UNREACHABLE, code::FRAG_NEEDED);
    if at.protocol != protocol::ICMP || (icmp.kind(), icmp.code()) != too_big {
        return None;
    }
    let outer = cited(frame, Family::V4, usize::from(at.l4) + icmp4::HEADER_LEN, at.end).ok()?;
    let [_, _, high, low] = icmp.rest();
    let intact = outer.protocol == protocol::GRE && is_intact::<[u8; 4]>(frame, at);
    let server = ip(frame, outer).ok()?.dst();
    intact.then(|| (server, u16::from_be_bytes([high, low]).max(MIN_PMTU)))
}

/// With what a [`TunnelError`] is passed on.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// As whom: the virtual address that the inner packet was for.
    pub sender: Sender<[u8; 4]>,
    /// The path MTU to the server as it is known by now.
    pub path_mtu: u16,
    /// The way to the client.
    pub hop: &'a Hop,
}

/// The MTU of which a client is told when the way of a tunnel became smaller: less the outer IP
/// header. What GRE or GUE add is not taken off, as in the kernel; the next packet that is too big
/// is answered with the right number.
pub const fn told_mtu(path_mtu: u16) -> u16 {
    const LEAST: u16 = 68 + ipv4::HEADER_LEN as u16;
    if path_mtu > LEAST { path_mtu - ipv4::HEADER_LEN as u16 } else { path_mtu }
}

/// The kind of tunnel, and how many bytes stand between the outer IP header and the inner one.
fn encapsulation(frame: &[u8], outer: Offsets) -> Result<(Via, usize), Refused> {
    let transport = outer.transport(frame).ok_or(Refused::Truncated)?;
    match outer.protocol {
        protocol::IPIP => Ok((Via::Ipip, 0)),
        protocol::GRE => {
            let gre = Gre::new_checked(transport).map_err(|_| Refused::Truncated)?;
            let is_ipv4 = gre.ethertype() == ethertype::IPV4;
            is_ipv4.then(|| (Via::Gre, gre.header_len())).ok_or(Refused::Protocol)
        }
        protocol::UDP => {
            let header: &[u8; udp::HEADER_LEN] =
                transport.first_chunk().ok_or(Refused::Truncated)?;
            let gue = Gue::new_checked(&transport[udp::HEADER_LEN..]);
            let gue = gue.map_err(|_| Refused::Truncated)?;
            let via = Via::Gue(Udp::new_unchecked(header).dst_port());
            let is_ipv4 = gue.protocol() == protocol::IPIP;
            let len = udp::HEADER_LEN + gue.header_len();
            is_ipv4.then_some((via, len)).ok_or(Refused::Protocol)
        }
        _ => Err(Refused::Protocol),
    }
}

fn ip(frame: &[u8], at: Offsets) -> Result<Ipv4<&[u8; ipv4::HEADER_LEN]>, Refused> {
    Ok(Ipv4::new_unchecked(at.header::<[u8; 4]>(frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_tells_nothing() {
        let at = Offsets { end: 60, l3: 14, l4: 34, protocol: 1, ..Offsets::default() };
        assert_eq!(TunnelError::of(&[0; 60], at), Err(Refused::NoError));
        let at = Offsets { fragment: true, ..at };
        assert_eq!(TunnelError::of(&[0; 60], at), Err(Refused::Fragment));
    }

    #[test]
    fn the_mtu_that_is_told() {
        // Recorded: icmp_tun_gre_csum_v4_tcp_df.
        let told = [1500, 1380, 600, 552].map(told_mtu);
        assert_eq!(told, [0x5c8, 0x550, 0x244, 0x214]);
        assert_eq!((told_mtu(88), told_mtu(89)), (88, 69));
    }
}
