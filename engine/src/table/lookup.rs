//! From a packet's ends to its connection: hashes, the passes that fetch, and the lookups.

use super::Table;
use super::conn::{Conn, ConnId, InKey, OutKey};
use super::entry::{Key, Words};
use super::index::Wanted;
use super::memory::prefetch;
use crate::address::Address;
use crate::clock::Ticks;

/// Where a connection may be: what the first passes of a lookup have found, for the last one.
#[derive(Clone, Copy, Debug)]
pub struct Hint(pub(super) u32);

impl Hint {
    /// Nowhere in particular.
    pub const NONE: Self = Self(u32::MAX);
}

impl Table {
    /// The hash of a connection, equal for both directions (INV-3). Its keys are secret and of
    /// this table, so that nobody can aim at a bucket.
    #[inline]
    pub fn hash(&self, proto: u8, caddr: Address, cport: u16) -> u64 {
        let proto = u64::from(proto) << 48;
        match caddr.is_v4() {
            true => {
                let client = u64::from(caddr.low32()) << 16 | u64::from(cport);
                self.hasher.hash_one(proto | client)
            }
            false => self.hasher.hash_one((caddr.words(), proto | u64::from(cport))),
        }
    }

    /// The hash of a persistence template. No reply looks for it, so it takes in the virtual end:
    /// with a wide netmask, all services' templates have the same client.
    #[inline]
    pub fn template_hash(&self, key: &InKey) -> u64 {
        let virt = (key.vaddr.words(), u64::from(key.vport) << 8 | u64::from(key.proto));
        self.hasher.hash_one((key.caddr.words(), key.name, virt))
    }

    /// A 64-bit name for bytes of the network, keyed as the hashes are; never 0.
    pub fn name(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes).max(1)
    }

    /// The hash that goes with a key.
    #[inline]
    pub fn hash_of(&self, key: &InKey) -> u64 {
        if key.template {
            self.template_hash(key)
        } else {
            self.hash(key.proto, key.caddr, key.cport)
        }
    }

    /// First pass over a batch: starts to load the bucket.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second pass, on the way in: starts to load the entry that the bucket offers.
    #[inline(always)]
    pub fn prefetch_in(&self, hash: u64, key: &InKey) -> Hint {
        self.prefetch(hash, Wanted::inward(hash, (key.vaddr, key.vport)), key.vaddr)
    }

    /// Second pass, on the way out.
    #[inline(always)]
    pub fn prefetch_out(&self, hash: u64, key: &OutKey) -> Hint {
        self.prefetch(hash, Wanted::outward(hash, (key.daddr, key.dport)), key.caddr)
    }

    #[inline(always)]
    fn prefetch(&self, hash: u64, wanted: Wanted, end: Address) -> Hint {
        let Some(index) = self.index.first(hash, wanted) else { return Hint::NONE };
        self.prefetch_line(index);
        if !end.is_v4() {
            prefetch(&self.wide, index as usize);
        }
        Hint(index)
    }

    /// Third pass: the connection, or template, of a client's packet.
    #[inline(always)]
    pub fn lookup_in_at(&self, hint: Hint, hash: u64, key: &InKey) -> Option<Conn> {
        self.at(hint, key).or_else(|| self.lookup_in(hash, key))
    }

    /// Third pass: the connection of a real server's reply.
    #[inline(always)]
    pub fn lookup_out_at(&self, hint: Hint, hash: u64, key: &OutKey) -> Option<Conn> {
        self.at(hint, key).or_else(|| self.lookup_out(hash, key))
    }

    #[inline(always)]
    fn at(&self, hint: Hint, key: &impl Key) -> Option<Conn> {
        self.find(hint.0, key).map(|words| words.conn(hint.0))
    }

    /// The connection, or template, of a client's packet.
    #[inline]
    pub fn lookup_in(&self, hash: u64, key: &InKey) -> Option<Conn> {
        self.lookup(hash, Wanted::inward(hash, (key.vaddr, key.vport)), key, Words::conn)
    }

    /// The connection of a real server's reply.
    #[inline]
    pub fn lookup_out(&self, hash: u64, key: &OutKey) -> Option<Conn> {
        self.lookup(hash, Wanted::outward(hash, (key.daddr, key.dport)), key, Words::conn)
    }

    /// The name of the connection with this key.
    #[inline]
    pub(super) fn id_of(&self, hash: u64, key: &InKey) -> Option<ConnId> {
        let wanted = Wanted::inward(hash, (key.vaddr, key.vport));
        self.lookup(hash, wanted, key, Words::id)
    }

    #[inline(always)]
    fn lookup<R>(
        &self,
        hash: u64,
        wanted: Wanted,
        key: &impl Key,
        take: impl Fn(&Words, u32) -> R,
    ) -> Option<R> {
        self.index.find(hash, wanted, |index| Some(take(&self.find(index, key)?, index)))
    }

    #[inline(always)]
    pub(super) fn find(&self, index: u32, key: &impl Key) -> Option<Words> {
        let at = index as usize;
        self.entries.get(at)?.find(self.wide.get(at)?, key)
    }

    /// The connection with this name, if it still lives.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<Conn> {
        self.words(id).map(|words| words.conn(id.index))
    }

    #[inline]
    pub(super) fn words(&self, id: ConnId) -> Option<Words> {
        let words = self.read(id.index)?;
        (words.generation() == id.generation).then_some(words)
    }

    #[inline(always)]
    pub(super) fn read(&self, index: u32) -> Option<Words> {
        let at = index as usize;
        self.entries.get(at)?.read(self.wide.get(at)?)
    }

    #[inline(always)]
    pub(super) fn prefetch_line(&self, index: u32) {
        prefetch(&self.entries, index as usize);
    }

    /// Starts to load the second line, if the entry's connection has one.
    #[inline(always)]
    pub(super) fn prefetch_second(&self, index: u32) {
        if self.entries[index as usize].is_wide() {
            prefetch(&self.wide, index as usize);
        }
    }

    /// Starts to load the bucket of a connection that is about to be removed; gives its hash.
    #[inline(always)]
    pub(super) fn prefetch_expired(&self, index: u32, now: Ticks) -> Option<u64> {
        let words = self.read(index).filter(|words| words.expires().is_past(now))?;
        let hash = self.hash_of(&words.in_key());
        self.index.prefetch(hash);
        Some(hash)
    }
}
