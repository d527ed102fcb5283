//! What a slot holds: the frame that came, or the whole packet whose last fragment it was.

use uvs_forward::reassembly::{Assembly, HEAD, MAX_PIECES, Piece, Progress};

use crate::link::LinkId;
use crate::port::{Frame, Offload};

/// Bytes of the largest packet's buffer.
const BUFFER: usize = HEAD + 65536;

/// A packet put together from fragments, and what it takes to put it together.
#[derive(Debug)]
pub struct Whole {
    buffer: Box<[u8]>,
    assembly: Assembly,
    start: usize,
    end: usize,
    largest: u16,
}

impl Whole {
    /// Of a packet of which nothing is there.
    pub(crate) fn new() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { buffer, assembly: Assembly::new(), start: 0, end: 0, largest: 0 }
    }

    /// Forgets what was in it.
    pub(crate) fn clear(&mut self) {
        (self.assembly, self.start, self.end) = (Assembly::new(), 0, 0);
    }

    #[cold]
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    #[cold]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Takes in the part that a frame holds; says whether the packet is whole now.
    pub(crate) fn add(
        &mut self,
        frame: &[u8],
        piece: &Piece,
    ) -> Result<bool, uvs_forward::reassembly::FragmentRefused> {
        let Progress::Complete(whole) = self.assembly.add(frame, piece, &mut self.buffer)? else {
            return Ok(false);
        };
        (self.start, self.end, self.largest) = (whole.start, whole.end, whole.largest);
        Ok(true)
    }
}

/// A frame on its way through the stages.
#[derive(Debug)]
pub struct Packet {
    frame: Frame,
    whole: Option<Box<Whole>>,
}

impl Packet {
    /// As it came.
    pub fn new(frame: Frame) -> Self {
        Self { frame, whole: None }
    }

    /// Goes on as the packet of which the frame was the last fragment.
    pub(crate) fn become_whole(&mut self, whole: Box<Whole>) {
        self.whole = Some(whole);
    }

    /// The link on which it came.
    #[inline]
    pub fn link(&self) -> LinkId {
        self.frame.link()
    }

    /// Its bytes, from the Ethernet header on.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.whole {
            None => self.frame.bytes(),
            Some(whole) => whole.bytes(),
        }
    }

    /// Its bytes, to be rewritten.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.whole {
            None => self.frame.bytes_mut(),
            Some(whole) => whole.bytes_mut(),
        }
    }

    /// What its sender left to be done.
    #[inline]
    pub fn offload(&self) -> Offload {
        self.frame.offload()
    }

    /// Says what is left to be done.
    #[inline]
    pub fn set_offload(&mut self, offload: Offload) {
        self.frame.set_offload(offload);
    }

    /// Makes room for so many bytes in front; false when there is none.
    #[inline]
    pub fn prepend(&mut self, bytes: usize) -> bool {
        let Some(whole) = &mut self.whole else { return self.frame.prepend(bytes) };
        match whole.start.checked_sub(bytes) {
            Some(start) => {
                whole.start = start;
                true
            }
            None => false,
        }
    }

    /// Cuts it or makes it longer; false when there is no room.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> bool {
        let Some(whole) = &mut self.whole else { return self.frame.set_len(len) };
        let end = whole.start + len;
        let fits = end <= whole.buffer.len();
        if fits {
            whole.end = end;
        }
        fits
    }

    /// The largest fragment that it came in, in bytes from the IP header on; 0 if it came whole.
    #[inline]
    pub fn largest(&self) -> u16 {
        self.whole.as_ref().map_or(0, |whole| whole.largest)
    }

    /// Bytes of payload of each fragment that it came in; gives how many there are.
    pub(crate) fn pieces(&self, out: &mut [u16; MAX_PIECES]) -> usize {
        self.whole.as_ref().map_or(0, |whole| whole.assembly.pieces(out))
    }

    /// The frame, and what was put together.
    #[inline]
    pub fn into_parts(self) -> (Frame, Option<Box<Whole>>) {
        (self.frame, self.whole)
    }
}
