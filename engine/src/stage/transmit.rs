//! From the batch to where each frame goes: a ring, the host, the waiting room, or back to the
//! free ones. Every frame is counted here, once (INV-4).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use uvs_forward::fragment::{Cut, Splitter};
use uvs_forward::icmp::{self, CitedTtl, MAX_FRAME, Offender, Relay, Sender, TunnelError};
use uvs_forward::reassembly::MAX_PIECES;
use uvs_forward::segment::{self, Segment};
use uvs_forward::wire::ipv6;
use uvs_forward::{Address as Octets, Offsets};

use super::forward::Identification;
use super::options;
use crate::address::Address;
use crate::ask::Asks;
use crate::batch::{Answer, Batch, Slot, Verdict};
use crate::clock::Ticks;
use crate::counters::{Counters, DropReason, HostReason};
use crate::fib::{Fib, NextHop};
use crate::fragments::Fragments;
use crate::host::Host;
use crate::limiter::Limiter;
use crate::link::LinkId;
use crate::packet::Packet;
use crate::port::{Frame, Port};
use crate::proto::Direction;
use crate::waiting::{Released, Waiting};

/// All that frames of one worker can leave to.
pub struct Outlet<P, H> {
    /// The rings.
    pub port: P,
    /// The host's stack.
    pub host: H,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// Frames without an Ethernet address.
    pub waiting: Waiting,
    /// Who finds Ethernet addresses.
    pub asks: Arc<Asks>,
    /// Limits the answers.
    pub limiter: Limiter,
    /// Numbers the answers.
    pub ids: Identification,
}

impl<P: Port, H: Host> Outlet<P, H> {
    /// Empties the batch, in its order.
    pub fn transmit(&mut self, batch: &mut Batch, fragments: &Fragments, fib: &Fib, now: Ticks) {
        for slot in &batch.slots {
            if let Some(answer) = slot.answer
                && self.limiter.allows(answer, slot.source, now)
            {
                self.answer(slot, answer, fib);
            }
        }
        // Taken apart right here: of the rest of a slot nothing is copied.
        for Slot { frame: packet, verdict, at, split, .. } in batch.slots.drain(..) {
            if split != 0 || packet.largest() != 0 {
                self.transmit_parts(packet, verdict, Parts { at, mtu: split }, fragments, now);
                continue;
            }
            let (frame, _) = packet.into_parts();
            match verdict {
                Verdict::Send(link) => self.send(link, frame),
                Verdict::Wait(link, neighbour) => self.hold(frame, link, neighbour, now),
                Verdict::Host(reason) => self.give(frame.link(), frame, reason),
                Verdict::Drop(reason) => self.drop(frame, reason),
                Verdict::Merge => self.merge(frame),
                // No stage leaves a frame undecided: schedule decides about all that have no
                // connection, and forward about all that have one.
                Verdict::Next => self.drop(frame, DropReason::Undecided),
            }
        }
    }

    /// What leaves of a packet that came in fragments or has to leave in some.
    #[cold]
    fn transmit_parts(
        &mut self,
        packet: Packet,
        verdict: Verdict,
        parts: Parts,
        fragments: &Fragments,
        now: Ticks,
    ) {
        let done = match verdict {
            Verdict::Send(link) => parts.each(self, &packet, |it, part| it.send(link, part)),
            Verdict::Wait(link, neighbour) => {
                parts.each(self, &packet, |it, part| it.hold(part, link, neighbour, now))
            }
            Verdict::Host(reason) => {
                let (parts, link) = (parts.as_they_came(&packet), packet.link());
                parts.each(self, &packet, |it, part| it.give(link, part, reason))
            }
            Verdict::Drop(reason) => Err(reason),
            Verdict::Merge | Verdict::Next => Err(DropReason::Undecided),
        };
        let (frame, whole) = packet.into_parts();
        match done {
            Ok(()) => self.merge(frame),
            Err(reason) => self.drop(frame, reason),
        }
        if let Some(whole) = whole {
            fragments.give_back(whole);
        }
    }

    /// Sends the waiting frames whose neighbour has become known, and gives up on old ones.
    pub fn release(&mut self, fib: &Fib, now: Ticks) {
        for _ in 0..self.waiting.len() {
            match self.waiting.release(fib, now) {
                Some(Released::Send(link, frame)) => self.send(link, frame),
                Some(Released::GivenUp(frame)) => {
                    self.drop(frame, DropReason::NeighbourUnresolved);
                }
                None => {}
            }
        }
        self.counters.waiting(self.waiting.len());
    }

