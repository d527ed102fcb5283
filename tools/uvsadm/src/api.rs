//! What travels between uvsadm and the engine, as JSON.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A transport protocol that can be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// How a frame reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Network address translation (`-m`).
    Masq,
    /// An IPIP tunnel (`-i`).
    Tunnel,
    /// Direct routing (`-g`), the default.
    Route,
    /// Delivered on this host; never asked for by option.
    Local,
}

impl Method {
    /// The option that asks for it; a local server is one of direct routing.
    pub fn option(self) -> &'static str {
        match self {
            Self::Masq => "-m",
            Self::Tunnel => "-i",
            Self::Route | Self::Local => "-g",
        }
    }
}

/// The name as listings print it.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Masq => "Masq",
            Self::Tunnel => "Tunnel",
            Self::Route => "Route",
            Self::Local => "Local",
        })
    }
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port, in host order.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

/// What tells one service from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// Its protocol.
    pub protocol: Protocol,
    /// The virtual address.
    pub address: Ipv4Addr,
    /// The virtual port, in host order.
    pub port: u16,
}

impl ServiceKey {
    /// The virtual address and port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port }
    }
}

/// `TCP 10.0.0.1:80`.
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.endpoint())
    }
}

/// A service as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// Which service.
    pub key: ServiceKey,
    /// The scheduler's name, unchecked here.
    pub scheduler: String,
    /// The scheduler's flags, by ipvsadm's names (`sh-port`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// A server as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestConfig {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port, in host order; other than the service's only with [`Method::Masq`].
    pub port: u16,
    /// Its share, at most 2147483647; 0 takes no new connections.
    pub weight: u32,
    /// How frames reach it.
    pub method: Method,
    /// New connections stop at this many; 0 is no limit.
    #[serde(default)]
    pub u_threshold: u32,
    /// New connections come back below this many; 0 is three quarters of `u_threshold`.
    #[serde(default)]
    pub l_threshold: u32,
}

impl DestConfig {
    /// What tells it from the other servers of its service.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port }
    }
}

/// Totals since the start or the last `-Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_pkts: u64,
    /// Packets to clients.
    pub out_pkts: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}

/// What happens a second, averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections a second.
    pub cps: u64,
    /// Packets a second from clients.
    pub in_pps: u64,
    /// Packets a second to clients.
    pub out_pps: u64,
    /// Bytes a second from clients.
    pub in_bps: u64,
    /// Bytes a second to clients.
    pub out_bps: u64,
}

/// A server as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dest {
    /// How it is configured.
    pub config: DestConfig,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Its totals.
    #[serde(default)]
    pub stats: Stats,
    /// Its rates.
    #[serde(default)]
    pub rates: Rates,
}

/// A service as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// How it is configured.
    pub config: ServiceConfig,
    /// Its totals.
    #[serde(default)]
    pub stats: Stats,
    /// Its rates.
    #[serde(default)]
    pub rates: Rates,
    /// Its servers, newest first as the kernel keeps them.
    pub dests: Vec<Dest>,
}

/// A connection as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conn {
    /// Its protocol.
    pub protocol: Protocol,
    /// The client.
    pub client: Endpoint,
    /// The virtual service it came to.
    pub vip: Endpoint,
    /// The server it goes to.
    pub dest: Endpoint,
    /// Its state by the kernel's name (`ESTABLISHED`).
    pub state: String,
    /// Seconds until it expires.
    pub expires: u32,
}

/// Timeouts of connections, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Of established TCP connections.
    pub tcp: u32,
    /// Of TCP connections after a FIN.
    pub tcp_fin: u32,
    /// Of UDP.
    pub udp: u32,
}

/// What a listing says of the engine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How many buckets the connection table has, the `size=` of a listing's first line.
    pub table_size: u64,
    /// The timeouts that `-L --timeout` prints.
    pub timeouts: Timeouts,
}

/// One change of the table of services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// `-A`: a new service without servers.
    AddService {
        /// The service.
        service: ServiceConfig,
    },
    /// `-E`: another scheduler for a service.
    EditService {
        /// The service as it shall be.
        service: ServiceConfig,
    },
    /// `-D`: a service goes, with its servers.
    DelService {
        /// Which.
        service: ServiceKey,
    },
    /// `-C`: all services go.
    Flush,
    /// `-a`: a new server.
    AddDest {
        /// Of which service.
        service: ServiceKey,
        /// The server.
        dest: DestConfig,
    },
    /// `-e`: another weight, method or threshold for a server.
    EditDest {
        /// Of which service.
        service: ServiceKey,
        /// The server as it shall be.
        dest: DestConfig,
    },
    /// `-d`: a server goes.
    DelDest {
        /// Of which service.
        service: ServiceKey,
        /// Which.
        dest: Endpoint,
    },
}

