//! The family word: of a connection its template, of a template how many connections it has.
//!
//! ```text
//! generation 32, odd  | index 32          of the template that the connection belongs to
//! generation 32, even | children 32       of a template: its own, and its connections
//! ```
//!
//! Both carry a generation, so that a count never meets another template; and the lowest bit of
//! it, which is 0 in all that live, tells the two apart when an entry is reused.

use super::pack;
use crate::table::conn::ConnId;

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
