//! Is the frame for a service, a reply of a NAT server, or none of the engine's business?
//!
//! From here on the client's end of the flow is known, so this stage computes the connection's
//! hash and starts to fetch its bucket: by the time the last frame of the batch is classified the
//! first one's bucket is in the cache.

use crate::batch::{Batch, Verdict};
use crate::counters::HostReason;
use crate::proto::Direction;
use crate::snapshot::Snapshot;
use crate::table::Table;

/// Decides direction, service and hash of every frame.
pub fn classify(batch: &mut Batch, snapshot: &Snapshot, table: &Table) {
    for slot in batch.undecided() {
        let (client, port) =
            if let Some(service) = snapshot.find_service(&slot.destination_endpoint()) {
                slot.service = service;
                slot.direction = Direction::In;
                (slot.source, slot.source_port)
            } else if snapshot.is_nat_server(&slot.source_endpoint()) {
                slot.direction = Direction::Out;
                (slot.destination, slot.destination_port)
            } else {
                slot.verdict = Verdict::Host(HostReason::NoService);
                continue;
            };
        slot.hash = table.hash(slot.protocol, client, port);
        table.prefetch_bucket(slot.hash);
    }
}
