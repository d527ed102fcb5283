//! A connection as the rest of the engine sees it: plain values, no atomics.

use crate::address::Address;
use crate::clock::Ticks;

/// Flags of a connection, with the kernel's names and numbers (`IP_VS_CONN_F_*` in
/// include/uapi/linux/ip_vs.h).
pub mod flag {
    /// The bits that hold the forwarding method.
    pub const FWD_MASK: u16 = 0x0007;
    /// Forwarding method: masquerading (NAT).
    pub const MASQ: u16 = 0x0000;
    /// Forwarding method: the host itself.
    pub const LOCALNODE: u16 = 0x0001;
    /// Forwarding method: tunnelling.
    pub const TUNNEL: u16 = 0x0002;
    /// Forwarding method: direct routing.
    pub const DROUTE: u16 = 0x0003;
    /// Forwarding method: past the balancer, to the original address.
    pub const BYPASS: u16 = 0x0004;
    /// The table's own: the addresses stand in a second line.
    pub const WIDE: u16 = 0x0008;
    /// The table's own: a template that is found by its name ([`InKey::name`](super::InKey)).
    pub const NAMED: u16 = 0x0010;
    /// Learned from another director.
    pub const SYNC: u16 = 0x0020;
    /// In the index; the table sets and clears it.
    pub const HASHED: u16 = 0x0040;
    /// No reply was seen yet.
    pub const NOOUTPUT: u16 = 0x0080;
    /// Not established: counts among the inactive connections.
    pub const INACTIVE: u16 = 0x0100;
    /// The server's sequence numbers are shifted.
    pub const OUT_SEQ: u16 = 0x0200;
    /// The client's sequence numbers are shifted.
    pub const IN_SEQ: u16 = 0x0400;
    /// The client's port is not known yet.
    pub const NO_CPORT: u16 = 0x0800;
    /// A persistence template, not a connection; never changes while the entry lives.
    pub const TEMPLATE: u16 = 0x1000;
    /// Forwards one packet only.
    pub const ONE_PACKET: u16 = 0x2000;
    /// uvs's own: its time was over, and its client was asked whether it still knows it.
    pub const ASKED: u16 = 0x8000;
    /// The table's own: a template that serves no new connection any more. Lookups pass it by;
    /// listings show it with the port 65535, to which the kernel renames it.
    pub const STALE: u16 = 0x4000;
}

/// Names one connection; one that is gone is never mistaken for another in its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// The entry's place in the table.
    pub index: u32,
    /// Which of the connections that used the entry, one after another.
    pub generation: u32,
}

impl ConnId {
    /// Names no connection of any table.
    pub const UNKEPT: Self = Self { index: u32::MAX, generation: u32::MAX };
}

/// What a packet from a client tells: its way into the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InKey {
    /// IP protocol number.
    pub proto: u8,
    /// Client address; masked in a template.
    pub caddr: Address,
    /// Client port; 0 in a template.
    pub cport: u16,
    /// Virtual address; a template of a firewall mark has the mark here.
    pub vaddr: Address,
    /// Virtual port.
    pub vport: u16,
    /// Whether a persistence template is meant, which is never mixed up with a connection.
    pub template: bool,
    /// A template's name as a persistence engine hashed it: a client has a template for each.
    /// 0 is none.
    pub name: u64,
}

/// What a reply of a real server tells: its way out, back to the client. Never finds a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutKey {
    /// IP protocol number.
    pub proto: u8,
    /// Client address, where the reply goes.
    pub caddr: Address,
    /// Client port.
    pub cport: u16,
    /// The real server's address.
    pub daddr: Address,
    /// The real server's port.
    pub dport: u16,
}

/// A connection to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewConn {
    /// IP protocol number.
    pub proto: u8,
    /// Client address.
    pub caddr: Address,
    /// Client port.
    pub cport: u16,
    /// Virtual address.
    pub vaddr: Address,
    /// Virtual port.
    pub vport: u16,
    /// The real server's address.
    pub daddr: Address,
    /// The real server's port.
    pub dport: u16,
    /// The destination's number.
    pub dest: u32,
    /// The firewall mark of the packet that opened it.
    pub mark: u32,
    /// [`flag`] bits; those that are the table's own are ignored here.
    pub flags: u16,
    /// State of the protocol's state machine.
    pub state: u8,
    /// Idle time after which the connection expires; cut to 62 days.
    pub timeout: Ticks,
    /// The template that it belongs to, which has counted it already
    /// ([`Table::adopt`](super::Table::adopt)).
    pub control: Option<ConnId>,
    /// The two words that may come with it, for those few that need them: a template's name in the
    /// first, shifted sequence numbers in both. They cost a second line.
    pub extra: Option<[u64; 2]>,
}

