//! The commands of the family, and the attributes that stand directly in a message.

use std::fmt;

use super::attribute::attributes;
use super::daemon::DaemonAttribute;
use super::dest::DestAttribute;
use super::service::ServiceAttribute;
use super::value::Nested;

/// `IPVS_CMD_*`. Any number is one; those that the kernel knows have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command(pub u8);

macro_rules! commands {
    ($($(#[$note:meta])* $constant:ident = $number:literal $name:ident,)+) => {
        impl Command {
            $(
                #[doc = concat!("`", stringify!($name), "` (", $number, "):")]
                $(#[$note])*
                pub const $constant: Self = Self($number);
            )+

            /// The kernel's name, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// adds a service; in answers, a service.
    NEW_SERVICE = 1 IPVS_CMD_NEW_SERVICE,
    /// changes a service.
    SET_SERVICE = 2 IPVS_CMD_SET_SERVICE,
    /// removes a service.
    DEL_SERVICE = 3 IPVS_CMD_DEL_SERVICE,
    /// asks for one service, or as a dump for all.
    GET_SERVICE = 4 IPVS_CMD_GET_SERVICE,
    /// adds a destination; in answers, a destination.
    NEW_DEST = 5 IPVS_CMD_NEW_DEST,
    /// changes a destination.
    SET_DEST = 6 IPVS_CMD_SET_DEST,
    /// removes a destination.
    DEL_DEST = 7 IPVS_CMD_DEL_DEST,
    /// asks for a service's destinations; only as a dump.
    GET_DEST = 8 IPVS_CMD_GET_DEST,
    /// starts a synchronisation daemon; in answers, one that runs.
    NEW_DAEMON = 9 IPVS_CMD_NEW_DAEMON,
    /// stops a daemon.
    DEL_DAEMON = 10 IPVS_CMD_DEL_DAEMON,
    /// asks for the daemons; only as a dump.
    GET_DAEMON = 11 IPVS_CMD_GET_DAEMON,
    /// sets timeouts; in answers, the timeouts.
    SET_CONFIG = 12 IPVS_CMD_SET_CONFIG,
    /// asks for the timeouts.
    GET_CONFIG = 13 IPVS_CMD_GET_CONFIG,
    /// only an answer: what IPVS is.
    SET_INFO = 14 IPVS_CMD_SET_INFO,
    /// asks what IPVS is.
    GET_INFO = 15 IPVS_CMD_GET_INFO,
    /// sets the counters of one service or all to zero.
    ZERO = 16 IPVS_CMD_ZERO,
    /// removes all services.
    FLUSH = 17 IPVS_CMD_FLUSH,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "IPVS command {}", self.0),
        }
    }
}

attributes! {
    /// `IPVS_CMD_ATTR_*`: what stands directly in a message.
    CommandAttribute {
        /// a service.
        Service(Nested<ServiceAttribute>) = 1 IPVS_CMD_ATTR_SERVICE,
        /// a destination of the service.
        Dest(Nested<DestAttribute>) = 2 IPVS_CMD_ATTR_DEST,
        /// a synchronisation daemon.
        Daemon(Nested<DaemonAttribute>) = 3 IPVS_CMD_ATTR_DAEMON,
        /// how long an established TCP connection may be idle, in seconds.
        TimeoutTcp(u32) = 4 IPVS_CMD_ATTR_TIMEOUT_TCP,
        /// the same after the first FIN, in seconds.
        TimeoutTcpFin(u32) = 5 IPVS_CMD_ATTR_TIMEOUT_TCP_FIN,
        /// how long a UDP flow may be idle, in seconds.
        TimeoutUdp(u32) = 6 IPVS_CMD_ATTR_TIMEOUT_UDP,
    }
}
