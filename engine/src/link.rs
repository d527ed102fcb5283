//! Links: the interfaces that the engine works on.

use crate::address::Address;

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
    /// Its addresses; of each family, the first is the source of tunnel packets that leave here.
    pub addresses: Vec<Address>,
}

impl Link {
    /// The address with which the host sends on this link to one of the same family as `to`.
    pub fn source(&self, to: Address) -> Option<Address> {
        self.addresses.iter().copied().find(|address| address.is_v4() == to.is_v4())
    }
}
