//! Rewrites every frame for its way on, by its connection's forwarding method.

mod fit;

use std::net::IpAddr;

use uvs_forward::mtu;
use uvs_forward::tun::{self, Checksum, Gue, Kind, Outer};
use uvs_forward::wire::protocol;
use uvs_forward::{
    Address as Octets, End, Family, Hop, Method, Offsets, Refused, Unfinished, dr, mss, nat,
};
use uvs_sched::ServerId;

use super::schedule::bypass;
use super::{options, related};
use crate::address::Address;
use crate::batch::{Answer, Batch, Relation, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{DropReason, HostReason, Traffic};
use crate::fib::NextHop;
use crate::link::LinkId;
use crate::port::Offload;
use crate::proto::{Direction, tcp};
use crate::service::{Dest, MssClamp};
use crate::snapshot::{Exit, Snapshot};
use crate::table::Conn;

/// Numbers for the IP identification of packets that the engine makes; any do that differ from each
/// other for a while (RFC 6864).
#[derive(Clone, Copy, Debug, Default)]
pub struct Identification(u32);

impl Identification {
    /// The next number.
    pub fn draw(&mut self) -> u16 {
        self.draw_long() as u16
    }

    /// The next number, as long as IPv6's fragments have it.
    pub fn draw_long(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(1);
        self.0
    }
}

/// When a batch is rewritten.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Its tick.
    pub tick: Ticks,
    /// Milliseconds since midnight UT, for IP timestamps.
    pub time_of_day: u32,
}

