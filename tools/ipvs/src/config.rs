//! What concerns IPVS as a whole: its timeouts, and what it is.

use std::fmt;

use crate::ValueError;
use crate::wire::attribute::{need, well_formed};
use crate::wire::{CommandAttribute, InfoAttribute};

/// How long connections may be idle, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Established TCP connections. To set 0 leaves it as it is, here and below.
    pub tcp: u32,
    /// TCP connections after the first FIN.
    pub tcp_fin: u32,
    /// UDP flows.
    pub udp: u32,
}

impl Timeouts {
    /// The attributes, as ipvsadm orders them.
    pub fn attributes(&self) -> Vec<CommandAttribute> {
        vec![
            CommandAttribute::TimeoutTcp(self.tcp),
            CommandAttribute::TimeoutTcpFin(self.tcp_fin),
            CommandAttribute::TimeoutUdp(self.udp),
        ]
    }

    /// The timeouts that the attributes say.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[CommandAttribute]) -> Result<Self, ValueError> {
        use CommandAttribute as A;
        well_formed(list)?;
        Ok(Self {
            tcp: *need!(list, A::TimeoutTcp, "IPVS_CMD_ATTR_TIMEOUT_TCP")?,
            tcp_fin: *need!(list, A::TimeoutTcpFin, "IPVS_CMD_ATTR_TIMEOUT_TCP_FIN")?,
            udp: *need!(list, A::TimeoutUdp, "IPVS_CMD_ATTR_TIMEOUT_UDP")?,
        })
    }
}

/// What the kernel's IPVS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    /// Its version, a byte a part: 0x010201 is 1.2.1.
    pub version: u32,
    /// The number of rows of its connection table.
    pub connection_table_size: u32,
}

impl Info {
    /// What the attributes say.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[InfoAttribute]) -> Result<Self, ValueError> {
        use InfoAttribute as A;
        well_formed(list)?;
        Ok(Self {
            version: *need!(list, A::Version, "IPVS_INFO_ATTR_VERSION")?,
            connection_table_size: *need!(
                list,
                A::ConnectionTableSize,
                "IPVS_INFO_ATTR_CONN_TAB_SIZE"
            )?,
        })
    }
}

/// As ipvsadm's first line: `IP Virtual Server version 1.2.1 (size=4096)`.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [_, major, minor, patch] = self.version.to_be_bytes();
        let size = self.connection_table_size;
        write!(f, "IP Virtual Server version {major}.{minor}.{patch} (size={size})")
    }
}
