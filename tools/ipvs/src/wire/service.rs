//! A service's attributes, inside `IPVS_CMD_ATTR_SERVICE`.

use super::attribute::attributes;
use super::stats::{Stats64Attribute, StatsAttribute};
use super::value::{MaskedFlags, Nested, Port};

attributes! {
    /// `IPVS_SVC_ATTR_*`.
    ServiceAttribute {
        /// the address family, `AF_INET` or `AF_INET6`.
        Af(u16) = 1 IPVS_SVC_ATTR_AF,
        /// the protocol of a service that has an address.
        Protocol(u16) = 2 IPVS_SVC_ATTR_PROTOCOL,
        /// the virtual address (`union nf_inet_addr`: IPv4 in the first four bytes, then zeros).
        Address([u8; 16]) = 3 IPVS_SVC_ATTR_ADDR,
        /// the virtual port.
        Port(Port) = 4 IPVS_SVC_ATTR_PORT,
        /// the firewall mark of a service that has no address.
        Fwmark(u32) = 5 IPVS_SVC_ATTR_FWMARK,
        /// the scheduler's name.
        Scheduler(String) = 6 IPVS_SVC_ATTR_SCHED_NAME,
        /// `IP_VS_SVC_F_*`.
        Flags(MaskedFlags) = 7 IPVS_SVC_ATTR_FLAGS,
        /// how long a client stays with its server, in seconds.
        Timeout(u32) = 8 IPVS_SVC_ATTR_TIMEOUT,
        /// which clients are one: an IPv4 mask in network byte order, an IPv6 prefix length in
        /// the host's.
        Netmask([u8; 4]) = 9 IPVS_SVC_ATTR_NETMASK,
        /// counters, some of 32 bits.
        Stats(Nested<StatsAttribute>) = 10 IPVS_SVC_ATTR_STATS,
        /// the persistence engine's name.
        PersistenceEngine(String) = 11 IPVS_SVC_ATTR_PE_NAME,
        /// counters of 64 bits.
        Stats64(Nested<Stats64Attribute>) = 12 IPVS_SVC_ATTR_STATS64,
    }
}
