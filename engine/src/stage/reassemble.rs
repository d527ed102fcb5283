//! Puts fragments together. The last one goes on as the whole packet, the others are done with.

use super::parse;
use crate::batch::{Batch, Verdict};
use crate::clock::Ticks;
use crate::fragments::Fragments;
use crate::snapshot::Snapshot;

/// Takes every fragment of the batch in.
pub fn reassemble(batch: &mut Batch, fragments: &Fragments, snapshot: &Snapshot, now: Ticks) {
    for slot in batch.undecided().filter(|slot| slot.at.fragment) {
        match fragments.add(slot.frame.bytes(), slot.at, now) {
            Ok(None) => slot.verdict = Verdict::Merge,
            Ok(Some(whole)) => {
                slot.frame.become_whole(whole);
                parse::parse_slot(slot, snapshot, now);
            }
            Err(reason) => slot.drop(reason),
        }
    }
}
