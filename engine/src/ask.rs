//! Asking for neighbours: what a worker says when it has a packet for an address whose Ethernet
//! address is not known yet.
//!
//! Workers put questions in, the thread that follows the kernel's neighbours takes them out and
//! has the kernel resolve them. The answer comes back the way of all neighbours, in a newer
//! [`Fib`](crate::fib::Fib).

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;

use crate::address::Address;
use crate::link::LinkId;

/// Places in which questions asked of late are remembered; a power of two.
const RECENT: usize = 256;

/// Questions for neighbours on their way from the workers to the kernel.
///
/// A flood of packets to one unknown neighbour costs a worker one load a packet: the question is
/// remembered and not put again until [`forget`](Asks::forget).
#[derive(Debug)]
pub struct Asks {
    queue: ArrayQueue<(LinkId, Address)>,
    /// The last question of each place, 0 for none.
    recent: Box<[AtomicU64]>,
    /// Whether a byte is, or soon will be, in the socket.
    rung: AtomicBool,
    bell: UnixStream,
    ear: UnixStream,
}

impl Asks {
    /// Room for `capacity` questions at a time, at least one.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left for the wake-up.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Self {
            queue: ArrayQueue::new(capacity.max(1)),
            recent: (0..RECENT).map(|_| AtomicU64::new(0)).collect(),
            rung: AtomicBool::new(false),
            bell,
            ear,
        })
    }

    /// Asks for `neighbour` on `link`; false when the queue is full and the question is lost.
    ///
    /// A system call only for the first question after the queue was emptied.
    pub fn ask(&self, link: LinkId, neighbour: Address) -> bool {
        let question = key(link, neighbour);
        let place = &self.recent[place(question)];
        // Relaxed, here and below: a stale value costs a question too many or, until the next
        // `forget`, one too few; nothing else is read on the strength of it.
        if place.load(Ordering::Relaxed) == question {
            return true;
        }
        if self.queue.push((link, neighbour)).is_err() {
            return false;
        }
        place.store(question, Ordering::Relaxed);
        // AcqRel: pairs with the swap in `hush`. Who finds false here rings; who finds true was
        // before a `hush` whose caller then sees the question pushed above.
        if !self.rung.swap(true, Ordering::AcqRel) {
            // A full socket already wakes the reader, so that a failure does no harm.
            let _ = (&self.bell).write(&[1]);
        }
        true
    }

    /// The oldest question. Call [`hush`](Asks::hush) first, then take until there is none.
    pub fn take(&self) -> Option<(LinkId, Address)> {
        self.queue.pop()
    }

    /// Ends the wake-up, so that the next question makes a new one.
    pub fn hush(&self) {
        let mut bytes = [0; 16];
        while matches!((&self.ear).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        // AcqRel: pairs with the swap in `ask`.
        self.rung.swap(false, Ordering::AcqRel);
    }

    /// Lets questions that were put before be put again; called about once a second.
    pub fn forget(&self) {
        for place in &self.recent {
            // Relaxed: see `ask`.
            place.store(0, Ordering::Relaxed);
        }
    }
}

/// Readable while there are questions.
impl AsFd for Asks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

/// The question as a number that is never 0. Two IPv6 questions may have the same one; then the
/// second is put after the next `forget`.
fn key(link: LinkId, neighbour: Address) -> u64 {
    let (high, low) = neighbour.words();
    // Fibonacci hashing of the network's half, into the interface's.
    let address = high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low;
    1 << 63 | u64::from(link.0) << 56 ^ address & !(1 << 63)
}

fn place(question: u64) -> usize {
    // Fibonacci hashing: all bits of the question are in the product's highest.
    (question.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECENT.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: Address = Address::v4(Ipv4Addr::new(10, 0, 0, 1));
    const B: Address = Address::v4(Ipv4Addr::new(10, 0, 0, 2));

    fn bytes_waiting(asks: &Asks) -> usize {
        let mut bytes = [0; 16];
        (&asks.ear).read(&mut bytes).unwrap_or(0)
    }

    #[test]
    fn a_question_is_put_once_until_forgotten() {
        let asks = Asks::new(8).unwrap();
        assert!(asks.ask(LinkId(0), A) && asks.ask(LinkId(0), A) && asks.ask(LinkId(1), A));
        assert_eq!(asks.take(), Some((LinkId(0), A)));
        assert_eq!(asks.take(), Some((LinkId(1), A)));
        assert_eq!(asks.take(), None);
        assert!(asks.ask(LinkId(0), A));
        assert_eq!(asks.take(), None);
        asks.forget();
        assert!(asks.ask(LinkId(0), A));
        assert_eq!(asks.take(), Some((LinkId(0), A)));
    }

    #[test]
    fn a_full_queue_loses_the_question_but_not_for_long() {
        let asks = Asks::new(1).unwrap();
        assert!(asks.ask(LinkId(0), A) && !asks.ask(LinkId(0), B));
        assert_eq!(asks.take(), Some((LinkId(0), A)));
        assert!(asks.ask(LinkId(0), B));
        assert_eq!(asks.take(), Some((LinkId(0), B)));
    }

    #[test]
    fn the_bell_rings_once_until_hushed() {
        let asks = Asks::new(8).unwrap();
        asks.ask(LinkId(0), A);
        asks.ask(LinkId(0), B);
        assert_eq!(bytes_waiting(&asks), 1);
        asks.hush();
        assert_eq!(bytes_waiting(&asks), 0);
        asks.forget();
        asks.ask(LinkId(0), A);
        assert_eq!(bytes_waiting(&asks), 1);
    }

    #[test]
    fn no_question_is_slept_through() {
        let asks = Asks::new(4).unwrap();
        const COUNT: u32 = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..COUNT {
                    while !asks.ask(LinkId(0), Ipv4Addr::from(n).into()) {
                        std::thread::yield_now();
                    }
                }
            });
            // Only ever takes after the bell; a lost wake-up would hang here.
            asks.ear.set_nonblocking(false).unwrap();
            asks.ear.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let mut taken = 0;
            while taken < COUNT {
                (&asks.ear).read_exact(&mut [0]).expect("woken");
                asks.rung.swap(false, Ordering::AcqRel);
                taken += std::iter::from_fn(|| asks.take()).count() as u32;
            }
            assert_eq!(taken, COUNT);
        });
    }
}