/// Rewrites the frames of a batch; `worker` counts the packets.
pub fn forward(
    batch: &mut Batch,
    snapshot: &Snapshot,
    worker: usize,
    now: Moment,
    ids: &mut Identification,
) {
    let mut stage = Stage { snapshot, worker, now, ids };
    for slot in batch.undecided() {
        let Some(conn) = slot.conn else { continue };
        let done = match slot.direction {
            Direction::In => stage.client_to_server(slot, &conn),
            Direction::Out => stage.server_to_client(slot, &conn),
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

/// What the rewriting of a batch works with.
struct Stage<'a> {
    snapshot: &'a Snapshot,
    worker: usize,
    now: Moment,
    ids: &'a mut Identification,
}

impl Stage<'_> {
    #[inline]
    fn client_to_server(&mut self, slot: &mut Slot, conn: &Conn) -> Result<Way, NoWay> {
        if bypass::is(conn) {
            return self.past(slot);
        }
        let id = ServerId(conn.dest);
        let (Some(dest), Some(exit)) = (self.snapshot.dest(id), self.snapshot.exit(id)) else {
            return Err(NoWay::Drop(DropReason::DestUnavailable));
        };
        count(slot.ip_len, dest, |traffic, bytes| traffic.incoming(self.worker, bytes));
        if exit.hop == NextHop::Local {
            return Err(to_local(slot, conn));
        }
        self.fill_options(slot);
        let way = Way::of(exit.hop, self.snapshot)?;
        if slot.ttl <= 1 {
            return Err(Refused::Ttl.into());
        }
        if dest.mss_clamp != MssClamp::Off {
            self.clamp_mss(slot, dest, exit.mtu);
        }
        match Method::from_flags(conn.flags.into()) {
            Some(Method::Route) => {
                self.fits(slot, exit.mtu, None)?;
                dr::forward(slot.frame.bytes_mut(), slot.at, &way.hop)?;
            }
            Some(Method::Masq) => {
                self.fits(slot, exit.mtu, None)?;
                masquerade(slot, conn, &way.hop)?;
            }
            Some(Method::Tunnel) => self.tunnel(slot, conn, dest, exit, &way.hop)?,
            Some(Method::Local) | None => return Err(NoWay::Host(HostReason::LocalDest)),
        }
        Ok(way)
    }

    /// Past the servers, to its own destination.
    #[cold]
    fn past(&mut self, slot: &mut Slot) -> Result<Way, NoWay> {
        let way = Way::of(self.snapshot.fib.next_hop(slot.destination), self.snapshot)?;
        self.fill_options(slot);
        if slot.ttl <= 1 {
            return Err(Refused::Ttl.into());
        }
        let mtu = self.snapshot.fib.link(way.link).map_or(u16::MAX, |link| link.mtu);
        self.fits(slot, mtu, None)?;
        dr::forward(slot.frame.bytes_mut(), slot.at, &way.hop)?;
        Ok(way)
    }

    #[inline]
    fn server_to_client(&mut self, slot: &mut Slot, conn: &Conn) -> Result<Way, NoWay> {
        let way = Way::of(self.snapshot.fib.next_hop(conn.caddr), self.snapshot)?;
        self.fill_options(slot);
        if slot.ttl <= 1 {
            return Err(Refused::Ttl.into());
        }
        let mtu = self.snapshot.fib.link(way.link).map_or(u16::MAX, |link| link.mtu);
        fit::split(slot, mtu::to_client(&fit::size(slot), mtu))?;
        let dest = self.snapshot.dest(ServerId(conn.dest));
        if let Some(dest) = dest.filter(|dest| dest.mss_clamp != MssClamp::Off) {
            self.clamp_mss(slot, dest, mtu);
        }
        unmasquerade(slot, conn, &way.hop)?;
        if let Some(dest) = dest {
            count(slot.ip_len, dest, |traffic, bytes| traffic.outgoing(self.worker, bytes));
        }
        Ok(way)
    }

    /// Lowers the segment size that a SYN announces, on its way over a link with this MTU.
    #[cold]
    fn clamp_mss(&self, slot: &mut Slot, dest: &Dest, mtu: u16) {
        if slot.protocol != protocol::TCP || slot.event != tcp::SYN {
            return;
        }
        let mss = match dest.mss_clamp {
            MssClamp::Off => return,
            MssClamp::To(mss) => mss,
            MssClamp::PathMtu => {
                let room = match dest.method {
                    Method::Tunnel => dest.tunnel.room(family(dest.address), false) as u16,
                    _ => 0,
                };
                let came = self.snapshot.fib.link(slot.frame.link());
                let narrower = came.map_or(mtu, |link| link.mtu.min(mtu));
                mss::of_mtu(narrower.saturating_sub(room), slot.at.family)
            }
        };
        slot.finish_checksum();
        mss::clamp(slot.frame.bytes_mut(), slot.at, mss);
    }

    /// Of a frame that goes on: the host fills in those that it gets.
    #[inline]
    fn fill_options(&self, slot: &mut Slot) {
        options::fill(slot, &self.snapshot.fib, self.now.time_of_day);
    }

    #[inline]
    fn pmtu_disc(&self) -> bool {
        self.snapshot.rules.settings.pmtu_disc != 0
    }

    /// Whether a packet to a server fits its way.
    #[inline]
    fn fits(&self, slot: &mut Slot, mtu: u16, tunnel: Option<(Family, u16)>) -> Result<(), NoWay> {
        let way = mtu::Way { mtu, tunnel, pmtu_disc: self.pmtu_disc() };
        fit::split(slot, mtu::to_server(&fit::size(slot), &way))
    }

    /// Either family in either.
    fn tunnel(
        &mut self,
        slot: &mut Slot,
        conn: &Conn,
        dest: &Dest,
        exit: &Exit,
        hop: &Hop,
    ) -> Result<(), NoWay> {
        let outer = family(conn.daddr);
        let open = left_open(slot, dest.tunnel);
        let room = dest.tunnel.room(outer, open.is_some());
        let mtu = dest.path.get(self.now.tick).map_or(exit.mtu, |path| path.min(exit.mtu));
        self.fits(slot, mtu, Some((outer, room as u16)))?;
        if !slot.frame.prepend(room) {
            return Err(NoWay::Drop(DropReason::NoHeadroom));
        }
        let (id, pmtu_disc) = (self.ids.draw(), self.pmtu_disc());
        match (exit.source.to_ip(), conn.daddr.to_ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let outer = Outer { src: src.octets(), dst: dst.octets(), id, pmtu_disc };
                encapsulate(slot, dest.tunnel, open, &outer, hop)?;
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let outer = Outer { src: src.octets(), dst: dst.octets(), id, pmtu_disc };
                encapsulate(slot, dest.tunnel, open, &outer, hop)?;
            }
            // The link has no address of the server's family.
            _ => return Err(NoWay::Drop(DropReason::NoRoute)),
        }
        slot.frame.set_offload(Offload::NONE);
        if slot.split != 0 {
            // It is the outer packet that is cut.
            slot.at = Offsets { end: slot.at.end + room as u32, family: outer, ..slot.at };
        }
        Ok(())
    }
}

