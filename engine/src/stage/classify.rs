//! Is the frame for a service, a reply of a NAT server, or perhaps of a connection whose service
//! is gone?
//!
//! From here on the client's end of the flow is known, so this stage computes the connection's
//! hash and starts to fetch its bucket: by the time the last frame of the batch is classified the
//! first one's bucket is in the cache.

use crate::batch::{Batch, NO_SERVICE, Slot, Verdict};
use crate::counters::HostReason;
use crate::marks::Packet;
use crate::proto::Direction;
use crate::snapshot::Snapshot;
use crate::table::Table;

/// Decides mark, direction, service and hash of every frame. Without any service, all is the
/// host's (ip_vs_ctl.c: IPVS is off then).
pub fn classify(batch: &mut Batch, snapshot: &Snapshot, table: &Table) {
    let off = snapshot.services().is_empty();
    let marks = &snapshot.rules.marks;
    for slot in batch.undecided() {
        if off {
            slot.verdict = Verdict::Host(HostReason::NoService);
            continue;
        }
        if !marks.is_empty() {
            slot.mark = marks.of(&packet(slot));
        }
        let service = snapshot.find_service(slot.mark, &slot.destination_endpoint());
        slot.service = service.unwrap_or(NO_SERVICE);
        // A reply first, as in the kernel (ip_vs_core.c, the order of its hooks).
        if snapshot.is_nat_server(&slot.source_endpoint()) {
            slot.direction = Direction::Out;
        }
        hash(slot, table);
    }
}

/// Notes the hash of the connection in the slot's direction and starts to load its bucket.
#[inline]
pub(super) fn hash(slot: &mut Slot, table: &Table) {
    let (client, port) = match slot.direction {
        Direction::In => (slot.source, slot.source_port),
        Direction::Out => (slot.destination, slot.destination_port),
    };
    slot.hash = table.hash(slot.protocol, client, port);
    table.prefetch_bucket(slot.hash);
}

fn packet(slot: &Slot) -> Packet {
    Packet {
        link: slot.frame.link(),
        protocol: slot.protocol,
        source: slot.source,
        source_port: slot.source_port,
        destination: slot.destination,
        destination_port: slot.destination_port,
    }
}
