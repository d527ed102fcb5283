//! A frame of a port's memory, owned by one holder at a time.
//!
//! ```text
//! chunk |<-- headroom -->|<----- packet, len bytes ----->|<-- tailroom -->|
//!       0              start                        start+len         chunk size
//! ```
//!
//! A [`Frame`] is a token: it cannot be copied or cloned, the rings take it by value and give it
//! back by value, and one that is dropped elsewhere is a bug that debug builds panic at and
//! release builds count (INV-7).

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{HEADROOM, Offload};
use crate::link::LinkId;

/// Frames that were dropped instead of given back, in this process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many frames of any arena were lost so far; anything but 0 is a bug.
pub fn lost() -> u64 {
    // Relaxed: a statistic, nothing is ordered by it.
    LOST.load(Ordering::Relaxed)
}

/// Memory cut into chunks of one size, and how many of them are out as [`Frame`]s.
///
/// The memory is either the arena's own or a region that somebody else keeps mapped (a UMEM).
/// An arena that is dropped while frames are out leaks its own memory rather than free what a
/// frame still points to.
pub struct Arena {
    base: NonNull<u8>,
    chunk_size: usize,
    chunks: u32,
    out: u32,
    own: bool,
}

// SAFETY: the arena is the only owner of the region but for the frames it gave out, each of which
// owns its chunk alone; nothing in it is tied to a thread.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena of `chunks` chunks of `chunk_size` bytes in memory of its own, zeroed.
    ///
    /// # Panics
    ///
    /// When a chunk has no room for the headroom and a packet, or the size overflows.
    pub fn new(chunks: u32, chunk_size: usize) -> Self {
        let layout = Self::layout(chunks, chunk_size);
        // SAFETY: the layout's size is not zero, `layout` checks that.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Self { base, chunk_size, chunks, out: 0, own: true }
    }

    /// An arena over a region that is mapped by somebody else.
    ///
    /// # Safety
    ///
    /// `base` points to `chunks * chunk_size` bytes that stay mapped as long as the arena or any
    /// frame of it lives, and that nobody but the kernel touches otherwise; a chunk is the
    /// kernel's only while no frame of it is out.
    pub unsafe fn over(base: NonNull<u8>, chunks: u32, chunk_size: usize) -> Self {
        Self { base, chunk_size, chunks, out: 0, own: false }
    }

    fn layout(chunks: u32, chunk_size: usize) -> Layout {
        assert!(chunk_size > HEADROOM && chunk_size <= 1 << 17 && chunks > 0);
        let bytes = (chunks as usize).checked_mul(chunk_size).expect("arena size overflows");
        Layout::from_size_align(bytes, 4096).expect("arena size overflows")
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes of a chunk.
    pub fn chunk_size(&self) -> usize {
        self.chunk_size
    }

    /// How many chunks are out as frames.
    pub fn out(&self) -> u32 {
        self.out
    }

    /// The token for the packet of `len` bytes at `start` of chunk `chunk`.
    ///
    /// # Safety
    ///
    /// No other token for `chunk` exists and the kernel does not hold it.
    ///
    /// # Panics
    ///
    /// When the packet is not inside the chunk.
    pub unsafe fn take(&mut self, chunk: u32, start: usize, len: usize, link: LinkId) -> Frame {
        assert!(chunk < self.chunks && start + len <= self.chunk_size);
        self.out += 1;
        // SAFETY: the chunk is inside the region by the assertion above.
        let base = unsafe { self.base.add(chunk as usize * self.chunk_size) };
        Frame {
            base,
            chunk,
            size: self.chunk_size as u32,
            start: start as u32,
            len: len as u32,
            offload: Offload::NONE,
            link,
        }
    }

    /// Ends a token and says which chunk, and where in it the packet stands.
    pub fn give_back(&mut self, frame: Frame) -> Spot {
        let spot =
            Spot { chunk: frame.chunk, start: frame.start as usize, len: frame.len as usize };
        debug_assert!(spot.chunk < self.chunks && self.out > 0);
        self.out -= 1;
        std::mem::forget(frame);
        spot
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.own && self.out == 0 {
            // SAFETY: allocated in `new` with the same layout, and no frame points into it.
            unsafe { dealloc(self.base.as_ptr(), Self::layout(self.chunks, self.chunk_size)) }
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("chunk_size", &self.chunk_size)
            .field("chunks", &self.chunks)
            .field("out", &self.out)
            .finish_non_exhaustive()
    }
}

/// Where a packet stands in an arena; what is left of a [`Frame`] that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The chunk's number.
    pub chunk: u32,
    /// The packet's first byte in the chunk.
    pub start: usize,
    /// The packet's length in bytes.
    pub len: usize,
}

/// One frame, Ethernet header first, and the right to touch it.
pub struct Frame {
    base: NonNull<u8>,
    chunk: u32,
    size: u32,
    start: u32,
    len: u32,
    offload: Offload,
    link: LinkId,
}

/// A frame is moved from stage to stage: half a cache line.
const _: () = assert!(std::mem::size_of::<Frame>() <= 32);

// SAFETY: a frame owns its chunk alone; see `Arena::take`.
unsafe impl Send for Frame {}

impl Frame {
    /// The link on which it came.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Bytes of its chunk.
    #[inline]
    pub(super) fn chunk_size(&self) -> usize {
        self.size as usize
    }

    /// What is left to be done to it.
    #[inline]
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Says what is left to be done to it.
    #[inline]
    pub fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    /// The packet's bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: start + len is inside the chunk (kept by take, prepend, set_len), which this
        // token owns alone and which outlives it (see Arena).
        unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().add(self.start as usize),
                self.len as usize,
            )
        }
    }

    /// The packet's bytes, to write.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the token is borrowed mutably.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.base.as_ptr().add(self.start as usize),
                self.len as usize,
            )
        }
    }

    /// Makes room for `bytes` more in front; false when the headroom is used up.
    #[inline]
    #[must_use]
    pub fn prepend(&mut self, bytes: usize) -> bool {
        if bytes > self.start as usize {
            return false;
        }
        self.start -= bytes as u32;
        self.len += bytes as u32;
        true
    }

    /// Cuts or extends the packet at its end; false when the chunk ends before.
    #[inline]
    #[must_use]
    pub fn set_len(&mut self, len: usize) -> bool {
        if self.start as usize + len > self.size as usize {
            return false;
        }
        self.len = len as u32;
        true
    }

    /// The packet's first byte in the chunk.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    /// Moves the packet inside its chunk; false when it would not fit there.
    #[inline]
    #[must_use]
    pub(super) fn move_to(&mut self, start: usize) -> bool {
        if start + self.len as usize > self.size as usize {
            return false;
        }
        // SAFETY: both places are inside the chunk, which this token owns alone; `copy` allows
        // that they overlap.
        unsafe {
            let from = self.base.as_ptr().add(self.start as usize);
            std::ptr::copy(from, self.base.as_ptr().add(start), self.len as usize);
        }
        self.start = start as u32;
        true
    }

    /// Bytes that the packet could grow at its end.
    pub fn tailroom(&self) -> usize {
        (self.size - self.start - self.len) as usize
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // Relaxed: a statistic.
        LOST.fetch_add(1, Ordering::Relaxed);
        debug_assert!(
            std::thread::panicking(),
            "a frame was dropped instead of given back (INV-7)"
        );
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("chunk", &self.chunk)
            .field("start", &self.start)
            .field("len", &self.len)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
