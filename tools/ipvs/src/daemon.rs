//! Synchronisation daemons, which tell other directors about connections.

use std::fmt;
use std::net::IpAddr;

use crate::wire::DaemonAttribute;
use crate::wire::attribute::{last, need, well_formed};
use crate::{Name, ValueError};

/// Which of the two daemons. At most one of each runs in a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DaemonState {
    /// `IP_VS_STATE_MASTER`: sends what happens here.
    Master,
    /// `IP_VS_STATE_BACKUP`: takes in what happens elsewhere.
    Backup,
}

impl DaemonState {
    fn number(self) -> u32 {
        match self {
            Self::Master => 1,
            Self::Backup => 2,
        }
    }

    fn read(number: u32) -> Result<Self, ValueError> {
        match number {
            1 => Ok(Self::Master),
            2 => Ok(Self::Backup),
            value => Err(ValueError::Unknown { attribute: "IPVS_DAEMON_ATTR_STATE", value }),
        }
    }
}

/// `master` or `backup`.
impl fmt::Display for DaemonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Master => "master",
            Self::Backup => "backup",
        })
    }
}

/// A daemon, as it is configured. Where a field may be 0 or none, the kernel chooses; a daemon that
/// runs has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Daemon {
    /// Master or backup.
    pub state: DaemonState,
    /// The interface that the messages use.
    pub interface: Name,
    /// Which directors belong together, 0 to 255; a backup with 0 listens to all.
    pub sync_id: u32,
    /// The longest message, in bytes of UDP payload; 0 is what the interface's MTU allows.
    pub max_length: u16,
    /// The multicast group; none is 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The first UDP port; 0 is 8848.
    pub port: u16,
    /// How many hops the messages may take; 0 is 1.
    pub ttl: u8,
}

impl Daemon {
    /// A daemon for which the kernel chooses what it can.
    pub fn new(state: DaemonState, interface: Name) -> Self {
        Self { state, interface, sync_id: 0, max_length: 0, group: None, port: 0, ttl: 0 }
    }

    /// Its attributes, as ipvsadm orders them: without those that the kernel is to choose.
    pub fn attributes(&self) -> Vec<DaemonAttribute> {
        let mut list = vec![
            DaemonAttribute::State(self.state.number()),
            DaemonAttribute::Interface(self.interface.to_string()),
            DaemonAttribute::SyncId(self.sync_id),
        ];
        list.extend((self.max_length != 0).then_some(DaemonAttribute::MaxLength(self.max_length)));
        list.extend((self.port != 0).then_some(DaemonAttribute::Port(self.port)));
        list.extend((self.ttl != 0).then_some(DaemonAttribute::Ttl(self.ttl)));
        list.extend(self.group.map(|group| match group {
            IpAddr::V4(group) => DaemonAttribute::Group(group),
            IpAddr::V6(group) => DaemonAttribute::Group6(group),
        }));
        list
    }

    /// The daemon that the attributes say.
    ///
    /// # Errors
    ///
    /// [`ValueError`] names the attribute that is missing or malformed.
    pub fn read(list: &[DaemonAttribute]) -> Result<Self, ValueError> {
        use DaemonAttribute as A;
        well_formed(list)?;
        let interface = need!(list, A::Interface, "IPVS_DAEMON_ATTR_MCAST_IFN")?;
        let group = last!(list, A::Group).copied().map(IpAddr::V4);
        Ok(Self {
            state: DaemonState::read(*need!(list, A::State, "IPVS_DAEMON_ATTR_STATE")?)?,
            interface: Name::read(interface, "IPVS_DAEMON_ATTR_MCAST_IFN")?,
            sync_id: *need!(list, A::SyncId, "IPVS_DAEMON_ATTR_SYNC_ID")?,
            max_length: last!(list, A::MaxLength).copied().unwrap_or_default(),
            group: group.or(last!(list, A::Group6).copied().map(IpAddr::V6)),
            port: last!(list, A::Port).copied().unwrap_or_default(),
            ttl: last!(list, A::Ttl).copied().unwrap_or_default(),
        })
    }
}
