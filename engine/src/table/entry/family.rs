//! The family word: of a connection its template, of a template how many connections it has.
//!
//! ```text
//! generation 32, odd  | index 32          of the template that the connection belongs to
//! generation 32, even | children 32       of a template: its own, and its connections
//! ```
//!
//! Both carry a generation, so that a count never meets another template; and the lowest bit of
//! it, which is 0 in all that live, tells the two apart when an entry is reused.

use super::{CONTROL, Entry, FAMILY, generation, pack};
use crate::clock::Ticks;
use crate::table::conn::ConnId;
use crate::table::sync::Ordering;

/// A connection without a template.
const ORPHAN: u64 = u64::MAX;

/// A connection's word.
#[inline(always)]
pub(super) fn child(of: Option<ConnId>) -> u64 {
    of.map_or(ORPHAN, |id| pack(id.generation | 1, id.index))
}

/// The template that a connection's word names.
#[inline(always)]
pub(super) fn template(word: u64) -> Option<ConnId> {
    let id = ConnId { index: word as u32, generation: (word >> 32) as u32 & !1 };
    (word != ORPHAN).then_some(id)
}

/// A template's word.
#[inline(always)]
pub(super) fn parent(generation: u32, children: u32) -> u64 {
    pack(generation, children)
}

/// How many connections a template has, if the word is of this one.
#[inline(always)]
pub(super) fn children(word: u64, generation: u32) -> Option<u32> {
    ((word >> 32) as u32 == generation).then_some(word as u32)
}

impl Entry {
    /// Counts a connection to this template and starts its timer anew; false when it is gone: the
    /// touch decides, so that an expiry that did not see the count fails by the time.
    pub(in super::super) fn adopt(&self, template: u32, now: Ticks) -> bool {
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
    pub(in super::super) fn orphan(&self, template: u32) -> Option<u32> {
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
            let left = to(children(word, template)?)?;
            match self.words[FAMILY].compare_exchange_weak(
                word,
                parent(template, left),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(left),
                Err(now) => word = now,
            }
        }
    }
}