    /// Gives back what waits, at the end.
    pub fn stop(&mut self) {
        while let Some(frame) = self.waiting.take() {
            self.drop(frame, DropReason::Shutdown);
        }
        self.counters.waiting(0);
        self.port.flush();
    }

    #[inline]
    fn send(&mut self, link: LinkId, frame: Frame) {
        let bytes = frame.bytes().len() as u64;
        match self.port.tx(link, frame) {
            Ok(()) => self.counters.sent(bytes),
            Err(frame) => self.drop(frame, DropReason::TxFull),
        }
    }

    fn give(&mut self, link: LinkId, mut frame: Frame, reason: HostReason) {
        let offload = frame.offload();
        if self.host.give(link, frame.bytes_mut(), offload) {
            self.counters.to_host(reason);
            self.port.free(frame);
        } else {
            self.drop(frame, DropReason::HostFull);
        }
    }

    /// Gives back a frame whose bytes have gone on in others.
    pub(super) fn merge(&mut self, frame: Frame) {
        self.counters.merged();
        self.port.free(frame);
    }

    pub(super) fn drop(&mut self, frame: Frame, reason: DropReason) {
        self.counters.dropped(reason);
        self.port.free(frame);
    }

    fn hold(&mut self, frame: Frame, link: LinkId, neighbour: Address, now: Ticks) {
        self.asks.ask(link, neighbour);
        match self.waiting.hold(frame, link, neighbour, now) {
            Ok(()) => self.counters.waiting(self.waiting.len()),
            Err(frame) => self.drop(frame, DropReason::NeighbourQueueFull),
        }
    }

    /// Sends an ICMP message back to where the frame came from.
    fn answer(&mut self, slot: &Slot, answer: Answer, fib: &Fib) {
        let Some(mut frame) = self.port.alloc() else { return };
        let mut link = slot.frame.link();
        let len = match (frame.set_len(MAX_FRAME), answer) {
            (false, _) => None,
            (true, Answer::Relay(path_mtu)) => {
                self.relay(slot, path_mtu, fib, frame.bytes_mut()).map(|(to, len)| {
                    link = to;
                    len
                })
            }
            (true, _) => self.build(slot, answer, fib, frame.bytes_mut()),
        };
        self.originate(link, frame, len);
    }

    /// Sends a frame of the engine's own that was built with this length.
    fn originate(&mut self, link: LinkId, mut frame: Frame, len: Option<usize>) {
        let sent = match len {
            Some(len) if frame.set_len(len) => self.port.tx(link, frame),
            _ => Err(frame),
        };
        match sent {
            Ok(()) => self.counters.originated(),
            Err(frame) => self.port.free(frame),
        }
    }

    /// Sends segments of the engine's own, to whom the Ethernet address is known.
    pub fn originate_segments(&mut self, segments: &mut Vec<Segment>, fib: &Fib) {
        for segment in segments.drain(..) {
            let NextHop::Ready(link, hop) = fib.next_hop(segment.dst.ip().into()) else { continue };
            let Some(mut frame) = self.port.alloc() else { continue };
            let segment = Segment { id: self.ids.draw(), ..segment };
            let len = match frame.set_len(segment::MAX_FRAME) {
                true => segment.build(&hop, frame.bytes_mut()),
                false => None,
            };
            self.originate(link, frame, len);
        }
    }

    /// Builds what a client is told of an error about a tunnel packet, and says where it leaves.
    fn relay(
        &mut self,
        slot: &Slot,
        path_mtu: u16,
        fib: &Fib,
        out: &mut [u8],
    ) -> Option<(LinkId, usize)> {
        let NextHop::Ready(link, hop) = fib.next_hop(slot.source) else { return None };
        let frame = slot.frame.bytes();
        let error = TunnelError::of(frame, slot.at).ok()?;
        let src = error.tuple.dst.address;
        let sender = Sender { src, id: self.ids.draw().into() };
        let len = error.relay(frame, slot.at, &Relay { sender, path_mtu, hop: &hop }, out)?;
        Some((link, len))
    }

