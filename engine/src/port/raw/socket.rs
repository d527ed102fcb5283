//! A packet socket on one link.
//!
//! Frames of the link's size go through the rings. Larger ones, segments that the kernel has put
//! together or never cut, find no room in a slot: they come whole through the socket's own queue,
//! in the order of the ring (`PACKET_COPY_THRESH`), and leave through a second socket, because a
//! socket with a ring sends from there only.

use std::cell::Cell;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::super::{Frame, PortStats, offload};
use super::ring::Rings;
use crate::link::Link;

/// Bytes that may wait in a device's queue: the default holds a hundred frames.
const SEND_BUFFER: libc::c_int = 4 << 20;

/// Bytes of large frames that may wait to be read, with what the kernel adds to them.
const RECEIVE_BUFFER: libc::c_int = 32 << 20;

/// A packet socket, and the one for large frames.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) rings: Rings,
    fd: OwnedFd,
    large: OwnedFd,
    /// Frames are in the send ring that the kernel has not taken.
    unsent: bool,
    pub(super) too_long: u64,
    refused: u64,
    /// The kernel's count starts anew each time it is read.
    dropped: Cell<u64>,
}

impl Socket {
    /// Opens a socket that sees the frames of `link` that `filter` picks. It sees none before
    /// it is bound, and it is bound last.
    pub(super) fn open(link: &Link, filter: BorrowedFd<'_>, slot: usize) -> io::Result<Self> {
        let fd = packet_socket()?;
        let program = filter.as_raw_fd();
        set_at(fd.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &program)?;
        set_at(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)?;
        // What this machine sends is not ours; any size may be queued.
        for option in [libc::PACKET_IGNORE_OUTGOING, libc::PACKET_LOSS, libc::PACKET_COPY_THRESH] {
            set(fd.as_fd(), option, &1i32)?;
        }
        let rings = Rings::new(fd.as_fd(), slot)?;
        let large = packet_socket()?;
        // Without a protocol it receives nothing.
        bind(large.as_fd(), link.ifindex, 0)?;
        // All protocols: only these sockets get a frame before tc ingress does.
        bind(fd.as_fd(), link.ifindex, libc::ETH_P_ALL as u16)?;
        let dropped = Cell::new(0);
        Ok(Self { rings, fd, large, unsent: false, too_long: 0, refused: 0, dropped })
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Queues a frame to be sent; false when there is no room.
    #[inline]
    pub(super) fn queue(&mut self, frame: &Frame) -> bool {
        if frame.bytes().len() > self.rings.longest() {
            return self.send_large(frame);
        }
        let queued = self.rings.queue(frame.bytes(), frame.offload());
        self.unsent |= queued;
        queued
    }

    /// Lets the kernel send what is in the ring. What it cannot take now stays for the next time.
    pub(super) fn send(&mut self) {
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

    /// Sends a frame that no slot holds, after those that are in the ring (INV-1).
    fn send_large(&mut self, frame: &Frame) -> bool {
        self.send();
        if self.unsent {
            return false;
        }
        let left = frame.offload().header();
        let parts = [slice(&left), slice(frame.bytes())];
        let message = message(&parts);
        // SAFETY: the parts, which are only read, outlive the call.
        let sent = unsafe { libc::sendmsg(self.large.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
        if sent < 0 {
            let code = io::Error::last_os_error().raw_os_error();
            if matches!(code, Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)) {
                return false;
            }
            self.refused += 1;
        }
        true
    }

    /// Reads the oldest large frame into `frame`, which is as long as it can be, and leaves `gap`
    /// bytes free behind the first `before`. Says whether it had room.
    pub(super) fn receive_large(&self, frame: &mut Frame, before: usize, gap: usize) -> bool {
        let mut left = [0; offload::HEADER];
        let Some((front, rest)) = frame.bytes_mut().split_at_mut_checked(before) else {
            return false;
        };
        let rest = rest.get_mut(gap..).unwrap_or_default();
        let parts = [slice_mut(&mut left), slice_mut(front), slice_mut(rest)];
        let mut message = message(&parts);
        // SAFETY: the parts are distinct, ours to write, and outlive the call.
        let read = unsafe { libc::recvmsg(self.raw(), &mut message, libc::MSG_DONTWAIT) };
        let whole = read >= 0 && message.msg_flags & libc::MSG_TRUNC == 0;
        let Some(bytes) = usize::try_from(read).ok().and_then(|n| n.checked_sub(left.len())) else {
            return false;
        };
        frame.set_offload(offload::Offload::read(&left));
        whole && bytes >= before && frame.set_len(bytes + gap)
    }

    pub(super) fn stats(&self) -> PortStats {
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

/// Joins sockets in one fanout group, whose id the kernel chooses.
pub(super) fn fan_out(sockets: &[Socket]) -> io::Result<()> {
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

/// A packet socket that is bound to nothing, with what is left to be done in front of each frame.
fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers. Protocol 0: nothing is received yet.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_at(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)?;
    // What we send need not wait in a qdisc.
    for option in [libc::PACKET_QDISC_BYPASS, libc::PACKET_VNET_HDR] {
        set(fd.as_fd(), option, &1i32)?;
    }
    Ok(fd)
}

fn slice(bytes: &[u8]) -> libc::iovec {
    // What is sent is not written to.
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn slice_mut(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
}

/// A message of these parts, from nobody and to nobody.
fn message(parts: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: all zero is a valid header.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut();
    message.msg_iovlen = parts.len() as _;
    message
}

fn bind(socket: BorrowedFd<'_>, ifindex: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all zero is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    let size = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address outlives the call and has the size that is told.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub(super) fn set<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
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
