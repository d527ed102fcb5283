//! Counters of a service or a destination.

use crate::ValueError;
use crate::wire::attribute::{need, well_formed};
use crate::wire::{Nested, Stats64Attribute, StatsAttribute};

/// What the kernel counted, as of its last tick: it sums up every two seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes from servers.
    pub out_bytes: u64,
    /// Connections a second.
    pub connection_rate: u64,
    /// Packets a second from clients.
    pub in_packet_rate: u64,
    /// Packets a second from servers.
    pub out_packet_rate: u64,
    /// Bytes a second from clients.
    pub in_byte_rate: u64,
    /// Bytes a second from servers.
    pub out_byte_rate: u64,
}

/// All fields from a list whose attributes bear the same names.
macro_rules! stats {
    ($list:expr, $attribute:ident) => {
        Stats {
            connections: (*need!($list, $attribute::Connections, "IPVS_STATS_ATTR_CONNS")?).into(),
            in_packets: (*need!($list, $attribute::InPackets, "IPVS_STATS_ATTR_INPKTS")?).into(),
            out_packets: (*need!($list, $attribute::OutPackets, "IPVS_STATS_ATTR_OUTPKTS")?).into(),
            in_bytes: *need!($list, $attribute::InBytes, "IPVS_STATS_ATTR_INBYTES")?,
            out_bytes: *need!($list, $attribute::OutBytes, "IPVS_STATS_ATTR_OUTBYTES")?,
            connection_rate: (*need!($list, $attribute::ConnectionRate, "IPVS_STATS_ATTR_CPS")?)
                .into(),
            in_packet_rate: (*need!($list, $attribute::InPacketRate, "IPVS_STATS_ATTR_INPPS")?)
                .into(),
            out_packet_rate: (*need!($list, $attribute::OutPacketRate, "IPVS_STATS_ATTR_OUTPPS")?)
                .into(),
            in_byte_rate: (*need!($list, $attribute::InByteRate, "IPVS_STATS_ATTR_INBPS")?).into(),
            out_byte_rate: (*need!($list, $attribute::OutByteRate, "IPVS_STATS_ATTR_OUTBPS")?)
                .into(),
        }
    };
}

impl Stats {
    /// The 64-bit counters, or those of a kernel that has no such.
    pub(crate) fn read(
        wide: Option<&Nested<Stats64Attribute>>,
        narrow: Option<&Nested<StatsAttribute>>,
        attribute: &'static str,
    ) -> Result<Self, ValueError> {
        match (wide, narrow) {
            (Some(wide), _) => Self::wide(&wide.attributes),
            (None, Some(narrow)) => Self::narrow(&narrow.attributes),
            (None, None) => Err(ValueError::Missing { attribute }),
        }
    }

    #[allow(clippy::useless_conversion)] // one macro for both widths
    fn wide(list: &[Stats64Attribute]) -> Result<Self, ValueError> {
        well_formed(list)?;
        Ok(stats!(list, Stats64Attribute))
    }

    fn narrow(list: &[StatsAttribute]) -> Result<Self, ValueError> {
        well_formed(list)?;
        Ok(stats!(list, StatsAttribute))
    }
}
