//! What travels between uvsadm and the engine, as JSON.

mod change;
mod config;
mod document;
mod state;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use change::{ApiError, Change, ErrorCode, NO_SUCH_SERVICE};
pub use config::{
    DestConfig, Method, MssClamp, Netmask, Persistence, ServiceConfig, Timeouts, Tunnel,
    TunnelChecksum, TunnelKind,
};
pub use document::{Config, Outcome, Refused, Target, Version};
pub use state::{Conn, Dest, Pe, Rates, Service, Setting, Settings, Stats, Traffic};

/// A transport protocol that can be balanced.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The name in /etc/services and in JSON: `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The option that names a service of it: `-t`, `-u`, `--sctp-service`.
    pub fn option(self) -> &'static str {
        match self {
            Self::Tcp => "-t",
            Self::Udp => "-u",
            Self::Sctp => "--sctp-service",
        }
    }
}

/// The name as listings print it: `TCP`, `UDP`, `SCTP`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// An address and a port.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub struct Endpoint {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port, in host order; 0 is any.
    pub port: u16,
}

/// `10.0.0.1:80`, `[fd00::1]:80`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

/// What tells one service from another.
///
/// In JSON `{"protocol":"tcp","address":"10.0.0.1","port":80}` or `{"fwmark":7,"ipv6":false}`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(untagged)]
pub enum ServiceKey {
    /// `-t`, `-u`, `--sctp-service`.
    Address {
        /// Its protocol.
        protocol: Protocol,
        /// The virtual address.
        #[schema(value_type = String)]
        address: IpAddr,
        /// The virtual port, in host order; 0 takes all that no other service takes.
        port: u16,
    },
    /// `-f`.
    Mark {
        /// The firewall mark, not 0.
        #[serde(rename = "fwmark")]
        mark: u32,
        /// Of IPv6 packets (`-6`).
        #[serde(default)]
        ipv6: bool,
    },
}

impl ServiceKey {
    /// A service by address.
    pub fn new(protocol: Protocol, address: impl Into<IpAddr>, port: u16) -> Self {
        Self::Address { protocol, address: address.into(), port }
    }

    /// The protocol; a mark's service takes all.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Address { protocol, .. } => Some(*protocol),
            Self::Mark { .. } => None,
        }
    }

    /// The virtual address and port, if there is one.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Self::Address { address, port, .. } => {
                Some(Endpoint { address: *address, port: *port })
            }
            Self::Mark { .. } => None,
        }
    }

    /// Whether it serves IPv6 packets.
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv6(),
            Self::Mark { ipv6, .. } => *ipv6,
        }
    }
}

/// `TCP 10.0.0.1:80`, `FWM 7`, `FWM 7 IPv6`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address, port } => {
                write!(f, "{protocol} {}", Endpoint { address: *address, port: *port })
            }
            Self::Mark { mark, ipv6 } => {
                write!(f, "FWM {mark}{}", if *ipv6 { " IPv6" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_by_address_or_by_mark() {
        for (key, text, json) in [
            (
                ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 80),
                "TCP 10.0.0.1:80",
                r#"{"protocol":"tcp","address":"10.0.0.1","port":80}"#,
            ),
            (
                ServiceKey::new(Protocol::Udp, [0xfd00, 0, 0, 0, 0, 0, 0, 1], 53),
                "UDP [fd00::1]:53",
                r#"{"protocol":"udp","address":"fd00::1","port":53}"#,
            ),
            (ServiceKey::Mark { mark: 7, ipv6: true }, "FWM 7 IPv6", r#"{"fwmark":7,"ipv6":true}"#),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(serde_json::to_string(&key).unwrap(), json);
            assert_eq!(serde_json::from_str::<ServiceKey>(json).unwrap(), key);
        }
    }
}
