//! Gives a server to every flow that has none.
//!
//! Unlike the stages before, this one and [`state`](super::state) run together, frame by frame: a
//! scheduler's pick depends on loads that the frame before may just have changed.

pub(super) mod bypass;
mod persist;
mod sip;

use uvs_forward::Method;
use uvs_forward::segment::Numbers;
use uvs_forward::wire::protocol;
use uvs_sched::{Flow, Scheduler, ServerId};

use super::{Context, ftp};
use crate::batch::{Answer, NO_SERVICE, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{DropReason, HostReason};
use crate::proto::{self, ConnReuseMode, Direction, Old, Sloppy, sctp, tcp};
use crate::service::{Dest, FTP, Service, ServiceKey};
use crate::table::{Conn, ConnId, InsertError, Inserted, NewConn, flag};

/// Idle seconds of a connection before its first state change (ip_vs_conn.c, ip_vs_conn_new).
const NEW_TIMEOUT: Ticks = Ticks::from_secs(3);

/// Opens a connection for a client's frame that has none, or one that may be replaced.
pub fn schedule(slot: &mut Slot, context: &mut Context<'_>) {
    if let Some(conn) = &slot.conn
        && slot.direction == Direction::In
        && proto::asks_for_new(slot.protocol, slot.event)
    {
        slot.conn = keep_or_end(conn, context);
    }
    if slot.conn.is_none() {
        // A frame before this one, here or on another core, may have opened it after the lookup.
        slot.conn = super::lookup::find(slot, context.owner.table());
    }
    if slot.conn.is_none() && slot.protocol == protocol::TCP && context.snapshot.has_ftp() {
        slot.conn = ftp::expected(slot, context);
    }
    if slot.conn.is_some() {
        available(slot, context);
    }
    if slot.conn.is_none()
        && slot.verdict == Verdict::Next
        && let Err(verdict) = open(slot, context)
    {
        verdict.apply(slot);
    }
}

/// Why a flow gets no connection.
enum Leave {
    Host(HostReason),
    Drop(DropReason),
    Refuse(DropReason, Answer),
    /// The frame goes to a server all the same, by a connection that is not kept.
    Unkept(Conn),
}

impl Leave {
    fn apply(self, slot: &mut Slot) {
        match self {
            Self::Host(reason) => slot.verdict = Verdict::Host(reason),
            Self::Drop(reason) => slot.drop(reason),
            Self::Refuse(reason, answer) => slot.refuse(reason, answer),
            Self::Unkept(conn) => slot.conn = Some(conn),
        }
    }
}

/// A packet that asks for a new connection takes the place of one that is over, or whose server
/// is being drained while dead ones are not waited for (ip_vs_core.c, ip_vs_in).
fn keep_or_end(conn: &Conn, context: &mut Context<'_>) -> Option<Conn> {
    let now = context.owner.table().get(conn.id)?;
    let settings = &context.snapshot.rules.settings;
    let weight = context.snapshot.dest(ServerId(now.dest)).map_or(0, |dest| dest.weight);
    let weight = if bypass::is(&now) { 1 } else { weight };
    let old = Old {
        number: now.proto,
        state: now.state,
        no_output: now.flags & flag::NOOUTPUT != 0,
        controlled: now.control.is_some(),
        nodest: settings.expire_nodest_conn != 0 && weight == 0,
    };
    if !proto::reusable(&old, ConnReuseMode(settings.conn_reuse_mode as i32)) {
        return Some(now);
    }
    context.end(&now);
    None
}

/// Sees to it that the connection's server is still there. What is for one that was removed is
/// dropped before the state stage, so that it moves neither state nor timer; or it ends the
/// connection, where that is wished.
fn available(slot: &mut Slot, context: &mut Context<'_>) {
    let Some(conn) = &slot.conn else { return };
    if !context.forwards(slot) {
        return slot.drop(DropReason::NotForwarded);
    }
    if bypass::is(conn) {
        return;
    }
    let Some(dest) = context.snapshot.dest(ServerId(conn.dest)) else {
        // It is of a newer snapshot, which another worker has.
        return slot.drop(DropReason::DestUnavailable);
    };
    let settings = &context.snapshot.rules.settings;
    let moves = slot.at.protocol == protocol::UDP
        && settings.udp_reschedule != 0
        && !(dest.available && dest.weight > 0);
    if slot.direction == Direction::Out || dest.available && !moves {
        return;
    }
    if moves || settings.expire_nodest_conn != 0 {
        context.end(conn);
        slot.conn = None;
    } else {
        slot.drop(DropReason::DestUnavailable);
    }
}

/// Opens the connection of an ICMP error, whatever packet it carries.
pub(super) fn open_related(slot: &mut Slot, context: &mut Context<'_>) {
    let service = context.snapshot.service(slot.service);
    let Some(service) = service.filter(|_| slot.direction == Direction::In) else { return };
    if let Err(verdict) = admit(slot, service, context) {
        verdict.apply(slot);
    }
}

/// Opens a connection (ip_vs_proto_*.c, *_conn_schedule; ip_vs_core.c, ip_vs_schedule).
fn open(slot: &mut Slot, context: &mut Context<'_>) -> Result<(), Leave> {
    let service = context.snapshot.service(slot.service);
    let Some(service) = service.filter(|_| slot.direction == Direction::In) else {
        if slot.direction == Direction::Out && tells_server(slot, context) {
            return Err(Leave::Refuse(DropReason::UnknownReply, Answer::PortUnreachable));
        }
        let known = slot.direction == Direction::Out || slot.service != NO_SERVICE;
        return Err(Leave::Host(if known { HostReason::NoConn } else { HostReason::NoService }));
    };
    // What goes past is not delivered here, and so nothing that IPVS sees (ip_vs_core.c, its
    // hooks). What has a mark may be delivered by a rule of routing.
    if !service.key.is_mark() && !context.snapshot.fib.is_local(slot.destination) {
        return Err(Leave::Host(HostReason::NoService));
    }
    let settings = &context.snapshot.rules.settings;
    let sloppy = Sloppy { tcp: settings.sloppy_tcp != 0, sctp: settings.sloppy_sctp != 0 };
    if !proto::opens(slot.at.protocol, slot.event, &sloppy) {
        return Err(unknown(slot, service, context));
    }
    admit(slot, service, context)
}

/// Picks a server and opens the connection.
fn admit<'a>(
    slot: &mut Slot,
    service: &'a Service,
    context: &mut Context<'a>,
) -> Result<(), Leave> {
    if context.defense.drops() {
        return Err(Leave::Drop(DropReason::DropPacket));
    }
    let choice = match &service.persistence {
        Some(persistence) => persist::choose(slot, service, persistence, context)?,
        None if !service.key.is_mark() && service.key.port() != slot.destination_port => None,
        None => pick(slot, service, &service.scheduler, context.now).map(Choice::of),
    };
    slot.conn = match choice {
        Some(choice) => connect(slot, service, &choice, context)?,
        None if bypass::wanted(slot, service, context) => bypass::connect(slot, service, context)?,
        None => return Err(no_server(slot, service, context)),
    };
    Ok(())
}

