//! What lblc and lblcr remember: an entry for each virtual address that was asked for.
//!
//! The kernel's table has 1024 buckets of any length. Here memory is fixed: [`SLOTS`] entries.
//! An address has two homes, groups of slots, and goes to the emptier one; when both are full it
//! is not remembered. Workers look up and insert without locks or waiting: the key of a slot is
//! one word, taken by one swap. It is a keyed hash of the address with the number of its kernel
//! bucket, so that nobody outside can choose addresses that meet. Two workers that insert one
//! address at the same time, while others come and go beside it, may make two entries of it: the
//! one that is found first serves, and the other grows old.
//!
//! Sweeping is the control plane's ([`Cache::tick`]), by the kernel's rule (ip_vs_lblc.c,
//! ip_vs_lblcr.c): each minute, when there are more than 16 * 1024 entries, those go that were
//! not used for six minutes, bucket by bucket from where the last sweep ended, until a third
//! more than the excess are gone; at every 30th look all go that were not used for the time that
//! a sysctl says.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::hash::{fold, golden};
use crate::sync::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// With keys of its own for each cache; in a model the same each time.
#[cfg(not(loom))]
type Hasher = std::hash::RandomState;
#[cfg(loom)]
type Hasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// Seconds as [`Flow::now`](crate::Flow::now) counts.
const SECOND: u32 = 100;

/// How often the control plane's tick looks.
const CHECK_INTERVAL: u32 = 60 * SECOND;

/// At every which look all entries are swept.
const CHECKS_FOR_ALL: u32 = 30;

/// How long an entry is safe while there are too many.
const PRESSED_TIMEOUT: u32 = 6 * 60 * SECOND;

/// A sysctl's default: how long an entry is safe at all.
pub(crate) const EXPIRATION: u32 = 24 * 60 * 60 * SECOND;

/// The kernel's buckets.
const BUCKET_BITS: u32 = 10;
const BUCKETS: u64 = 1 << BUCKET_BITS;

/// How many entries are not too many.
const MAX_SIZE: usize = 16 << BUCKET_BITS;

/// How many entries there can be.
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 * GROUP } else { 2 * MAX_SIZE };

/// Slots of a home: their keys are a cache line.
const GROUP: usize = if cfg!(loom) { 1 } else { 8 };

/// No entry.
const FREE: u64 = 0;

/// What an entry says of its address.
pub(crate) trait Value: Default {
    /// What all entries of a cache share.
    type Shared: Default;

    /// Forgets. False when another thread is changing it just now.
    fn clear(&self, shared: &Self::Shared) -> bool;
}

/// An entry.
#[derive(Debug, Default)]
pub(crate) struct Entry<V> {
    used: AtomicU32,
    pub(crate) value: V,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache<V: Value> {
    hasher: Hasher,
    homes: Box<[Home]>,
    entries: Box<[Entry<V>]>,
    size: AtomicUsize,
    expiration: AtomicU32,
    sweep: Mutex<Sweep>,
    pub(crate) shared: V::Shared,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Home([AtomicU64; GROUP]);

/// Where the sweeps are.
#[derive(Debug)]
struct Sweep {
    /// When the next look is due; none before the first tick.
    next: Option<u32>,
    counter: u32,
    /// The bucket at which the last sweep under pressure ended.
    rover: u64,
}

/// An address, hashed. The lowest bits are the kernel's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    fn bucket(self) -> u64 {
        self.0 % BUCKETS
    }

    fn homes(self) -> [usize; 2] {
        let homes = SLOTS / GROUP;
        let (high, low) = ((self.0 >> 48) as usize, (self.0 >> 32) as usize);
        [high % homes, low % homes]
    }
}

impl<V: Value> Cache<V> {
    pub(crate) fn new() -> Self {
        Self {
            hasher: Hasher::default(),
            homes: (0..SLOTS / GROUP).map(|_| Home::default()).collect(),
            entries: (0..SLOTS).map(|_| Entry::default()).collect(),
            size: AtomicUsize::new(0),
            expiration: AtomicU32::new(EXPIRATION),
            sweep: Mutex::new(Sweep { next: None, counter: 1, rover: 0 }),
            shared: V::Shared::default(),
        }
    }

    /// The key of an address.
    #[inline]
    pub(crate) fn key(&self, address: IpAddr) -> Key {
        let hashed = match address {
            IpAddr::V4(address) => self.hasher.hash_one(address.to_bits()),
            IpAddr::V6(address) => self.hasher.hash_one(address.to_bits()),
        };
        let bucket = u64::from(golden(fold(address), BUCKET_BITS));
        // Never `FREE`: one bit above the bucket's is always set.
        Key(hashed & !(BUCKETS - 1) | BUCKETS | bucket)
    }

