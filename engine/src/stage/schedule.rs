//! Gives a server to every flow that has none.
//!
//! Unlike the stages before, this one and [`state`](super::state) run together, frame by frame: a
//! scheduler's pick depends on loads that the frame before may just have changed.

use uvs_forward::Method;
use uvs_sched::{Flow, ServerId};

use crate::batch::{Answer, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{DropReason, HostReason};
use crate::proto::{self, Direction};
use crate::snapshot::{Dest, Service, Snapshot};
use crate::table::{Conn, Inserted, NewConn, Owner, flag};

/// Idle seconds of a connection before its first state change (ip_vs_conn.c, ip_vs_conn_new).
const NEW_TIMEOUT: Ticks = Ticks::from_secs(3);

/// Opens a connection for a client's frame that has none, or one that may be replaced.
pub fn schedule(slot: &mut Slot, snapshot: &Snapshot, owner: &mut Owner, now: Ticks) {
    if let Some(conn) = &slot.conn
        && slot.direction == Direction::In
        && proto::asks_for_new(slot.protocol, slot.event)
    {
        slot.conn = keep_or_close(conn, snapshot, owner);
    }
    if slot.conn.is_none() {
        // A frame before this one, here or on another core, may have opened it after the lookup.
        slot.conn = super::lookup::find(slot, owner.table());
    }
    if let Some(conn) = &slot.conn {
        // Before the state stage: what is for a removed server moves neither state nor timer. One
        // that this snapshot does not know at all is of a newer one, which has another worker.
        let out = slot.direction == Direction::Out;
        let dest = snapshot.dest(ServerId(conn.dest));
        if !dest.is_some_and(|dest| out || dest.available) {
            slot.drop(DropReason::DestUnavailable);
        }
        return;
    }
    if slot.direction == Direction::Out || !proto::opens(slot.protocol, slot.event) {
        slot.verdict = Verdict::Host(HostReason::NoConn);
        return;
    }
    let Some(service) = snapshot.service(slot.service) else {
        slot.verdict = Verdict::Host(HostReason::NoService);
        return;
    };
    open(slot, service, owner, now);
}

/// A packet that asks for a new connection takes the place of one that is over.
fn keep_or_close(conn: &Conn, snapshot: &Snapshot, owner: &mut Owner) -> Option<Conn> {
    let now = owner.table().get(conn.id)?;
    if !proto::reusable(now.proto, now.state) {
        return Some(now);
    }
    if let Some(closed) = owner.remove(conn.id) {
        snapshot.unbind(&closed);
    }
    None
}

fn open(slot: &mut Slot, service: &Service, owner: &mut Owner, now: Ticks) {
    let Some(dest) = pick(slot, service) else {
        slot.refuse(DropReason::NoDest, Answer::PortUnreachable);
        return;
    };
    let conn = match owner.insert(slot.hash, &new_conn(slot, dest), now) {
        Ok(Inserted::New(id)) => {
            dest.bind();
            let worker = usize::from(owner.worker());
            dest.traffic.opened(worker);
            service.traffic.opened(worker);
            owner.table().get(id)
        }
        Ok(Inserted::Existing(id)) => owner.table().get(id),
        Err(_) => {
            slot.drop(DropReason::TableFull);
            return;
        }
    };
    match conn {
        Some(conn) => slot.conn = Some(conn),
        // Opened by another core and over already: nothing that this frame could belong to.
        None => slot.verdict = Verdict::Host(HostReason::NoConn),
    }
}

fn pick<'a>(slot: &Slot, service: &'a Service) -> Option<&'a Dest> {
    let flow = Flow {
        protocol: slot.protocol,
        source: slot.source.into(),
        source_port: slot.source_port,
        destination: slot.destination.into(),
        destination_port: slot.destination_port,
    };
    service.servers.get(service.scheduler.pick(&flow)?).map(|dest| &**dest)
}

fn new_conn(slot: &Slot, dest: &Dest) -> NewConn {
    let ServerId(number) = dest.id;
    NewConn {
        proto: slot.protocol,
        caddr: slot.source,
        cport: slot.source_port,
        vaddr: slot.destination,
        vport: slot.destination_port,
        daddr: dest.address,
        dport: dest.port,
        dest: number,
        service: 0,
        flags: flags(dest.method),
        state: 0,
        timeout: NEW_TIMEOUT,
    }
}

/// Every connection starts inactive; only NAT sees replies.
fn flags(method: Method) -> u16 {
    match method {
        Method::Masq => flag::MASQ | flag::INACTIVE,
        Method::Local => flag::LOCALNODE | flag::NOOUTPUT | flag::INACTIVE,
        Method::Tunnel => flag::TUNNEL | flag::NOOUTPUT | flag::INACTIVE,
        Method::Route => flag::DROUTE | flag::NOOUTPUT | flag::INACTIVE,
    }
}
