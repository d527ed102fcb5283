//! Finds the connection of every frame.

use crate::batch::{Batch, NO_SERVICE, Slot};
use crate::proto::Direction;
use crate::table::{Conn, InKey, OutKey, Table};

/// Fills in the connections that exist. In two passes: the first reads the buckets, which
/// [`classify`](super::classify) had fetched, and fetches the entries; the second reads those, and
/// goes back to a bucket only when its first entry was not the one.
pub fn lookup(batch: &mut Batch, table: &Table) {
    for slot in batch.undecided() {
        slot.hint = match slot.direction {
            Direction::In => table.prefetch_in(slot.hash, &in_key(slot)),
            Direction::Out => table.prefetch_out(slot.hash, &out_key(slot)),
        };
    }
    for slot in batch.undecided() {
        slot.conn = match slot.direction {
            Direction::In => table.lookup_in_at(slot.hint, slot.hash, &in_key(slot)),
            Direction::Out => table.lookup_out_at(slot.hint, slot.hash, &out_key(slot)),
        };
        if slot.conn.is_none() && slot.direction == Direction::Out {
            // No reply, then: a NAT server may be a client as well.
            slot.direction = Direction::In;
            super::classify::hash(slot, table);
            slot.conn = find(slot, table);
            if slot.conn.is_none() && slot.service == NO_SERVICE {
                slot.direction = Direction::Out;
            }
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
        name: 0,
    }
}
