//! The port without a kernel: queues in memory. Tests, benches and conform run on it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use uvs_forward::Offsets;

use super::pool::Pool;
use super::{Frame, Offload, Port, PortStats};
use crate::link::LinkId;

/// Bytes of a chunk: headroom and a full Ethernet frame with tags.
const CHUNK: usize = 2048;

/// A port whose frames are put in and taken out by its owner.
#[derive(Debug)]
pub struct MemoryPort {
    pool: Pool,
    arrived: Vec<Frame>,
    sent: VecDeque<(LinkId, Frame)>,
}

impl MemoryPort {
    /// A port with `frames` frames of memory.
    pub fn new(frames: u32) -> Self {
        Self {
            pool: Pool::new(frames, CHUNK),
            arrived: Vec::with_capacity(frames as usize),
            sent: VecDeque::with_capacity(frames as usize),
        }
    }

    /// Lets `packet` arrive on `link`; false when no frame is free or the packet is too large.
    pub fn inject(&mut self, link: LinkId, packet: &[u8]) -> bool {
        self.inject_with(link, packet, Offload::NONE)
    }

    /// As [`inject`](Self::inject), of which its sender left something to be done.
    pub fn inject_with(&mut self, link: LinkId, packet: &[u8], offload: Offload) -> bool {
        let Some(mut frame) = self.pool.take(packet.len(), link) else {
            return false;
        };
        frame.bytes_mut().copy_from_slice(packet);
        frame.set_offload(offload);
        self.arrived.push(frame);
        true
    }

    /// The oldest frame that was sent and not yet collected, given to `look` with its link: as a
    /// network card would send it, its checksum finished.
    pub fn collect<R>(&mut self, look: impl FnOnce(LinkId, &[u8]) -> R) -> Option<R> {
        let (link, mut frame) = self.sent.pop_front()?;
        finish(&mut frame);
        let seen = look(link, frame.bytes());
        self.free(frame);
        Some(seen)
    }

    /// Frames that are neither free nor waiting in one of the two queues.
    pub fn missing(&self) -> usize {
        self.pool.out() as usize - self.arrived.len() - self.sent.len()
    }
}

/// Does what was left to the network card.
fn finish(frame: &mut Frame) {
    let unfinished = frame.offload().unfinished();
    if let (Some(unfinished), Ok(at)) = (unfinished, Offsets::of(frame.bytes())) {
        // What is not inside the packet is nobody's checksum.
        let _ = unfinished.finish(frame.bytes_mut(), at);
    }
}

impl Port for MemoryPort {
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        let count = room.min(self.arrived.len());
        into.extend(self.arrived.drain(..count));
        count
    }

    fn alloc(&mut self) -> Option<Frame> {
        self.pool.take(0, LinkId(0))
    }

    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        self.sent.push_back((link, frame));
        Ok(())
    }

    fn free(&mut self, frame: Frame) {
        self.pool.give_back(frame);
    }

    fn flush(&mut self) {}

    fn wait(&mut self, _wake: &dyn AsRawFd, _limit: Duration) -> io::Result<()> {
        Ok(())
    }

    fn mode(&self) -> &str {
        "memory"
    }

    fn stats(&self) -> PortStats {
        PortStats::default()
    }
}

impl Drop for MemoryPort {
    fn drop(&mut self) {
        while let Some(frame) = self.arrived.pop() {
            self.free(frame);
        }
        while let Some((_, frame)) = self.sent.pop_front() {
            self.free(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HEADROOM;
    use super::*;

    #[test]
    fn a_frame_goes_round_and_is_free_again() {
        let mut port = MemoryPort::new(2);
        assert!(port.inject(LinkId(1), b"abc"));
        let mut frames = Vec::new();
        assert_eq!(port.rx(8, &mut frames), 1);
        let mut frame = frames.pop().unwrap();
        assert_eq!((frame.bytes(), frame.link()), (&b"abc"[..], LinkId(1)));
        assert!(frame.prepend(2));
        frame.bytes_mut()[..2].copy_from_slice(b"xy");
        assert_eq!(port.missing(), 1);
        port.tx(LinkId(0), frame).unwrap();
        let seen = port.collect(|link, bytes| (link, bytes.to_vec())).unwrap();
        assert_eq!(seen, (LinkId(0), b"xyabc".to_vec()));
        assert_eq!((port.missing(), port.pool.missing()), (0, 0));
    }

    #[test]
    fn headroom_and_chunk_end_are_bounds() {
        let mut port = MemoryPort::new(1);
        let mut frame = port.alloc().unwrap();
        assert!(frame.set_len(CHUNK - HEADROOM) && !frame.set_len(CHUNK - HEADROOM + 1));
        assert!(frame.prepend(HEADROOM) && !frame.prepend(1));
        assert!(port.alloc().is_none(), "one chunk is one frame");
        port.free(frame);
    }

    #[test]
    #[should_panic(expected = "INV-7")]
    fn dropping_a_frame_is_a_bug() {
        let mut port = MemoryPort::new(1);
        drop(port.alloc());
    }
}