    fn build(&mut self, slot: &Slot, answer: Answer, fib: &Fib, out: &mut [u8]) -> Option<usize> {
        // To a client the virtual service answers, to a server the director.
        let src = match slot.direction {
            _ if matches!(answer, Answer::ParameterProblem(_)) => options::own_address(slot, fib)?,
            Direction::In => slot.destination,
            Direction::Out => fib.link(slot.frame.link())?.source(slot.source)?,
        };
        if let Answer::Reset(seq, ack, flags) = answer {
            let src = SocketAddr::new(src.to_ip(), slot.destination_port);
            let dst = SocketAddr::new(slot.source.to_ip(), slot.source_port);
            let segment = Segment { src, dst, seq, ack, flags, id: self.ids.draw() };
            return segment.build_back(slot.frame.bytes().get(..slot.at.l3.into())?, out);
        }
        let id = self.ids.draw().into();
        if let Answer::ParameterProblem(at) = answer {
            let sender = Sender { src: src.to_v4()?.octets(), id };
            return icmp::parameter_problem(offender(slot, CitedTtl::Received), sender, at, out);
        }
        match src.to_ip() {
            IpAddr::V4(v4) => error(slot, answer, Sender { src: v4.octets(), id }, out),
            IpAddr::V6(v6) => error(slot, answer, Sender { src: v6.octets(), id }, out),
        }
    }
}

fn offender(slot: &Slot, ttl: CitedTtl) -> Offender<'_> {
    Offender { frame: slot.frame.bytes(), at: slot.at, ttl }
}

/// How a packet leaves in several frames.
#[derive(Clone, Copy)]
struct Parts {
    at: Offsets,
    /// Bytes of a part from its IP header on; 0 when there is only one.
    mtu: u16,
}

impl Parts {
    /// In fragments as large as those that it came in, for the host.
    fn as_they_came(self, packet: &Packet) -> Self {
        match packet.largest() {
            0 => self,
            largest => Self { mtu: largest.max(ipv6::MIN_MTU), ..self },
        }
    }

    /// Makes the frames, and sends each on its way.
    fn each<P: Port, H: Host>(
        self,
        outlet: &mut Outlet<P, H>,
        packet: &Packet,
        mut go: impl FnMut(&mut Outlet<P, H>, Frame),
    ) -> Result<(), DropReason> {
        let mut pieces = [0; MAX_PIECES];
        let count = packet.pieces(&mut pieces);
        let id = outlet.ids.draw_long();
        let cut = Cut { mtu: self.mtu, id, pieces: &pieces[..count] };
        let mut splitter = match self.mtu {
            0 => None,
            _ => Some(Splitter::new(packet.bytes(), self.at, cut).map_err(|_| DropReason::TooBig)?),
        };
        let most = match self.mtu {
            0 => packet.bytes().len(),
            mtu => usize::from(self.at.l3) + usize::from(mtu),
        };
        loop {
            let mut frame = outlet.port.alloc().ok_or(DropReason::TxFull)?;
            let len = match (frame.set_len(most), &mut splitter) {
                (false, _) => {
                    outlet.port.free(frame);
                    return Err(DropReason::TooBig);
                }
                (true, Some(splitter)) => splitter.next(frame.bytes_mut()),
                (true, None) => {
                    frame.bytes_mut().copy_from_slice(packet.bytes());
                    Some(most)
                }
            };
            let Some(len) = len else {
                outlet.port.free(frame);
                return Ok(());
            };
            // Shorter than it was.
            let _ = frame.set_len(len);
            outlet.counters.parted();
            go(outlet, frame);
            if splitter.is_none() {
                return Ok(());
            }
        }
    }
}

/// Builds an ICMP error about a frame at the front of `out`; gives its length in bytes.
fn error<A: Octets>(
    slot: &Slot,
    answer: Answer,
    sender: Sender<A>,
    out: &mut [u8],
) -> Option<usize> {
    // What is too big is found out on the way to the server, when the TTL has gone down.
    let ttl = match (answer, slot.direction) {
        (Answer::FragNeeded(_), Direction::In) => CitedTtl::Lowered,
        (Answer::PortUnreachable, Direction::Out) => CitedTtl::Lowered,
        _ => CitedTtl::Received,
    };
    let offender = offender(slot, ttl);
    match answer {
        Answer::PortUnreachable => icmp::port_unreachable(offender, sender, out),
        Answer::TimeExceeded => icmp::time_exceeded(offender, sender, out),
        Answer::FragNeeded(mtu) => icmp::frag_needed(offender, sender, mtu, out),
        Answer::ParameterProblem(_) | Answer::Reset(..) | Answer::Relay(_) => None,
    }
}
