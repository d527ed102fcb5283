//! Gives a client the server that it had: persistence templates (ip_vs_core.c,
//! ip_vs_sched_persist).
//!
//! A template is an entry of the table like a connection, from the masked client to the service.
//! The first connection makes it; those that follow take its server, whatever its weight and load,
//! and start its timer anew.

use uvs_sched::ServerId;

use super::{Choice, Context, Leave, flags, pick, sip};
use crate::address::Address;
use crate::batch::Slot;
use crate::counters::DropReason;
use crate::service::{Dest, FTP, Persistence, Service, ServiceKey};
use crate::table::{Conn, ConnId, InKey, Inserted, NewConn, flag};

/// Tries to take a place in a template that others end or make at the same moment.
const ATTEMPTS: usize = 4;

/// The server of the client's template, which is made if there is none; `None` without a server.
pub(super) fn choose<'a>(
    slot: &Slot,
    service: &'a Service,
    persistence: &Persistence,
    context: &mut Context<'a>,
) -> Result<Option<Choice<'a>>, Leave> {
    let call = if persistence.sip { Some(sip::call_id(slot)?) } else { None };
    let name = call.map_or(0, |call| context.owner.table().name(call));
    let key = key(slot, service, persistence, name);
    for _ in 0..ATTEMPTS {
        let template = match find(&key, context) {
            Some(template) => template,
            None => match make(slot, service, persistence, &key, context)? {
                Some(id) => {
                    if let Some(call) = call {
                        context.calls.note(id, call);
                    }
                    id
                }
                None => return Ok(None),
            },
        };
        if let Some(choice) = join(template, slot, service, context) {
            return Ok(Some(choice));
        }
    }
    Err(Leave::Drop(DropReason::TableFull))
}

/// What the template is found by. A service of one port has its own; those of any port, of a mark
/// and of FTP have one for all ports.
fn key(slot: &Slot, service: &Service, persistence: &Persistence, name: u64) -> InKey {
    let own_port = service.key.port() == slot.destination_port && slot.destination_port != FTP;
    let (proto, vaddr) = match service.key {
        ServiceKey::Mark { mark, .. } => (0, Address::from(mark.to_be_bytes())),
        ServiceKey::Endpoint(_) => (slot.protocol, slot.destination),
    };
    InKey {
        proto,
        caddr: slot.source.masked(persistence.mask),
        cport: 0,
        vaddr,
        vport: if own_port { slot.destination_port } else { 0 },
        template: true,
        name,
    }
}

/// The template that serves; one that no longer may is retired (ip_vs_conn.c,
/// ip_vs_check_template).
fn find(key: &InKey, context: &Context<'_>) -> Option<ConnId> {
    let table = context.owner.table();
    let template = table.lookup_in(table.hash_of(key), key)?;
    let quiescent = context.snapshot.rules.settings.expire_quiescent_template != 0;
    let dest = context.snapshot.dest(ServerId(template.dest));
    if dest.is_some_and(|dest| dest.available && !(quiescent && dest.weight == 0)) {
        return Some(template.id);
    }
    table.retire(template.id);
    None
}

/// A new template, for a server that the scheduler picks.
fn make(
    slot: &Slot,
    service: &Service,
    persistence: &Persistence,
    key: &InKey,
    context: &mut Context<'_>,
) -> Result<Option<ConnId>, Leave> {
    let Some(dest) = pick(slot, service, &service.scheduler, context.now) else {
        return Ok(None);
    };
    let hash = context.owner.table().hash_of(key);
    match context.owner.insert(hash, &template(key, dest, persistence), context.now) {
        Ok(Inserted::New(id)) => {
            context.snapshot.bind_template(dest);
            Ok(Some(id))
        }
        Ok(Inserted::Existing(id)) => Ok(Some(id)),
        Err(error) => Err(super::full(slot, service, error, context)),
    }
}

fn template(key: &InKey, dest: &Dest, persistence: &Persistence) -> NewConn {
    let ServerId(number) = dest.id;
    NewConn {
        proto: key.proto,
        caddr: key.caddr,
        cport: 0,
        vaddr: key.vaddr,
        vport: key.vport,
        daddr: dest.address,
        dport: if key.vport != 0 { dest.port } else { 0 },
        dest: number,
        mark: 0,
        flags: flag::TEMPLATE | flags(dest.method) & flag::FWD_MASK,
        state: 0,
        timeout: persistence.timeout,
        control: None,
        extra: (key.name != 0).then_some([key.name, 0]),
    }
}

/// Makes the new connection one of the template's, whose timer starts anew.
fn join<'a>(
    template: ConnId,
    slot: &Slot,
    service: &Service,
    context: &Context<'a>,
) -> Option<Choice<'a>> {
    let table = context.owner.table();
    if !table.adopt(template, context.now) {
        return None;
    }
    let Conn { dest, .. } = table.get(template)?;
    let dest = context.snapshot.dest(ServerId(dest))?;
    let own_port = slot.destination_port == service.key.port();
    let port = if own_port { dest.port } else { slot.destination_port };
    Some(Choice { dest, port, control: Some(template) })
}
