//! Cuts frames that stand for several segments, where the kernel would not send them so: on their
//! way into a tunnel. All others leave as they came, and whoever needs them smaller cuts them.

use uvs_forward::gso::{Segmenter, segment_len};
use uvs_forward::{Method, Offsets};

use super::transmit::Outlet;
use crate::batch::{Batch, Slot, Verdict};
use crate::counters::DropReason;
use crate::host::Host;
use crate::packet::Packet;
use crate::port::Port;

/// Replaces each such frame of the batch by its segments, which then go its way.
#[cold]
pub fn segment<P: Port, H: Host>(batch: &mut Batch, outlet: &mut Outlet<P, H>) {
    std::mem::swap(&mut batch.slots, &mut batch.whole);
    for slot in batch.whole.drain(..) {
        match is_for_a_tunnel(&slot) {
            false => batch.slots.push(slot),
            true => cut(slot, &mut batch.slots, outlet),
        }
    }
}

fn is_for_a_tunnel(slot: &Slot) -> bool {
    let method = slot.conn.and_then(|conn| Method::from_flags(conn.flags.into()));
    slot.verdict == Verdict::Next
        && slot.frame.offload().segment_size() != 0
        && method == Some(Method::Tunnel)
}

fn cut<P: Port, H: Host>(whole: Slot, into: &mut Vec<Slot>, outlet: &mut Outlet<P, H>) {
    let size = whole.frame.offload().segment_size();
    let frame = whole.frame.bytes();
    let longest =
        segment_len(frame, whole.at, size).map(|len| len as usize + usize::from(whole.at.l3));
    let segmenter = Segmenter::new(frame, whole.at, size).ok();
    let before = into.len();
    if let (Some(longest), Some(mut segmenter)) = (longest, segmenter) {
        while let Some(mut segment) = outlet.port.alloc() {
            let len = segment.set_len(longest).then(|| segmenter.next(segment.bytes_mut()));
            let Some(len) = len.flatten().filter(|len| segment.set_len(*len)) else {
                outlet.port.free(segment);
                break;
            };
            outlet.counters.parted();
            let at = Offsets { end: len as u32, ..whole.at };
            // Shorter than the whole.
            let ip_len = len as u16 - at.l3;
            into.push(Slot { frame: Packet::new(segment), at, ip_len, ..whole });
        }
    }
    let (frame, _) = whole.frame.into_parts();
    match into.len() > before {
        true => outlet.merge(frame),
        false => outlet.drop(frame, DropReason::TooBig),
    }
}
