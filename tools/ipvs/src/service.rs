//! Virtual services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::address::union;
use crate::wire::attribute::{last, need, well_formed};
use crate::wire::{MaskedFlags, Port, ServiceAttribute};
use crate::{AddressFamily, Name, Protocol, Stats, ValueError};

/// What the kernel finds a service by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// A virtual address and port.
    Address {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// The virtual address; its family is the service's.
        address: IpAddr,
        /// The port; 0 is every port, of a persistent service.
        port: u16,
    },
    /// A firewall mark.
    Mark {
        /// Which of the marked packets: IPv4's or IPv6's.
        family: AddressFamily,
        /// The mark, not 0: with 0 the kernel makes a TCP service for 0.0.0.0:0.
        mark: u32,
    },
}

bitflags::bitflags! {
    /// `IP_VS_SVC_F_*`. Bits without a name are kept.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
    pub struct ServiceFlags: u32 {
        /// `IP_VS_SVC_F_PERSISTENT`: a client stays with its server.
        const PERSISTENT = 1;
        /// `IP_VS_SVC_F_ONEPACKET`: each packet is scheduled on its own.
        const ONE_PACKET = 4;
        /// `IP_VS_SVC_F_SCHED1`: flag-1; sh-fallback of sh, mh-fallback of mh.
        const SCHED1 = 8;
        /// `IP_VS_SVC_F_SCHED2`: flag-2; sh-port of sh, mh-port of mh.
        const SCHED2 = 16;
        /// `IP_VS_SVC_F_SCHED3`: flag-3.
        const SCHED3 = 32;
        const _ = !0;
    }
}

/// `IP_VS_SVC_F_HASHED`: the kernel's own mark of a service in its table. It is no configuration.
const HASHED: u32 = 2;

/// Which clients of a persistent service are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Netmask {
    /// The mask of an IPv4 service. The kernel takes any, with holes too.
    Mask(Ipv4Addr),
    /// The prefix length of an IPv6 service, 1 to 128.
    Prefix(u32),
}

impl Netmask {
    /// Each client is its own.
    pub fn host(family: AddressFamily) -> Self {
        match family {
            AddressFamily::Inet => Self::Mask(Ipv4Addr::BROADCAST),
            AddressFamily::Inet6 => Self::Prefix(128),
        }
    }

    fn read(family: AddressFamily, bytes: [u8; 4]) -> Self {
        match family {
            AddressFamily::Inet => Self::Mask(bytes.into()),
            AddressFamily::Inet6 => Self::Prefix(u32::from_ne_bytes(bytes)),
        }
    }

    fn bytes(self) -> [u8; 4] {
        match self {
            Self::Mask(mask) => mask.octets(),
            Self::Prefix(length) => length.to_ne_bytes(),
        }
    }
}

/// A virtual service, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// What it is found by.
    pub key: ServiceKey,
    /// The scheduler. The kernel says `none` when it lost it.
    pub scheduler: Name,
    /// Persistence, one-packet scheduling, the scheduler's flags.
    pub flags: ServiceFlags,
    /// How long a client stays with its server, in seconds; it counts with
    /// [`ServiceFlags::PERSISTENT`] only.
    pub timeout: u32,
    /// Which clients are one.
    pub netmask: Netmask,
    /// The persistence engine; empty for none.
    pub persistence_engine: Name,
}

/// A service as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListedService {
    /// How it is configured.
    pub service: Service,
    /// What it did.
    pub stats: Stats,
}

