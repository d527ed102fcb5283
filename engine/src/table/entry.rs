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

    /// Dooms the connection of `words`, whose time is over: from now on it is gone for everybody,
    /// and the caller makes it so. False when it was touched since, or given another timeout.
    pub(super) fn doom(&self, words: &Words) -> bool {
        let time = words.time();
        // Relaxed, both: the word decides by itself, and nothing is published through it.
        self.words[TIME]
            .compare_exchange(time.0, time.doomed().0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
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

    /// Sets the timeout that belongs to `control`, unless a later transition has taken over or
    /// the connection is gone.
    fn set_time(&self, control: u64, now: Ticks, timeout: Ticks) {
        let generation = generation(control);
        let next = Time::new(generation, now, timeout);
        // Acquire: pairs with the Release below, so that a time that a later transition wrote
        // shows its control word as well.
        let mut time = Time(self.words[TIME].load(Ordering::Acquire));
        // Relaxed: ordered by the Acquire of the time.
        while time.is_of(generation)
            && same_state(control, self.words[CONTROL].load(Ordering::Relaxed))
        {
            // AcqRel, and Acquire when it fails: as the load above.
            match self.words[TIME].compare_exchange_weak(
                time.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(seen) => time = Time(seen),
            }
        }
    }

    /// Notes that a packet was seen; writes only when the tick is a new one. False when the
    /// connection is gone, or its time was over before.
    #[inline(always)]
    pub(super) fn touch(&self, generation: u32, now: Ticks) -> bool {
        // Acquire: pairs with the Release stores of the control word.
        let control = self.words[CONTROL].load(Ordering::Acquire);
        // Relaxed: the time is a value by itself.
        let time = Time(self.words[TIME].load(Ordering::Relaxed));
        if self::generation(control) != generation || !time.is_of(generation) {
            return false;
        }
        if now.is_past(time.last_seen()) {
            return true;
        }
        // Release: keeps the chain from `set_time` to the next `set_time`. Relaxed when it fails:
        // unless the connection is gone, somebody has just written a tick that is as good. One
        // try: never waits.
        self.words[TIME]
            .compare_exchange(time.0, time.seen(now).0, Ordering::Release, Ordering::Relaxed)
            .map_or_else(|seen| Time(seen).is_of(generation), |_| true)
    }

    /// Gives an expired connection another `timeout` from `now` on, unless it was touched since
    /// `words` were read.
    pub(super) fn rearm(&self, words: &Words, now: Ticks, timeout: Ticks) {
        let next = Time::new(words.generation(), now, timeout);
        // Release and Relaxed: as in `touch`.
        let _ = self.words[TIME].compare_exchange(
            words.time().0,
            next.0,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// When the connection expires, as far as is known now.
    pub(super) fn expires(&self) -> Ticks {
        // Relaxed: a value by itself; a later touch only moves it further away, and whoever
        // moves it nearer tells the owner.
        Time(self.words[TIME].load(Ordering::Relaxed)).expires()
    }

    /// Adds to the packets counted; returns what was before.
    #[inline]
    pub(super) fn count_in(&self, packets: u32) -> u32 {
        // Relaxed: a statistic. It stands in the upper half, so that it wraps into nothing.
        (self.words[COUNT].fetch_add(pack(packets, 0), Ordering::Relaxed) >> 32) as u32
    }

    /// Counts a connection to this template and starts its timer anew; false when it is gone: the
    /// touch decides, so that an expiry that did not see the count fails by the time.
    pub(super) fn adopt(&self, template: u32, now: Ticks) -> bool {
        if self.count_children(template, |children| children.checked_add(1)).is_none() {
            return false;
        }
        let lives = self.touch(template, now);
        if !lives {
            self.orphan(template);
        }
        lives
    }

    /// Counts a connection out of this template; says how many are left.
    pub(super) fn orphan(&self, template: u32) -> Option<u32> {
        self.count_children(template, |children| children.checked_sub(1))
    }

    /// Changes how many connections the template of this generation has; gives how many it now
    /// has.
    fn count_children(&self, template: u32, to: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        // Relaxed: only whether it lives; the word below says whose count it is.
        if generation(self.words[CONTROL].load(Ordering::Relaxed)) != template {
            return None;
        }
        // Relaxed, all: a count that carries its template's generation with it, so that it is
        // never another's; nothing else is published through it.
        let mut word = self.words[FAMILY].load(Ordering::Relaxed);
        loop {
            let children = to(family::children(word, template)?)?;
            match self.words[FAMILY].compare_exchange_weak(
                word,
                family::parent(template, children),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(children),
                Err(now) => word = now,
            }
        }
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
mod tests {
    use std::net::Ipv4Addr;

    use super::super::conn::{ConnId, InKey};
    use super::*;

    const NEW: NewConn = NewConn {
        proto: 6,
        caddr: Address::v4(Ipv4Addr::new(10, 1, 2, 3)),
        cport: 0x1234,
        vaddr: Address::v4(Ipv4Addr::new(192, 168, 4, 5)),
        vport: 0x5678,
        daddr: Address::v4(Ipv4Addr::new(172, 16, 6, 7)),
        dport: 0x9abc,
        dest: 0xdddd_dddd,
        mark: 0xeeee_eeee,
        flags: !flag::TEMPLATE,
        state: 0xab,
        timeout: Ticks(0x0102_0304),
        control: Some(ConnId { index: 0xaaaa, generation: 0xbbbc }),
        extra: None,
    };

    #[test]
    fn every_field_comes_back() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &NEW, 0xcd, Ticks(0xf1f2_f3f4));
        entry.count_in(u32::MAX);
        assert_eq!(entry.count_in(3), u32::MAX);
        let conn = entry.read(&Wide::default()).unwrap().conn(9);
        assert_eq!(
            (conn.id, conn.proto, conn.state, conn.flags, conn.in_packets),
            (ConnId { index: 9, generation: 0 }, 6, 0xab, NEW.flags & !OWN | flag::HASHED, 2)
        );
        assert_eq!((conn.in_key(), conn.daddr), (NEW.in_key(), NEW.daddr));
        assert_eq!((conn.dport, conn.dest, conn.mark), (NEW.dport, NEW.dest, NEW.mark));
        assert_eq!((conn.owner, conn.last_seen), (0xcd, Ticks(0xf1f2_f3f4)));
        assert_eq!((conn.timeout, conn.control), (NEW.timeout, NEW.control));
    }

    #[test]
    fn a_wide_connection_has_its_addresses_in_the_second_line() {
        let address =
            |last| Address::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        let new = NewConn { caddr: address(1), daddr: address(3), extra: Some([7, 8]), ..NEW };
        let (entry, second) = (Entry::default(), Wide::default());
        entry.fill(&second, &new, 0, Ticks(0));
        let conn = entry.read(&second).unwrap().conn(0);
        assert_eq!((conn.caddr, conn.vaddr, conn.daddr), (address(1), NEW.vaddr, address(3)));
        assert!(entry.find(&second, &new.in_key()).is_some());
        assert!(entry.find(&second, &conn.out_key()).is_some());
        // All of the address counts, not only what the first line has of it.
        let near = Address::from([0x20, 1, 0xd, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for caddr in [address(2), near, Address::from([0, 0, 0, 1])] {
            assert!(entry.find(&second, &InKey { caddr, ..new.in_key() }).is_none());
        }
        assert!(second.set_extra(1, 8, 9) && !second.set_extra(1, 8, 10));
        assert_eq!(second.extra(), [7, 9]);
    }

    #[test]
    fn a_named_template_is_found_by_its_name_and_client() {
        let new = NewConn { flags: flag::TEMPLATE, extra: Some([77, 0]), ..NEW };
        let (entry, second) = (Entry::default(), Wide::default());
        entry.fill(&second, &new, 0, Ticks(0));
        assert_eq!(entry.read(&second).unwrap().conn(0).in_key(), new.in_key());
        let finds = |key: InKey| entry.find(&second, &key).is_some();
        assert!(finds(new.in_key()));
        assert!(!finds(InKey { caddr: Address::UNSPECIFIED, ..new.in_key() }));
        assert!(!finds(InKey { name: 78, ..new.in_key() }));
        assert!(!finds(InKey { name: 0, ..new.in_key() }));
        assert!(entry.retire(0) && !finds(new.in_key()), "a stale one serves nobody");
    }

    const TEMPLATE: NewConn = NewConn { flags: flag::TEMPLATE, ..NEW };

    #[test]
    fn a_template_counts_its_connections_until_it_is_gone() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &TEMPLATE, 0, Ticks(0));
        let (now, later) = (Ticks(5), Ticks(0x0200_0000));
        assert!(entry.adopt(0, now) && entry.adopt(0, now) && !entry.adopt(2, now));
        let words = entry.read(&Wide::default()).unwrap();
        assert_eq!((words.conn(0).children, words.conn(0).last_seen), (2, now));
        assert_eq!((entry.orphan(0), entry.orphan(0), entry.orphan(0)), (Some(1), Some(0), None));
        assert_eq!(entry.orphan(2), None);
        assert!(entry.adopt(0, later) && !entry.doom(&words), "adopted since the look");
        entry.orphan(0);
        assert!(entry.doom(&entry.read(&Wide::default()).unwrap()));
        assert!(!entry.adopt(0, later) && entry.read(&Wide::default()).is_none());
    }

    #[test]
    fn a_connection_is_never_taken_for_a_template() {
        let entry = Entry::default();
        // Its template has the generation that an adopter of the entry may look for.
        let child = NewConn { control: Some(ConnId { index: 7, generation: 0 }), ..NEW };
        for new in [child, NewConn { control: None, ..NEW }] {
            entry.fill(&Wide::default(), &NewConn { flags: 0, ..new }, 0, Ticks(0));
            let generation = entry.life().0;
            assert!(!entry.adopt(generation, Ticks(0)) && !entry.adopt(0, Ticks(0)));
            assert_eq!((entry.orphan(generation), entry.orphan(0)), (None, None));
            assert_eq!(entry.read(&Wide::default()).unwrap().conn(0).control, new.control);
            entry.release();
        }
    }

    #[test]
    fn a_touch_and_the_end_of_the_time_exclude_each_other() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &NEW, 0, Ticks(0));
        let words = entry.read(&Wide::default()).unwrap();
        assert!(entry.touch(0, Ticks(9)) && !entry.doom(&words));
        assert!(entry.touch(0, Ticks(8)), "seen later than that already");
        let words = entry.read(&Wide::default()).unwrap();
        assert_eq!(words.conn(0).last_seen, Ticks(9));
        assert!(entry.doom(&words) && !entry.touch(0, Ticks(10)) && !entry.touch(0, Ticks(9)));
        let keep = |state| Some((state, Ticks(1)));
        assert!(entry.read(&Wide::default()).is_none());
        assert_eq!(entry.transition(0, Ticks(10), keep), None);
        assert!(entry.leave(words).is_some());
    }

    #[test]
    fn a_mark_does_not_cost_a_transition_its_timeout() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &TEMPLATE, 0, Ticks(0));
        let control = entry.words[CONTROL].load(Ordering::Relaxed);
        assert!(entry.mark_state(0, 1) && entry.retire(0));
        entry.set_time(control, Ticks(3), Ticks(4));
        assert_eq!(entry.expires(), Ticks(7));
        let made =
            entry.transition(0, Ticks(3), |_| Some((State { state: 0, flags: 0 }, Ticks(5))));
        assert_eq!(made.unwrap().after.flags, flag::TEMPLATE | flag::HASHED | flag::STALE);
        assert!(!entry.mark_state(2, 1));
    }

    #[test]
    fn a_life_goes_round_and_each_has_its_generation() {
        let entry = Entry::default();
        assert_eq!(entry.life(), (0, Life::Free));
        assert_eq!(entry.fill(&Wide::default(), &NEW, 0, Ticks(0)), 0);
        assert_eq!(entry.life(), (0, Life::Live));
        let words = || entry.read(&Wide::default());
        let (first, second) = (words().unwrap(), words().unwrap());
        assert!(entry.leave(first).is_some() && entry.leave(second).is_none());
        assert_eq!(entry.life(), (1, Life::Leaving));
        assert!(entry.read(&Wide::default()).is_none());
        entry.left();
        assert_eq!(entry.life(), (1, Life::Left));
        entry.release();
        assert_eq!(entry.life(), (2, Life::Free));
        assert_eq!(entry.fill(&Wide::default(), &NEW, 0, Ticks(0)), 2);
        entry.release();
        assert_eq!(entry.life(), (4, Life::Free), "a filled entry may be given back unused");
    }

    #[test]
    fn a_key_matches_its_own_kind_only() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
        let second = Wide::default();
        let finds = |key: InKey| entry.find(&second, &key).is_some();
        let template = InKey { template: true, ..NEW.in_key() };
        assert!(finds(template) && !finds(NEW.in_key()));
        assert!(!finds(InKey { proto: 17, ..template }));
        assert!(!finds(InKey { caddr: NEW.vaddr, ..template }));
        assert!(!finds(InKey { vaddr: NEW.caddr, ..template }));
        assert!(!finds(InKey { vport: 1, ..template }));
        let out = entry.read(&second).unwrap().conn(0).out_key();
        assert!(entry.find(&second, &out).is_none(), "a reply finds no template");
    }

    #[test]
    fn a_transition_keeps_what_the_table_owns_and_sets_the_time() {
        let entry = Entry::default();
        entry.fill(&Wide::default(), &NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
        let made =
            entry.transition(0, Ticks(50), |_| Some((State { state: 3, flags: 0 }, Ticks(9))));
        assert_eq!(made.unwrap().after.flags, flag::TEMPLATE | flag::HASHED);
        let conn = entry.read(&Wide::default()).unwrap().conn(0);
        assert_eq!((conn.state, conn.expires(), conn.proto), (3, Ticks(59), 6));
        assert_eq!(entry.transition(0, Ticks(60), |_| None), None);
        assert_eq!(entry.transition(2, Ticks(60), |s| Some((s, Ticks(1)))), None);
        entry.touch(2, Ticks(70));
        assert_eq!(entry.expires(), Ticks(59), "another generation's touch does nothing");
        entry.touch(0, Ticks(70));
        assert_eq!(entry.expires(), Ticks(79));
    }
}
