//! Reads the headers of every frame: the 5-tuple, the event, and whether it can be balanced.
//!
//! What is no TCP, UDP, SCTP, AH or ESP goes to the host; what the kernel's own receive path would
//! discard is dropped.

use uvs_forward::wire::{
    self, Ethernet, Ipv4, Ipv6, Malformed, Sctp, Tcp, Udp, ethernet, ipv4, ipv6, protocol,
};
use uvs_forward::{Family, Offsets};

use super::{options, related};
use crate::batch::{Batch, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{DropReason, HostReason};
use crate::proto::{ah_esp, sctp, tcp};
use crate::snapshot::Snapshot;

/// Bytes of SCTP's common header (RFC 9260, section 3.1); the first chunk follows.
const SCTP_COMMON_HEADER: usize = 12;

/// What of a batch needs a stage that most have no need of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// Fragments.
    pub fragments: bool,
    /// Frames that stand for several segments.
    pub segments: bool,
}

/// Parses every frame.
pub fn parse(batch: &mut Batch, snapshot: &Snapshot, now: Ticks) -> Found {
    let mut found = Found::default();
    for slot in batch.undecided() {
        parse_slot(slot, snapshot, now);
        found.fragments |= slot.at.fragment;
        found.segments |= slot.frame.offload().segment_size() != 0;
    }
    found
}

/// Parses a frame, or a packet that was put together.
#[inline]
pub(super) fn parse_slot(slot: &mut Slot, snapshot: &Snapshot, now: Ticks) {
    match parse_one(slot, snapshot, now) {
        Ok(()) => options::check(slot),
        Err(verdict) => slot.verdict = verdict,
    }
}

#[inline]
fn parse_one(slot: &mut Slot, snapshot: &Snapshot, now: Ticks) -> Result<(), Verdict> {
    let frame = slot.frame.bytes();
    let offsets = Offsets::of(frame);
    // To whom a frame is counts before what is wrong with it, but not before what it is.
    let header: &[u8; ethernet::HEADER_LEN] =
        frame.first_chunk().ok_or(Verdict::Drop(DropReason::Truncated))?;
    let ethernet = Ethernet::new_unchecked(header);
    if offsets == Err(Malformed::NotIp) || ethernet.is_multicast() {
        return Err(Verdict::Host(HostReason::NotIp));
    }
    if snapshot.fib.link(slot.frame.link()).is_none_or(|link| link.mac != ethernet.dst()) {
        return Err(Verdict::Drop(DropReason::OtherHost));
    }
    let at = offsets.map_err(malformed)?;
    slot.at = at;
    // Above 65535 bytes is no packet that a link carries.
    slot.ip_len = u16::try_from(at.end - u32::from(at.l3)).unwrap_or(u16::MAX);
    slot.protocol = at.protocol;
    // Headers of a known length: their fields are read without a check each.
    match at.family {
        Family::V4 => {
            let ip = Ipv4::new_unchecked(header_at::<{ ipv4::HEADER_LEN }>(frame, at.l3)?);
            slot.ttl = ip.ttl();
            slot.dont_fragment = ip.dont_fragment();
            (slot.source, slot.destination) = (ip.src().into(), ip.dst().into());
        }
        Family::V6 => {
            let ip = Ipv6::new_unchecked(header_at::<{ ipv6::HEADER_LEN }>(frame, at.l3)?);
            slot.ttl = ip.hop_limit();
            // No router fragments it (RFC 8200, section 5).
            slot.dont_fragment = true;
            (slot.source, slot.destination) = (ip.src().into(), ip.dst().into());
        }
    }
    if at.fragment {
        // Of those that are put together, the last comes here again.
        return Ok(());
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
            let chunks = frame.get(usize::from(at.l4) + SCTP_COMMON_HEADER..at.end as usize);
            (header.src_port(), header.dst_port(), sctp::event(chunks.unwrap_or_default()))
        }
        ah_esp::AH | ah_esp::ESP => {
            slot.protocol = ah_esp::carrier(slot.protocol);
            (ah_esp::PORT, ah_esp::PORT, slot.event)
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let subject = related::subject(frame, at, snapshot, now);
            let subject = subject.ok_or(Verdict::Host(HostReason::Icmp))?;
            slot.relation = subject.relation;
            slot.protocol = subject.protocol;
            (slot.source, slot.destination) = (subject.source.0, subject.destination.0);
            (subject.source.1, subject.destination.1, slot.event)
        }
        _ => return Err(Verdict::Host(HostReason::OtherProtocol)),
    };
    // Ethernet's padding is not sent on: the next link has its own.
    let _ = slot.frame.set_len(at.end as usize);
    Ok(())
}

/// The `N` bytes of a header that [`Offsets::of`] has found whole.
#[inline]
fn header_at<const N: usize>(frame: &[u8], at: u16) -> Result<&[u8; N], Verdict> {
    let header = frame.get(usize::from(at)..).and_then(<[u8]>::first_chunk);
    header.ok_or(Verdict::Drop(DropReason::Truncated))
}

fn malformed(what: Malformed) -> Verdict {
    Verdict::Drop(match what {
        Malformed::NotIp => return Verdict::Host(HostReason::NotIp),
        Malformed::Truncated | Malformed::TotalLength => DropReason::Truncated,
        Malformed::Version | Malformed::HeaderLength | Malformed::Extension => {
            DropReason::BadHeader
        }
        Malformed::Checksum => DropReason::BadChecksum,
    })
}
