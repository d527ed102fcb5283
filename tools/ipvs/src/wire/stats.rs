//! Counters, inside `IPVS_SVC_ATTR_STATS`, `IPVS_DEST_ATTR_STATS` and their 64-bit brothers.

use super::attribute::attributes;

attributes! {
    /// `IPVS_STATS_ATTR_*` as kernels before 4.1 know them: bytes have 64 bits, the rest 32.
    StatsAttribute {
        /// connections scheduled.
        Connections(u32) = 1 IPVS_STATS_ATTR_CONNS,
        /// packets from clients.
        InPackets(u32) = 2 IPVS_STATS_ATTR_INPKTS,
        /// packets from servers.
        OutPackets(u32) = 3 IPVS_STATS_ATTR_OUTPKTS,
        /// bytes from clients.
        InBytes(u64) = 4 IPVS_STATS_ATTR_INBYTES,
        /// bytes from servers.
        OutBytes(u64) = 5 IPVS_STATS_ATTR_OUTBYTES,
        /// connections a second.
        ConnectionRate(u32) = 6 IPVS_STATS_ATTR_CPS,
        /// packets a second from clients.
        InPacketRate(u32) = 7 IPVS_STATS_ATTR_INPPS,
        /// packets a second from servers.
        OutPacketRate(u32) = 8 IPVS_STATS_ATTR_OUTPPS,
        /// bytes a second from clients.
        InByteRate(u32) = 9 IPVS_STATS_ATTR_INBPS,
        /// bytes a second from servers.
        OutByteRate(u32) = 10 IPVS_STATS_ATTR_OUTBPS,
        /// nothing, where the kernel aligns the number after it to eight bytes.
        Pad(()) = 11 IPVS_STATS_ATTR_PAD,
    }
}

attributes! {
    /// `IPVS_STATS_ATTR_*`, all of 64 bits.
    Stats64Attribute {
        /// connections scheduled.
        Connections(u64) = 1 IPVS_STATS_ATTR_CONNS,
        /// packets from clients.
        InPackets(u64) = 2 IPVS_STATS_ATTR_INPKTS,
        /// packets from servers.
        OutPackets(u64) = 3 IPVS_STATS_ATTR_OUTPKTS,
        /// bytes from clients.
        InBytes(u64) = 4 IPVS_STATS_ATTR_INBYTES,
        /// bytes from servers.
        OutBytes(u64) = 5 IPVS_STATS_ATTR_OUTBYTES,
        /// connections a second.
        ConnectionRate(u64) = 6 IPVS_STATS_ATTR_CPS,
        /// packets a second from clients.
        InPacketRate(u64) = 7 IPVS_STATS_ATTR_INPPS,
        /// packets a second from servers.
        OutPacketRate(u64) = 8 IPVS_STATS_ATTR_OUTPPS,
        /// bytes a second from clients.
        InByteRate(u64) = 9 IPVS_STATS_ATTR_INBPS,
        /// bytes a second from servers.
        OutByteRate(u64) = 10 IPVS_STATS_ATTR_OUTBPS,
        /// nothing, where the kernel aligns the number after it to eight bytes.
        Pad(()) = 11 IPVS_STATS_ATTR_PAD,
    }
}
