//! The second line of a connection that needs one.

use super::words::Ends;
use crate::address::Address;
use crate::table::conn::NewConn;
use crate::table::sync::{AtomicU64, Ordering};

const CLIENT: usize = 0;
const VIRT: usize = 2;
const DEST: usize = 4;
const EXTRA: usize = 6;

/// See the text of [`entry`](super).
#[repr(C, align(64))]
#[derive(Default)]
pub(in super::super) struct Wide {
    words: [AtomicU64; 8],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Wide>() == 64 && align_of::<Wide>() == 64);

impl Wide {
    /// Whether the connection needs one.
    pub(super) fn takes(new: &NewConn) -> bool {
        !(new.caddr.is_v4() && new.vaddr.is_v4() && new.daddr.is_v4()) || new.extra.is_some()
    }

    pub(super) fn fill(&self, new: &NewConn) {
        let put = |at: usize, (first, second): (u64, u64)| {
            // Relaxed: published with the first line.
            self.words[at].store(first, Ordering::Relaxed);
            self.words[at + 1].store(second, Ordering::Relaxed);
        };
        put(CLIENT, new.caddr.words());
        put(VIRT, new.vaddr.words());
        put(DEST, new.daddr.words());
        put(EXTRA, new.extra.unwrap_or_default().into());
    }

    /// The addresses and the first extra word.
    #[inline(always)]
    pub(super) fn read(&self) -> (Ends, u64) {
        // Relaxed: checked by the first line's generation.
        let word = |at: usize| self.words[at].load(Ordering::Relaxed);
        let address = |at| Address::from_words(word(at), word(at + 1));
        let ends = Ends { client: address(CLIENT), virt: address(VIRT), dest: address(DEST) };
        (ends, word(EXTRA))
    }

    /// The extra words.
    pub(in super::super) fn extra(&self) -> [u64; 2] {
        // Acquire: pairs with `set_extra`, and keeps the caller's second look at the generation
        // behind.
        [EXTRA, EXTRA + 1].map(|at| self.words[at].load(Ordering::Acquire))
    }

    /// Changes an extra word, unless somebody else has done so before.
    pub(in super::super) fn set_extra(&self, at: usize, from: u64, to: u64) -> bool {
        // Release: pairs with `extra`. Relaxed when it fails: the caller reads anew.
        let word = &self.words[EXTRA + at];
        word.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed).is_ok()
    }
}
