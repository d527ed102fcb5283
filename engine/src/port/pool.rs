//! Chunks of memory of the port's own, for the ports whose frames no ring of the kernel's holds.

use super::{Arena, Frame, HEADROOM};
use crate::link::LinkId;

/// An arena and which of its chunks nobody has.
#[derive(Debug)]
pub(super) struct Pool {
    arena: Arena,
    free: Vec<u32>,
}

impl Pool {
    /// A pool of so many chunks of so many bytes.
    pub(super) fn new(chunks: u32, chunk_size: usize) -> Self {
        Self { arena: Arena::new(chunks, chunk_size), free: (0..chunks).rev().collect() }
    }

    /// The longest frame that a chunk holds, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.arena.chunk_size() - HEADROOM
    }

    /// Whether all chunks are in somebody's hands.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// A frame of `len` bytes, with [`HEADROOM`] in front; `None` when no chunk is free or none is
    /// so long.
    #[inline]
    pub(super) fn take(&mut self, len: usize, link: LinkId) -> Option<Frame> {
        if len > self.longest() {
            return None;
        }
        let chunk = self.free.pop()?;
        // SAFETY: a chunk in `free` has no token; it gets back there only with its token's end.
        Some(unsafe { self.arena.take(chunk, HEADROOM, len, link) })
    }

    /// Takes a frame of this pool back.
    #[inline]
    pub(super) fn give_back(&mut self, frame: Frame) {
        let spot = self.arena.give_back(frame);
        self.free.push(spot.chunk);
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> u32 {
        self.arena.chunks()
    }

    /// How many chunks nobody has.
    pub(super) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// How many chunks are out as frames.
    pub(super) fn out(&self) -> u32 {
        self.arena.out()
    }

    /// Chunks that are neither free nor out: 0, else one is lost (INV-7).
    pub(super) fn missing(&self) -> u32 {
        self.arena.chunks() - self.arena.out() - self.free.len() as u32
    }
}