/// Why the engine refused a change, by the errno that the kernel has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// ESRCH: the service does not exist.
    NoSuchService,
    /// ENOENT: the service has no such server.
    NoSuchDest,
    /// ENOENT: there is no scheduler of that name.
    NoSuchScheduler,
    /// EEXIST: the service or the server exists.
    Exists,
    /// ERANGE: a weight or a threshold does not fit.
    Range,
    /// EINVAL: an address that cannot be served, among others.
    Invalid,
    /// EAFNOSUPPORT: the address family does not fit.
    Family,
    /// ENOMEM: no memory for it.
    NoMemory,
    /// EPERM: not allowed.
    Denied,
    /// The kernel's IPVS can do it, uvs cannot yet.
    NotSupported,
}

impl ErrorCode {
    /// What ipvsadm prints for it when it answers `change`.
    pub fn text(self, change: &Change) -> &'static str {
        let of_dest = matches!(
            change,
            Change::AddDest { .. } | Change::EditDest { .. } | Change::DelDest { .. }
        );
        match self {
            Self::NoSuchService if of_dest => "Service not defined",
            Self::NoSuchService => NO_SUCH_SERVICE,
            Self::NoSuchDest => "No such destination",
            Self::NoSuchScheduler => "Scheduler or persistence engine not found",
            Self::Exists if of_dest => "Destination already exists",
            Self::Exists => "Service already exists",
            Self::Range => "Numerical result out of range",
            // The two spaces are ipvsadm's.
            Self::Invalid => {
                "Invalid operation.  Possibly wrong module version, address not unicast, ..."
            }
            Self::Family => "Operation not supported with specified address family",
            Self::NoMemory => "Memory allocation problem",
            Self::Denied => "Permission denied (you must be root)",
            Self::NotSupported => "Operation not supported",
        }
    }
}

/// What ipvsadm prints when it is asked to list a service that does not exist (exit code 1).
pub const NO_SUCH_SERVICE: &str = "No such service";

/// A change that the engine refused; `uvsadm` prints it and exits with [`ApiError::EXIT`].
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ApiError {
    /// The reason.
    pub code: ErrorCode,
    /// The sentence for the user.
    pub message: String,
}

impl ApiError {
    /// ipvsadm's exit code for everything that the kernel refuses.
    pub const EXIT: u8 = 255;

    /// The error that ipvsadm would print for `code` in answer to `change`.
    pub fn new(code: ErrorCode, change: &Change) -> Self {
        Self { code, message: code.text(change).to_owned() }
    }

    /// Something that IPVS does and uvs does not yet; `message` says what.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::NotSupported, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ServiceKey =
        ServiceKey { protocol: Protocol::Tcp, address: Ipv4Addr::new(10, 0, 0, 1), port: 80 };

    #[test]
    fn the_json_of_a_change_is_as_documented() {
        let change = Change::AddService {
            service: ServiceConfig { key: KEY, scheduler: "rr".into(), flags: vec![] },
        };
        let json = r#"{"change":"add-service","service":{"key":{"protocol":"tcp","address":"10.0.0.1","port":80},"scheduler":"rr"}}"#;
        assert_eq!(serde_json::to_string(&change).unwrap(), json);
        assert_eq!(serde_json::from_str::<Change>(json).unwrap(), change);
        assert_eq!(serde_json::to_string(&Change::Flush).unwrap(), r#"{"change":"flush"}"#);
    }

    #[test]
    fn an_error_is_worded_by_what_was_asked() {
        let dest = Change::DelDest { service: KEY, dest: KEY.endpoint() };
        let service = Change::DelService { service: KEY };
        let text = |code, change| ApiError::new(code, change).to_string();
        assert_eq!(text(ErrorCode::NoSuchService, &service), "No such service");
        assert_eq!(text(ErrorCode::NoSuchService, &dest), "Service not defined");
        assert_eq!(text(ErrorCode::Exists, &service), "Service already exists");
        assert_eq!(text(ErrorCode::Exists, &dest), "Destination already exists");
    }
}
