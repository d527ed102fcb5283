//! Raw packet sockets: what runs everywhere.
//!
//! A packet socket sees a copy of each frame, so the steering program stands at two places: on
//! the socket, where it picks what is ours, and behind it at tc ingress, where it ends the same
//! frames, so that the kernel does not answer or forward them too.

mod checksum;
mod ring;

use std::cell::Cell;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use self::ring::{RECEIVE_OVERHEAD, Received, Rings};
use super::steer::{Programs, Steering};
use super::{Arena, Frame, HEADROOM, OpenError, Port, PortStats, poll};
use crate::link::{Link, LinkId};

/// Ethernet header and two VLAN tags, in bytes.
const LAYER2: usize = 14 + 2 * 4;
/// Bytes of a VLAN tag, and where it stands.
const TAG: usize = 4;
const TAG_AT: usize = 12;

/// Frames that a worker can have in hand.
const CHUNKS: u32 = 2048;

/// Bytes that may wait in a device's queue: the default holds a hundred frames.
const SEND_BUFFER: libc::c_int = 4 << 20;

/// One worker's packet sockets on every link.
#[derive(Debug)]
pub struct RawPort {
    sockets: Vec<Socket>,
    /// The socket that is asked first for frames.
    next: usize,
    arena: Arena,
    free: Vec<u32>,
    polled: Vec<libc::pollfd>,
}

impl RawPort {
    fn new(sockets: Vec<Socket>, chunk: usize) -> Self {
        Self {
            next: 0,
            arena: Arena::new(CHUNKS, chunk),
            free: (0..CHUNKS).rev().collect(),
            polled: Vec::with_capacity(sockets.len() + 1),
            sockets,
        }
    }

    /// Chunks that are neither free nor out as frames: 0, else one is lost (INV-7).
    pub fn missing(&self) -> u32 {
        self.arena.chunks() - self.arena.out() - self.free.len() as u32
    }

    fn receive(&mut self, at: usize, room: usize, into: &mut Vec<Frame>) -> usize {
        let socket = &mut self.sockets[at];
        let link = LinkId(at as u8);
        let mut count = 0;
        while count < room && !self.free.is_empty() {
            let Some(received) = socket.rings.received() else {
                break;
            };
            match place(&mut self.arena, &mut self.free, &received, link) {
                Some(frame) => {
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
fn place(
    arena: &mut Arena,
    free: &mut Vec<u32>,
    received: &Received<'_>,
    link: LinkId,
) -> Option<Frame> {
    let bytes = received.bytes;
    let tag = received.tag.map_or(0, |_| TAG);
    let length = bytes.len() + tag;
    if received.truncated || bytes.len() < TAG_AT || HEADROOM + length > arena.chunk_size() {
        return None;
    }
    // SAFETY: a chunk in `free` has no token.
    let mut frame = unsafe { arena.take(free.pop()?, HEADROOM, length, link) };
    let to = frame.bytes_mut();
    to[..TAG_AT].copy_from_slice(&bytes[..TAG_AT]);
    if let Some((tpid, tci)) = received.tag {
        to[TAG_AT..TAG_AT + 2].copy_from_slice(&tpid.to_be_bytes());
        to[TAG_AT + 2..TAG_AT + TAG].copy_from_slice(&tci.to_be_bytes());
    }
    to[TAG_AT + tag..].copy_from_slice(&bytes[TAG_AT..]);
    if received.unfinished {
        checksum::finish(to);
    }
    Some(frame)
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
        let chunk = self.free.pop()?;
        // SAFETY: a chunk in `free` has no token.
        Some(unsafe { self.arena.take(chunk, HEADROOM, 0, LinkId(0)) })
    }

    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        let Some(socket) = self.sockets.get_mut(usize::from(link.0)) else {
            return Err(frame);
        };
        if !socket.rings.queue(frame.bytes()) {
            return Err(frame);
        }
        socket.unsent = true;
        self.free(frame);
        Ok(())
    }

    fn free(&mut self, frame: Frame) {
        let spot = self.arena.give_back(frame);
        self.free.push(spot.chunk);
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

/// A packet socket on one link.
#[derive(Debug)]
struct Socket {
    rings: Rings,
    fd: OwnedFd,
    /// Frames are in the send ring that the kernel has not taken.
    unsent: bool,
    too_long: u64,
    refused: u64,
    /// The kernel's count starts anew each time it is read.
    dropped: Cell<u64>,
}

impl Socket {
    /// Opens a socket that sees the frames of `link` that `filter` picks. It sees none before
    /// it is bound, and it is bound last.
    fn open(link: &Link, filter: BorrowedFd<'_>, slot: usize) -> io::Result<Self> {
        // SAFETY: no pointers. Protocol 0: nothing is received yet.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let program = filter.as_raw_fd();
        set_at(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program)?;
        set_at(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)?;
        // What this machine sends is not ours, and what we send need not wait in a qdisc.
        for option in [libc::PACKET_IGNORE_OUTGOING, libc::PACKET_QDISC_BYPASS, libc::PACKET_LOSS] {
            set(fd.as_fd(), option, &1i32)?;
        }
        let rings = Rings::new(fd.as_fd(), slot)?;
        bind(fd.as_fd(), link.ifindex)?;
        Ok(Self { rings, fd, unsent: false, too_long: 0, refused: 0, dropped: Cell::new(0) })
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Lets the kernel send what is in the ring. What it cannot take now stays for the next time.
    fn send(&mut self) {
        if !self.unsent {
            return;
        }
        // SAFETY: no buffer and no address: the frames are in the ring.
        let sent = unsafe {
            libc::sendto(self.raw(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        let code = if sent < 0 { io::Error::last_os_error().raw_os_error() } else { None };
        self.unsent = matches!(code, Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR));
        if code.is_some() && !self.unsent {
            self.refused += 1;
        }
    }

    fn stats(&self) -> PortStats {
        let mut kernel = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        if get(self.fd.as_fd(), libc::PACKET_STATISTICS, &mut kernel).is_ok() {
            self.dropped.set(self.dropped.get() + u64::from(kernel.tp_drops));
        }
        PortStats {
            rx_missed: self.dropped.get() + self.too_long,
            rx_too_long: self.too_long,
            tx_failed: self.refused,
        }
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

/// Joins sockets in one fanout group, whose id the kernel chooses.
fn fan_out(sockets: &[Socket]) -> io::Result<()> {
    let by_hash = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    let mut group = 0u32;
    for (at, socket) in sockets.iter().enumerate() {
        let kind = if at == 0 { by_hash | libc::PACKET_FANOUT_FLAG_UNIQUEID } else { by_hash };
        set(socket.fd.as_fd(), libc::PACKET_FANOUT, &(group | kind << 16))?;
        if at == 0 {
            get(socket.fd.as_fd(), libc::PACKET_FANOUT, &mut group)?;
            group &= 0xffff;
        }
    }
    Ok(())
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

fn bind(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // All protocols: only these sockets get a frame before tc ingress does.
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = ifindex as i32;
    let size = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address outlives the call and has the size that is told.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, option, value)
}

fn set_at<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let (from, size) = (std::ptr::from_ref(value).cast(), size_of::<T>() as u32);
    // SAFETY: the value outlives the call and has the size that is told.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, from, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn get<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &mut T) -> io::Result<()> {
    let (to, mut size) = (std::ptr::from_mut(value).cast(), size_of::<T>() as u32);
    // SAFETY: the value outlives the call and has the size that is told.
    match unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, to, &mut size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
