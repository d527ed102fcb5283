//! The way back to the host: for frames that a port took but the host's own stack should have.

use std::collections::VecDeque;

use crate::link::LinkId;
use crate::port::Offload;

/// Takes frames for the host.
pub trait Host: Send {
    /// Hands over a frame that came on `link`, Ethernet header first, of which `offload` is left to
    /// be done; its destination address may be rewritten on the way. False when there is no room
    /// now.
    fn give(&mut self, link: LinkId, frame: &mut [u8], offload: Offload) -> bool;
}

/// A host that keeps what it gets: for tests and conform.
#[derive(Debug, Default)]
pub struct Collected {
    /// The frames, oldest first.
    pub frames: VecDeque<Vec<u8>>,
}

impl Host for Collected {
    fn give(&mut self, _link: LinkId, frame: &mut [u8], _offload: Offload) -> bool {
        self.frames.push_back(frame.to_vec());
        true
    }
}

/// No host at all: frames for it are counted and gone. For benches.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn give(&mut self, _link: LinkId, _frame: &mut [u8], _offload: Offload) -> bool {
        true
    }
}
