//! Moves the connection of a frame on: its state, its timer, its server's counts.

use uvs_sched::ServerId;

use crate::batch::{Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::HostReason;
use crate::proto::{self, Direction, Timeouts, View};
use crate::snapshot::Snapshot;
use crate::table::{Owner, State, Transition, flag};

/// Applies the frame to its connection. When that went away after the lookup, the frame is
/// scheduled once more, as one without a connection.
pub fn advance(slot: &mut Slot, snapshot: &Snapshot, owner: &mut Owner, now: Ticks) {
    if apply(slot, snapshot, owner, now) {
        return;
    }
    slot.conn = None;
    super::schedule::schedule(slot, snapshot, owner, now);
    if slot.verdict == Verdict::Next && !apply(slot, snapshot, owner, now) {
        slot.verdict = Verdict::Host(HostReason::NoConn);
    }
}

/// False when the connection is gone.
#[inline]
fn apply(slot: &Slot, snapshot: &Snapshot, owner: &mut Owner, now: Ticks) -> bool {
    let Some(conn) = &slot.conn else { return true };
    if !owner.table().touch(conn.id, now) {
        return false;
    }
    let step = |state| step(slot, state, conn.timeout, &snapshot.timeouts);
    if let Some(change) = owner.transition(conn.id, now, step) {
        count(&change, ServerId(conn.dest), snapshot);
    }
    true
}

/// The state after this frame with its timeout, or `None` when nothing changes.
#[inline]
fn step(slot: &Slot, before: State, timeout: Ticks, timeouts: &Timeouts) -> Option<(State, Ticks)> {
    let mut flags = before.flags;
    let view = match slot.direction {
        Direction::Out => {
            flags &= !flag::NOOUTPUT;
            View::Output
        }
        Direction::In if flags & flag::NOOUTPUT != 0 => View::InputOnly,
        Direction::In => View::Input,
    };
    let state = proto::next(slot.protocol, view, before.state, slot.event);
    if proto::active(slot.protocol, state) {
        flags &= !flag::INACTIVE;
    } else {
        flags |= flag::INACTIVE;
    }
    let after = State { state, flags };
    let lasts = timeouts.of(slot.protocol, state);
    (after != before || lasts != timeout).then_some((after, lasts))
}

/// Moves the connection between its server's active and inactive ones.
fn count(change: &Transition, server: ServerId, snapshot: &Snapshot) {
    let active = |state: State| state.flags & flag::INACTIVE == 0;
    if active(change.before) != active(change.after)
        && let Some(dest) = snapshot.dest(server)
    {
        dest.load.turn(active(change.after));
    }
}
