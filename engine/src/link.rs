//! Links: the interfaces that the engine works on.

use std::net::Ipv4Addr;

/// Which link; an index into the configured ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u8);

/// More links than this make no sense to a director: outside, inside, and a few to spare.
pub const MAX_LINKS: usize = 8;

/// A link, as the engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface's name, as in `ip link`.
    pub name: String,
    /// The kernel's index of it.
    pub ifindex: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet that it carries, in bytes.
    pub mtu: u16,
    /// Its IPv4 addresses; the first is the source of tunnel packets that leave here.
    pub addresses: Vec<Ipv4Addr>,
}
