//! ICMP errors about connections: found by the packet that they carry, and sent to its sender
//! (ip_vs_core.c, ip_vs_in_icmp and ip_vs_out_icmp).

use std::net::IpAddr;

use uvs_forward::icmp::{self, Related, TunnelError, Via};
use uvs_forward::wire::protocol;
use uvs_forward::{Address as Octets, End, Family, Hop, Offsets, Refused, Tuple};
use uvs_sched::ServerId;

use super::forward::end;
use super::{Context, schedule};
use crate::address::Address;
use crate::batch::{Answer, Relation, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{DropReason, HostReason};
use crate::proto::Direction;
use crate::service::Endpoint;
use crate::snapshot::Snapshot;
use crate::table::Conn;

/// What an ICMP error is about.
pub(super) struct Subject {
    pub relation: Relation,
    pub protocol: u8,
    pub source: (Address, u16),
    pub destination: (Address, u16),
}

impl Subject {
    fn of<A: Octets>(relation: Relation, tuple: &Tuple<A>) -> Self
    where
        Address: From<A>,
    {
        let end = |end: End<A>| (end.address.into(), end.port);
        let (source, destination) = (end(tuple.src), end(tuple.dst));
        Self { relation, protocol: tuple.protocol, source, destination }
    }
}

/// What an ICMP message is about; `None` when it is for the host.
#[cold]
pub(super) fn subject(
    frame: &[u8],
    at: Offsets,
    snapshot: &Snapshot,
    now: Ticks,
) -> Option<Subject> {
    match at.family {
        Family::V4 => {
            if let Some(error) = tunnel_error(frame, at, snapshot) {
                return Some(Subject::of(Relation::TunnelError, &error.tuple));
            }
            learn_gre_path(frame, at, snapshot, now);
            let related = Related::<[u8; 4]>::of(frame, at).ok()?;
            Some(Subject::of(Relation::Error, &related.tuple))
        }
        Family::V6 => {
            let related = Related::<[u8; 16]>::of(frame, at).ok()?;
            Some(Subject::of(Relation::Error, &related.tuple))
        }
    }
}

/// Learns what the host's own GRE receiver does; the message is for the host.
fn learn_gre_path(frame: &[u8], at: Offsets, snapshot: &Snapshot, now: Ticks) {
    let Some((server, mtu)) = icmp::gre_path(frame, at) else { return };
    let end = Endpoint { protocol: protocol::GRE, address: server.into(), port: 0 };
    snapshot.tunnelled(end).for_each(|dest| dest.path.learn(mtu, now));
}

/// What it says of a tunnel of ours.
fn tunnel_error(frame: &[u8], at: Offsets, snapshot: &Snapshot) -> Option<TunnelError> {
    let error = TunnelError::of(frame, at).ok()?;
    let (protocol, port) = match error.via {
        Via::Ipip => (protocol::IPIP, 0),
        Via::Gre => (protocol::GRE, 0),
        Via::Gue(port) => (protocol::UDP, port),
    };
    let end = Endpoint { protocol, address: error.server.into(), port };
    snapshot.is_tunnel(&end).then_some(error)
}

/// Finds the connection of an error. It moves neither state nor timer.
pub fn follow(slot: &mut Slot, context: &mut Context<'_>) {
    if slot.conn.is_none() {
        slot.conn = super::lookup::find(slot, context.owner.table());
    }
    if slot.relation == Relation::TunnelError {
        return relay(slot, context);
    }
    if slot.conn.is_none() && context.snapshot.rules.settings.schedule_icmp != 0 {
        schedule::open_related(slot, context);
    }
    if slot.verdict != Verdict::Next {
        return;
    }
    if slot.conn.is_none() {
        slot.verdict = Verdict::Host(HostReason::Icmp);
    } else if !context.forwards(slot) {
        slot.drop(DropReason::NotForwarded);
    } else if !is_intact(slot) {
        slot.drop(DropReason::BadChecksum);
    }
}

fn is_intact(slot: &Slot) -> bool {
    match slot.at.family {
        Family::V4 => icmp::is_intact::<[u8; 4]>(slot.frame.bytes(), slot.at),
        Family::V6 => icmp::is_intact::<[u8; 16]>(slot.frame.bytes(), slot.at),
    }
}

/// Tells the client what happened to the tunnel packet that its own was in, and learns from it.
fn relay(slot: &mut Slot, context: &Context<'_>) {
    let conn = slot.conn.filter(|_| slot.direction == Direction::In);
    let dest = conn.and_then(|conn| context.snapshot.dest(ServerId(conn.dest)));
    let error = TunnelError::of(slot.frame.bytes(), slot.at);
    let (Some(dest), Ok(error)) = (dest, error) else {
        slot.verdict = Verdict::Host(HostReason::Icmp);
        return;
    };
    if Address::from(error.server) != dest.address {
        slot.verdict = Verdict::Host(HostReason::Icmp);
        return;
    }
    if !is_intact(slot) {
        return slot.drop(DropReason::BadChecksum);
    }
    let link = context.snapshot.exit(dest.id).map_or(u16::MAX, |exit| exit.mtu);
    let known = dest.path.get(context.now);
    if let Some(mtu) = error.path_mtu {
        dest.path.learn(mtu, context.now);
    }
    // The kernel looks the path up before it is made anew by the first such error.
    let told = known.and_then(|_| dest.path.get(context.now)).unwrap_or(link);
    slot.refuse(DropReason::Relayed, Answer::Relay(told));
}

/// Sends an error from a client's side to the server in NAT.
#[cold]
pub(super) fn to_server(slot: &mut Slot, conn: &Conn, hop: &Hop) -> Result<(), Refused> {
    let (frame, at) = (slot.frame.bytes_mut(), slot.at);
    match conn.daddr.to_ip() {
        IpAddr::V4(ip) => {
            let related = Related::of(frame, at)?;
            icmp::to_server(frame, at, &related, end(ip.octets(), conn.dport), hop)
        }
        IpAddr::V6(ip) => {
            let related = Related::of(frame, at)?;
            icmp::to_server(frame, at, &related, end(ip.octets(), conn.dport), hop)
        }
    }
}

/// Sends an error from a server's side to the client, as the virtual service.
#[cold]
pub(super) fn to_client(slot: &mut Slot, conn: &Conn, hop: &Hop) -> Result<(), Refused> {
    let (frame, at) = (slot.frame.bytes_mut(), slot.at);
    match conn.vaddr.to_ip() {
        IpAddr::V4(ip) => {
            let related = Related::of(frame, at)?;
            icmp::to_client(frame, at, &related, end(ip.octets(), conn.vport), hop)
        }
        IpAddr::V6(ip) => {
            let related = Related::of(frame, at)?;
            icmp::to_client(frame, at, &related, end(ip.octets(), conn.vport), hop)
        }
    }
}
