//! Firewall marks: which packets have which mark. uvs has no netfilter, so rules of its own say
//! it; the first rule that matches a packet decides.

mod classifier;

use std::ops::RangeInclusive;

use crate::address::{Address, Mask};
use crate::link::LinkId;

pub(crate) use classifier::{Classifier, Ranges};

/// The most rules that the steering program has room for, and so that there may be.
pub const MAX_RULES: usize = 1024;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it came in.
    pub link: LinkId,
    /// IP protocol number.
    pub protocol: u8,
    /// Who sent it.
    pub source: Address,
    /// The sender's port; 0 where the protocol has none.
    pub source_port: u16,
    /// To whom.
    pub destination: Address,
    /// To which port; 0 where the protocol has none.
    pub destination_port: u16,
}

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// Its first address.
    pub address: Address,
    /// Bits that count: 0 to 32 of IPv4, 0 to 128 of IPv6.
    pub prefix: u8,
}

/// Packets like this have this mark. What is `None` matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkRule {
    /// From where.
    pub source: Option<Network>,
    /// To where.
    pub destination: Option<Network>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// To which ports; needs a protocol with ports.
    pub ports: Option<RangeInclusive<u16>>,
    /// In at which link.
    pub link: Option<LinkId>,
    /// The mark, not 0.
    pub mark: u32,
}

/// Rules, ready to be asked for each packet.
#[derive(Clone, Debug)]
pub struct Marks {
    rules: Vec<MarkRule>,
    classifier: Classifier,
}

impl Marks {
    /// Compiles rules.
    pub fn new(rules: Vec<MarkRule>) -> Self {
        let classifier = Classifier::new(&rules);
        Self { rules, classifier }
    }

    /// Whether there is no rule.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[MarkRule] {
        &self.rules
    }

    /// The mark of a packet; 0 is none.
    #[inline]
    pub fn of(&self, packet: &Packet) -> u32 {
        self.classifier.first(packet).map_or(0, |rule| self.rules[rule].mark)
    }

    pub(crate) fn classifier(&self) -> &Classifier {
        &self.classifier
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// What is compiled follows from the rules.
impl PartialEq for Marks {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Marks {}

impl Network {
    /// Whether an address is in it.
    pub fn has(&self, address: Address) -> bool {
        let mask = self.mask();
        self.address.is_v4() == address.is_v4() && self.address.masked(mask) == address.masked(mask)
    }

    /// Its first and last address as numbers; one of IPv6 may have all of IPv4 between them.
    fn ends(&self) -> (u128, u128) {
        let first = self.address.masked(self.mask()).to_bits();
        (first, first | !self.mask().to_bits())
    }

    fn mask(&self) -> Mask {
        Mask::v6(if self.address.is_v4() { 96 + self.prefix.min(32) } else { self.prefix })
    }
}

#[cfg(test)]
pub(crate) mod tests;