/// Whether a NAT server is told that its packet belongs to no connection (ip_vs_core.c,
/// ip_vs_out). What ends one anyway is not answered.
fn tells_server(slot: &Slot, context: &Context<'_>) -> bool {
    context.snapshot.rules.settings.nat_icmp_send != 0
        && match slot.at.protocol {
            protocol::TCP => ![tcp::RST, tcp::RST_SYN].contains(&slot.event),
            protocol::UDP => true,
            protocol::SCTP => ![sctp::ABORT_CHUNK, sctp::COOKIE_ABORT].contains(&slot.event),
            _ => false,
        }
}

/// A server, and what else the new connection has to know.
struct Choice<'a> {
    dest: &'a Dest,
    /// The server's port; 0 keeps the packet's.
    port: u16,
    control: Option<ConnId>,
}

impl<'a> Choice<'a> {
    fn of(dest: &'a Dest) -> Self {
        Self { dest, port: dest.port, control: None }
    }
}

/// What becomes of a packet of no connection that may not open one.
fn unknown(slot: &Slot, service: &Service, context: &Context<'_>) -> Leave {
    if slot.protocol == protocol::TCP {
        if let Some(conn) = unkept(slot, service, context) {
            return Leave::Unkept(conn);
        }
        if context.snapshot.rules.settings.reset_unknown != 0
            && let Some(numbers) =
                Numbers::of(slot.frame.bytes(), slot.at.l4, slot.frame.bytes().len())
            && let Some((seq, ack, flags)) = numbers.reset()
        {
            return Leave::Refuse(DropReason::Reset, Answer::Reset(seq, ack, flags));
        }
    }
    Leave::Host(HostReason::NoConn)
}

