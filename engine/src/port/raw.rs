//! Raw packet sockets: what runs everywhere.
//!
//! A packet socket sees a copy of each frame, so the steering program stands at two places: on
//! the socket, where it picks what is ours, and behind it at tc ingress, where it ends the same
//! frames, so that the kernel does not answer or forward them too.

mod ring;
mod socket;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use uvs_forward::Offsets;

use self::ring::{RECEIVE_OVERHEAD, Received};
use self::socket::{Socket, fan_out};
use super::pool::Pool;
use super::steer::{Programs, Steering};
use super::{Frame, HEADROOM, Offload, OpenError, Port, PortStats, poll};
use crate::link::{Link, LinkId};

/// Ethernet header and two VLAN tags, in bytes.
const LAYER2: usize = 14 + 2 * 4;
/// Bytes of a VLAN tag, and where it stands.
const TAG: usize = 4;
const TAG_AT: usize = 12;

/// Frames that a worker can have in hand.
const CHUNKS: u32 = 2048;

/// Of those that stand for several segments, and their chunk's bytes: an IP packet of any length.
const LARGE_CHUNKS: u32 = 128;
const LARGE: usize = HEADROOM + LAYER2 + (1 << 16);

/// One worker's packet sockets on every link.
#[derive(Debug)]
pub struct RawPort {
    sockets: Vec<Socket>,
    /// The socket that is asked first for frames.
    next: usize,
    small: Pool,
    large: Pool,
    polled: Vec<libc::pollfd>,
}

impl RawPort {
    fn new(sockets: Vec<Socket>, chunk: usize) -> Self {
        Self {
            next: 0,
            small: Pool::new(CHUNKS, chunk),
            large: Pool::new(LARGE_CHUNKS, LARGE),
            polled: Vec::with_capacity(sockets.len() + 1),
            sockets,
        }
    }

    /// Chunks that are neither free nor out as frames: 0, else one is lost (INV-7).
    pub fn missing(&self) -> u32 {
        self.small.missing() + self.large.missing()
    }

    fn receive(&mut self, at: usize, room: usize, into: &mut Vec<Frame>) -> usize {
        let socket = &mut self.sockets[at];
        let link = LinkId(at as u8);
        let mut count = 0;
        while count < room && !self.small.is_empty() {
            let Some(received) = socket.rings.received() else {
                break;
            };
            if received.queued && self.large.is_empty() {
                break;
            }
            let placed = match received.queued {
                false => place(&mut self.small, &received, link),
                true => place_large(&mut self.large, &received, socket, link),
            };
            match placed {
                Some(mut frame) => {
                    finish_sctp(&mut frame);
                    into.push(frame);
                    count += 1;
                }
                None => socket.too_long += 1,
            }
            socket.rings.release();
        }
        count
    }
}

/// Copies a frame out of the ring to a chunk, whole again; `None` when it is too long.
fn place(pool: &mut Pool, received: &Received<'_>, link: LinkId) -> Option<Frame> {
    let bytes = received.bytes;
    let tag = received.tag.map_or(0, |_| TAG);
    if received.truncated || bytes.len() < TAG_AT {
        return None;
    }
    let mut frame = pool.take(bytes.len() + tag, link)?;
    let to = frame.bytes_mut();
    to[..TAG_AT].copy_from_slice(&bytes[..TAG_AT]);
    to[TAG_AT + tag..].copy_from_slice(&bytes[TAG_AT..]);
    frame.set_offload(received.offload);
    put_tag(&mut frame, received);
    Some(frame)
}

/// Reads the frame of which the ring has only the beginning.
fn place_large(
    pool: &mut Pool,
    received: &Received<'_>,
    socket: &Socket,
    link: LinkId,
) -> Option<Frame> {
    let mut frame = pool.take(pool.longest(), link)?;
    let tag = received.tag.map_or(0, |_| TAG);
    if !socket.receive_large(&mut frame, TAG_AT, tag) {
        pool.give_back(frame);
        return None;
    }
    put_tag(&mut frame, received);
    Some(frame)
}

/// Writes the VLAN tag that the kernel took off to where there is room for it.
fn put_tag(frame: &mut Frame, received: &Received<'_>) {
    let Some((tpid, tci)) = received.tag else { return };
    let to = frame.bytes_mut();
    to[TAG_AT..TAG_AT + 2].copy_from_slice(&tpid.to_be_bytes());
    to[TAG_AT + 2..TAG_AT + TAG].copy_from_slice(&tci.to_be_bytes());
    frame.set_offload(frame.offload().further(TAG as i16));
}