#[inline]
fn family(address: Address) -> Family {
    if address.is_v4() { Family::V4 } else { Family::V6 }
}

/// The checksum that the server is told to finish, if its tunnel is of that kind. For any other, one
/// that was left open is finished here.
#[inline]
fn left_open(slot: &mut Slot, kind: Kind) -> Option<Unfinished> {
    if slot.frame.offload().is_none() {
        return None;
    }
    match kind {
        Kind::Gue { checksum: Checksum::Remote, .. } => slot.frame.offload().unfinished(),
        _ => {
            slot.finish_checksum();
            None
        }
    }
}

/// To a server that is an address of the host's own. In NAT its port may be another one.
fn to_local(slot: &mut Slot, conn: &Conn) -> NoWay {
    let (masq, own) = (Method::from_flags(conn.flags.into()), slot.relation == Relation::Own);
    if masq == Some(Method::Masq) && own {
        let (frame, at) = (slot.frame.bytes_mut(), slot.at);
        let done = match conn.daddr.to_ip() {
            IpAddr::V4(ip) => nat::to_local(frame, at, end(ip.octets(), conn.dport)),
            IpAddr::V6(ip) => nat::to_local(frame, at, end(ip.octets(), conn.dport)),
        };
        if let Err(refused) = done {
            return refused.into();
        }
        reopen(slot);
    }
    NoWay::Host(HostReason::LocalDest)
}

/// NAT on the way to the server.
#[inline]
fn masquerade(slot: &mut Slot, conn: &Conn, hop: &Hop) -> Result<(), Refused> {
    if slot.relation == Relation::Error {
        return related::to_server(slot, conn, hop);
    }
    let (frame, at) = (slot.frame.bytes_mut(), slot.at);
    match conn.daddr.to_ip() {
        IpAddr::V4(ip) => nat::to_server(frame, at, end(ip.octets(), conn.dport), hop),
        IpAddr::V6(ip) => nat::to_server(frame, at, end(ip.octets(), conn.dport), hop),
    }?;
    reopen(slot);
    Ok(())
}

/// NAT on the way back.
#[inline]
fn unmasquerade(slot: &mut Slot, conn: &Conn, hop: &Hop) -> Result<(), Refused> {
    if slot.relation == Relation::Error {
        return related::to_client(slot, conn, hop);
    }
    let (frame, at) = (slot.frame.bytes_mut(), slot.at);
    match conn.vaddr.to_ip() {
        IpAddr::V4(ip) => nat::to_client(frame, at, end(ip.octets(), conn.vport), hop),
        IpAddr::V6(ip) => nat::to_client(frame, at, end(ip.octets(), conn.vport), hop),
    }?;
    reopen(slot);
    Ok(())
}

/// NAT takes every checksum for a whole one; of one that was left open only the sum of the pseudo
/// header is there.
#[inline]
fn reopen(slot: &mut Slot) {
    if let Some(unfinished) = slot.frame.offload().unfinished() {
        // One that is not inside its packet is no checksum.
        let _ = unfinished.reopen(slot.frame.bytes_mut(), slot.at);
    }
}

/// An end of either family.
pub(super) fn end<A>(address: A, port: u16) -> End<A> {
    End { address, port }
}

fn encapsulate<A: Octets>(
    slot: &mut Slot,
    kind: Kind,
    open: Option<Unfinished>,
    outer: &Outer<A>,
    hop: &Hop,
) -> Result<(), Refused> {
    let (frame, at) = (slot.frame.bytes_mut(), slot.at);
    match kind {
        Kind::Ipip => tun::ipip(frame, at, outer, hop),
        Kind::Gre { checksum } => tun::gre(frame, at, checksum, outer, hop),
        Kind::Gue { port, checksum } => {
            let src_port = tun::source_port((slot.hash >> 32) as u32);
            let gue = Gue { src_port, dst_port: port, checksum, unfinished: open };
            tun::gue(frame, at, gue, outer, hop)
        }
    }
}

/// Counts a packet for the server and for its service.
#[inline]
fn count(ip_len: u16, dest: &Dest, with: impl Fn(&Traffic, u64)) {
    with(&dest.traffic, ip_len.into());
    with(&dest.service_traffic, ip_len.into());
}
