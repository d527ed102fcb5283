//! Fragments that wait for the rest of their packet, of all workers: whichever core a part
//! comes to, it finds the others.
//!
//! Behind a lock and with buffers from the allocator, unlike all else on a frame's way: fragments
//! are rare, and what they may take is bounded in packets, bytes and time. Buffers are used again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use hashbrown::HashMap;
use uvs_forward::reassembly::{FragmentRefused, Key, Piece};
use uvs_forward::{Family, Offsets};

use crate::clock::Ticks;
use crate::counters::DropReason;
use crate::packet::Whole;

/// Packets that are waited for at a time; 64 KB each at most.
const CAPACITY: usize = 1024;

/// How long the rest of a packet is waited for, as in the kernel (`ipfrag_time`, `ip6frag_time`).
const PATIENCE_V4: Ticks = Ticks::from_secs(30);
const PATIENCE_V6: Ticks = Ticks::from_secs(60);

/// The packets that wait for more of their fragments.
#[derive(Debug, Default)]
pub struct Fragments(Mutex<Store>);

#[derive(Debug, Default)]
struct Store {
    waiting: HashMap<AnyKey, Waiting, RandomState>,
    #[expect(clippy::vec_box, reason = "a slot takes the box as it is")]
    free: Vec<Box<Whole>>,
    /// No packet's time is over before.
    next: Ticks,
}

#[derive(Debug)]
struct Waiting {
    whole: Box<Whole>,
    until: Ticks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AnyKey {
    V4(Key<[u8; 4]>),
    V6(Key<[u8; 16]>),
}

impl Fragments {
    /// Takes in a frame's fragment. Gives the packet once it is whole: to be
    /// [given back](Self::give_back) when it is sent.
    ///
    /// # Errors
    ///
    /// It contradicts the others of its packet, which is given up then, or there is no room.
    pub fn add(
        &self,
        frame: &[u8],
        at: Offsets,
        now: Ticks,
    ) -> Result<Option<Box<Whole>>, DropReason> {
        let read = match at.family {
            Family::V4 => Piece::of(frame, at).map(|(key, piece)| (AnyKey::V4(key), piece)),
            Family::V6 => Piece::of(frame, at).map(|(key, piece)| (AnyKey::V6(key), piece)),
        };
        let (key, piece) = read.map_err(why)?;
        let mut store = self.lock();
        store.forget_old(now);
        if !store.waiting.contains_key(&key) {
            store.begin(key, now)?;
        }
        let added = store.waiting.get_mut(&key).map(|packet| packet.whole.add(frame, &piece));
        match added {
            Some(Ok(false)) => Ok(None),
            Some(Ok(true)) => Ok(store.waiting.remove(&key).map(|packet| packet.whole)),
            Some(Err(refused)) => {
                store.give_up(&key);
                Err(why(refused))
            }
            None => Err(DropReason::BadFragment),
        }
    }

    /// Takes a whole packet's buffer back.
    pub fn give_back(&self, whole: Box<Whole>) {
        self.lock().keep(whole);
    }

    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A panic of another worker left nothing half done that matters.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn begin(&mut self, key: AnyKey, now: Ticks) -> Result<(), DropReason> {
        if self.waiting.len() >= CAPACITY {
            return Err(DropReason::FragmentsFull);
        }
        let patience = match key {
            AnyKey::V4(_) => PATIENCE_V4,
            AnyKey::V6(_) => PATIENCE_V6,
        };
        let until = now.after(patience);
        if self.waiting.is_empty() || until.is_past(self.next) {
            self.next = until;
        }
        let whole = self.free.pop().unwrap_or_else(|| Box::new(Whole::new()));
        self.waiting.insert(key, Waiting { whole, until });
        Ok(())
    }

    fn keep(&mut self, mut whole: Box<Whole>) {
        if self.free.len() < CAPACITY {
            whole.clear();
            self.free.push(whole);
        }
    }

    fn give_up(&mut self, key: &AnyKey) {
        if let Some(packet) = self.waiting.remove(key) {
            self.keep(packet.whole);
        }
    }

