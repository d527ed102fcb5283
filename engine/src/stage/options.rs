//! IPv4 options: looked at when a frame arrives, filled in when it goes on. The host looks at those
//! of the frames that it gets itself.

use uvs_forward::options::{self, Stamp};
use uvs_forward::wire::{ethernet, ipv4};
use uvs_forward::{Family, Refused};

use crate::address::Address;
use crate::batch::{Answer, Slot};
use crate::counters::DropReason;
use crate::fib::Fib;

/// Bytes up to the end of an IPv4 header at most.
const HEADERS: usize = ethernet::MAX_HEADER_LEN + ipv4::HEADER_LEN + ipv4::MAX_OPTIONS;

fn has_some(slot: &Slot) -> bool {
    let header_len = usize::from(slot.at.l4.saturating_sub(slot.at.l3));
    slot.at.family == Family::V4 && header_len > ipv4::HEADER_LEN
}

/// Drops, and answers, a frame whose options the kernel would not take.
#[inline]
pub(super) fn check(slot: &mut Slot) {
    if has_some(slot) && !slot.at.fragment {
        check_some(slot);
    }
}

#[cold]
fn check_some(slot: &mut Slot) {
    let mut headers = [0; HEADERS];
    let frame = slot.frame.bytes();
    let len = frame.len().min(HEADERS);
    headers[..len].copy_from_slice(&frame[..len]);
    match options::fill(&mut headers, slot.at, Stamp { address: [0; 4], time: 0 }) {
        Ok(()) => {}
        Err(Refused::Option(at)) => {
            slot.refuse(DropReason::BadHeader, Answer::ParameterProblem(at));
        }
        Err(Refused::SourceRoute) => slot.drop(DropReason::SourceRoute),
        Err(_) => slot.drop(DropReason::Truncated),
    }
}

/// Fills in route and time where they are asked for.
#[inline]
pub(super) fn fill(slot: &mut Slot, fib: &Fib, time: u32) {
    if has_some(slot) {
        fill_some(slot, fib, time);
    }
}

#[cold]
fn fill_some(slot: &mut Slot, fib: &Fib, time: u32) {
    let address = own_address(slot, fib).and_then(Address::to_v4);
    let stamp = Stamp { address: address.map_or([0; 4], |address| address.octets()), time };
    // Checked before; what cannot be filled in stays as it is.
    let _ = options::fill(slot.frame.bytes_mut(), slot.at, stamp);
}

/// The address that the frame is for when that is the host's own, else the one from which the host
/// would answer its sender.
pub(super) fn own_address(slot: &Slot, fib: &Fib) -> Option<Address> {
    if fib.is_local(slot.destination) {
        return Some(slot.destination);
    }
    fib.link(slot.frame.link())?.source(slot.source)
}
