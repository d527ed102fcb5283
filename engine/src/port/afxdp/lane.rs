//! One queue of one link: its four rings.
//!
//! ```text
//!            fill ring ---->|        |----> rx ring
//!  free chunks              | kernel |                 frames
//!            <---- completion ring   |<---- tx ring
//! ```

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::large::Assembly;
use crate::link::{Link, LinkId};
use crate::port::{BATCH, PortStats};

/// Descriptors of each ring, and so the most frames that a lane lends to the kernel each way.
pub(super) const RING: u32 = 2048;

/// A copying send takes 32 frames a wake-up before kernel 6.17; so many wake-ups empty eight
/// batches, and a link that takes nothing is left alone sooner.
const MAX_KICKS: usize = 16;

/// `XDP_MAX_TX_SKB_BUDGET` of linux/if_xdp.h (kernel 6.17): frames that one wake-up may send.
const MAX_TX_SKB_BUDGET: libc::c_int = 9;
static TX_BUDGET: u32 = 512;

/// How frames get from the driver to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// The driver's rings are the UMEM's.
    Zero,
    /// The kernel copies.
    Copy,
}

/// How a socket is bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) copying: Copying,
    /// Whether a frame may come and leave in several descriptors.
    pub(super) in_parts: bool,
}

/// The rings of one queue of one link, and the count of chunks that they hold.
pub(super) struct Lane {
    pub(super) link: LinkId,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    comp: CompQueue,
    copying: Copying,
    /// Frames that come in several descriptors.
    pub(super) assembly: Assembly,
    /// To be put on the tx ring by the next flush; never grows beyond its first capacity.
    queued: Vec<FrameDesc>,
    /// Chunks given to the fill ring that did not come back by the rx ring.
    receiving: u32,
    /// Chunks given to the tx ring that did not come back by the completion ring.
    sending: u32,
}

