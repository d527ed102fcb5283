//! The stages of a frame's way, in its order. Each is one loop over the batch.
//!
//! ```text
//! receive -> parse -> classify -> lookup -> schedule -> state -> forward -> transmit
//! ```
//!
//! Only `receive`, `transmit` and, rarely, `segment` touch the port. A stage decides about a frame
//! by its [`Verdict`](crate::batch::Verdict); later stages leave decided frames alone.

use crate::batch::Slot;
use crate::calls::Calls;
use crate::clock::Ticks;
use crate::defense::Defense;
use crate::proto::{self, Direction};
use crate::snapshot::Snapshot;
use crate::table::{Conn, Owner};
use uvs_forward::segment::Segment;

pub mod receive;

pub mod parse;

pub mod reassemble;

pub mod classify;

pub mod lookup;

pub(crate) mod farewell;

mod ftp;

mod options;

pub mod related;

pub mod schedule;

pub mod state;

pub mod segment;

pub mod forward;

pub mod transmit;

/// What the stages that open, move and end connections work with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The connections.
    pub owner: &'a mut Owner,
    /// What is in force against overload.
    pub defense: &'a Defense,
    /// Where the names of calls are noted.
    pub calls: &'a Calls,
    /// Segments that the engine itself is going to send; what finds no room is not sent.
    pub segments: &'a mut Vec<Segment>,
    /// The batch's tick.
    pub now: Ticks,
}

/// Segments of its own that a worker sends between two batches.
pub const SEGMENTS: usize = 256;

impl Context<'_> {
    /// Whether the host forwards a reply. What it does not, the kernel's IPVS does not see.
    fn forwards(&self, slot: &Slot) -> bool {
        let link = || self.snapshot.fib.link(slot.frame.link());
        slot.direction == Direction::In
            || link().is_none_or(|link| link.forwards_to(slot.destination))
    }

    /// Ends a connection before its time. A template of which it was the last connection goes
    /// with it, unless one of them was established (ip_vs_conn.c, ip_vs_conn_expire).
    pub fn end(&mut self, conn: &Conn) {
        let Some(gone) = self.owner.remove(conn.id) else { return };
        self.snapshot.unbind(&gone);
        let table = self.owner.table();
        let Some(template) = gone.control else { return };
        if table.orphan(template) == Some(0)
            && let Some(template) = table.get(template)
            && template.state & proto::template::ASSURED == 0
        {
            self.end(&template);
        }
    }
}
