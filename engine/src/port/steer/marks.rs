//! The rules of firewall marks as the steering program reads them: one value, `struct mark_rules`
//! of `marks.bpf.h`, in a map that takes the place of the one before it.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, Object};

use super::{OpenError, ServedMark, SteerError, Steered, map};
use crate::marks::{Classifier, MAX_RULES, Marks, Ranges};

const WORDS: usize = MAX_RULES / 64;
const RANGES: usize = 2 * MAX_RULES + 4;
const VECTORS: usize = 3 * RANGES + 2 * 256 + 1;

const NAME: &str = "mark rules";
const SLOT: [u8; 4] = 0u32.to_ne_bytes();

/// What the program knows of firewall marks.
#[derive(Debug)]
pub(super) struct MarkRules {
    /// A map of maps with room for one.
    slot: MapHandle,
    /// The rules in there, if any, and which marks are served.
    known: Option<(Arc<Marks>, HashSet<ServedMark>)>,
}

impl MarkRules {
    pub(super) fn new(object: &Object) -> Result<Self, OpenError> {
        Ok(Self { slot: map(object, "marks")?, known: None })
    }

    pub(super) fn check(&self, wanted: &Steered) -> Result<(), SteerError> {
        let count = wanted.marks.rules().len();
        if count > MAX_RULES {
            return Err(SteerError::Full { what: NAME, wanted: count, room: MAX_RULES });
        }
        Ok(())
    }

    /// Goes over to the rules that are wanted; the kernel frees the old ones once no frame is
    /// compared with them any more. If no mark is served there are none.
    pub(super) fn update(&mut self, wanted: &Steered) -> Result<(), SteerError> {
        let is_served = |mark| [false, true].iter().any(|v6| wanted.served.contains(&(mark, *v6)));
        let any = wanted.marks.rules().iter().any(|rule| is_served(rule.mark));
        let next = any.then(|| (wanted.marks.clone(), wanted.served.clone()));
        if next == self.known {
            return Ok(());
        }
        match &next {
            Some((marks, served)) => self.put(&value(marks, served)),
            None => self.slot.delete(&SLOT),
        }
        .map_err(|source| SteerError::Kernel { what: NAME, source })?;
        self.known = next;
        Ok(())
    }

    fn put(&self, value: &[u8]) -> Result<(), libbpf_rs::Error> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let (name, size) = (Some("uvs_mark_rules"), value.len() as u32);
        let rules = MapHandle::create(MapType::Array, name, 4, size, 1, &options)?;
        rules.update(&SLOT, value, MapFlags::ANY)?;
        self.slot.update(&SLOT, &rules.as_fd().as_raw_fd().to_ne_bytes(), MapFlags::ANY)
    }
}

/// `struct mark_rules`.
fn value(marks: &Marks, served: &HashSet<ServedMark>) -> Vec<u8> {
    let classifier = marks.classifier();
    let mut value = Value::default();
    for v6 in [false, true] {
        value.words(&bits(marks, |mark| served.contains(&(mark, v6))), WORDS);
    }
    vectors(&mut value, classifier);
    for ranges in [&classifier.sources, &classifier.destinations, &classifier.ports] {
        value.ranges(ranges);
    }
    value.numbers(&classifier.protocols, 256);
    value.numbers(&classifier.links, 256);
    value.numbers(&[classifier.any_port, classifier.words as u32], 2);
    value.0
}

/// The vector of the rules whose marks are served, in a family.
fn bits(marks: &Marks, served: impl Fn(u32) -> bool) -> [u64; WORDS] {
    let mut bits = [0; WORDS];
    for (at, _) in marks.rules().iter().enumerate().filter(|(_, rule)| served(rule.mark)) {
        bits[at / 64] |= 1 << (at % 64);
    }
    bits
}

/// The vectors, each as long as the longest may be.
fn vectors(value: &mut Value, classifier: &Classifier) {
    let rows = classifier.vectors.chunks_exact(classifier.words);
    let spare = VECTORS - rows.len();
    rows.for_each(|row| value.words(row, WORDS));
    value.words(&[], spare * WORDS);
}

/// A C structure while it is written, field by field. What is larger comes first in it, so that
/// nothing is in between.
#[derive(Default)]
struct Value(Vec<u8>);

impl Value {
    fn ranges(&mut self, ranges: &Ranges) {
        let halves = |start: &u128| [(start >> 64) as u64, *start as u64];
        let starts: Vec<u64> = ranges.starts.iter().flat_map(halves).collect();
        self.words(&starts, 2 * RANGES);
        self.numbers(&ranges.numbers, RANGES);
        self.numbers(&[ranges.starts.len() as u32], 2);
    }

    /// An array of `room` words, the first of which are these.
    fn words(&mut self, words: &[u64], room: usize) {
        self.array(words.iter().map(|word| word.to_ne_bytes()), room);
    }

    fn numbers(&mut self, numbers: &[u32], room: usize) {
        self.array(numbers.iter().map(|number| number.to_ne_bytes()), room);
    }

    fn array<const N: usize>(&mut self, items: impl Iterator<Item = [u8; N]>, room: usize) {
        let end = self.0.len() + room * N;
        self.0.extend(items.flatten());
        assert!(self.0.len() <= end, "as many as rules can make");
        self.0.resize(end, 0);
    }
}

#[cfg(test)]
mod tests;
