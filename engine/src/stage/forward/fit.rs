//! Whether a packet fits its way, and what becomes of one that does not.

use uvs_forward::gso;
use uvs_forward::mtu::{Fit, Size};

use super::NoWay;
use crate::batch::{Answer, Relation, Slot};
use crate::counters::DropReason;

/// What about a packet counts when it is to fit.
#[inline]
pub(super) fn size(slot: &Slot) -> Size {
    let len = match slot.frame.offload().segment_size() {
        0 => slot.ip_len.into(),
        size => gso::segment_len(slot.frame.bytes(), slot.at, size).unwrap_or(slot.ip_len.into()),
    };
    Size {
        len,
        largest: slot.frame.largest(),
        family: slot.at.family,
        dont_fragment: slot.dont_fragment,
        icmp: slot.relation != Relation::Own,
    }
}

/// Of how many bytes the parts of a packet may be, if it has to leave in some.
#[inline]
pub(super) fn split(slot: &mut Slot, fit: Fit) -> Result<(), NoWay> {
    slot.split = match fit {
        Fit::Whole => 0,
        // Who cuts segments cuts no fragments: the sender is to make them smaller.
        Fit::Split(mtu) if slot.frame.offload().segment_size() != 0 => return Err(too_big(mtu)),
        Fit::Split(mtu) => {
            slot.finish_checksum();
            mtu
        }
        Fit::TooBig(mtu) => return Err(too_big(mtu)),
        Fit::Narrow => return Err(NoWay::Drop(DropReason::TooBig)),
    };
    Ok(())
}

fn too_big(mtu: u16) -> NoWay {
    NoWay::Refuse(DropReason::TooBig, Answer::FragNeeded(mtu))
}
