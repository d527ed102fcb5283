//! Moves the connection of a frame on: its state, its timer, its server's counts.

use uvs_forward::Family;
use uvs_forward::wire::{self, Tcp, ipv6, protocol};
use uvs_sched::ServerId;

use super::{Context, farewell, ftp};
use crate::batch::{Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::HostReason;
use crate::defense::FEW_PACKETS;
use crate::proto::{self, Direction, Event, Timeouts, View, ah_esp, sctp, tcp, template, udp};
use crate::service::FTP;
use crate::snapshot::Snapshot;
use crate::table::{ConnId, State, Transition, flag};

/// Applies the frame to its connection. When that went away after the lookup, the frame is
/// scheduled once more, as one without a connection.
pub fn advance(slot: &mut Slot, context: &mut Context<'_>) {
    if apply(slot, context) {
        return;
    }
    slot.conn = None;
    super::schedule::schedule(slot, context);
    if slot.verdict == Verdict::Next && !apply(slot, context) {
        slot.verdict = Verdict::Host(HostReason::NoConn);
    }
}

/// False when the connection is gone.
#[inline]
fn apply(slot: &mut Slot, context: &mut Context<'_>) -> bool {
    let Some(conn) = &slot.conn else { return true };
    if conn.flags & flag::ONE_PACKET != 0 {
        return true;
    }
    if conn.flags & flag::ASKED != 0 {
        farewell::answered(slot, context);
    }
    let Some(conn) = &slot.conn else { return true };
    let now = context.now;
    if !context.owner.table().touch(conn.id, now) {
        return false;
    }
    if slot.direction == Direction::In && conn.in_packets <= FEW_PACKETS {
        // More are not told apart, so a long connection writes nothing here.
        context.owner.table().count_in(conn.id, 1);
    }
    let secure = context.defense.secure_tcp();
    let timeouts = context.snapshot.timeouts(ServerId(conn.dest));
    let step = |state| step(slot, state, conn.timeout, timeouts, secure);
    let seen = State { state: conn.state, flags: conn.flags };
    // UDP has one state: what was looked up is as it is, but for a connection's first packets.
    let change = match slot.protocol == protocol::UDP && step(seen).is_none() {
        true => None,
        false => context.owner.transition(conn.id, now, step),
    };
    if let Some(change) = &change {
        count(change, ServerId(conn.dest), context.snapshot);
    }
    if let Some(control) = conn.control {
        follow_control(slot, change, control, context);
    }
    if conn.flags & flag::WIDE != 0 && conn.vport == FTP {
        let conn = *conn;
        ftp::follow(slot, &conn, context);
    }
    true
}

/// The state after this frame with its timeout, or `None` when nothing changes, as with AH and ESP.
#[inline]
fn step(
    slot: &Slot,
    before: State,
    timeout: Ticks,
    timeouts: &Timeouts,
    secure: bool,
) -> Option<(State, Ticks)> {
    if ah_esp::is(slot.at.protocol) {
        return None;
    }
    let mut flags = before.flags & !flag::ASKED;
    let view = view(slot, flags);
    if view == View::Output {
        flags &= !flag::NOOUTPUT;
    }
    let state = proto::next(slot.protocol, view, before.state, event(slot), secure);
    if proto::active(slot.protocol, state) {
        flags &= !flag::INACTIVE;
    } else {
        flags |= flag::INACTIVE;
    }
    let after = State { state, flags };
    let lasts = timeouts.of(slot.protocol, state);
    (after != before || lasts != timeout).then_some((after, lasts))
}

/// What happened. Behind IPv6's extension headers the kernel takes flags and chunks from where
/// they would be without (ip_vs_proto_tcp.c, tcp_state_transition; ip_vs_proto_sctp.c).
#[inline]
fn event(slot: &Slot) -> Event {
    let plain = slot.at.l3 + ipv6::HEADER_LEN as u16;
    if slot.at.family == Family::V4 || slot.at.l4 == plain {
        return slot.event;
    }
    misread(slot, plain.into())
}

#[cold]
fn misread(slot: &Slot, l4: usize) -> Event {
    let transport = slot.frame.bytes().get(l4..slot.at.end as usize).unwrap_or_default();
    match slot.protocol {
        protocol::TCP => transport
            .first_chunk::<{ wire::tcp::HEADER_LEN }>()
            .map_or(slot.event, |header| tcp::event(Tcp::new_unchecked(header).flags())),
        protocol::SCTP => sctp::event(transport.get(wire::sctp::HEADER_LEN..).unwrap_or_default()),
        _ => slot.event,
    }
}

/// What the packet tells, and of whom.
#[inline]
fn view(slot: &Slot, flags: u16) -> View {
    match slot.direction {
        Direction::Out => View::Output,
        Direction::In if flags & flag::NOOUTPUT != 0 => View::InputOnly,
        Direction::In => View::Input,
    }
}

/// Moves the connection between its server's active and inactive ones.
fn count(change: &Transition, server: ServerId, snapshot: &Snapshot) {
    let active = |state: State| state.flags & flag::INACTIVE == 0;
    if active(change.before) != active(change.after) {
        snapshot.turn(server, active(change.after));
    }
}

/// What a packet of the connection does to the template that it belongs to, which may become an
/// assured one; or to FTP's control connection, which lives as long as its data flow.
fn follow_control(slot: &Slot, change: Option<Transition>, control: ConnId, context: &Context<'_>) {
    let table = context.owner.table();
    let after = match change {
        Some(change) if change.before.state != change.after.state => change.after,
        // UDP has one state only, which tells nothing.
        _ if slot.protocol == protocol::UDP => State { state: udp::NORMAL, flags: 0 },
        _ => State { state: 0, flags: 0 },
    };
    if template::assures(slot.at.protocol, view(slot, after.flags), after.state) {
        table.mark_state(control, template::ASSURED);
    }
    if context.snapshot.has_ftp() && table.get(control).is_some_and(|conn| !conn.is_template()) {
        table.touch(control, context.now);
    }
}
