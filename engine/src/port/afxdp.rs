//! AF_XDP: frames of a worker's queues straight from the driver, in memory that all links share.
//!
//! The UMEM is one for all links of a worker, so a frame that came on one can leave on another
//! where it stands. Chunks that nobody holds are in one list; whichever ring is short is filled
//! from there, so the links cannot starve each other (see `Lane::has_room`).

mod lane;
mod large;
mod open;

pub(super) use self::open::open;

use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::time::Duration;

use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};
use xsk_rs::{FrameDesc, Umem};

use self::lane::{Binding, Copying, Lane, RING};
use super::pool::Pool;
use super::{Arena, BATCH, Frame, HEADROOM, Port, PortStats, poll, why};
use crate::link::{Link, LinkId, MAX_LINKS};

/// Where a packet starts in a chunk: what the kernel leaves for XDP programs
/// (`XDP_PACKET_HEADROOM`) is more than [`HEADROOM`] already.
const START: usize = 256;
const _: () = assert!(START >= HEADROOM);

/// Ethernet header and two VLAN tags, in bytes.
const LAYER2: usize = 14 + 2 * 4;

/// Chunks beyond what the rings can hold, for frames that the worker has in hand: a batch from
/// each lane, and those that wait for a neighbour.
const SPARE: u32 = 1024;

/// Where a port's chunks are, those for large frames included. The sum is `chunks`, else one is
/// lost (INV-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// All there are.
    pub chunks: u32,
    /// Held by nobody.
    pub free: u32,
    /// With the kernel, to receive into, or a frame that has not come whole.
    pub receiving: u32,
    /// Queued, or with the kernel to be sent.
    pub sending: u32,
    /// Out as [`Frame`]s.
    pub out: u32,
}

/// One worker's AF_XDP rings on every link.
pub struct AfXdpPort {
    lanes: Vec<Lane>,
    /// The lane by which a link is sent on.
    outlets: [Option<usize>; MAX_LINKS],
    /// The lane that is asked first for frames.
    next: usize,
    free: Vec<FrameDesc>,
    /// Descriptors by chunk: the only way to make one is to have kept it.
    descs: Vec<FrameDesc>,
    received: Vec<FrameDesc>,
    polled: Vec<libc::pollfd>,
    arena: Arena,
    umem: Umem,
    /// Where frames larger than a chunk are put together; only where a link has such.
    large: Option<Box<Pool>>,
    mode: &'static str,
}

