//! Services and servers as they are configured.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Endpoint, ServiceKey};

/// How a frame reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Network address translation (`-m`).
    Masq,
    /// A tunnel (`-i`).
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

/// A service as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceConfig {
    /// Which service.
    pub key: ServiceKey,
    /// The scheduler's name, unchecked here.
    pub scheduler: String,
    /// The scheduler's flags, by ipvsadm's names (`sh-port`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Whether a client stays with its server (`-p`, `-M`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// The persistence engine's name, unchecked here (`--pe`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pe: Option<String>,
    /// Whether every UDP packet is scheduled by itself (`-o`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub one_packet: bool,
    /// The service's own timeouts, where one is not 0 (uvs's own `--conn-timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_timeouts: Option<Timeouts>,
    /// To what its TCP connections' segments are limited, as far as their announcement passes (uvs's
    /// own `--mss-clamp`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss_clamp: Option<MssClamp>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl ServiceConfig {
    /// A service with nothing but a scheduler.
    pub fn new(key: ServiceKey, scheduler: impl Into<String>) -> Self {
        Self {
            key,
            scheduler: scheduler.into(),
            flags: Vec::new(),
            persistence: None,
            pe: None,
            one_packet: false,
            conn_timeouts: None,
            mss_clamp: None,
        }
    }
}

/// How long, and how finely, a client stays with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Persistence {
    /// Idle seconds after which it may get another one, from 1.
    pub timeout: u32,
    /// Clients that are equal under it count as one; none is the whole address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<Netmask>,
}

impl Persistence {
    /// ipvsadm's timeout where `-p` has no value, in seconds.
    pub const DEFAULT_TIMEOUT: u32 = 360;
}

/// A netmask of `-M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Netmask {
    /// The bits of an IPv4 address that count; any bits may.
    #[schema(value_type = String)]
    V4(Ipv4Addr),
    /// How many of the leading bits of an IPv6 address count, 1 to 128.
    V6(u8),
}

impl Netmask {
    /// The same, but none where all bits count.
    pub fn unless_all(self) -> Option<Self> {
        let all = matches!(self, Self::V4(Ipv4Addr::BROADCAST) | Self::V6(128));
        (!all).then_some(self)
    }
}

/// As `-M` takes it.
impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(mask) => mask.fmt(f),
            Self::V6(prefix) => prefix.fmt(f),
        }
    }
}

/// Timeouts of connections, in seconds. Where they are set, 0 leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timeouts {
    /// Of established TCP connections.
    #[serde(default)]
    pub tcp: u32,
    /// Of TCP connections after a FIN.
    #[serde(default)]
    pub tcp_fin: u32,
    /// Of UDP.
    #[serde(default)]
    pub udp: u32,
}

/// To what the segment size is lowered that TCP connections announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MssClamp {
    /// To so many bytes, of [`RANGE`](Self::RANGE).
    Bytes(u16),
    /// To what fits the links on both sides, and the tunnel.
    Pmtu,
}

impl MssClamp {
    /// No fewer bytes than the kernel makes segments of (`TCP_MIN_MSS`), no more than fit an IPv4
    /// packet.
    pub const RANGE: RangeInclusive<u16> = 88..=65495;
}

/// As `--mss-clamp` takes it.
impl fmt::Display for MssClamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Pmtu => f.write_str("pmtu"),
        }
    }
}

/// `900,120,300`, as `--conn-timeout` takes it.
impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.tcp, self.tcp_fin, self.udp)
    }
}

/// A server as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DestConfig {
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Its port, in host order; 0 is the one that the client used. Only with [`Method::Masq`] is
    /// it more than a name.
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
    /// The tunnel, with [`Method::Tunnel`].
    #[serde(default, skip_serializing_if = "Tunnel::is_ipip")]
    pub tunnel: Tunnel,
}

impl DestConfig {
    /// A server of weight 1 without limits, in direct routing: what ipvsadm makes without options.
    pub fn new(address: impl Into<IpAddr>, port: u16) -> Self {
        Self {
            address: address.into(),
            port,
            weight: 1,
            method: Method::Route,
            u_threshold: 0,
            l_threshold: 0,
            tunnel: Tunnel::default(),
        }
    }

    /// What tells it from the other servers of its service.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { address: self.address, port: self.port }
    }
}

/// What a tunnel's outer packet is (`--tun-type` and what goes with it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tunnel {
    /// Which.
    #[serde(rename = "type", default)]
    pub kind: TunnelKind,
    /// The server's UDP port, of GUE.
    #[serde(default)]
    pub port: u16,
    /// What is summed, of GUE and GRE.
    #[serde(default)]
    pub checksum: TunnelChecksum,
}

impl Tunnel {
    /// Whether it is what IPVS does without options.
    pub fn is_ipip(&self) -> bool {
        *self == Self::default()
    }
}

/// The kinds of tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// IP in IP (RFC 2003).
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue,
    /// Generic routing encapsulation (RFC 2784).
    Gre,
}

/// As `--tun-type` takes it.
impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Gre => "gre",
        })
    }
}

/// Which checksum a tunnel's outer packet has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// `--tun-nocsum`, the default.
    #[default]
    None,
    /// `--tun-csum`.
    Full,
    /// `--tun-remcsum`: the inner packet's, filled in by the receiver.
    Remote,
}

/// The option that asks for it.
impl fmt::Display for TunnelChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "--tun-nocsum",
            Self::Full => "--tun-csum",
            Self::Remote => "--tun-remcsum",
        })
    }
}