impl ServiceKey {
    /// The address family of the service.
    pub fn family(&self) -> AddressFamily {
        match self {
            Self::Address { address, .. } => AddressFamily::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// The attributes that find the service.
    pub fn attributes(&self) -> Vec<ServiceAttribute> {
        let mut list = vec![ServiceAttribute::Af(self.family().number())];
        match *self {
            Self::Mark { mark, .. } => list.push(ServiceAttribute::Fwmark(mark)),
            Self::Address { protocol, address, port } => list.extend([
                ServiceAttribute::Protocol(protocol.0),
                ServiceAttribute::Address(union(address)),
                ServiceAttribute::Port(Port(port)),
            ]),
        }
        list
    }

    /// What the attributes find.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[ServiceAttribute]) -> Result<Self, ValueError> {
        use ServiceAttribute as A;
        well_formed(list)?;
        let af = *need!(list, A::Af, "IPVS_SVC_ATTR_AF")?;
        let family = AddressFamily::read(af, "IPVS_SVC_ATTR_AF")?;
        if let Some(&mark) = last!(list, A::Fwmark) {
            return Ok(Self::Mark { family, mark });
        }
        let address = *need!(list, A::Address, "IPVS_SVC_ATTR_ADDR")?;
        Ok(Self::Address {
            protocol: Protocol(*need!(list, A::Protocol, "IPVS_SVC_ATTR_PROTOCOL")?),
            address: family.address(address),
            port: need!(list, A::Port, "IPVS_SVC_ATTR_PORT")?.0,
        })
    }
}

/// As ipvsadm lists it: `TCP 10.0.0.1:80`, `FWM 8 IPv6`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Address { protocol, address: IpAddr::V4(address), port } => {
                write!(f, "{protocol:<4} {address}:{port}")
            }
            Self::Address { protocol, address: IpAddr::V6(address), port } => {
                write!(f, "{protocol:<4} [{address}]:{port}")
            }
            Self::Mark { family: AddressFamily::Inet, mark } => write!(f, "FWM  {mark}"),
            Self::Mark { family: AddressFamily::Inet6, mark } => write!(f, "FWM  {mark} IPv6"),
        }
    }
}

impl Service {
    /// A service without flags, for clients each on its own.
    pub fn new(key: ServiceKey, scheduler: Name) -> Self {
        Self {
            key,
            scheduler,
            flags: ServiceFlags::empty(),
            timeout: 0,
            netmask: Netmask::host(key.family()),
            persistence_engine: Name::default(),
        }
    }

    /// All its attributes, as ipvsadm orders them.
    pub fn attributes(&self) -> Vec<ServiceAttribute> {
        let mut list = self.key.attributes();
        list.push(ServiceAttribute::Scheduler(self.scheduler.to_string()));
        if !self.persistence_engine.is_empty() {
            let name = self.persistence_engine.to_string();
            list.push(ServiceAttribute::PersistenceEngine(name));
        }
        let flags = MaskedFlags { flags: self.flags.bits(), mask: !0 };
        list.extend([
            ServiceAttribute::Flags(flags),
            ServiceAttribute::Timeout(self.timeout),
            ServiceAttribute::Netmask(self.netmask.bytes()),
        ]);
        list
    }

    /// The service that the attributes say.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[ServiceAttribute]) -> Result<Self, ValueError> {
        use ServiceAttribute as A;
        let key = ServiceKey::read(list)?;
        let scheduler = need!(list, A::Scheduler, "IPVS_SVC_ATTR_SCHED_NAME")?;
        let engine = last!(list, A::PersistenceEngine).map_or("", String::as_str);
        let flags = need!(list, A::Flags, "IPVS_SVC_ATTR_FLAGS")?.flags;
        let netmask = *need!(list, A::Netmask, "IPVS_SVC_ATTR_NETMASK")?;
        Ok(Self {
            key,
            scheduler: Name::read(scheduler, "IPVS_SVC_ATTR_SCHED_NAME")?,
            flags: ServiceFlags::from_bits_retain(flags & !HASHED),
            timeout: *need!(list, A::Timeout, "IPVS_SVC_ATTR_TIMEOUT")?,
            netmask: Netmask::read(key.family(), netmask),
            persistence_engine: Name::read(engine, "IPVS_SVC_ATTR_PE_NAME")?,
        })
    }
}

impl ListedService {
    /// The service that the attributes of an answer say.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[ServiceAttribute]) -> Result<Self, ValueError> {
        use ServiceAttribute as A;
        let service = Service::read(list)?;
        let (wide, narrow) = (last!(list, A::Stats64), last!(list, A::Stats));
        let stats = Stats::read(wide, narrow, "IPVS_SVC_ATTR_STATS64")?;
        Ok(Self { service, stats })
    }
}