impl Lane {
    /// Binds a socket to a queue.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub(super) fn open(
        link: &Link,
        id: LinkId,
        queue: u32,
        umem: &Umem,
        binding: Binding,
    ) -> io::Result<Self> {
        let interface: Interface =
            link.name.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (tx, rx, rings) = socket(&interface, queue, umem, binding)?;
        // The rings come with the first socket of a queue in this UMEM; a lane is the only one.
        let Some((fill, comp)) = rings else {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        };
        raise_tx_budget(tx.fd().as_raw_fd());
        Ok(Self {
            link: id,
            rx,
            tx,
            fill,
            comp,
            copying: binding.copying,
            assembly: Assembly::new(link, id),
            queued: Vec::with_capacity(RING as usize),
            receiving: 0,
            sending: 0,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.rx.fd().as_raw_fd()
    }

    /// Chunks that are with the kernel to receive into.
    pub(super) fn receiving(&self) -> u32 {
        self.receiving
    }

    /// Chunks that are queued or with the kernel to be sent.
    pub(super) fn sending(&self) -> u32 {
        self.sending + self.queued.len() as u32
    }

    /// Takes received descriptors; the first `count` of `into` are written.
    #[inline]
    pub(super) fn receive(&mut self, into: &mut [FrameDesc]) -> usize {
        // SAFETY: the descriptors are overwritten with those of frames of this UMEM.
        let count = unsafe { self.rx.consume(into) };
        self.receiving -= count as u32;
        count
    }

    /// Whether a frame more may be queued. The chunks that are on their way out are bounded by
    /// the ring's size, so that a slow link cannot take those that others receive into.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.sending() < RING
    }

    /// How many descriptors more may be queued.
    pub(super) fn room(&self) -> usize {
        RING.saturating_sub(self.sending()) as usize
    }

    /// Queues a descriptor for the next [`send`](Self::send).
    #[inline]
    pub(super) fn queue(&mut self, desc: FrameDesc) {
        debug_assert!(self.has_room());
        self.queued.push(desc);
    }

    /// Puts what was queued on the tx ring and wakes the kernel for what it has not taken.
    pub(super) fn send(&mut self) {
        if !self.queued.is_empty() {
            // SAFETY: the frames' tokens were given back to the port, which lends the chunks to
            // this ring until they come by the completion ring. There is room for all: the ring
            // holds at most `sending` of RING.
            let count = unsafe { self.tx.produce(&self.queued) };
            debug_assert_eq!(count, self.queued.len());
            self.sending += count as u32;
            if count > 0 {
                self.queued.clear();
            }
        }
        if self.sending > 0 {
            self.kick();
        }
    }

    fn kick(&mut self) {
        let mut free = self.tx.nb_free_exact();
        for _ in 0..MAX_KICKS {
            if free == RING || !self.tx.needs_wakeup() || self.tx.wakeup().is_err() {
                return;
            }
            let before = std::mem::replace(&mut free, self.tx.nb_free_exact());
            // With zero-copy the driver sends later by itself; without, no progress means that
            // the link takes nothing now.
            if self.copying == Copying::Zero || free == before {
                return;
            }
        }
    }

    /// Moves chunks that were sent to `free`.
    pub(super) fn reap(&mut self, free: &mut Vec<FrameDesc>) {
        let mut done = [FrameDesc::default(); BATCH];
        while self.sending > 0 {
            // SAFETY: the descriptors are overwritten with those of frames of this UMEM.
            let count = unsafe { self.comp.consume(&mut done) };
            self.sending -= count as u32;
            free.extend_from_slice(&done[..count]);
            if count < done.len() {
                return;
            }
        }
    }

    /// Tops up the fill ring from `free`.
    pub(super) fn refill(&mut self, free: &mut Vec<FrameDesc>) {
        let count = free.len().min((RING - self.receiving) as usize);
        let rest = free.len() - count;
        // SAFETY: a chunk in `free` is held by nobody else; it comes back by the rx ring.
        let taken = unsafe { self.fill.produce(&free[rest..]) };
        self.receiving += taken as u32;
        free.truncate(free.len() - taken);
        if self.fill.needs_wakeup() {
            self.wake_receive();
        }
    }

    /// A zero-copy driver that ran out of buffers sleeps until it is called.
    fn wake_receive(&self) {
        // SAFETY: no buffer, no address: the call only wakes the driver.
        unsafe {
            libc::recvfrom(
                self.fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
        }
    }

    pub(super) fn stats(&self) -> PortStats {
        // Too long for a chunk where frames come in one: the kernel counts these together with
        // those that found no chunk.
        let Assembly { missed, too_long, .. } = self.assembly;
        let own = PortStats { rx_missed: missed, rx_too_long: too_long, tx_failed: 0 };
        let Ok(kernel) = self.rx.fd().xdp_statistics() else {
            return own;
        };
        PortStats {
            rx_missed: missed + kernel.rx_dropped() + kernel.rx_ring_full(),
            tx_failed: kernel.tx_invalid_descs(),
            ..own
        }
    }
}

type Rings = (TxQueue, RxQueue, Option<(FillQueue, CompQueue)>);

/// Binds a socket. The kernel frees the queue of one that was closed a moment later, so a busy
/// queue is asked again for a while.
fn socket(interface: &Interface, queue: u32, umem: &Umem, binding: Binding) -> io::Result<Rings> {
    let mut tries = 20;
    loop {
        // SAFETY: the rings are used by one lane only, which gives them only frames of `umem`
        // that the port holds the one token of.
        let opened = unsafe { Socket::new(config(binding), umem, interface, queue) };
        match opened.map_err(cause) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn config(binding: Binding) -> SocketConfig {
    let ring = QueueSize::new(RING).expect("a power of two");
    let mut flags = BindFlags::XDP_USE_NEED_WAKEUP;
    flags |= match binding.copying {
        Copying::Zero => BindFlags::XDP_ZEROCOPY,
        Copying::Copy => BindFlags::XDP_COPY,
    };
    if binding.in_parts {
        flags |= BindFlags::XDP_USE_SG;
    }
    SocketConfig::builder()
        .rx_queue_size(ring)
        .tx_queue_size(ring)
        // The steering program is ours to attach.
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(flags)
        .build()
}

fn cause(error: xsk_rs::socket::SocketCreateError) -> io::Error {
    let source = std::error::Error::source(&error);
    let code = source.and_then(|s| s.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

/// Older kernels do not know the option: then a wake-up sends 32.
fn raise_tx_budget(fd: RawFd) {
    // SAFETY: the value outlives the call and has the size that is told.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_XDP,
            MAX_TX_SKB_BUDGET,
            (&raw const TX_BUDGET).cast(),
            size_of::<u32>() as u32,
        );
    }
}
