//! Destinations: the real servers of a service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::address::union;
use crate::wire::attribute::{last, need, well_formed};
use crate::wire::{DestAttribute, Port};
use crate::{AddressFamily, Stats, ValueError};

/// What the kernel finds a service's destination by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestKey {
    /// The server's address. It may be of another family than the service's, in a tunnel.
    pub address: IpAddr,
    /// The server's port.
    pub port: u16,
}

/// How packets go to a server, by the kernel's number (`IP_VS_CONN_F_FWD_MASK`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardMethod(pub u32);

impl ForwardMethod {
    /// `IP_VS_CONN_F_MASQ`: NAT.
    pub const MASQ: Self = Self(0);
    /// `IP_VS_CONN_F_LOCALNODE`: the server is the director itself.
    pub const LOCAL_NODE: Self = Self(1);
    /// `IP_VS_CONN_F_TUNNEL`: IPIP, GUE or GRE.
    pub const TUNNEL: Self = Self(2);
    /// `IP_VS_CONN_F_DROUTE`: direct routing.
    pub const DIRECT_ROUTE: Self = Self(3);
    /// `IP_VS_CONN_F_BYPASS`: the packet's own destination, for a transparent cache.
    pub const BYPASS: Self = Self(4);
}

/// A tunnel's encapsulation, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TunnelType(pub u8);

impl TunnelType {
    /// `IP_VS_CONN_F_TUNNEL_TYPE_IPIP`.
    pub const IPIP: Self = Self(0);
    /// `IP_VS_CONN_F_TUNNEL_TYPE_GUE`.
    pub const GUE: Self = Self(1);
    /// `IP_VS_CONN_F_TUNNEL_TYPE_GRE`.
    pub const GRE: Self = Self(2);
}

bitflags::bitflags! {
    /// `IP_VS_TUNNEL_ENCAP_FLAG_*`. None is `NOCSUM`. Bits without a name are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
    pub struct TunnelFlags: u16 {
        /// `IP_VS_TUNNEL_ENCAP_FLAG_CSUM`: a checksum in the tunnel's header.
        const CSUM = 1;
        /// `IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM`: remote checksum offload, of GUE.
        const REMCSUM = 2;
        const _ = !0;
    }
}

/// How packets are encapsulated; it counts with [`ForwardMethod::TUNNEL`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Tunnel {
    /// IPIP, GUE or GRE.
    pub kind: TunnelType,
    /// The UDP port to which GUE sends; 0 otherwise.
    pub port: u16,
    /// Checksums of GUE and GRE.
    pub flags: TunnelFlags,
}

/// A destination, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dest {
    /// What it is found by.
    pub key: DestKey,
    /// How packets go to it.
    pub method: ForwardMethod,
    /// Its weight; from 2^31 on the kernel refuses it.
    pub weight: u32,
    /// At so many connections it gets no new ones; 0 is no limit.
    pub upper_threshold: u32,
    /// Below so many it gets some again; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
    /// The encapsulation.
    pub tunnel: Tunnel,
}

/// How many connections a destination has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Connections {
    /// Established, or about to be.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// Templates of persistent services.
    pub persistent: u32,
}

/// A destination as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListedDest {
    /// How it is configured.
    pub dest: Dest,
    /// What it has.
    pub connections: Connections,
    /// What it did.
    pub stats: Stats,
}

impl DestKey {
    /// The attributes that find the destination.
    pub fn attributes(&self) -> Vec<DestAttribute> {
        vec![
            DestAttribute::AddressFamily(AddressFamily::of(self.address).number()),
            DestAttribute::Address(union(self.address)),
            DestAttribute::Port(Port(self.port)),
        ]
    }

    /// What the attributes find in a service of `family`.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[DestAttribute], family: AddressFamily) -> Result<Self, ValueError> {
        use DestAttribute as A;
        well_formed(list)?;
        // Kernels before 3.18 do not say it.
        let family = last!(list, A::AddressFamily)
            .map_or(Ok(family), |&af| AddressFamily::read(af, "IPVS_DEST_ATTR_ADDR_FAMILY"))?;
        Ok(Self {
            address: family.address(*need!(list, A::Address, "IPVS_DEST_ATTR_ADDR")?),
            port: need!(list, A::Port, "IPVS_DEST_ATTR_PORT")?.0,
        })
    }
}

/// `10.0.1.1:80`, `[fd00:2::1]:80`.
impl fmt::Display for DestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&SocketAddr::new(self.address, self.port).to_string())
    }
}

impl Dest {
    /// A destination of weight 1 without limits; a tunnel is IPIP.
    pub fn new(key: DestKey, method: ForwardMethod) -> Self {
        Self {
            key,
            method,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: Tunnel::default(),
        }
    }

    /// All its attributes, as ipvsadm orders them.
    pub fn attributes(&self) -> Vec<DestAttribute> {
        let mut list = self.key.attributes();
        list.extend([
            DestAttribute::Method(self.method.0),
            DestAttribute::Weight(self.weight),
            DestAttribute::TunnelType(self.tunnel.kind.0),
            DestAttribute::TunnelPort(Port(self.tunnel.port)),
            DestAttribute::TunnelFlags(self.tunnel.flags.bits()),
            DestAttribute::UpperThreshold(self.upper_threshold),
            DestAttribute::LowerThreshold(self.lower_threshold),
        ]);
        list
    }

    /// The destination that the attributes say, of a service of `family`.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[DestAttribute], family: AddressFamily) -> Result<Self, ValueError> {
        use DestAttribute as A;
        Ok(Self {
            key: DestKey::read(list, family)?,
            method: ForwardMethod(*need!(list, A::Method, "IPVS_DEST_ATTR_FWD_METHOD")?),
            weight: *need!(list, A::Weight, "IPVS_DEST_ATTR_WEIGHT")?,
            upper_threshold: *need!(list, A::UpperThreshold, "IPVS_DEST_ATTR_U_THRESH")?,
            lower_threshold: *need!(list, A::LowerThreshold, "IPVS_DEST_ATTR_L_THRESH")?,
            tunnel: Tunnel::read(list),
        })
    }
}

impl Tunnel {
    /// Kernels before 5.3 know IPIP only, and do not say it.
    fn read(list: &[DestAttribute]) -> Self {
        use DestAttribute as A;
        let flags = last!(list, A::TunnelFlags).copied().unwrap_or_default();
        Self {
            kind: TunnelType(last!(list, A::TunnelType).copied().unwrap_or_default()),
            port: last!(list, A::TunnelPort).map_or(0, |port| port.0),
            flags: TunnelFlags::from_bits_retain(flags),
        }
    }
}

impl ListedDest {
    /// The destination that the attributes of an answer say, of a service of `family`.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[DestAttribute], family: AddressFamily) -> Result<Self, ValueError> {
        use DestAttribute as A;
        let dest = Dest::read(list, family)?;
        let connections = Connections {
            active: *need!(list, A::Active, "IPVS_DEST_ATTR_ACTIVE_CONNS")?,
            inactive: *need!(list, A::Inactive, "IPVS_DEST_ATTR_INACT_CONNS")?,
            persistent: *need!(list, A::Persistent, "IPVS_DEST_ATTR_PERSIST_CONNS")?,
        };
        let (wide, narrow) = (last!(list, A::Stats64), last!(list, A::Stats));
        let stats = Stats::read(wide, narrow, "IPVS_DEST_ATTR_STATS64")?;
        Ok(Self { dest, connections, stats })
    }
}
