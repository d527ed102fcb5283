//! A synchronisation daemon's attributes, inside `IPVS_CMD_ATTR_DAEMON`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::attribute::attributes;

attributes! {
    /// `IPVS_DAEMON_ATTR_*`.
    DaemonAttribute {
        /// master or backup (`IP_VS_STATE_*`).
        State(u32) = 1 IPVS_DAEMON_ATTR_STATE,
        /// the interface that the messages use.
        Interface(String) = 2 IPVS_DAEMON_ATTR_MCAST_IFN,
        /// which directors belong together: 0 to 255.
        SyncId(u32) = 3 IPVS_DAEMON_ATTR_SYNC_ID,
        /// the longest message, in bytes of UDP payload.
        MaxLength(u16) = 4 IPVS_DAEMON_ATTR_SYNC_MAXLEN,
        /// the IPv4 multicast group.
        Group(Ipv4Addr) = 5 IPVS_DAEMON_ATTR_MCAST_GROUP,
        /// the IPv6 multicast group.
        Group6(Ipv6Addr) = 6 IPVS_DAEMON_ATTR_MCAST_GROUP6,
        /// the first UDP port; in the host's byte order.
        Port(u16) = 7 IPVS_DAEMON_ATTR_MCAST_PORT,
        /// how many hops the messages may take.
        Ttl(u8) = 8 IPVS_DAEMON_ATTR_MCAST_TTL,
    }
}
