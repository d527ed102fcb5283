//! The two loops whose packet rates are compared, on the same port.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use uvs_engine::ask::Asks;
use uvs_engine::clock::Clock;
use uvs_engine::counters::Totals;
use uvs_engine::host::NoHost;
use uvs_engine::link::LinkId;
use uvs_engine::port::{AnyPort, BATCH, Frame, Port, PortStats};
use uvs_engine::publish::Published;
use uvs_engine::snapshot::Snapshot;
use uvs_engine::table::Table;
use uvs_engine::worker::{Shared, Worker};

use crate::services::LINK;

/// Who works on the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Receive, swap the Ethernet addresses, send.
    Bare,
    /// uvs.
    Uvs,
}

impl Loop {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::Uvs => "uvs",
        }
    }
}

/// Receives and sends until `stop` is set, busy, without balancing anything.
pub fn bare(port: &mut AnyPort, stop: &AtomicBool) {
    let mut frames = Vec::with_capacity(BATCH);
    // Relaxed: the flag stands for itself.
    while !stop.load(Ordering::Relaxed) {
        let count = port.rx(BATCH, &mut frames);
        for mut frame in frames.drain(..) {
            if let Some(addresses) = frame.bytes_mut().first_chunk_mut::<12>() {
                let (to, from) = addresses.split_at_mut(6);
                to.swap_with_slice(from);
            }
            if let Err(frame) = port.tx(LINK, frame) {
                port.free(frame);
            }
        }
        if count > 0 {
            port.flush();
        }
    }
}

/// Runs uvs's worker until `stop` is set, busy; gives what it counted.
///
/// # Errors
///
/// The kernel gives no descriptor, or the port's interface is gone.
///
/// # Panics
///
/// When the machine has no memory for a table of 65536 connections.
pub fn uvs(port: &mut AnyPort, snapshot: Snapshot, stop: &AtomicBool) -> io::Result<Totals> {
    let clock = Clock::system();
    let table = Table::new(1 << 16, 1, clock.now());
    let (_, mut owners) = table.expect("memory for a small connection table");
    let shared = Shared::new(Published::new(snapshot), Arc::new(Asks::new(64)?), clock);
    let owner = owners.pop().expect("one worker, one owner");
    let (wake, _waker) = UnixStream::pair()?;
    let mut worker = Worker::new(Borrowed(port), NoHost, owner, &shared);
    worker.run(stop, &wake, true)?;
    let counters = worker.counters();
    Ok(Totals::of([&*counters].into_iter()))
}

/// A port that its worker gives back.
struct Borrowed<'a>(&'a mut AnyPort);

impl Port for Borrowed<'_> {
    #[inline]
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        self.0.rx(room, into)
    }

    #[inline]
    fn alloc(&mut self) -> Option<Frame> {
        self.0.alloc()
    }

    #[inline]
    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        self.0.tx(link, frame)
    }

    #[inline]
    fn free(&mut self, frame: Frame) {
        self.0.free(frame);
    }

    fn flush(&mut self) {
        self.0.flush();
    }

    fn wait(&mut self, wake: &dyn std::os::fd::AsRawFd, limit: Duration) -> io::Result<()> {
        self.0.wait(wake, limit)
    }

    fn mode(&self) -> &str {
        self.0.mode()
    }

    fn stats(&self) -> PortStats {
        self.0.stats()
    }
}
