//! Frames larger than a chunk: they come and leave in several descriptors (Linux 6.6).
//!
//! ```text
//!  rx ring   | part, more | part, more | part |      | part, more | part |   tx ring
//!                  \            |        /                 \        /
//!  memory of         <------ one frame ------>   ...   <-- one frame -->
//!  the port's own
//! ```
//!
//! The stages want a frame in one piece, so it is copied into one; its chunks are free again at
//! once. Frames that fit a chunk stay where they are.

use xsk_rs::FrameDesc;

use super::{AfXdpPort, LAYER2, START};
use crate::link::{Link, LinkId};
use crate::port::pool::Pool;
use crate::port::{BATCH, Frame, HEADROOM, Port};

/// Set in all descriptors of a frame but the last (`XDP_PKT_CONTD` of linux/if_xdp.h).
const MORE: u32 = 1;

/// Large frames that the worker can have in hand: a batch, those that wait for a neighbour, one
/// that each lane has begun, and packets that are cut.
const CHUNKS: u32 = 512;
const _: () = assert!(CHUNKS as usize > 4 * BATCH);

/// Memory for frames of the largest MTU of `links`.
pub(super) fn pool(links: &[Link]) -> Pool {
    let longest = links.iter().map(longest).max().unwrap_or(0);
    Pool::new(CHUNKS, (HEADROOM + longest).next_power_of_two())
}

/// Bytes of a link's largest frame. Longer ones are segments that somebody has put together, which
/// would not leave.
fn longest(link: &Link) -> usize {
    LAYER2 + usize::from(link.mtu)
}

/// What has come of a frame.
#[derive(Debug, Default)]
enum Begun {
    /// The next descriptor begins a frame.
    #[default]
    Nothing,
    /// Its first parts.
    Frame(Frame),
    /// It is not taken; its parts go by up to the last.
    Refused,
}

/// Puts the large frames of a lane together.
#[derive(Debug)]
pub(super) struct Assembly {
    begun: Begun,
    link: LinkId,
    longest: usize,
    /// Frames that were not taken, and those of them that were too long.
    pub(super) missed: u64,
    pub(super) too_long: u64,
}

impl Assembly {
    pub(super) fn new(link: &Link, id: LinkId) -> Self {
        Self { begun: Begun::Nothing, link: id, longest: longest(link), missed: 0, too_long: 0 }
    }

    /// Whether a descriptor is only a part of a frame.
    #[inline]
    pub(super) fn wants(&self, desc: &FrameDesc) -> bool {
        desc.has_more_frames() || !matches!(self.begun, Begun::Nothing)
    }

    /// Frames of the pool that are held in here.
    pub(super) fn held(&self) -> u32 {
        u32::from(matches!(self.begun, Begun::Frame(_)))
    }

    /// Copies a part behind those before it, and gives the frame when it was the last.
    pub(super) fn add(&mut self, part: &[u8], more: bool, pool: &mut Pool) -> Option<Frame> {
        self.begun = match std::mem::take(&mut self.begun) {
            Begun::Nothing => self.begin(part, pool),
            Begun::Frame(frame) => self.append(frame, part, pool),
            Begun::Refused => Begun::Refused,
        };
        if more {
            return None;
        }
        match std::mem::take(&mut self.begun) {
            Begun::Frame(frame) => Some(frame),
            Begun::Nothing | Begun::Refused => None,
        }
    }

    /// Gives back what is held in here.
    pub(super) fn stop(&mut self, pool: &mut Pool) {
        if let Begun::Frame(frame) = std::mem::take(&mut self.begun) {
            pool.give_back(frame);
        }
    }

    fn begin(&mut self, part: &[u8], pool: &mut Pool) -> Begun {
        match pool.take(0, self.link) {
            Some(frame) => self.append(frame, part, pool),
            None => {
                self.missed += 1;
                Begun::Refused
            }
        }
    }

    fn append(&mut self, mut frame: Frame, part: &[u8], pool: &mut Pool) -> Begun {
        let at = frame.bytes().len();
        let len = at + part.len();
        if len > self.longest || !frame.set_len(len) {
            pool.give_back(frame);
            self.missed += 1;
            self.too_long += 1;
            return Begun::Refused;
        }
        frame.bytes_mut()[at..].copy_from_slice(part);
        Begun::Frame(frame)
    }
}

