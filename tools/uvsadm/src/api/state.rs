//! What an engine tells of itself: services, connections, figures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DestConfig, Endpoint, Protocol, ServiceConfig, Timeouts};

/// Totals since the start or the last `-Z`, as of the last tick of two seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// Totals and rates of all services together, removed ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Totals since the start or the last `-Z`.
    pub stats: Stats,
    /// What happens a second.
    pub rates: Rates,
    /// Each worker's share of the totals, worker 0 first.
    #[serde(default)]
    pub workers: Vec<Stats>,
}

/// A server as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dest {
    /// How it is configured.
    pub config: DestConfig,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    #[serde(default)]
    pub persistent: u32,
    /// Its totals.
    #[serde(default)]
    pub stats: Stats,
    /// Its rates.
    #[serde(default)]
    pub rates: Rates,
}

impl Dest {
    /// A server to which nothing happened yet.
    pub fn new(config: DestConfig) -> Self {
        let (stats, rates) = (Stats::default(), Rates::default());
        Self { config, active: 0, inactive: 0, persistent: 0, stats, rates }
    }
}

/// A service as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

impl Service {
    /// A service to which nothing happened yet, without servers.
    pub fn new(config: ServiceConfig) -> Self {
        Self { config, stats: Stats::default(), rates: Rates::default(), dests: Vec::new() }
    }
}

/// A connection, or a persistence template, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conn {
    /// Its protocol; none of a firewall mark's template, which is for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The client; a template's has port 0.
    pub client: Endpoint,
    /// The virtual service it came to.
    pub vip: Endpoint,
    /// The server it goes to.
    pub dest: Endpoint,
    /// Its state by the kernel's name (`ESTABLISHED`).
    pub state: String,
    /// Seconds until it expires.
    pub expires: u32,
    /// What its template is known by, with a persistence engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pe: Option<Pe>,
}

/// A persistence engine, and what it knows a template by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pe {
    /// The engine (`sip`).
    pub name: String,
    /// What was in the packet (the Call-ID).
    pub data: String,
}

/// What a listing says of the engine itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// How many connections the table holds, the `size=` of a listing's first line.
    pub table_size: u64,
    /// The timeouts that `-L --timeout` prints.
    pub timeouts: Timeouts,
    /// What `uvs set` shows.
    #[serde(default)]
    pub settings: Vec<Setting>,
}

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// The sysctl's name.
    pub name: String,
    /// Its value.
    pub value: u32,
    /// Its value at start.
    pub default: u32,
    /// The smallest value that it may have.
    pub min: u32,
    /// The largest.
    pub max: u32,
    /// What it does.
    pub meaning: String,
}
