//! Where frames come from and where they go: rings of one kind behind one trait.
//!
//! A worker owns one port. The port reaches every interface ([`Link`](crate::link::Link)) of the
//! engine on that worker's queue, so a frame received on one link can leave on another without a
//! copy. What a stage sees of a port is a [`Frame`]; rings stay in here.

pub mod afxdp;
pub mod ethtool;
pub mod frame;
mod hook;
pub mod memory;
pub mod offload;
pub mod open;
pub mod pcap;
mod poll;
mod pool;
pub mod raw;
pub mod steer;
pub mod tap;
pub mod why;

pub use frame::{Arena, Frame};
pub use offload::Offload;
pub use open::{AnyPort, Opened, PortMode, open};
pub use steer::{Endpoint, Steered, Steering};
pub use why::OpenError;

use std::io;
use std::iter::Sum;
use std::time::Duration;

use crate::link::LinkId;

/// Frames a worker takes from its rings at once.
pub const BATCH: usize = 64;

/// Free bytes in front of every received frame, so that a tunnel header can be put there in place.
pub const HEADROOM: usize = 128;

/// One worker's rings on every link.
///
/// Every frame that [`rx`](Port::rx) or [`alloc`](Port::alloc) gives out comes back exactly once,
/// through [`tx`](Port::tx) or [`free`](Port::free) (INV-7).
pub trait Port: Send {
    /// Moves received frames to the end of `into`, at most `room` of them, and says how many.
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize;

    /// A frame of the port's memory to build a packet in (ICMP answers), empty and with
    /// [`HEADROOM`] in front; `None` when the port has no free frame now.
    fn alloc(&mut self) -> Option<Frame>;

    /// Queues a frame for sending on `link`. A frame that finds the ring full comes back; the
    /// caller counts and frees it.
    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame>;

    /// Takes back a frame that is not sent.
    fn free(&mut self, frame: Frame);

    /// Hands what was queued by [`tx`](Port::tx) to the kernel, and the freed frames back to the
    /// receive rings: once a batch, not once a frame.
    fn flush(&mut self);

    /// Sleeps until a frame may have come, `wake` is readable, or `limit` has passed.
    fn wait(&mut self, wake: &dyn std::os::fd::AsRawFd, limit: Duration) -> io::Result<()>;

    /// How the port runs, in words a person reads: `AF_XDP zero-copy`, `AF_XDP copy`,
    /// `raw packet sockets`, `memory`.
    fn mode(&self) -> &str;

    /// Losses and ring states that only the port knows, since it was opened.
    fn stats(&self) -> PortStats;
}

/// What a port counts itself. Frames the kernel dropped before the port saw them are not part of
/// INV-4's `rx`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames that the kernel dropped because the receive ring was full or had no free buffer.
    pub rx_missed: u64,
    /// Those of `rx_missed` that were longer than a buffer: the kernel had put segments together
    /// (GRO, or GSO of a sender on this machine), which `ethtool -K LINK gro off` ends.
    pub rx_too_long: u64,
    /// Frames that the kernel refused to send after it had taken them from the ring.
    pub tx_failed: u64,
}

impl Sum for PortStats {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            rx_missed: sum.rx_missed + part.rx_missed,
            rx_too_long: sum.rx_too_long + part.rx_too_long,
            tx_failed: sum.tx_failed + part.tx_failed,
        })
    }
}
