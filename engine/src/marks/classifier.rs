//! Rules as bit vectors: each value of each thing that rules look at has a vector of the rules that
//! it satisfies, a bit a rule; the lowest bit that the vectors of a packet share is the first rule
//! that matches it. T.V. Lakshman and D. Stiliadis, "High-speed policy-based packet forwarding
//! using efficient multi-dimensional range matching", SIGCOMM 1998.
//!
//! The steering program goes by the same vectors: `port/steer/marks.rs` writes them out for it.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::{MarkRule, Network, Packet};
use crate::address::Address;

/// The number of a vector in [`Classifier::vectors`].
type Number = u32;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Classifier {
    /// 64-bit words of a vector.
    pub words: usize,
    /// All vectors, each once, one behind the other.
    pub vectors: Vec<u64>,
    pub sources: Ranges,
    pub destinations: Ranges,
    pub ports: Ranges,
    pub protocols: [Number; 256],
    pub links: [Number; 256],
    /// The rules to which every port is right.
    pub any_port: Number,
}

/// Values in ranges, of which all have the same vector.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    /// Where each begins, in ascending order; the first one with 0.
    pub starts: Vec<u128>,
    pub numbers: Vec<Number>,
}

impl Classifier {
    pub fn new(rules: &[MarkRule]) -> Self {
        let mut vectors = Vectors::of(rules);
        let mut bytes = |holds: fn(&MarkRule, u8) -> bool| {
            std::array::from_fn(|value| vectors.number(|rule| holds(rule, value as u8)))
        };
        let protocols = bytes(|rule, value| rule.protocol.is_none_or(|number| number == value));
        let links = bytes(|rule, value| rule.link.is_none_or(|link| link.0 == value));
        let ports = rules.iter().filter_map(|rule| rule.ports.as_ref());
        let ports = Ranges::new(
            ports.map(|ports| ((*ports.start()).into(), (*ports.end()).into())),
            |port| vectors.number(|rule| rule.ports.as_ref().is_none_or(|p| holds(p, port))),
        );
        Self {
            words: vectors.words,
            sources: addresses(&mut vectors, |rule| rule.source),
            destinations: addresses(&mut vectors, |rule| rule.destination),
            ports,
            protocols,
            links,
            any_port: vectors.number(|rule| rule.ports.is_none()),
            vectors: vectors.all,
        }
    }

    /// The first rule that matches a packet.
    #[inline]
    pub fn first(&self, packet: &Packet) -> Option<usize> {
        let vector = |number: Number| &self.vectors[number as usize * self.words..][..self.words];
        let source = vector(self.sources.number(packet.source.to_bits()));
        let destination = vector(self.destinations.number(packet.destination.to_bits()));
        let port = vector(self.ports.number(packet.destination_port.into()));
        let protocol = vector(self.protocols[usize::from(packet.protocol)]);
        let link = vector(self.links[usize::from(packet.link.0)]);
        (0..self.words).find_map(|at| {
            let word = source[at] & destination[at] & port[at] & protocol[at] & link[at];
            (word != 0).then(|| at * 64 + word.trailing_zeros() as usize)
        })
    }
}

fn holds(ports: &std::ops::RangeInclusive<u16>, port: u128) -> bool {
    (u128::from(*ports.start())..=u128::from(*ports.end())).contains(&port)
}

fn addresses(vectors: &mut Vectors<'_>, network: fn(&MarkRule) -> Option<Network>) -> Ranges {
    // Of IPv6 networks, those that span IPv4's addresses do not hold them.
    let v4 = Network { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 };
    let networks = vectors.rules.iter().filter_map(network).chain([v4]);
    Ranges::new(networks.map(|network| network.ends()), |value| {
        let address = Address::from_bits(value);
        vectors.number(|rule| network(rule).is_none_or(|network| network.has(address)))
    })
}

impl Ranges {
    /// The ranges into which `pieces`, first and last values, cut all values.
    fn new(
        pieces: impl Iterator<Item = (u128, u128)>,
        mut number: impl FnMut(u128) -> Number,
    ) -> Self {
        let cuts = pieces.flat_map(|(first, last)| [Some(first), last.checked_add(1)]);
        let mut cuts: Vec<u128> = cuts.flatten().chain([0]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut ranges = Self { starts: Vec::new(), numbers: Vec::new() };
        for start in cuts {
            let number = number(start);
            if ranges.numbers.last() != Some(&number) {
                ranges.starts.push(start);
                ranges.numbers.push(number);
            }
        }
        ranges
    }

    /// The number of a value's vector.
    #[inline]
    fn number(&self, value: u128) -> Number {
        let behind = self.starts.partition_point(|start| *start <= value);
        self.numbers[behind - 1]
    }
}

/// Vectors while they are made: equal ones have one number.
struct Vectors<'a> {
    rules: &'a [MarkRule],
    words: usize,
    all: Vec<u64>,
    numbers: HashMap<Vec<u64>, Number>,
}

impl<'a> Vectors<'a> {
    fn of(rules: &'a [MarkRule]) -> Self {
        let words = rules.len().div_ceil(64);
        Self { rules, words, all: Vec::new(), numbers: HashMap::new() }
    }

    /// The number of the vector of all rules that `holds` picks.
    fn number(&mut self, holds: impl Fn(&MarkRule) -> bool) -> Number {
        let mut vector = vec![0u64; self.words];
        for (at, _) in self.rules.iter().enumerate().filter(|(_, rule)| holds(rule)) {
            vector[at / 64] |= 1 << (at % 64);
        }
        let next = self.numbers.len() as Number;
        let all = &mut self.all;
        *self.numbers.entry(vector).or_insert_with_key(|vector| {
            all.extend(vector);
            next
        })
    }
}
