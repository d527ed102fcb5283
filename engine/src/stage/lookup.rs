//! Finds the connection of every frame.

use crate::batch::{Batch, Slot, Verdict};
use crate::counters::HostReason;
use crate::proto::Direction;
use crate::table::{Conn, InKey, OutKey, Table};

/// Fills in the connections that exist. In two passes: the first reads the buckets, which
/// [`classify`](super::classify) had fetched, and fetches the entries; the second reads those.
pub fn lookup(batch: &mut Batch, table: &Table) {
    for slot in batch.undecided() {
        match slot.direction {
            Direction::In => table.prefetch_in(slot.hash, &in_key(slot)),
            Direction::Out => table.prefetch_out(slot.hash, &out_key(slot)),
        }
    }
    for slot in batch.undecided() {
        slot.conn = find(slot, table);
        if slot.conn.is_none() && slot.direction == Direction::Out {
            slot.verdict = Verdict::Host(HostReason::NoConn);
        }
    }
}

/// The connection of one frame.
#[inline]
pub(super) fn find(slot: &Slot, table: &Table) -> Option<Conn> {
    match slot.direction {
        Direction::In => table.lookup_in(slot.hash, &in_key(slot)),
        Direction::Out => table.lookup_out(slot.hash, &out_key(slot)),
    }
}

fn out_key(slot: &Slot) -> OutKey {
    OutKey {
        proto: slot.protocol,
        caddr: slot.destination,
        cport: slot.destination_port,
        daddr: slot.source,
        dport: slot.source_port,
    }
}

fn in_key(slot: &Slot) -> InKey {
    InKey {
        proto: slot.protocol,
        caddr: slot.source,
        cport: slot.source_port,
        vaddr: slot.destination,
        vport: slot.destination_port,
        template: false,
    }
}
