//! Rewrites every frame for its way on, by its connection's forwarding method.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use uvs_forward::tun::{self, Kind, Outer};
use uvs_forward::{Family, Hop, Method, Refused, dr, nat};
use uvs_sched::ServerId;

use crate::address::Address;
use crate::batch::{Answer, Batch, Slot, Verdict};
use crate::counters::{DropReason, HostReason, Traffic};
use crate::fib::NextHop;
use crate::link::LinkId;
use crate::proto::Direction;
use crate::service::Dest;
use crate::snapshot::{Exit, Snapshot};
use crate::table::Conn;

/// Numbers for the IP identification of packets that the engine makes; any do that differ from each
/// other for a while (RFC 6864).
#[derive(Clone, Copy, Debug, Default)]
pub struct Identification(u16);

impl Identification {
    /// The next number.
    pub fn draw(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

/// Rewrites the frames of a batch; `worker` counts the packets.
pub fn forward(batch: &mut Batch, snapshot: &Snapshot, worker: usize, ids: &mut Identification) {
    for slot in batch.undecided() {
        let Some(conn) = slot.conn else { continue };
        let done = match slot.direction {
            Direction::In => to_server(slot, &conn, snapshot, worker, ids),
            Direction::Out => to_client(slot, &conn, snapshot, worker),
        };
        match done {
            Ok(way) => slot.verdict = way.verdict(),
            Err(NoWay::Drop(reason)) => slot.drop(reason),
            Err(NoWay::Refuse(reason, answer)) => slot.refuse(reason, answer),
            Err(NoWay::Host(reason)) => slot.verdict = Verdict::Host(reason),
        }
    }
}

/// Why a frame does not go on.
enum NoWay {
    Drop(DropReason),
    Refuse(DropReason, Answer),
    Host(HostReason),
}

impl From<Refused> for NoWay {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Ttl => Self::Refuse(DropReason::TtlExceeded, Answer::TimeExceeded),
            Refused::Truncated => Self::Drop(DropReason::Truncated),
            Refused::Protocol => Self::Host(HostReason::OtherProtocol),
            Refused::TooLong => Self::Drop(DropReason::TooBig),
            // Not of the functions that are called here, or of frames that parse lets through.
            Refused::Fragment
            | Refused::Family
            | Refused::NoError
            | Refused::SourceRoute
            | Refused::Option(_) => Self::Drop(DropReason::BadHeader),
        }
    }
}

/// Where a frame leaves, and with which Ethernet addresses.
struct Way {
    link: LinkId,
    hop: Hop,
    /// Whose address has to be asked for first.
    unresolved: Option<Address>,
}

impl Way {
    fn of(hop: NextHop, snapshot: &Snapshot) -> Result<Self, NoWay> {
        match hop {
            NextHop::Ready(link, hop) => Ok(Self { link, hop, unresolved: None }),
            NextHop::Unresolved(link, neighbour) => {
                let src = snapshot.fib.link(link).map_or([0; 6], |link| link.mac);
                Ok(Self { link, hop: Hop { src, dst: [0; 6] }, unresolved: Some(neighbour) })
            }
            NextHop::Local => Err(NoWay::Host(HostReason::LocalDest)),
            NextHop::NoRoute => Err(NoWay::Drop(DropReason::NoRoute)),
        }
    }

    fn verdict(&self) -> Verdict {
        match self.unresolved {
            None => Verdict::Send(self.link),
            Some(neighbour) => Verdict::Wait(self.link, neighbour),
        }
    }
}