    /// The entry of an address, which is used now.
    #[inline]
    pub(crate) fn get(&self, key: Key, now: u32) -> Option<&Entry<V>> {
        let entry = &self.entries[self.find(key)?];
        entry.touch(now);
        Some(entry)
    }

    /// The entry of an address; a new one when there was none and there is room.
    pub(crate) fn insert(&self, key: Key, now: u32) -> Option<&Entry<V>> {
        loop {
            // Room first: who looks for it at the same time finds the same slot, and one loses.
            let room = self.room(key);
            if let Some(entry) = self.get(key, now) {
                return Some(entry);
            }
            let slot = room?;
            // Acquire: pairs with the Release in `remove`; the entry has forgotten its old address.
            let took = self.slot(slot).compare_exchange(FREE, key.0, Acquire, Relaxed);
            if took.is_ok() {
                self.size.fetch_add(1, Relaxed);
                self.entries[slot].touch(now);
                return Some(&self.entries[slot]);
            }
        }
    }

    #[inline]
    fn find(&self, key: Key) -> Option<usize> {
        key.homes().into_iter().find_map(|home| {
            // Acquire: as in `insert`, for whoever finds what another inserted. The value itself is
            // published by its own word.
            let is = |slot: &AtomicU64| slot.load(Acquire) == key.0;
            self.homes[home].0.iter().position(is).map(|slot| home * GROUP + slot)
        })
    }

    /// A free slot in the emptier of the two homes.
    fn room(&self, key: Key) -> Option<usize> {
        let free = |home: &usize| {
            self.homes[*home].0.iter().filter(|slot| slot.load(Relaxed) == FREE).count()
        };
        let [first, second] = key.homes();
        let home = if free(&second) > free(&first) { second } else { first };
        let slot = self.homes[home].0.iter().position(|slot| slot.load(Relaxed) == FREE)?;
        Some(home * GROUP + slot)
    }

    #[inline]
    fn slot(&self, slot: usize) -> &AtomicU64 {
        &self.homes[slot / GROUP].0[slot % GROUP]
    }

    /// How long an unused entry is kept.
    #[inline]
    pub(crate) fn expiration(&self) -> u32 {
        self.expiration.load(Relaxed)
    }

    /// Sets how long an unused entry is kept.
    pub(crate) fn set_expiration(&self, ticks: u32) {
        self.expiration.store(ticks, Relaxed);
    }

    /// How many entries there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// The values of all entries.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|entry| &entry.value)
    }

    /// Sweeps if it is time to. For the control plane.
    pub(crate) fn tick(&self, now: u32) {
        let mut sweep = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = *sweep.next.get_or_insert(now.wrapping_add(CHECK_INTERVAL));
        while reached(now, due) {
            self.check(due, &mut sweep);
            due = due.wrapping_add(CHECK_INTERVAL);
        }
        sweep.next = Some(due);
    }

    fn check(&self, now: u32, sweep: &mut Sweep) {
        if sweep.counter.is_multiple_of(CHECKS_FOR_ALL) {
            self.sweep_all(now);
            sweep.counter = 1;
        } else if self.size.load(Relaxed) <= MAX_SIZE {
            sweep.counter += 1;
        } else {
            sweep.rover = self.sweep_pressed(now, sweep.rover);
        }
    }

    fn sweep_all(&self, now: u32) {
        self.expired(now, self.expiration()).for_each(|(slot, _)| _ = self.remove(slot));
    }

    /// Returns the bucket at which it ended.
    fn sweep_pressed(&self, now: u32, rover: u64) -> u64 {
        let excess = self.size.load(Relaxed).saturating_sub(MAX_SIZE);
        let goal = (excess * 4 / 3).min(MAX_SIZE / 2);
        let ahead = |key: Key| key.bucket().wrapping_sub(rover + 1) % BUCKETS;
        let mut old: Vec<_> =
            self.expired(now, PRESSED_TIMEOUT).map(|(slot, key)| (ahead(key), slot)).collect();
        old.sort_unstable();
        let mut gone = 0;
        for bucket in old.chunk_by(|a, b| a.0 == b.0) {
            gone += bucket.iter().filter(|(_, slot)| self.remove(*slot)).count();
            if gone >= goal {
                return (rover + 1 + bucket[0].0) % BUCKETS;
            }
        }
        rover
    }

    /// Slots whose entries were not used for so long.
    fn expired(&self, now: u32, timeout: u32) -> impl Iterator<Item = (usize, Key)> {
        (0..SLOTS).filter_map(move |slot| {
            let key = self.slot(slot).load(Relaxed);
            let used = self.entries[slot].used.load(Relaxed);
            let old = key != FREE && reached(now, used.wrapping_add(timeout));
            old.then_some((slot, Key(key)))
        })
    }

    fn remove(&self, slot: usize) -> bool {
        let cleared = self.entries[slot].value.clear(&self.shared);
        if cleared {
            // Release: pairs with the Acquire in `insert`.
            self.slot(slot).store(FREE, Release);
            self.size.fetch_sub(1, Relaxed);
        }
        cleared
    }
}

