//! Reads the headers of every frame: the 5-tuple, the event, and whether it can be balanced.
//!
//! What is no IPv4 TCP, UDP, SCTP, AH or ESP goes to the host; what the kernel's own IPv4 receive
//! path would discard is dropped.

use uvs_forward::Offsets;
use uvs_forward::wire::{
    self, Ethernet, Ipv4, Malformed, Sctp, Tcp, Udp, ethernet, ipv4, protocol,
};

use crate::batch::{Batch, Slot, Verdict};
use crate::counters::{DropReason, HostReason};
use crate::fib::Fib;
use crate::proto::{ah_esp, sctp, tcp};

/// Bytes of SCTP's common header (RFC 9260, section 3.1); the first chunk follows.
const SCTP_COMMON_HEADER: usize = 12;

/// Parses every frame.
pub fn parse(batch: &mut Batch, fib: &Fib) {
    for slot in batch.undecided() {
        if let Err(verdict) = parse_one(slot, fib) {
            slot.verdict = verdict;
        }
    }
}

#[inline]
fn parse_one(slot: &mut Slot, fib: &Fib) -> Result<(), Verdict> {
    let frame = slot.frame.bytes();
    let offsets = Offsets::of_ipv4(frame);
    // To whom a frame is counts before what is wrong with it, but not before what it is.
    let header: &[u8; ethernet::HEADER_LEN] =
        frame.first_chunk().ok_or(Verdict::Drop(DropReason::Truncated))?;
    let ethernet = Ethernet::new_unchecked(header);
    if offsets == Err(Malformed::NotIp) || ethernet.is_multicast() {
        return Err(Verdict::Host(HostReason::NotIpv4));
    }
    if fib.link(slot.frame.link()).is_none_or(|link| link.mac != ethernet.dst()) {
        return Err(Verdict::Drop(DropReason::OtherHost));
    }
    let at = offsets.map_err(malformed)?;
    // Headers of a known length: their fields are read without a check each.
    let ip = Ipv4::new_unchecked(header_at::<{ ipv4::HEADER_LEN }>(frame, at.l3)?);
    slot.at = at;
    slot.ip_len = ip.total_len();
    slot.ttl = ip.ttl();
    slot.dont_fragment = ip.dont_fragment();
    slot.protocol = ip.protocol();
    slot.source = ip.src().into();
    slot.destination = ip.dst().into();
    if ip.is_fragment() {
        return Err(Verdict::Host(HostReason::Fragment));
    }
    (slot.source_port, slot.destination_port, slot.event) = match slot.protocol {
        protocol::TCP => {
            let header = Tcp::new_unchecked(header_at::<{ wire::tcp::HEADER_LEN }>(frame, at.l4)?);
            (header.src_port(), header.dst_port(), tcp::event(header.flags()))
        }
        protocol::UDP => {
            let header = Udp::new_unchecked(header_at::<{ wire::udp::HEADER_LEN }>(frame, at.l4)?);
            (header.src_port(), header.dst_port(), slot.event)
        }
        protocol::SCTP => {
            let header =
                Sctp::new_unchecked(header_at::<{ wire::sctp::HEADER_LEN }>(frame, at.l4)?);
            let end = at.ipv4_end(frame);
            let chunks = frame.get(usize::from(at.l4) + SCTP_COMMON_HEADER..end);
            (header.src_port(), header.dst_port(), sctp::event(chunks.unwrap_or_default()))
        }
        ah_esp::AH | ah_esp::ESP => {
            slot.protocol = ah_esp::carrier(slot.protocol);
            (ah_esp::PORT, ah_esp::PORT, slot.event)
        }
        protocol::ICMP => return Err(Verdict::Host(HostReason::Icmp)),
        _ => return Err(Verdict::Host(HostReason::OtherProtocol)),
    };
    // Ethernet's padding is not sent on: the next link has its own.
    let end = at.ipv4_end(frame);
    let _ = slot.frame.set_len(end);
    Ok(())
}

/// The `N` bytes of a header that [`Offsets::of_ipv4`] has found whole.
#[inline]
fn header_at<const N: usize>(frame: &[u8], at: u16) -> Result<&[u8; N], Verdict> {
    let header = frame.get(usize::from(at)..).and_then(<[u8]>::first_chunk);
    header.ok_or(Verdict::Drop(DropReason::Truncated))
}

fn malformed(what: Malformed) -> Verdict {
    Verdict::Drop(match what {
        Malformed::NotIp => return Verdict::Host(HostReason::NotIpv4),
        Malformed::Truncated | Malformed::TotalLength => DropReason::Truncated,
        Malformed::Version | Malformed::HeaderLength | Malformed::Extension => {
            DropReason::BadHeader
        }
        Malformed::Checksum => DropReason::BadChecksum,
    })
}
