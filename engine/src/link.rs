//! Links: the interfaces that the engine works on.

use crate::address::Address;

/// Which link; an index into the configured ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u8);

/// More links than this make no sense to a director: outside, inside, and a few to spare.
pub const MAX_LINKS: usize = 8;

/// Of which families the host forwards what comes in on a link (sysctl `forwarding`). Where it does
/// not, the kernel's IPVS never sees replies of NAT servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwards {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Forwards {
    /// Both.
    pub const ALL: Self = Self { v4: true, v6: true };
}

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
    /// What the host forwards that comes in here.
    pub forwards: Forwards,
}

impl Link {
    /// Whether the host forwards what comes in here for this address.
    pub fn forwards_to(&self, to: Address) -> bool {
        if to.is_v4() { self.forwards.v4 } else { self.forwards.v6 }
    }

    /// The address with which the host sends on this link to one of the same family as `to`.
    pub fn source(&self, to: Address) -> Option<Address> {
        self.addresses.iter().copied().find(|address| address.is_v4() == to.is_v4())
    }
}