/// What becomes of a packet that no server can take (ip_vs_core.c, ip_vs_leave).
fn no_server(slot: &Slot, service: &Service, context: &Context<'_>) -> Leave {
    let data = service.key.port() == FTP && slot.destination_port != FTP;
    if data {
        return Leave::Host(HostReason::NoConn);
    }
    let local = context.snapshot.fib.is_local(slot.destination);
    match service.key {
        ServiceKey::Mark { .. } if !local => Leave::Drop(DropReason::NoDest),
        _ => Leave::Refuse(DropReason::NoDest, Answer::PortUnreachable),
    }
}

/// Puts the new connection into the table and counts it.
fn connect(
    slot: &Slot,
    service: &Service,
    choice: &Choice<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Conn>, Leave> {
    let mut new = new_conn(slot, choice);
    new.extra = ftp::extra(&new);
    let worker = usize::from(context.owner.worker());
    let snapshot = context.snapshot;
    let count = |dest: &Dest| {
        snapshot.bind(dest);
        dest.traffic.opened(worker);
        service.traffic.opened(worker);
    };
    if service.one_packet && slot.protocol == protocol::UDP {
        count(choice.dest);
        // It is over once this packet is sent, and no other meets it.
        snapshot.unbind(&new.unkept());
        release(choice, context);
        return Ok(Some(new.unkept()));
    }
    let table = context.owner.table().clone();
    let found = match context.owner.insert(slot.hash, &new, context.now) {
        Ok(Inserted::New(id)) => {
            count(choice.dest);
            table.get(id)
        }
        Ok(Inserted::Existing(id)) => {
            release(choice, context);
            table.get(id)
        }
        Err(error) => {
            release(choice, context);
            return Err(full(slot, service, error, context));
        }
    };
    // Opened by another core and over already: nothing that this frame could belong to.
    found.map(Some).ok_or(Leave::Host(HostReason::NoConn))
}

/// Takes the connection, which is not kept, out of its template again.
fn release(choice: &Choice<'_>, context: &Context<'_>) {
    if let Some(template) = choice.control {
        context.owner.table().orphan(template);
    }
}

/// What becomes of a new flow that the table has no room for.
fn full(slot: &Slot, service: &Service, error: InsertError, context: &Context<'_>) -> Leave {
    if error == InsertError::Full {
        context.defense.overflow(context.now);
    }
    unkept(slot, service, context).map_or(Leave::Drop(DropReason::TableFull), Leave::Unkept)
}

/// While the table is full, or was a moment ago: the way of a flow that has no connection, by a
/// hash of the client, so that all its packets take the same. Not in NAT, where the server's
/// answer would find no way back.
fn unkept(slot: &Slot, service: &Service, context: &Context<'_>) -> Option<Conn> {
    let overflow = service.overflow.as_ref()?;
    if !context.defense.overflows(context.now) {
        return None;
    }
    let dest =
        pick(slot, service, overflow, context.now).filter(|dest| dest.method != Method::Masq)?;
    Some(new_conn(slot, &Choice::of(dest)).unkept())
}

fn pick<'a>(
    slot: &Slot,
    service: &'a Service,
    scheduler: &Scheduler,
    now: Ticks,
) -> Option<&'a Dest> {
    let flow = Flow {
        protocol: slot.protocol,
        source: slot.source.to_ip(),
        source_port: slot.source_port,
        destination: slot.destination.to_ip(),
        destination_port: slot.destination_port,
        now: now.0,
    };
    service.servers.get(scheduler.pick(&flow)?).map(|dest| &**dest)
}

fn new_conn(slot: &Slot, choice: &Choice<'_>) -> NewConn {
    let ServerId(number) = choice.dest.id;
    NewConn {
        proto: slot.protocol,
        caddr: slot.source,
        cport: slot.source_port,
        vaddr: slot.destination,
        vport: slot.destination_port,
        daddr: choice.dest.address,
        dport: if choice.port == 0 { slot.destination_port } else { choice.port },
        dest: number,
        mark: slot.mark,
        flags: flags(choice.dest.method) | flag::INACTIVE,
        state: 0,
        timeout: NEW_TIMEOUT,
        control: choice.control,
        extra: None,
    }
}

/// Only NAT sees replies.
fn flags(method: Method) -> u16 {
    match method {
        Method::Masq => flag::MASQ,
        Method::Local => flag::LOCALNODE | flag::NOOUTPUT,
        Method::Tunnel => flag::TUNNEL | flag::NOOUTPUT,
        Method::Route => flag::DROUTE | flag::NOOUTPUT,
    }
}
