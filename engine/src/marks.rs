//! Firewall marks: which packets have which mark. uvs has no netfilter, so rules of its own say
//! it; the first rule that matches a packet decides.

use std::ops::RangeInclusive;

use crate::address::Address;
use crate::link::LinkId;

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
#[derive(Clone, Debug, Default)]
pub struct Marks {
    rules: Vec<MarkRule>,
}

impl Marks {
    /// Compiles rules.
    pub fn new(rules: Vec<MarkRule>) -> Self {
        Self { rules }
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
    pub fn of(&self, packet: &Packet) -> u32 {
        self.rules.iter().find(|rule| rule.matches(packet)).map_or(0, |rule| rule.mark)
    }
}

impl MarkRule {
    fn matches(&self, packet: &Packet) -> bool {
        self.source.is_none_or(|network| network.has(packet.source))
            && self.destination.is_none_or(|network| network.has(packet.destination))
            && self.protocol.is_none_or(|protocol| protocol == packet.protocol)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&packet.destination_port))
            && self.link.is_none_or(|link| link == packet.link)
    }
}

impl Network {
    /// Whether an address is in it.
    pub fn has(&self, address: Address) -> bool {
        let bits = match self.address.is_v4() {
            true => 96 + self.prefix.min(32),
            false => self.prefix,
        };
        let mask = crate::address::Mask::v6(bits);
        self.address.is_v4() == address.is_v4() && self.address.masked(mask) == address.masked(mask)
    }
}