/// How frames get from the driver, and what that is called.
type Way = (Copying, &'static str);

/// The queues that a worker takes: its own number, and every `workers` further.
struct Share {
    worker: u32,
    workers: u32,
}

impl AfXdpPort {
    fn open(
        links: &[Link],
        queues: &[u32],
        share: &Share,
        (copying, mode): Way,
    ) -> Result<Self, String> {
        let mine = |queues: u32| (share.worker..queues).step_by(share.workers as usize);
        let lane_count: usize = queues.iter().map(|&count| mine(count).count()).sum();
        let chunks = lane_count as u32 * 2 * RING + SPARE;
        let size = chunk_size(links);
        let binding = Binding { copying, in_parts: large_link(links).is_some() };
        let (umem, descs) = new_umem(chunks, size).map_err(|error| {
            format!("no memory of {} bytes for the frames ({error})", chunks as usize * size)
        })?;
        let mut lanes: Vec<Lane> = Vec::with_capacity(lane_count);
        let mut outlets = [None; MAX_LINKS];
        for (at, (link, &count)) in links.iter().zip(queues).enumerate() {
            let id = LinkId(at as u8);
            for queue in mine(count) {
                outlets[at].get_or_insert(lanes.len());
                let lane = Lane::open(link, id, queue, &umem, binding).map_err(|error| {
                    why::no_socket(&link.name, queue, copying == Copying::Zero, &error)
                })?;
                lanes.push(lane);
            }
        }
        let mut port = Self::over(lanes, outlets, umem, descs, size, mode);
        port.large = binding.in_parts.then(|| Box::new(large::pool(links)));
        Ok(port)
    }

    fn over(
        lanes: Vec<Lane>,
        outlets: [Option<usize>; MAX_LINKS],
        umem: Umem,
        descs: Vec<FrameDesc>,
        size: usize,
        mode: &'static str,
    ) -> Self {
        // SAFETY: the UMEM stays mapped as long as this port, and longer while a frame is out
        // (see drop); the port lends each chunk to one holder at a time.
        let arena = unsafe { Arena::over(base(&umem), descs.len() as u32, size) };
        let mut port = Self {
            outlets,
            next: 0,
            free: descs.clone(),
            descs,
            received: vec![FrameDesc::default(); BATCH],
            polled: Vec::with_capacity(lanes.len() + 1),
            lanes,
            arena,
            umem,
            large: None,
            mode,
        };
        port.flush();
        port
    }

    /// Where the chunks are now.
    pub fn census(&self) -> Census {
        let of_large = |count: fn(&Pool) -> u32| self.large.as_deref().map_or(0, count);
        let begun: u32 = self.lanes.iter().map(|lane| lane.assembly.held()).sum();
        Census {
            chunks: self.arena.chunks() + of_large(Pool::chunks),
            free: self.free.len() as u32 + of_large(Pool::free),
            receiving: self.lanes.iter().map(Lane::receiving).sum::<u32>() + begun,
            sending: self.lanes.iter().map(Lane::sending).sum(),
            out: self.arena.out() + of_large(Pool::out) - begun,
        }
    }

    fn receive(&mut self, at: usize, room: usize, into: &mut Vec<Frame>) -> usize {
        let room = room.min(self.received.len());
        let lane = &mut self.lanes[at];
        let count = lane.receive(&mut self.received[..room]);
        let size = self.arena.chunk_size();
        let before = into.len();
        for desc in &self.received[..count] {
            let (chunk, start) = ((desc.addr() / size) as u32, desc.addr() % size);
            // SAFETY: the kernel has just given the chunk up by the rx ring.
            let frame = unsafe { self.arena.take(chunk, start, desc.lengths().data(), lane.link) };
            if !lane.assembly.wants(desc) {
                into.push(frame);
                continue;
            }
            if let Some(large) = &mut self.large {
                into.extend(lane.assembly.add(frame.bytes(), desc.has_more_frames(), large));
            }
            self.arena.give_back(frame);
            self.free.push(self.descs[chunk as usize]);
        }
        into.len() - before
    }
}

impl Port for AfXdpPort {
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        let mut count = 0;
        for _ in 0..self.lanes.len() {
            if count == room {
                break;
            }
            // Another lane is first each time, so a busy one leaves room to the rest.
            self.next = (self.next + 1) % self.lanes.len();
            count += self.receive(self.next, room - count, into);
        }
        count
    }

    fn alloc(&mut self) -> Option<Frame> {
        if let Some(large) = &mut self.large {
            return large.take(0, LinkId(0));
        }
        let desc = self.free.pop()?;
        let chunk = (desc.addr() / self.arena.chunk_size()) as u32;
        // SAFETY: a chunk in `free` is held by nobody.
        Some(unsafe { self.arena.take(chunk, START, 0, LinkId(0)) })
    }

    fn tx(&mut self, link: LinkId, mut frame: Frame) -> Result<(), Frame> {
        let Some(Some(at)) = self.outlets.get(usize::from(link.0)) else {
            return Err(frame);
        };
        let lane = &mut self.lanes[*at];
        if !lane.has_room() {
            return Err(frame);
        }
        let large = frame.chunk_size() != self.arena.chunk_size();
        // xsk-rs sends a packet only from where it would be received. One that begins elsewhere,
        // by a tunnel header in front, is moved: cheap against the kernel's own copy.
        if large || (frame.start() != START && !frame.move_to(START)) {
            return self.tx_copied(*at, frame);
        }
        let spot = self.arena.give_back(frame);
        let desc = &mut self.descs[spot.chunk as usize];
        // SAFETY: the token was given back, so nobody else touches the chunk; what is written is
        // the descriptor's length only.
        unsafe { self.umem.data_mut(desc) }.cursor().set_pos(spot.len);
        lane.queue(*desc);
        Ok(())
    }

    fn free(&mut self, frame: Frame) {
        if let Some(large) = &mut self.large
            && frame.chunk_size() != self.arena.chunk_size()
        {
            return large.give_back(frame);
        }
        let spot = self.arena.give_back(frame);
        self.free.push(self.descs[spot.chunk as usize]);
    }

    fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.send();
            lane.reap(&mut self.free);
        }
        for lane in &mut self.lanes {
            lane.refill(&mut self.free);
        }
    }

    fn wait(&mut self, wake: &dyn AsRawFd, limit: Duration) -> io::Result<()> {
        self.flush();
        poll::readable(&mut self.polled, self.lanes.iter().map(Lane::fd), wake, limit)
    }

    fn mode(&self) -> &str {
        self.mode
    }

    fn stats(&self) -> PortStats {
        self.lanes.iter().map(Lane::stats).sum()
    }
}

impl Drop for AfXdpPort {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if let Some(large) = &mut self.large {
                lane.assembly.stop(large);
            }
        }
        if self.arena.out() > 0 {
            // A frame that is still out points into the UMEM: leak it rather than unmap it.
            std::mem::forget(self.umem.clone());
        }
    }
}

impl std::fmt::Debug for AfXdpPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AfXdpPort")
            .field("mode", &self.mode)
            .field("census", &self.census())
            .finish_non_exhaustive()
    }
}

/// The largest chunk that a UMEM can have, and the largest MTU whose frames fit it.
const LARGEST: usize = 4096;
const LARGEST_MTU: u16 = (LARGEST - START - LAYER2) as u16;

/// The smallest chunk that holds a frame of every link, or the largest.
fn chunk_size(links: &[Link]) -> usize {
    let longest = links.iter().map(|link| usize::from(link.mtu)).max().unwrap_or(0);
    if START + LAYER2 + longest <= 2048 { 2048 } else { LARGEST }
}

/// A link whose frames do not all fit a chunk.
fn large_link(links: &[Link]) -> Option<&Link> {
    links.iter().find(|link| link.mtu > LARGEST_MTU)
}

fn new_umem(chunks: u32, size: usize) -> Result<(Umem, Vec<FrameDesc>), String> {
    let ring = QueueSize::new(RING).expect("a power of two");
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(size as u32).expect("2048 or 4096"))
        .fill_queue_size(ring)
        .comp_queue_size(ring)
        .build()
        .expect("the headroom is smaller than a chunk");
    let chunks = NonZeroU32::new(chunks).expect("SPARE is not zero");
    Umem::new(config, chunks, false).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })
}

/// The UMEM's first byte. xsk-rs does not say it, but a default descriptor stands for address 0.
fn base(umem: &Umem) -> NonNull<u8> {
    let mut first = FrameDesc::default();
    // SAFETY: address 0 is in every UMEM, and no frame is out yet.
    let mut data = unsafe { umem.data_mut(&mut first) };
    NonNull::from(data.contents_mut()).cast()
}