impl NewConn {
    /// The key by which packets of the client find it.
    #[inline]
    pub fn in_key(&self) -> InKey {
        let template = self.flags & flag::TEMPLATE != 0;
        InKey {
            proto: self.proto,
            caddr: self.caddr,
            cport: self.cport,
            vaddr: self.vaddr,
            vport: self.vport,
            template,
            name: self.extra.map_or(0, |[name, _]| if template { name } else { 0 }),
        }
    }

    /// The connection of one packet, which the table never hears of.
    pub fn unkept(&self) -> Conn {
        Conn {
            id: ConnId::UNKEPT,
            proto: self.proto,
            state: self.state,
            flags: self.flags | flag::ONE_PACKET,
            caddr: self.caddr,
            cport: self.cport,
            vaddr: self.vaddr,
            vport: self.vport,
            daddr: self.daddr,
            dport: self.dport,
            dest: self.dest,
            mark: self.mark,
            in_packets: 0,
            owner: 0,
            last_seen: Ticks(0),
            timeout: self.timeout,
            control: self.control,
            children: 0,
            name: 0,
        }
    }
}

/// A connection as it stood at one moment: a copy, which does not follow later changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Its name.
    pub id: ConnId,
    /// IP protocol number.
    pub proto: u8,
    /// State of the protocol's state machine.
    pub state: u8,
    /// [`flag`] bits.
    pub flags: u16,
    /// Client address.
    pub caddr: Address,
    /// Client port.
    pub cport: u16,
    /// Virtual address.
    pub vaddr: Address,
    /// Virtual port.
    pub vport: u16,
    /// The real server's address.
    pub daddr: Address,
    /// The real server's port.
    pub dport: u16,
    /// The destination's number.
    pub dest: u32,
    /// The firewall mark of the packet that opened it.
    pub mark: u32,
    /// Packets counted by [`Table::count_in`](super::Table::count_in); wraps.
    pub in_packets: u32,
    /// The worker that keeps its timer.
    pub owner: u8,
    /// When a packet was last seen.
    pub last_seen: Ticks,
    /// Idle time after which it expires.
    pub timeout: Ticks,
    /// The template that it belongs to.
    pub control: Option<ConnId>,
    /// A template's living connections.
    pub children: u32,
    /// A template's name; 0 is none.
    pub name: u64,
}

impl Conn {
    /// The key by which packets of the client find it.
    #[inline]
    pub fn in_key(&self) -> InKey {
        InKey {
            proto: self.proto,
            caddr: self.caddr,
            cport: self.cport,
            vaddr: self.vaddr,
            vport: self.vport,
            template: self.is_template(),
            name: self.name,
        }
    }

    /// Whether it is a persistence template.
    #[inline]
    pub fn is_template(&self) -> bool {
        self.flags & flag::TEMPLATE != 0
    }

    /// The key by which replies of the real server find it.
    #[inline]
    pub fn out_key(&self) -> OutKey {
        OutKey {
            proto: self.proto,
            caddr: self.caddr,
            cport: self.cport,
            daddr: self.daddr,
            dport: self.dport,
        }
    }

    /// When it expires if no further packet comes.
    #[inline]
    pub fn expires(&self) -> Ticks {
        self.last_seen.after(self.timeout)
    }
}

/// What a transition may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// State of the protocol's state machine.
    pub state: u8,
    /// [`flag`] bits; TEMPLATE and the table's own stay as they are, whatever is asked for.
    pub flags: u16,
}

/// A transition that this caller, and no other, has made; so counters are adjusted exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// What was.
    pub before: State,
    /// What is now.
    pub after: State,
}

/// What an insertion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The connection was not there; it is now.
    New(ConnId),
    /// Somebody else has it already; nothing was changed.
    Existing(ConnId),
}