    /// Gives up the packets whose time is over.
    fn forget_old(&mut self, now: Ticks) {
        if self.waiting.is_empty() || !self.next.is_past(now) {
            return;
        }
        let old = self.waiting.iter().filter(|(_, packet)| packet.until.is_past(now));
        let old: Vec<AnyKey> = old.map(|(key, _)| *key).collect();
        old.iter().for_each(|key| self.give_up(key));
        let soonest = self.waiting.values().map(|packet| packet.until.since(now).0).min();
        self.next = now.after(Ticks(soonest.unwrap_or(0)));
    }
}

fn why(refused: FragmentRefused) -> DropReason {
    match refused {
        FragmentRefused::Overlap => DropReason::FragmentOverlap,
        FragmentRefused::Oversize | FragmentRefused::TooMany => DropReason::FragmentsTooLarge,
        FragmentRefused::TinyFirst => DropReason::FragmentTiny,
        _ => DropReason::BadFragment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fragment of a UDP datagram, with 8 bytes from this offset on.
    fn fragment(id: u16, offset: u16, more: bool) -> (Vec<u8>, Offsets) {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0, 0x45, 0, 0, 28]);
        frame.extend(id.to_be_bytes());
        frame.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        frame.extend([offset as u8; 8]);
        let sum = uvs_forward::checksum::Sum::of(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        let at = Offsets::of(&frame).unwrap();
        (frame, at)
    }

    fn add(
        fragments: &Fragments,
        (frame, at): &(Vec<u8>, Offsets),
        now: Ticks,
    ) -> Result<bool, DropReason> {
        Ok(fragments.add(frame, *at, now)?.map(|whole| fragments.give_back(whole)).is_some())
    }

    #[test]
    fn parts_may_come_in_any_order_and_mixed() {
        let (fragments, now) = (Fragments::default(), Ticks(5));
        assert_eq!(add(&fragments, &fragment(1, 8, false), now), Ok(false));
        assert_eq!(add(&fragments, &fragment(2, 0, true), now), Ok(false));
        assert_eq!(fragments.len(), 2);
        assert_eq!(add(&fragments, &fragment(1, 0, true), now), Ok(true));
        assert_eq!(add(&fragments, &fragment(2, 8, false), now), Ok(true));
        assert!(fragments.is_empty());
        // The buffers are used again, with nothing left in them.
        assert_eq!(add(&fragments, &fragment(3, 0, true), now), Ok(false));
        assert_eq!(fragments.lock().free.len(), 1);
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let fragments = Fragments::default();
        assert_eq!(add(&fragments, &fragment(1, 0, true), Ticks(0)), Ok(false));
        let late = PATIENCE_V4;
        assert_eq!(add(&fragments, &fragment(2, 0, true), Ticks(late.0 - 1)), Ok(false));
        assert_eq!(fragments.len(), 2);
        assert_eq!(add(&fragments, &fragment(1, 8, false), late), Ok(false), "too late");
        assert_eq!(add(&fragments, &fragment(2, 8, false), late), Ok(true));
        assert_eq!(fragments.len(), 1);
    }

    #[test]
    fn room_is_bounded_and_bad_ones_leave_nothing() {
        let (fragments, now) = (Fragments::default(), Ticks(0));
        for id in 0..CAPACITY as u16 {
            assert_eq!(add(&fragments, &fragment(id, 0, true), now), Ok(false));
        }
        let more = add(&fragments, &fragment(CAPACITY as u16, 0, true), now);
        assert_eq!(more, Err(DropReason::FragmentsFull));
        let mut bad = fragment(7, 8, false);
        assert_eq!(add(&fragments, &fragment(7, 16, false), now), Ok(false));
        bad.0[20] = 0;
        assert_eq!(add(&fragments, &bad, now), Err(DropReason::FragmentOverlap));
        assert_eq!(fragments.len(), CAPACITY - 1);
        assert_eq!(add(&fragments, &fragment(CAPACITY as u16, 0, true), now), Ok(false));
    }
}