impl<V> Entry<V> {
    /// Relaxed: the time stands for itself.
    #[inline]
    fn touch(&self, now: u32) {
        // Read first: many packets come in one tick, and a write takes the line from other cores.
        if self.used.load(Relaxed) != now {
            self.used.store(now, Relaxed);
        }
    }
}

/// Whether a time has come, on a clock that goes round.
pub(crate) fn reached(now: u32, time: u32) -> bool {
    now.wrapping_sub(time) as i32 >= 0
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::lblc::One;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn insert(cache: &Cache<One>, n: u32, now: u32) -> bool {
        cache.insert(cache.key(address(n)), now).is_some()
    }

    #[test]
    fn an_address_has_one_entry_of_its_family() {
        let cache = Cache::<One>::new();
        let four = cache.key([10, 0, 0, 1].into());
        let six = cache.key(std::net::Ipv6Addr::from_bits(0x0a00_0001).into());
        assert!(cache.get(four, 0).is_none());
        let entry: *const Entry<One> = cache.insert(four, 0).unwrap();
        assert!(std::ptr::eq(entry, cache.insert(four, 1).unwrap()));
        assert!(!std::ptr::eq(entry, cache.insert(six, 1).unwrap()));
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn what_does_not_fit_is_not_remembered() {
        let cache = Cache::<One>::new();
        let fitted = (0..2 * SLOTS as u32).filter(|n| insert(&cache, *n, 0)).count();
        assert_eq!(fitted, cache.len());
        assert!((SLOTS * 9 / 10..=SLOTS).contains(&fitted), "{fitted}");
    }

    #[test]
    fn no_entry_is_lost_below_the_limit() {
        let cache = Cache::<One>::new();
        assert!((0..MAX_SIZE as u32).all(|n| insert(&cache, n, 0)));
        assert!((0..MAX_SIZE as u32).all(|n| cache.get(cache.key(address(n)), 0).is_some()));
    }

    #[test]
    fn pressure_sweeps_a_third_more_than_the_excess() {
        let cache = Cache::<One>::new();
        cache.tick(0);
        (0..MAX_SIZE as u32 + 300).for_each(|n| assert!(insert(&cache, n, 0)));
        cache.tick(PRESSED_TIMEOUT - 1);
        assert_eq!(cache.len(), MAX_SIZE + 300, "none is old enough");
        cache.tick(PRESSED_TIMEOUT);
        let gone = MAX_SIZE + 300 - cache.len();
        // Whole buckets, of about sixteen.
        assert!((400..450).contains(&gone), "{gone}");
        let rover = cache.sweep.lock().unwrap().rover;
        let left = |bucket| {
            let keys = cache.homes.iter().flat_map(|home| &home.0);
            let keys = keys.map(|slot| slot.load(Relaxed)).filter(|key| *key != FREE);
            keys.filter(|key| Key(*key).bucket() == bucket).count()
        };
        assert!((20..35).contains(&rover), "{rover}");
        assert!((1..=rover).all(|bucket| left(bucket) == 0));
        assert!(left(0) > 0 && left(rover + 1) > 0);
        cache.tick(PRESSED_TIMEOUT + CHECK_INTERVAL);
        assert_eq!(cache.len(), MAX_SIZE + 300 - gone, "no pressure any more");
    }

    #[test]
    fn used_entries_outlive_pressure() {
        let cache = Cache::<One>::new();
        cache.tick(0);
        (0..MAX_SIZE as u32 + 300).for_each(|n| assert!(insert(&cache, n, 0)));
        (0..MAX_SIZE as u32 + 300).for_each(|n| assert!(insert(&cache, n, 100)));
        cache.tick(PRESSED_TIMEOUT);
        assert_eq!(cache.len(), MAX_SIZE + 300);
    }
}
