//! The two rings of a packet socket in shared memory (packet_mmap, `TPACKET_V2`).
//!
//! A slot has one owner at a time, said by its status word:
//!
//! ```text
//! receive: KERNEL --(frame)--> USER --(we read it)--> KERNEL
//! send:    AVAILABLE --(we write)--> SEND_REQUEST --(kernel sends)--> AVAILABLE
//! ```
//!
//! Version 2 hands over frame by frame; version 3 waits to fill a block, milliseconds that a
//! director must not add.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{TP_STATUS_KERNEL, TP_STATUS_SEND_REQUEST, TP_STATUS_USER, tpacket2_hdr};

use super::super::offload::{self, Offload};
use super::socket::set;

/// Slots of each ring.
pub(super) const SLOTS: u32 = 2048;

/// What stands before a received packet at most: header, address, alignment, and what is left to be
/// done (`TPACKET2_HDRLEN` and what `tpacket_rcv` of net/packet/af_packet.c adds).
pub(super) const RECEIVE_OVERHEAD: usize = 112;

/// Where a packet to be sent begins, what is left to be done first: right behind the header.
const SEND_OFFSET: usize = size_of::<tpacket2_hdr>().next_multiple_of(16);

/// Both rings' memory: the receive ring, and the send ring behind it.
#[derive(Debug)]
pub(super) struct Rings {
    base: NonNull<u8>,
    slot: usize,
    receive: u32,
    send: u32,
}

// SAFETY: the mapping is owned by this alone; nothing in it is tied to a thread.
unsafe impl Send for Rings {}

/// A received frame, in its slot.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// The frame's bytes, without the VLAN tag that the kernel took off.
    pub(super) bytes: &'a [u8],
    /// The tag that was taken off: TPID and TCI.
    pub(super) tag: Option<(u16, u16)>,
    /// The slot is too small for the frame: what is here is its beginning.
    pub(super) truncated: bool,
    /// It waits in the socket's own queue as well, whole.
    pub(super) queued: bool,
    /// What its sender left to be done.
    pub(super) offload: Offload,
}

impl Rings {
    /// Makes and maps both rings of a packet socket, with slots of `slot` bytes (a power of two).
    pub(super) fn new(socket: BorrowedFd<'_>, slot: usize) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        set(socket, libc::PACKET_VERSION, &version)?;
        let block = slot.max(1 << 16);
        let bytes = slot * SLOTS as usize;
        let request = libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: (bytes / block) as u32,
            tp_frame_size: slot as u32,
            tp_frame_nr: SLOTS,
        };
        set(socket, libc::PACKET_RX_RING, &request)?;
        set(socket, libc::PACKET_TX_RING, &request)?;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap does not map address 0");
        Ok(Self { base, slot, receive: 0, send: 0 })
    }

    /// The oldest received frame, which stays in its slot until [`release`](Self::release).
    #[inline]
    pub(super) fn received(&self) -> Option<Received<'_>> {
        let slot = self.at(self.receive);
        // Acquire pairs with the kernel's barrier between the frame and its status word.
        let status = status(slot).load(Ordering::Acquire);
        if status & TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the slot begins with a header, and is ours by its status.
        let header = unsafe { slot.cast::<tpacket2_hdr>().read() };
        let begin = usize::from(header.tp_mac).clamp(offload::HEADER, self.slot);
        let length = (header.tp_snaplen as usize).min(self.slot - begin);
        // SAFETY: inside the slot, which is ours until it is released; that takes `&mut self`.
        let bytes = unsafe { slice::from_raw_parts(slot.add(begin).as_ptr(), length) };
        // SAFETY: as above; the header stands in front of the frame (PACKET_VNET_HDR).
        let left = unsafe { slot.add(begin - offload::HEADER).cast().read() };
        let tagged = status & libc::TP_STATUS_VLAN_VALID != 0;
        let tpid = match status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => libc::ETH_P_8021Q as u16,
            _ => header.tp_vlan_tpid,
        };
        Some(Received {
            bytes,
            tag: tagged.then_some((tpid, header.tp_vlan_tci)),
            truncated: header.tp_len > header.tp_snaplen,
            queued: status & libc::TP_STATUS_COPY != 0,
            offload: Offload::read(&left),
        })
    }

    /// Gives the slot of the oldest received frame back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        // Release: our reads of the frame are done before the kernel, which reads the word with
        // a barrier behind it, writes the next one there.
        status(self.at(self.receive)).store(TP_STATUS_KERNEL, Ordering::Release);
        self.receive = (self.receive + 1) % SLOTS;
    }

    /// The longest frame that a slot can send, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.slot - SEND_OFFSET - offload::HEADER
    }

    /// Puts a frame in the next slot to send; false when all slots wait for the kernel.
    #[inline]
    pub(super) fn queue(&mut self, frame: &[u8], left: Offload) -> bool {
        let slot = self.at(SLOTS + self.send);
        // Acquire pairs with the kernel's barrier before it says that it has sent the frame.
        let status_now = status(slot).load(Ordering::Acquire);
        if status_now & (TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING) != 0
            || frame.len() > self.longest()
        {
            return false;
        }
        // SAFETY: the slot is ours by its status and long enough by the check above.
        unsafe {
            let header = slot.cast::<tpacket2_hdr>().as_ptr();
            (&raw mut (*header).tp_len).write((offload::HEADER + frame.len()) as u32);
            slot.add(SEND_OFFSET).cast().write(left.header());
            let to = slot.add(SEND_OFFSET + offload::HEADER).as_ptr();
            std::ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len());
        }
        // Release pairs with the kernel's barrier behind its read of the word: it sees the frame.
        status(slot).store(TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.send = (self.send + 1) % SLOTS;
        true
    }

    /// The beginning of a slot; the send ring's come after the receive ring's.
    #[inline]
    fn at(&self, slot: u32) -> NonNull<u8> {
        debug_assert!(slot < 2 * SLOTS);
        // SAFETY: there are 2 * SLOTS slots in the mapping.
        unsafe { self.base.add(slot as usize * self.slot) }
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; what points into it borrows from this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), 2 * self.slot * SLOTS as usize) };
    }
}

#[inline]
fn status<'a>(slot: NonNull<u8>) -> &'a AtomicU32 {
    // SAFETY: a slot of a mapped ring begins with its status word, aligned to 16 bytes, which we
    // touch as an atomic only; no caller keeps the reference.
    unsafe { slot.cast::<AtomicU32>().as_ref() }
}
