//! One connection's cache line: eight atomic words, and the rules by which it is reused.
//!
//! ```text
//! 0  generation 32 | state 8 | proto 8 | flags 16     every change is a compare-and-swap
//! 1  caddr 32 | cport 16 | vport 16
//! 2  vaddr 32 | daddr 32
//! 3  dest 32 | dport 16 | owner 8 | -
//! 4  packets in 32 | firewall mark 32
//! 5  last seen, timeout                               see `time`
//! 6  its template, or a template's connections        see `family`
//! 7  previous 32 | next 32                            timer wheel
//! ```
//!
//! A wide connection (flag WIDE) has a second line, for IPv6 addresses and for the extra words of
//! the few that need them; words 1 and 2 then hold the addresses' lower 32 bits.
//!
//! ```text
//! 0  caddr 128     2  vaddr 128     4  daddr 128     6  extra 64     7  extra 64
//! ```
//!
//! The generation's lowest bit and the flag HASHED say in which part of its life an entry is:
//!
//! ```text
//!   generation  HASHED
//!   even        no      free, or being filled by its owner
//!   even        yes     live: found by lookups, until it is doomed
//!   odd         yes     being removed: whoever made it odd takes it out of the index
//!   odd         no      waits for its owner, who unlinks its timer and frees it (even again)
//! ```
//!
//! Readers work as with a seqlock: the words are one connection's when the generation was the same
//! before and after. Fields are atomic, so a reader that loses that race reads nonsense that it
//! throws away, never undefined behaviour.

mod family;
mod time;
mod wide;
mod words;

use super::conn::{NewConn, State, Transition, flag};
use super::sync::{AtomicU64, Ordering, fence, supersede};
use crate::address::Address;
use crate::clock::Ticks;

use self::time::Time;
pub(super) use self::wide::Wide;
use self::words::{Ends, Line};
pub(super) use self::words::{Key, Words};

const CONTROL: usize = 0;
const CLIENT: usize = 1;
const ADDRS: usize = 2;
const DEST: usize = 3;
const COUNT: usize = 4;
const TIME: usize = 5;
const FAMILY: usize = 6;
const LINKS: usize = 7;

/// Flags that the table alone sets.
const OWN: u16 = flag::HASHED | flag::WIDE | flag::NAMED | flag::STALE;

/// Flags that say what an entry is to a lookup.
const KIND: u16 = flag::TEMPLATE | flag::NAMED | flag::STALE;

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

/// The part of its life in which an entry is; see the module's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Free,
    Live,
    Leaving,
    Left,
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
fn ports_word(caddr: Address, cport: u16, vport: u16) -> u64 {
    pack(caddr.low32(), u32::from(cport) << 16 | u32::from(vport))
}

#[inline(always)]
fn with_state(control: u64, to: State) -> u64 {
    const FIXED: u16 = OWN | flag::TEMPLATE;
    let flags = control as u16 & FIXED | to.flags & !FIXED;
    control & !0xff00_ffff | u64::from(to.state) << 24 | u64::from(flags)
}

#[inline(always)]
fn state_of(control: u64) -> State {
    State { state: (control >> 24) as u8, flags: control as u16 }
}

/// Whether the timeout that a transition to `control` brought still counts at `seen`. A
/// template's state is marked beside its timeout, and has none of its own.
fn same_state(control: u64, seen: u64) -> bool {
    seen == control || control as u16 & flag::TEMPLATE != 0 && seen >> 32 == control >> 32
}