#[inline]
fn to_server(
    slot: &mut Slot,
    conn: &Conn,
    snapshot: &Snapshot,
    worker: usize,
    ids: &mut Identification,
) -> Result<Way, NoWay> {
    let id = ServerId(conn.dest);
    let (Some(dest), Some(exit)) = (snapshot.dest(id), snapshot.exit(id)) else {
        return Err(NoWay::Drop(DropReason::DestUnavailable));
    };
    count(slot.ip_len, dest, |traffic, bytes| traffic.incoming(worker, bytes));
    let way = Way::of(exit.hop, snapshot)?;
    match Method::from_flags(conn.flags.into()) {
        Some(Method::Route) => {
            may_leave(slot, exit.mtu, 0)?;
            dr::forward(slot.frame.bytes_mut(), slot.at, &way.hop)?;
        }
        Some(Method::Masq) => {
            may_leave(slot, exit.mtu, 0)?;
            let (frame, at, hop) = (slot.frame.bytes_mut(), slot.at, &way.hop);
            match conn.daddr.to_ip() {
                IpAddr::V4(ip) => nat::to_server(frame, at, SocketAddrV4::new(ip, conn.dport), hop),
                IpAddr::V6(ip) => nat::to_server(frame, at, end(ip, conn.dport), hop),
            }?;
        }
        Some(Method::Tunnel) => tunnel(slot, exit, conn.daddr, &way.hop, ids)?,
        Some(Method::Local) | None => return Err(NoWay::Host(HostReason::LocalDest)),
    }
    Ok(way)
}

#[inline]
fn to_client(
    slot: &mut Slot,
    conn: &Conn,
    snapshot: &Snapshot,
    worker: usize,
) -> Result<Way, NoWay> {
    let way = Way::of(snapshot.fib.next_hop(conn.caddr), snapshot)?;
    may_leave(slot, snapshot.fib.link(way.link).map_or(u16::MAX, |link| link.mtu), 0)?;
    let (frame, at, hop) = (slot.frame.bytes_mut(), slot.at, &way.hop);
    match conn.vaddr.to_ip() {
        IpAddr::V4(ip) => nat::to_client(frame, at, SocketAddrV4::new(ip, conn.vport), hop),
        IpAddr::V6(ip) => nat::to_client(frame, at, end(ip, conn.vport), hop),
    }?;
    if let Some(dest) = snapshot.dest(ServerId(conn.dest)) {
        count(slot.ip_len, dest, |traffic, bytes| traffic.outgoing(worker, bytes));
    }
    Ok(way)
}

/// An end in IPv6.
fn end(address: Ipv6Addr, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(address, port, 0, 0)
}

/// Either family in either.
fn tunnel(
    slot: &mut Slot,
    exit: &Exit,
    server: Address,
    hop: &Hop,
    ids: &mut Identification,
) -> Result<(), NoWay> {
    let outer = if server.is_v4() { Family::V4 } else { Family::V6 };
    let room = Kind::Ipip.room(outer, false);
    may_leave(slot, exit.mtu, room as u16)?;
    if !slot.frame.prepend(room) {
        return Err(NoWay::Drop(DropReason::NoHeadroom));
    }
    let (frame, at, id) = (slot.frame.bytes_mut(), slot.at, ids.draw());
    match (exit.source.to_ip(), server.to_ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (src, dst) = (src.octets(), dst.octets());
            tun::ipip(frame, at, &Outer { src, dst, id, pmtu_disc: true }, hop)?;
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (src, dst) = (src.octets(), dst.octets());
            tun::ipip(frame, at, &Outer { src, dst, id, pmtu_disc: true }, hop)?;
        }
        // The link has no address of the server's family.
        _ => return Err(NoWay::Drop(DropReason::NoRoute)),
    }
    Ok(())
}

/// Whether the packet may go on: it has a hop left and, with `more` bytes of headers, fits the
/// next link. In this order, as in the kernel (ip_vs_xmit.c).
#[inline]
fn may_leave(slot: &Slot, mtu: u16, more: u16) -> Result<(), NoWay> {
    if slot.ttl <= 1 {
        return Err(Refused::Ttl.into());
    }
    let room = mtu.saturating_sub(more);
    if slot.ip_len <= room {
        return Ok(());
    }
    if slot.dont_fragment {
        return Err(NoWay::Refuse(DropReason::TooBig, Answer::FragNeeded(room)));
    }
    Err(NoWay::Drop(DropReason::TooBig))
}

/// Counts a packet for the server and for its service.
#[inline]
fn count(ip_len: u16, dest: &Dest, with: impl Fn(&Traffic, u64)) {
    with(&dest.traffic, ip_len.into());
    with(&dest.service_traffic, ip_len.into());
}
