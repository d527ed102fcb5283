//! The words of a live entry, read as one, and what lookups compare in them.

use std::net::Ipv4Addr;

use super::{ADDRS, CLIENT, CONTROL, DEST, KIND, LINKS, TIME, Time, family, generation, state_of};
use crate::address::Address;
use crate::clock::Ticks;
use crate::table::conn::{Conn, ConnId, InKey, OutKey, State, flag};

/// A connection's first line, but for the links.
pub(super) type Line = [u64; LINKS];

/// The words of a live entry.
pub(in super::super) struct Words {
    pub(super) line: Line,
    pub(super) ends: Ends,
    /// The first extra word, 0 when there is none.
    pub(super) extra: u64,
}

/// The three addresses of a connection.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) client: Address,
    pub(super) virt: Address,
    pub(super) dest: Address,
}

/// What a lookup compares.
pub(in super::super) trait Key {
    /// Whether the first line does not rule it out; then the second one need not be read.
    fn may_match(&self, line: &Line) -> bool;

    /// Whether it is the connection looked for, when the first line does not rule it out.
    fn matches(&self, words: &Words) -> bool;
}

impl Ends {
    /// Of a connection without a second line.
    #[inline(always)]
    pub(super) fn narrow(line: &Line) -> Self {
        let v4 = |bits: u64| Address::v4(Ipv4Addr::from_bits(bits as u32));
        Self { client: v4(line[CLIENT] >> 32), virt: v4(line[ADDRS] >> 32), dest: v4(line[ADDRS]) }
    }
}

impl Words {
    #[inline(always)]
    pub(in super::super) fn generation(&self) -> u32 {
        generation(self.line[CONTROL])
    }

    #[inline(always)]
    pub(in super::super) fn owner(&self) -> u8 {
        (self.line[DEST] >> 8) as u8
    }

    #[inline(always)]
    pub(in super::super) fn expires(&self) -> Ticks {
        self.time().expires()
    }

    #[inline(always)]
    pub(super) fn time(&self) -> Time {
        Time(self.line[TIME])
    }

    /// Whether it has a second line.
    pub(in super::super) fn is_wide(&self) -> bool {
        self.line[CONTROL] as u16 & flag::WIDE != 0
    }

    /// The connection's name, from the entry at `index`.
    #[inline(always)]
    pub(in super::super) fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.generation() }
    }

    /// The key by which packets of the client find it.
    #[inline(always)]
    pub(in super::super) fn in_key(&self) -> InKey {
        self.conn(0).in_key()
    }

    /// The connection of these words, which were read from the entry at `index`.
    #[inline(always)]
    pub(in super::super) fn conn(&self, index: u32) -> Conn {
        let [control, client, _, dest, count, _, family] = self.line;
        let State { state, flags } = state_of(control);
        let template = flags & flag::TEMPLATE != 0;
        Conn {
            id: ConnId { index, generation: generation(control) },
            proto: (control >> 16) as u8,
            state,
            flags,
            caddr: self.ends.client,
            cport: (client >> 16) as u16,
            vaddr: self.ends.virt,
            vport: client as u16,
            daddr: self.ends.dest,
            dport: (dest >> 16) as u16,
            dest: (dest >> 32) as u32,
            mark: count as u32,
            in_packets: (count >> 32) as u32,
            owner: self.owner(),
            last_seen: self.time().last_seen(),
            timeout: self.time().timeout(),
            control: if template { None } else { family::template(family) },
            children: if template { family as u32 } else { 0 },
            name: if flags & flag::NAMED != 0 { self.extra } else { 0 },
        }
    }
}

impl Key for InKey {
    #[inline(always)]
    fn may_match(&self, line: &Line) -> bool {
        let kind = match (self.template, self.name) {
            (false, _) => 0,
            (true, 0) => flag::TEMPLATE,
            (true, _) => flag::TEMPLATE | flag::NAMED,
        };
        let ports = u32::from(self.cport) << 16 | u32::from(self.vport);
        line[CLIENT] as u32 == ports && is_kind(line, self.proto, kind)
    }

    #[inline(always)]
    fn matches(&self, words: &Words) -> bool {
        let named = !self.template || self.name == 0 || words.extra == self.name;
        named & (words.ends.client == self.caddr) & (words.ends.virt == self.vaddr)
    }
}

impl Key for OutKey {
    #[inline(always)]
    fn may_match(&self, line: &Line) -> bool {
        (line[CLIENT] >> 16) as u16 == self.cport
            && (line[DEST] >> 16) as u16 == self.dport
            && is_kind(line, self.proto, 0)
    }

    #[inline(always)]
    fn matches(&self, words: &Words) -> bool {
        (words.ends.client == self.caddr) & (words.ends.dest == self.daddr)
    }
}

/// Whether it is of the protocol, and a connection or a template as `flags` say.
#[inline(always)]
fn is_kind(line: &Line, proto: u8, flags: u16) -> bool {
    let control = line[CONTROL];
    (control >> 16) as u8 == proto && control as u16 & KIND == flags
}
