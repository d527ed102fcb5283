//! One connection's cache line: eight atomic words, and the rules by which it is reused.
//!
//! ```text
//! 0  generation 32 | state 8 | proto 8 | flags 16     every change is a compare-and-swap
//! 1  caddr 32 | cport 16 | vport 16
//! 2  vaddr 32 | daddr 32
//! 3  dest 32 | dport 16 | owner 8 | -
//! 4  packets in 32 | service or firewall mark 32
//! 5  last seen 32 | timeout 32
//! 6  previous 32 | next 32                            timer wheel, or the free list
//! 7  kept for the persistence template                zero
//! ```
//!
//! The generation's lowest bit and the flag HASHED say in which part of its life an entry is:
//!
//! ```text
//!   generation  HASHED
//!   even        no      free, or being filled by its owner
//!   even        yes     live: found by lookups
//!   odd         yes     being removed: whoever made it odd takes it out of the index
//!   odd         no      waits for its owner, who unlinks its timer and frees it (even again)
//! ```
//!
//! Readers work as with a seqlock: the words are one connection's when the generation was the same
//! before and after. Fields are atomic, so a reader that loses that race reads nonsense that it
//! throws away, never undefined behaviour.

use std::net::Ipv4Addr;

use super::conn::{Conn, ConnId, InKey, NewConn, OutKey, State, Transition, flag};
use super::sync::{AtomicU64, Ordering, fence};
use crate::clock::Ticks;

const CONTROL: usize = 0;
const CLIENT: usize = 1;
const ADDRS: usize = 2;
const DEST: usize = 3;
const SERVICE: usize = 4;
const TIME: usize = 5;
const LINKS: usize = 6;
const TEMPLATE: usize = 7;

/// The longest timeout: far from half the clock's circle, so that moments always compare rightly.
const MAX_TIMEOUT: u32 = 1 << 30;

const HASHED: u64 = flag::HASHED as u64;
const GENERATION_ONE: u64 = 1 << 32;

/// The end of a list of entries.
pub(super) const NONE: u32 = u32::MAX;

/// One connection.
#[repr(C, align(64))]
#[derive(Default)]
pub(super) struct Entry {
    words: [AtomicU64; 8],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64);

/// The words of a live entry, read as one.
pub(super) struct Words([u64; 6]);

/// The part of its life in which an entry is; see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Live,
    Leaving,
    Left,
}

/// What a lookup compares.
pub(super) trait Key {
    fn matches(&self, words: &Words) -> bool;
}

#[inline(always)]
const fn generation(control: u64) -> u32 {
    (control >> 32) as u32
}

#[inline(always)]
const fn life(control: u64) -> Life {
    match (control & GENERATION_ONE != 0, control & HASHED != 0) {
        (false, false) => Life::Free,
        (false, true) => Life::Live,
        (true, true) => Life::Leaving,
        (true, false) => Life::Left,
    }
}

#[inline(always)]
fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[inline(always)]
fn client_word(caddr: Ipv4Addr, cport: u16, vport: u16) -> u64 {
    pack(caddr.to_bits(), u32::from(cport) << 16 | u32::from(vport))
}

#[inline(always)]
fn with_state(control: u64, to: State) -> u64 {
    const FIXED: u16 = flag::HASHED | flag::TEMPLATE;
    let flags = control as u16 & FIXED | to.flags & !FIXED;
    control & !0xff00_ffff | u64::from(to.state) << 24 | u64::from(flags)
}

#[inline(always)]
fn state_of(control: u64) -> State {
    State { state: (control >> 24) as u8, flags: control as u16 }
}

impl Entry {
    /// Fills a free entry that is the caller's alone; gives its new generation.
    pub(super) fn fill(&self, new: &NewConn, owner: u8, now: Ticks) -> u32 {
        // Relaxed: the caller owns the entry and got it with everything that happened to it.
        let old = self.words[CONTROL].load(Ordering::Relaxed);
        debug_assert_eq!(life(old), Life::Free);
        // Pairs with the Acquire fence in `read`: who reads one of the words below sees at least
        // the generation of now, and so drops what it has of the entry's earlier life.
        fence(Ordering::Release);
        let put = |word: usize, value: u64| {
            // Relaxed: published by the store of the control word below.
            self.words[word].store(value, Ordering::Relaxed);
        };
        put(CLIENT, client_word(new.caddr, new.cport, new.vport));
        put(ADDRS, pack(new.vaddr.to_bits(), new.daddr.to_bits()));
        put(DEST, pack(new.dest, u32::from(new.dport) << 16 | u32::from(owner) << 8));
        put(SERVICE, pack(0, new.service));
        put(TIME, pack(now.0, new.timeout.0.min(MAX_TIMEOUT)));
        put(TEMPLATE, 0);
        let low = u32::from(new.state) << 24
            | u32::from(new.proto) << 16
            | u32::from(new.flags | flag::HASHED);
        // Release: pairs with the Acquire load in `read`, which then sees the words above.
        self.words[CONTROL].store(pack(generation(old), low), Ordering::Release);
        generation(old)
    }