impl Entry {
    /// Fills a free entry, with its second line, that is the caller's alone; gives its new
    /// generation.
    pub(super) fn fill(&self, second: &Wide, new: &NewConn, owner: u8, now: Ticks) -> u32 {
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
        let generation = generation(old);
        let mut flags = new.flags & !OWN | flag::HASHED;
        let template = flags & flag::TEMPLATE != 0;
        put(CLIENT, ports_word(new.caddr, new.cport, new.vport));
        put(ADDRS, pack(new.vaddr.low32(), new.daddr.low32()));
        put(DEST, pack(new.dest, u32::from(new.dport) << 16 | u32::from(owner) << 8));
        put(COUNT, pack(0, new.mark));
        supersede(&self.words[TIME], Time::new(generation, now, new.timeout).0);
        let family = match template {
            true => family::parent(generation, 0),
            false => family::child(new.control),
        };
        supersede(&self.words[FAMILY], family);
        if Wide::takes(new) {
            flags |= flag::WIDE;
            second.fill(new);
        }
        if template && new.extra.is_some() {
            flags |= flag::NAMED;
        }
        let low = u32::from(new.state) << 24 | u32::from(new.proto) << 16 | u32::from(flags);
        // Release: pairs with the Acquire load in `read`, which then sees the words above.
        self.words[CONTROL].store(pack(generation, low), Ordering::Release);
        generation
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

    /// The words, if the entry is live, and stayed the same connection while they were read.
    #[inline(always)]
    pub(super) fn read(&self, second: &Wide) -> Option<Words> {
        self.read_if(second, |_| true)
    }

    /// The words, if the entry is the connection looked for.
    #[inline(always)]
    pub(super) fn find(&self, second: &Wide, key: &impl Key) -> Option<Words> {
        self.read_if(second, |line| key.may_match(line)).filter(|words| key.matches(words))
    }

    #[inline(always)]
    fn read_if(&self, second: &Wide, wanted: impl FnOnce(&Line) -> bool) -> Option<Words> {
        // Acquire: pairs with the Release store in `fill`.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        // Relaxed: checked by the generation below.
        let word = |at: usize| self.words[at].load(Ordering::Relaxed);
        // One by one, and not in a loop: so the copy stays in registers.
        let line =
            [control, word(CLIENT), word(ADDRS), word(DEST), word(COUNT), word(TIME), word(FAMILY)];
        if life(control) != Life::Live || Time(line[TIME]).is_doomed() || !wanted(&line) {
            return None;
        }
        let (ends, extra) = match control as u16 & flag::WIDE {
            0 => (Ends::narrow(&line), 0),
            _ => second.read(),
        };
        // Pairs with the Release fence in `fill`.
        fence(Ordering::Acquire);
        // Relaxed: ordered by the fence.
        let after = self.words[CONTROL].load(Ordering::Relaxed);
        (generation(after) == generation(control)).then_some(Words { line, ends, extra })
    }

    /// Starts the way from one point in the life of the connection of `words`: only one caller
    /// gets its last words and with them the duty to take it out of the index and call
    /// [`left`](Self::left).
    pub(super) fn leave(&self, mut words: Words) -> Option<Words> {
        loop {
            let control = words.line[CONTROL];
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
                Err(now) if generation(now) == words.generation() => words.line[CONTROL] = now,
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

    /// Whether it has a second line, for a hint.
    #[inline(always)]
    pub(super) fn is_wide(&self) -> bool {
        // Relaxed: only a hint.
        self.words[CONTROL].load(Ordering::Relaxed) as u16 & flag::WIDE != 0
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
        // Relaxed: a connection that is doomed only now has this transition as its last.
        if Time(self.words[TIME].load(Ordering::Relaxed)).is_doomed() {
            return None;
        }
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

    /// Makes the template stale: no lookup finds it any more.
    pub(super) fn retire(&self, generation: u32) -> bool {
        self.set_bits(generation, flag::TEMPLATE, flag::STALE.into())
    }

    /// Notes that the client was asked about the connection, which is no template.
    pub(super) fn mark_asked(&self, generation: u32) -> bool {
        self.set_bits(generation, 0, flag::ASKED.into())
    }

    /// Sets bits of the template's state.
    pub(super) fn mark_state(&self, generation: u32, bits: u8) -> bool {
        self.set_bits(generation, flag::TEMPLATE, u64::from(bits) << 24)
    }

    /// Sets bits of the control word of a living template, or of a connection, as `kind` says.
    fn set_bits(&self, generation: u32, kind: u16, bits: u64) -> bool {
        // Relaxed: nothing is read on the strength of it; the exchange below orders.
        let mut control = self.words[CONTROL].load(Ordering::Relaxed);
        while self::generation(control) == generation
            && life(control) == Life::Live
            && control as u16 & flag::TEMPLATE == kind
        {
            if control & bits == bits {
                return true;
            }
            // AcqRel: keeps the chain of those who change the control word.
            match self.words[CONTROL].compare_exchange_weak(
                control,
                control | bits,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => control = now,
            }
        }
        false
    }

    /// Adds to the packets counted; returns what was before.
    #[inline]
    pub(super) fn count_in(&self, packets: u32) -> u32 {
        // Relaxed: a statistic. It stands in the upper half, so that it wraps into nothing.
        (self.words[COUNT].fetch_add(pack(packets, 0), Ordering::Relaxed) >> 32) as u32
    }

    /// The links of the timer wheel: previous and next. Only the owner uses them.
    #[inline(always)]
    pub(super) fn links(&self) -> (u32, u32) {
        // Relaxed: one thread's.
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

#[cfg(all(test, not(loom)))]
mod tests;