/// Finishes an SCTP checksum that was left open: the kernel takes none back to be finished.
#[inline]
fn finish_sctp(frame: &mut Frame) {
    let offload = frame.offload();
    if !offload.is_sctp() {
        return;
    }
    if let (Some(unfinished), Ok(at)) = (offload.unfinished(), Offsets::of(frame.bytes())) {
        let _ = unfinished.finish(frame.bytes_mut(), at);
    }
    frame.set_offload(Offload::NONE);
}

impl Port for RawPort {
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        let mut count = 0;
        for _ in 0..self.sockets.len() {
            if count == room {
                break;
            }
            // Another link is first each time, so a busy one leaves room to the rest.
            self.next = (self.next + 1) % self.sockets.len();
            count += self.receive(self.next, room - count, into);
        }
        count
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.small.take(0, LinkId(0))
    }

    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        let Some(socket) = self.sockets.get_mut(usize::from(link.0)) else {
            return Err(frame);
        };
        if !socket.queue(&frame) {
            return Err(frame);
        }
        self.free(frame);
        Ok(())
    }

    fn free(&mut self, frame: Frame) {
        match frame.chunk_size() == LARGE {
            true => self.large.give_back(frame),
            false => self.small.give_back(frame),
        }
    }

    fn flush(&mut self) {
        for socket in &mut self.sockets {
            socket.send();
        }
    }

    fn wait(&mut self, wake: &dyn AsRawFd, limit: Duration) -> io::Result<()> {
        self.flush();
        poll::readable(&mut self.polled, self.sockets.iter().map(Socket::raw), wake, limit)
    }

    fn mode(&self) -> &str {
        "raw packet sockets"
    }

    fn stats(&self) -> PortStats {
        self.sockets.iter().map(Socket::stats).sum()
    }
}

/// Opens a port for each worker; `report` gets what was taken.
pub(super) fn open(
    links: &[Link],
    workers: usize,
    report: &mut Vec<String>,
) -> Result<(Vec<RawPort>, Steering), OpenError> {
    let chunk = chunk_size(links)?;
    let slot = chunk.max(2048);
    let mut steering = Steering::load(Programs::Raw)?;
    let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for link in links {
        let of_link = open_link(link, workers, steering.socket_filter(), slot)
            .map_err(|error| OpenError::kernel(&link.name, "opening a packet socket", error))?;
        for (worker, socket) in sockets.iter_mut().zip(of_link) {
            worker.push(socket);
        }
    }
    let mut by = "";
    for (at, link) in links.iter().enumerate() {
        by = steering
            .shut_ingress(link, LinkId(at as u8))
            .map_err(|error| OpenError::kernel(&link.name, "filtering its ingress", error))?;
    }
    report.push(format!("raw packet sockets: taken; a {by} keeps their frames from the kernel"));
    Ok((sockets.into_iter().map(|own| RawPort::new(own, chunk)).collect(), steering))
}

/// A socket for each worker on one link; more than one share its frames by flow.
fn open_link(
    link: &Link,
    workers: usize,
    filter: BorrowedFd<'_>,
    slot: usize,
) -> io::Result<Vec<Socket>> {
    let sockets: Vec<Socket> =
        (0..workers).map(|_| Socket::open(link, filter, slot)).collect::<io::Result<_>>()?;
    if workers > 1 {
        fan_out(&sockets)?;
    }
    Ok(sockets)
}

/// The smallest chunk and slot that holds a frame of every link.
fn chunk_size(links: &[Link]) -> Result<usize, OpenError> {
    const OVERHEAD: usize = if HEADROOM > RECEIVE_OVERHEAD { HEADROOM } else { RECEIVE_OVERHEAD };
    const MAX: u16 = ((1 << 16) - OVERHEAD - LAYER2) as u16;
    if let Some(link) = links.iter().find(|link| link.mtu > MAX) {
        let (name, mtu) = (link.name.clone(), link.mtu);
        return Err(OpenError::Mtu { link: name, mtu, max: MAX, mode: "the raw port" });
    }
    let longest = links.iter().map(|link| usize::from(link.mtu)).max().unwrap_or(0);
    Ok((OVERHEAD + LAYER2 + longest).next_power_of_two().max(2048))
}