    /// Makes the caller's entry free, with a generation that no reader has seen: one that was
    /// filled and never got into the index, or one that has left it.
    pub(super) fn release(&self) {
        // Relaxed: only the owner changes the control word in these parts of a life.
        let old = self.words[CONTROL].load(Ordering::Relaxed);
        let next = (generation(old) | 1).wrapping_add(1);
        // Relaxed: the free list hands the entry on in order; a reader needs nothing from here.
        self.words[CONTROL].store(pack(next, 0), Ordering::Relaxed);
    }

    /// The words, if the entry is live and stayed the same connection while they were read.
    #[inline(always)]
    pub(super) fn read(&self) -> Option<Words> {
        // Acquire: pairs with the Release store in `fill`.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        if !matches!(life(control), Life::Live) {
            return None;
        }
        // Relaxed: checked by the generation below.
        let word = |at: usize| self.words[at].load(Ordering::Relaxed);
        // One by one, and not in a loop: so the copy stays in registers.
        let words = [control, word(CLIENT), word(ADDRS), word(DEST), word(SERVICE), word(TIME)];
        // Pairs with the Release fence in `fill`.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        let after = self.words[CONTROL].load(Ordering::Relaxed);
        (generation(after) == generation(control)).then_some(Words(words))
    }

    /// Starts the way from one point in the entry's life: only one caller gets the last words of
    /// the connection and with them the duty to take it out of the index and call
    /// [`left`](Self::left).
    pub(super) fn leave(&self, generation: u32) -> Option<Words> {
        let mut words = self.read().filter(|words| words.generation() == generation)?;
        loop {
            let control = words.0[CONTROL];
            // AcqRel: the winner's view is at least what `fill` published (Release there), and
            // the owner that frees the entry sees all that led here (Acquire in `life`).
            // Relaxed when it fails: the value is only compared, its words were read before.
            match self.words[CONTROL].compare_exchange_weak(
                control,
                control + GENERATION_ONE,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(words),
                Err(now) if self::generation(now) == generation => words.0[CONTROL] = now,
                Err(_) => return None,
            }
        }
    }

    /// Ends what [`leave`](Self::leave) began: the index does not know the entry any more.
    pub(super) fn left(&self) {
        // Relaxed: between `leave` and here the control word is this caller's alone.
        let control = self.words[CONTROL].load(Ordering::Relaxed);
        debug_assert_eq!(life(control), Life::Leaving);
        // Release: pairs with the Acquire in `life`: an owner that frees the entry knows that it
        // is out of the index.
        self.words[CONTROL].store(control & !HASHED, Ordering::Release);
    }

    /// Generation and part of life.
    pub(super) fn life(&self) -> (u32, Life) {
        // Acquire: pairs with the Release store in `left`.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        (generation(control), life(control))
    }

    /// Changes state, flags and timeout as `to` says, if the entry still is that connection.
    pub(super) fn transition(
        &self,
        generation: u32,
        now: Ticks,
        mut to: impl FnMut(State) -> Option<(State, Ticks)>,
    ) -> Option<Transition> {
        // Acquire, here and below: `to` may read what the one who set the state wrote before.
        let mut control = self.words[CONTROL].load(Ordering::Acquire);
        loop {
            if self::generation(control) != generation || life(control) != Life::Live {
                return None;
            }
            let (after, timeout) = to(state_of(control))?;
            let next = with_state(control, after);
            // AcqRel: as the load above, and Release for those who acquire it.
            match self.words[CONTROL].compare_exchange_weak(
                control,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    self.set_time(next, now, timeout);
                    return Some(Transition { before: state_of(control), after: state_of(next) });
                }
                Err(seen) => control = seen,
            }
        }
    }

    /// Sets the timeout that belongs to `control`, unless a later transition has taken over.
    ///
    /// An entry that is reused between the two steps by a connection with the same tick and the
    /// same timeout would get this one: its next packet or transition mends that.
    fn set_time(&self, control: u64, now: Ticks, timeout: Ticks) {
        let next = pack(now.0, timeout.0.min(MAX_TIMEOUT));
        // Acquire: pairs with the Release below, so that a time that a later transition wrote
        // shows its control word as well.
        let mut time = self.words[TIME].load(Ordering::Acquire);
        // Relaxed: ordered by the Acquire of the time.
        while self.words[CONTROL].load(Ordering::Relaxed) == control {
            // AcqRel, and Acquire when it fails: as the load above.
            match self.words[TIME].compare_exchange_weak(
                time,
                next,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(seen) => time = seen,
            }
        }
    }

    /// Notes that a packet was seen; writes only when the tick is another one. False when the
    /// entry is another connection's by now.
    #[inline(always)]
    pub(super) fn touch(&self, generation: u32, now: Ticks) -> bool {
        // Acquire: pairs with the Release stores of the control word.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        // Relaxed: the time is a value by itself.
        let time = self.words[TIME].load(Ordering::Relaxed);
        if self::generation(control) != generation {
            return false;
        }
        if (time >> 32) as u32 == now.0 {
            return true;
        }
        // Release: keeps the chain from `set_time` to the next `set_time`. Relaxed when it
        // fails: somebody has just written a tick that is as good. One try: never waits. In the
        // worst case, a reused entry, it sets a fresh connection's tick to now, which it is.
        let _ = self.words[TIME].compare_exchange(
            time,
            pack(now.0, time as u32),
            Ordering::Release,
            Ordering::Relaxed,
        );
        true
    }

    /// Gives an expired connection another `timeout` from `now` on, unless it was touched since
    /// `words` were read.
    pub(super) fn rearm(&self, words: &Words, now: Ticks, timeout: Ticks) {
        let next = pack(now.0, timeout.0.min(MAX_TIMEOUT));
        // Release and Relaxed: as in `touch`.
        let _ = self.words[TIME].compare_exchange(
            words.0[TIME],
            next,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// When the connection expires, as far as is known now.
    pub(super) fn expires(&self) -> Ticks {
        // Relaxed: a value by itself; a later touch only moves it further away, and whoever
        // moves it nearer tells the owner.
        time_expires(self.words[TIME].load(Ordering::Relaxed))
    }

    /// Adds to the packets counted; returns what was before.
    #[inline]
    pub(super) fn count_in(&self, packets: u32) -> u32 {
        // Relaxed: a statistic. It stands in the upper half, so that it wraps into nothing.
        (self.words[SERVICE].fetch_add(pack(packets, 0), Ordering::Relaxed) >> 32) as u32
    }

    /// The links: previous and next. Only the owner uses them, or the free list on a free entry.
    #[inline(always)]
    pub(super) fn links(&self) -> (u32, u32) {
        // Relaxed: one thread's at a time, handed on in order by the free list's head.
        let links = self.words[LINKS].load(Ordering::Relaxed);
        ((links >> 32) as u32, links as u32)
    }

    /// Sets both links.
    #[inline(always)]
    pub(super) fn set_links(&self, previous: u32, next: u32) {
        // Relaxed: as in `links`.
        self.words[LINKS].store(pack(previous, next), Ordering::Relaxed);
    }
}

#[inline(always)]
fn time_expires(time: u64) -> Ticks {
    Ticks((time >> 32) as u32).after(Ticks(time as u32))
}

impl Words {
    #[inline(always)]
    pub(super) fn generation(&self) -> u32 {
        generation(self.0[CONTROL])
    }

    #[inline(always)]
    pub(super) fn owner(&self) -> u8 {
        (self.0[DEST] >> 8) as u8
    }

    #[inline(always)]
    pub(super) fn expires(&self) -> Ticks {
        time_expires(self.0[TIME])
    }

    /// The connection of these words, which were read from the entry at `index`.
    #[inline(always)]
    pub(super) fn conn(&self, index: u32) -> Conn {
        let [control, client, addrs, dest, service, time] = self.0;
        let State { state, flags } = state_of(control);
        Conn {
            id: ConnId { index, generation: generation(control) },
            proto: (control >> 16) as u8,
            state,
            flags,
            caddr: Ipv4Addr::from_bits((client >> 32) as u32),
            cport: (client >> 16) as u16,
            vaddr: Ipv4Addr::from_bits((addrs >> 32) as u32),
            vport: client as u16,
            daddr: Ipv4Addr::from_bits(addrs as u32),
            dport: (dest >> 16) as u16,
            dest: (dest >> 32) as u32,
            service: service as u32,
            in_packets: (service >> 32) as u32,
            owner: self.owner(),
            last_seen: Ticks((time >> 32) as u32),
            timeout: Ticks(time as u32),
        }
    }

    #[inline(always)]
    fn is_kind(&self, proto: u8, template: bool) -> bool {
        let control = self.0[CONTROL];
        (control >> 16) as u8 == proto && (control as u16 & flag::TEMPLATE != 0) == template
    }
}

impl Key for InKey {
    #[inline(always)]
    fn matches(&self, words: &Words) -> bool {
        words.0[CLIENT] == client_word(self.caddr, self.cport, self.vport)
            && (words.0[ADDRS] >> 32) as u32 == self.vaddr.to_bits()
            && words.is_kind(self.proto, self.template)
    }
}

impl Key for OutKey {
    #[inline(always)]
    fn matches(&self, words: &Words) -> bool {
        words.0[CLIENT] >> 16 == client_word(self.caddr, self.cport, 0) >> 16
            && words.0[ADDRS] as u32 == self.daddr.to_bits()
            && (words.0[DEST] >> 16) as u16 == self.dport
            && words.is_kind(self.proto, false)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const NEW: NewConn = NewConn {
        proto: 6,
        caddr: Ipv4Addr::new(10, 1, 2, 3),
        cport: 0x1234,
        vaddr: Ipv4Addr::new(192, 168, 4, 5),
        vport: 0x5678,
        daddr: Ipv4Addr::new(172, 16, 6, 7),
        dport: 0x9abc,
        dest: 0xdddd_dddd,
        service: 0xeeee_eeee,
        flags: !flag::TEMPLATE,
        state: 0xab,
        timeout: Ticks(0x0102_0304),
    };

    #[test]
    fn every_field_comes_back() {
        let entry = Entry::default();
        entry.fill(&NEW, 0xcd, Ticks(0xf1f2_f3f4));
        entry.count_in(u32::MAX);
        assert_eq!(entry.count_in(3), u32::MAX);
        let conn = entry.read().unwrap().conn(9);
        assert_eq!(
            (conn.id, conn.proto, conn.state, conn.flags, conn.in_packets),
            (ConnId { index: 9, generation: 0 }, 6, 0xab, NEW.flags, 2)
        );
        assert_eq!((conn.in_key(), conn.daddr), (NEW.in_key(), NEW.daddr));
        assert_eq!((conn.dport, conn.dest, conn.service), (NEW.dport, NEW.dest, NEW.service));
        assert_eq!((conn.owner, conn.last_seen), (0xcd, Ticks(0xf1f2_f3f4)));
        assert_eq!(conn.timeout, NEW.timeout);
    }

    #[test]
    fn a_life_goes_round_and_each_has_its_generation() {
        let entry = Entry::default();
        assert_eq!(entry.life(), (0, Life::Free));
        assert_eq!(entry.fill(&NEW, 0, Ticks(0)), 0);
        assert_eq!(entry.life(), (0, Life::Live));
        assert!(entry.leave(2).is_none() && entry.leave(0).is_some() && entry.leave(0).is_none());
        assert_eq!(entry.life(), (1, Life::Leaving));
        assert!(entry.read().is_none());
        entry.left();
        assert_eq!(entry.life(), (1, Life::Left));
        entry.release();
        assert_eq!(entry.life(), (2, Life::Free));
        assert_eq!(entry.fill(&NEW, 0, Ticks(0)), 2);
        entry.release();
        assert_eq!(entry.life(), (4, Life::Free), "a filled entry may be given back unused");
    }

    #[test]
    fn a_key_matches_its_own_kind_only() {
        let entry = Entry::default();
        entry.fill(&NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
        let words = entry.read().unwrap();
        let template = InKey { template: true, ..NEW.in_key() };
        assert!(template.matches(&words) && !NEW.in_key().matches(&words));
        assert!(!InKey { proto: 17, ..template }.matches(&words));
        assert!(!words.conn(0).out_key().matches(&words), "a reply finds no template");
    }

    #[test]
    fn a_transition_keeps_what_the_table_owns_and_sets_the_time() {
        let entry = Entry::default();
        entry.fill(&NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
        let made =
            entry.transition(0, Ticks(50), |_| Some((State { state: 3, flags: 0 }, Ticks(9))));
        assert_eq!(made.unwrap().after.flags, flag::TEMPLATE | flag::HASHED);
        let conn = entry.read().unwrap().conn(0);
        assert_eq!((conn.state, conn.expires(), conn.proto), (3, Ticks(59), 6));
        assert_eq!(entry.transition(0, Ticks(60), |_| None), None);
        assert_eq!(entry.transition(2, Ticks(60), |s| Some((s, Ticks(1)))), None);
        entry.touch(2, Ticks(70));
        assert_eq!(entry.expires(), Ticks(59), "another generation's touch does nothing");
        entry.touch(0, Ticks(70));
        assert_eq!(entry.expires(), Ticks(79));
    }
}
