//! Frames that wait for the Ethernet address of their next hop.
//!
//! Bounded in number and in time, so that a server that is down costs neither memory nor the
//! frames of others. The frames are complete but for the address; released ones leave in the
//! order in which they came, before any newer frame (INV-1).

use std::collections::VecDeque;

use uvs_forward::wire::Ethernet;

use crate::address::Address;
use crate::clock::Ticks;
use crate::fib::Fib;
use crate::link::LinkId;
use crate::port::Frame;

/// Frames that may wait for one neighbour, as the kernel's unres_qlen once was.
const PER_NEIGHBOUR: usize = 32;
/// Frames that may wait in all.
const CAPACITY: usize = 256;
/// How long a frame waits: three ARP requests, a second apart.
const PATIENCE: Ticks = Ticks::from_secs(3);

/// One waiting frame.
#[derive(Debug)]
struct Held {
    frame: Frame,
    link: LinkId,
    neighbour: Address,
    since: Ticks,
}

/// The waiting room of one worker.
#[derive(Debug)]
pub struct Waiting {
    held: VecDeque<Held>,
}

/// What became of a frame that waited.
#[derive(Debug)]
pub enum Released {
    /// The address is known and filled in: send it on this link.
    Send(LinkId, Frame),
    /// The neighbour did not answer.
    GivenUp(Frame),
}

impl Waiting {
    /// An empty waiting room.
    pub fn new() -> Self {
        Self { held: VecDeque::with_capacity(CAPACITY) }
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes a frame in, or gives it back when there is no room.
    ///
    /// # Errors
    ///
    /// The frame, when too many wait already for this neighbour or in all.
    pub fn hold(
        &mut self,
        frame: Frame,
        link: LinkId,
        neighbour: Address,
        now: Ticks,
    ) -> Result<(), Frame> {
        let same = |held: &&Held| held.link == link && held.neighbour == neighbour;
        let full =
            self.held.len() >= CAPACITY || self.held.iter().filter(same).count() >= PER_NEIGHBOUR;
        if full {
            return Err(frame);
        }
        self.held.push_back(Held { frame, link, neighbour, since: now });
        Ok(())
    }

    /// Looks at the oldest frame: lets go of it when its neighbour is known by now or its time is
    /// up, else puts it behind the others. Called once for each frame there is, it keeps their
    /// order.
    pub fn release(&mut self, fib: &Fib, now: Ticks) -> Option<Released> {
        let mut held = self.held.pop_front()?;
        if let Some(hop) = fib.resolve(held.link, held.neighbour) {
            let mut ethernet = Ethernet::new_unchecked(held.frame.bytes_mut());
            ethernet.set_dst(hop.dst);
            ethernet.set_src(hop.src);
            return Some(Released::Send(held.link, held.frame));
        }
        if now.since(held.since).0 >= PATIENCE.0 {
            return Some(Released::GivenUp(held.frame));
        }
        self.held.push_back(held);
        None
    }

    /// Takes out the oldest frame as it is, at the end.
    pub fn take(&mut self) -> Option<Frame> {
        self.held.pop_front().map(|held| held.frame)
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::link::{Forwards, Link};
    use crate::port::Port;
    use crate::port::memory::MemoryPort;

    const SERVER: Address = Address::v4(Ipv4Addr::new(10, 0, 1, 1));

    fn fib(known: bool) -> Fib {
        let link = Link {
            name: "in".into(),
            ifindex: 1,
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![],
            forwards: Forwards::ALL,
        };
        Fib::new(vec![link], &[], known.then_some((LinkId(0), SERVER, [7; 6])))
    }

    fn frame(port: &mut MemoryPort, mark: u8) -> Frame {
        port.inject(LinkId(0), &[mark; 60]);
        let mut frames = Vec::new();
        port.rx(1, &mut frames);
        frames.pop().unwrap()
    }

    fn pass(waiting: &mut Waiting, known: bool, now: Ticks) -> Vec<Released> {
        (0..waiting.len()).filter_map(|_| waiting.release(&fib(known), now)).collect()
    }

    #[test]
    fn frames_leave_in_order_once_the_address_is_known() {
        let mut port = MemoryPort::new(8);
        let mut waiting = Waiting::new();
        for mark in 1..=3 {
            let frame = frame(&mut port, mark);
            waiting.hold(frame, LinkId(0), SERVER, Ticks(0)).unwrap();
        }
        assert!(pass(&mut waiting, false, Ticks(10)).is_empty());
        let mut marks = Vec::new();
        for released in pass(&mut waiting, true, Ticks(20)) {
            let Released::Send(_, frame) = released else { panic!("given up") };
            assert_eq!(frame.bytes()[..12], [7, 7, 7, 7, 7, 7, 2, 2, 2, 2, 2, 2]);
            marks.push(frame.bytes()[20]);
            port.free(frame);
        }
        assert_eq!((marks, waiting.len()), (vec![1, 2, 3], 0));
    }

    #[test]
    fn the_room_is_bounded_and_patience_ends() {
        let mut port = MemoryPort::new(64);
        let mut waiting = Waiting::new();
        for _ in 0..PER_NEIGHBOUR {
            let frame = frame(&mut port, 0);
            waiting.hold(frame, LinkId(0), SERVER, Ticks(0)).unwrap();
        }
        let one_more = frame(&mut port, 0);
        let one_more = waiting.hold(one_more, LinkId(0), SERVER, Ticks(0)).unwrap_err();
        waiting.hold(one_more, LinkId(0), Ipv4Addr::LOCALHOST.into(), Ticks(0)).unwrap();
        let given_up = pass(&mut waiting, false, PATIENCE);
        assert_eq!(given_up.len(), PER_NEIGHBOUR + 1);
        for released in given_up {
            let Released::GivenUp(frame) = released else { panic!("sent") };
            port.free(frame);
        }
        assert_eq!(port.missing(), 0);
    }
}
