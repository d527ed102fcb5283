//! A destination's attributes, inside `IPVS_CMD_ATTR_DEST`.

use super::attribute::attributes;
use super::stats::{Stats64Attribute, StatsAttribute};
use super::value::{Nested, Port};

attributes! {
    /// `IPVS_DEST_ATTR_*`.
    DestAttribute {
        /// the server's address (`union nf_inet_addr`: IPv4 in the first four bytes, then zeros).
        Address([u8; 16]) = 1 IPVS_DEST_ATTR_ADDR,
        /// the server's port.
        Port(Port) = 2 IPVS_DEST_ATTR_PORT,
        /// the forwarding method (`IP_VS_CONN_F_FWD_MASK`).
        Method(u32) = 3 IPVS_DEST_ATTR_FWD_METHOD,
        /// the weight.
        Weight(u32) = 4 IPVS_DEST_ATTR_WEIGHT,
        /// the upper threshold, in connections; 0 is none.
        UpperThreshold(u32) = 5 IPVS_DEST_ATTR_U_THRESH,
        /// the lower threshold, in connections; 0 is three quarters of the upper one.
        LowerThreshold(u32) = 6 IPVS_DEST_ATTR_L_THRESH,
        /// active connections.
        Active(u32) = 7 IPVS_DEST_ATTR_ACTIVE_CONNS,
        /// inactive connections.
        Inactive(u32) = 8 IPVS_DEST_ATTR_INACT_CONNS,
        /// persistent connections (templates).
        Persistent(u32) = 9 IPVS_DEST_ATTR_PERSIST_CONNS,
        /// counters, some of 32 bits.
        Stats(Nested<StatsAttribute>) = 10 IPVS_DEST_ATTR_STATS,
        /// the address family of the server, where it differs from the service's.
        AddressFamily(u16) = 11 IPVS_DEST_ATTR_ADDR_FAMILY,
        /// counters of 64 bits.
        Stats64(Nested<Stats64Attribute>) = 12 IPVS_DEST_ATTR_STATS64,
        /// the tunnel's encapsulation (`IP_VS_CONN_F_TUNNEL_TYPE_*`).
        TunnelType(u8) = 13 IPVS_DEST_ATTR_TUN_TYPE,
        /// the UDP port to which GUE sends.
        TunnelPort(Port) = 14 IPVS_DEST_ATTR_TUN_PORT,
        /// the tunnel's checksums (`IP_VS_TUNNEL_ENCAP_FLAG_*`).
        TunnelFlags(u16) = 15 IPVS_DEST_ATTR_TUN_FLAGS,
    }
}
