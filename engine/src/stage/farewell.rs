//! Resets both ends of an established TCP connection that expires (setting `reset_on_expiry`).
//!
//! A reset has to have the right sequence number, and the table keeps none. So the client is asked:
//! a segment that it cannot accept makes it answer with the numbers that both ends expect (RFC 9293,
//! section 3.10.7.4), and that answer goes on to the server as a reset. A client that sends data
//! instead keeps its connection; one that is silent loses it without a reset.

use std::net::SocketAddr;

use uvs_forward::segment::{Numbers, Segment, reset};
use uvs_forward::wire::protocol;
use uvs_forward::wire::tcp::flag as tcp_flag;

use super::{Context, SEGMENTS};
use crate::batch::Slot;
use crate::clock::Ticks;
use crate::proto::tcp;
use crate::snapshot::Snapshot;
use crate::table::{Conn, Table, flag};

/// How long the client has to answer.
const PATIENCE: Ticks = Ticks::from_secs(3);

/// Asks the client of a connection whose time is over; says how long to wait, or `None` when
/// nobody is to be asked.
pub(crate) fn ask(
    conn: &Conn,
    snapshot: &Snapshot,
    table: &Table,
    segments: &mut Vec<Segment>,
) -> Option<Ticks> {
    let wanted = snapshot.rules.settings.reset_on_expiry != 0
        && conn.proto == protocol::TCP
        && conn.state == tcp::ESTABLISHED
        && !conn.is_template()
        && conn.flags & flag::ASKED == 0;
    if !wanted || segments.len() >= SEGMENTS || !table.mark_asked(conn.id) {
        return None;
    }
    segments.push(Segment {
        src: SocketAddr::new(conn.vaddr.to_ip(), conn.vport),
        dst: SocketAddr::new(conn.caddr.to_ip(), conn.cport),
        seq: 0,
        ack: 0,
        flags: tcp_flag::ACK,
        id: 0,
    });
    Some(PATIENCE)
}

/// Makes resets of the answer of an end that was asked: one back to it, and one of the answer
/// itself, on its way to the other end. Anything else is a packet of a living connection.
pub(super) fn answered(slot: &mut Slot, context: &mut Context<'_>) {
    let Some(numbers) = Numbers::of(slot.frame.bytes(), slot.at.l4, slot.frame.bytes().len())
    else {
        return;
    };
    let bare = numbers.payload == 0 && numbers.flags & !tcp_flag::PSH == tcp_flag::ACK;
    if slot.protocol != protocol::TCP || !bare || context.segments.len() >= SEGMENTS {
        return;
    }
    context.segments.push(Segment {
        src: SocketAddr::new(slot.destination.to_ip(), slot.destination_port),
        dst: SocketAddr::new(slot.source.to_ip(), slot.source_port),
        seq: numbers.ack,
        ack: 0,
        flags: tcp_flag::RST,
        id: 0,
    });
    slot.finish_checksum();
    reset(slot.frame.bytes_mut(), slot.at.l4);
    slot.event = tcp::RST;
}