impl AfXdpPort {
    /// Queues a copy of a frame in as many chunks as it takes: all of them, or none.
    pub(super) fn tx_copied(&mut self, at: usize, frame: Frame) -> Result<(), Frame> {
        let room = self.arena.chunk_size() - START;
        let count = frame.bytes().len().div_ceil(room);
        let lane = &mut self.lanes[at];
        if self.large.is_none() || lane.room() < count || self.free.len() < count {
            return Err(frame);
        }
        let chunks = self.free.drain(self.free.len() - count..);
        for (number, (chunk, part)) in chunks.zip(frame.bytes().chunks(room)).enumerate() {
            let mut desc = self.descs[chunk.addr() / self.arena.chunk_size()];
            // SAFETY: a chunk in `free` was held by nobody.
            let mut data = unsafe { self.umem.data_mut(&mut desc) };
            data.cursor().set_pos(part.len());
            data.contents_mut().copy_from_slice(part);
            desc.set_options(if number + 1 < count { MORE } else { 0 });
            lane.queue(desc);
        }
        self.free(frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Forwards;

    fn link(mtu: u16) -> Link {
        let (name, addresses) = ("eth0".to_owned(), Vec::new());
        Link { ifindex: 1, name, mac: [0; 6], mtu, addresses, forwards: Forwards::ALL }
    }

    fn taken(frame: Option<Frame>, pool: &mut Pool) -> Option<Vec<u8>> {
        let frame = frame?;
        let bytes = frame.bytes().to_vec();
        pool.give_back(frame);
        Some(bytes)
    }

    #[test]
    fn parts_become_one_frame() {
        let mut pool = pool(&[link(1500), link(9000)]);
        let mut assembly = Assembly::new(&link(9000), LinkId(1));
        assert!(assembly.add(&[1; 3840], true, &mut pool).is_none());
        assert_eq!((assembly.held(), pool.out()), (1, 1));
        assert!(assembly.add(&[2; 3840], true, &mut pool).is_none());
        let frame = assembly.add(&[3; 1342], false, &mut pool).unwrap();
        assert_eq!(frame.link(), LinkId(1));
        assert_eq!(frame.start(), HEADROOM);
        let bytes = taken(Some(frame), &mut pool).unwrap();
        assert_eq!(bytes, [vec![1; 3840], vec![2; 3840], vec![3; 1342]].concat());
        assert_eq!((assembly.held(), pool.out(), pool.missing()), (0, 0, 0));
        assert_eq!((assembly.missed, assembly.too_long), (0, 0));
    }

    #[test]
    fn what_is_refused_goes_by_up_to_its_end() {
        let mut pool = pool(&[link(9000)]);
        let mut assembly = Assembly::new(&link(9000), LinkId(0));
        for _ in 0..3 {
            assert!(assembly.add(&[1; 3840], true, &mut pool).is_none());
        }
        assert_eq!((assembly.held(), pool.out()), (0, 0), "11,520 bytes are too many");
        assert!(assembly.wants(&FrameDesc::default()), "its end is to come");
        assert!(assembly.add(&[1; 100], false, &mut pool).is_none());
        assert!(!assembly.wants(&FrameDesc::default()));
        assert_eq!((assembly.missed, assembly.too_long), (1, 1));
        assert_eq!(taken(assembly.add(&[2; 9], false, &mut pool), &mut pool), Some(vec![2; 9]));
    }

    #[test]
    fn a_frame_that_finds_no_memory_is_counted() {
        let mut pool = pool(&[link(9000)]);
        let all: Vec<Frame> = (0..CHUNKS).map(|_| pool.take(0, LinkId(0)).unwrap()).collect();
        let mut assembly = Assembly::new(&link(9000), LinkId(0));
        assert!(assembly.add(&[1; 3840], true, &mut pool).is_none());
        all.into_iter().for_each(|frame| pool.give_back(frame));
        assert!(assembly.add(&[1; 3840], false, &mut pool).is_none(), "half a frame");
        assert_eq!((assembly.missed, assembly.too_long, pool.out()), (1, 0, 0));
    }

    #[test]
    fn what_was_begun_is_given_back_at_the_end() {
        let mut pool = pool(&[link(u16::MAX)]);
        let mut assembly = Assembly::new(&link(u16::MAX), LinkId(0));
        assembly.add(&[1; 3840], true, &mut pool);
        assembly.stop(&mut pool);
        assert_eq!((assembly.held(), pool.out(), pool.missing()), (0, 0, 0));
    }
}
