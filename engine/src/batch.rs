//! A batch of frames and what the stages found out about each.

use uvs_forward::Offsets;

use crate::address::Address;
use crate::counters::{DropReason, HostReason};
use crate::link::LinkId;
use crate::packet::Packet;
use crate::port::{BATCH, Frame, Offload};
use crate::proto::{Direction, Event};
use crate::service::Endpoint;
use crate::table::{Conn, Hint};

/// The number that no service has.
pub const NO_SERVICE: u32 = u32::MAX;

/// What is to become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided yet: the next stage looks at it.
    Next,
    /// Send on this link; the frame is complete.
    Send(LinkId),
    /// Complete but for its Ethernet addresses, those of this neighbour on this link.
    Wait(LinkId, Address),
    /// Hand to the host.
    Host(HostReason),
    /// Done with: it is a part of a packet that goes on with its last fragment.
    Merge,
    /// Drop.
    Drop(DropReason),
}

/// An ICMP message that the sender of a frame gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No server: destination unreachable, port unreachable.
    PortUnreachable,
    /// This byte of its IPv4 header makes no sense.
    ParameterProblem(u8),
    /// The TTL was used up on the way.
    TimeExceeded,
    /// Too big for a link; it carries this many bytes.
    FragNeeded(u16),
    /// To the client, what an error says about the tunnel packet that its own was in; of this path
    /// MTU to the server is told if that was too small.
    Relay(u16),
    /// A TCP segment of no connection: a reset with these sequence and acknowledgement numbers and
    /// flags.
    Reset(u32, u32, u8),
}

/// Whether a frame speaks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is of a connection itself.
    Own,
    /// An ICMP error about a packet of a connection.
    Error,
    /// An ICMP error about a tunnel packet in which one of a client was.
    TunnelError,
}

/// A frame and what is known of it. Each stage fills in its part; what a stage has not reached
/// yet holds a neutral value.
///
/// In memory as written here: `conn`, which is not written while there is none, after all that is.
/// Mixed up, a new slot is put together elsewhere and copied, which costs 3 ns.
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// The frame.
    pub frame: Packet,
    /// classify: the hash of its connection.
    pub hash: u64,
    /// classify: the number of its service, or [`NO_SERVICE`].
    pub service: u32,
    /// classify: its firewall mark; 0 is none.
    pub mark: u32,
    /// lookup: where its connection may be.
    pub hint: Hint,
    /// parse: where the IP and transport headers begin.
    pub at: Offsets,
    /// parse: bytes from the IP header on.
    pub ip_len: u16,
    /// parse: the sender's port.
    pub source_port: u16,
    /// parse: to which port.
    pub destination_port: u16,
    /// parse: who sent it.
    pub source: Address,
    /// parse: to whom.
    pub destination: Address,
    /// forward: of how many bytes its parts may be; 0 when it goes in one piece.
    pub split: u16,
    /// parse: whether it must not be fragmented.
    pub dont_fragment: bool,
    /// parse: the TTL it came with.
    pub ttl: u8,
    /// parse: the protocol by which its connection is found. For AH and ESP that is UDP; their own
    /// number is in `at`.
    pub protocol: u8,
    /// parse: whether it is about another packet. Then protocol, ends and ports are those of a
    /// packet of the connection in question that would go the same way.
    pub relation: Relation,
    /// parse: what it means to the protocol's state machine.
    pub event: Event,
    /// classify: which way it goes.
    pub direction: Direction,
    /// What the transmit stage answers to its sender.
    pub answer: Option<Answer>,
    /// Where it goes.
    pub verdict: Verdict,
    /// lookup or schedule: its connection.
    pub conn: Option<Conn>,
}

impl Slot {
    /// A frame that no stage has seen.
    pub fn new(frame: Frame) -> Self {
        Self {
            frame: Packet::new(frame),
            split: 0,
            verdict: Verdict::Next,
            answer: None,
            at: Offsets::default(),
            ip_len: 0,
            dont_fragment: false,
            ttl: 0,
            protocol: 0,
            relation: Relation::Own,
            event: Event(0),
            source: Address::UNSPECIFIED,
            source_port: 0,
            destination: Address::UNSPECIFIED,
            destination_port: 0,
            direction: Direction::In,
            service: NO_SERVICE,
            mark: 0,
            hash: 0,
            hint: Hint::NONE,
            conn: None,
        }
    }

    /// Where it came from, as the end of a connection.
    #[inline]
    pub fn source_endpoint(&self) -> Endpoint {
        Endpoint { protocol: self.protocol, address: self.source, port: self.source_port }
    }

    /// Where it goes, as the end of a connection.
    #[inline]
    pub fn destination_endpoint(&self) -> Endpoint {
        Endpoint { protocol: self.protocol, address: self.destination, port: self.destination_port }
    }

    /// Finishes the checksum if its sender left it open: before more of the transport header is
    /// rewritten than NAT does, or the packet is cut. One of several segments stays open.
    pub fn finish_checksum(&mut self) {
        let offload = self.frame.offload();
        let Some(unfinished) = offload.unfinished().filter(|_| offload.segment_size() == 0) else {
            return;
        };
        // One that is not inside its packet is no checksum.
        let _ = unfinished.finish(self.frame.bytes_mut(), self.at);
        self.frame.set_offload(Offload::NONE);
    }

    /// Drops it for this reason.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        self.verdict = Verdict::Drop(reason);
    }

    /// Drops it and answers its sender.
    pub fn refuse(&mut self, reason: DropReason, answer: Answer) {
        self.verdict = Verdict::Drop(reason);
        self.answer = Some(answer);
    }
}

/// The frames that the stages work on together.
#[derive(Debug)]
pub struct Batch {
    /// The frames, in the order in which they came.
    pub slots: Vec<Slot>,
    /// Those of a batch of which some are cut into segments, meanwhile.
    pub whole: Vec<Slot>,
    /// What the port fills; kept here to keep its memory.
    pub received: Vec<Frame>,
}

impl Batch {
    /// A batch with room for [`BATCH`] frames.
    pub fn new() -> Self {
        Self {
            slots: Vec::with_capacity(BATCH),
            whole: Vec::with_capacity(BATCH),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// The frames that no stage has decided about yet.
    #[inline]
    pub fn undecided(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().filter(|slot| slot.verdict == Verdict::Next)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}
