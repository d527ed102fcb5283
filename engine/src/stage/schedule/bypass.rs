//! Past the servers: what has the mark of a transparent cache's service, which has no server for it,
//! goes on to its own destination (`cache_bypass`; ip_vs_core.c, ip_vs_leave).

use uvs_forward::wire::protocol;

use super::{Leave, NEW_TIMEOUT};
use crate::address::Address;
use crate::batch::Slot;
use crate::counters::{DropReason, HostReason};
use crate::service::Service;
use crate::stage::Context;
use crate::table::{Conn, Inserted, NewConn, flag};

/// The number that no server has.
const NO_SERVER: u32 = u32::MAX;

/// Whether a connection goes past the servers.
#[inline]
pub(in crate::stage) fn is(conn: &Conn) -> bool {
    conn.flags & flag::FWD_MASK == flag::BYPASS
}

/// Whether a packet that no server can take is to.
pub(super) fn wanted(slot: &Slot, service: &Service, context: &Context<'_>) -> bool {
    context.snapshot.rules.settings.cache_bypass != 0
        && service.key.is_mark()
        && !context.snapshot.fib.is_local(slot.destination)
}

/// Opens its connection, which has no server.
pub(super) fn connect(
    slot: &Slot,
    service: &Service,
    context: &mut Context<'_>,
) -> Result<Option<Conn>, Leave> {
    let unspecified = match slot.destination.is_v4() {
        true => Address::v4(std::net::Ipv4Addr::UNSPECIFIED),
        false => Address::UNSPECIFIED,
    };
    let new = NewConn {
        proto: slot.protocol,
        caddr: slot.source,
        cport: slot.source_port,
        vaddr: slot.destination,
        vport: slot.destination_port,
        daddr: unspecified,
        dport: 0,
        dest: NO_SERVER,
        mark: slot.mark,
        flags: flag::BYPASS | flag::INACTIVE,
        state: 0,
        timeout: NEW_TIMEOUT,
        control: None,
        extra: None,
    };
    if service.one_packet && slot.protocol == protocol::UDP {
        return Ok(Some(new.unkept()));
    }
    let found = match context.owner.insert(slot.hash, &new, context.now) {
        Ok(Inserted::New(id) | Inserted::Existing(id)) => context.owner.table().get(id),
        Err(_) => return Err(Leave::Drop(DropReason::TableFull)),
    };
    found.map(Some).ok_or(Leave::Host(HostReason::NoConn))
}
