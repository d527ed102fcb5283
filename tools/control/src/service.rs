//! Services as they are listed, and as somebody wants them.

use std::sync::Arc;

use uvs_engine::counters::Traffic;
use uvs_sched::Load;
use uvs_uvsadm::api::{DestConfig, ServiceConfig};

/// A server as it is listed.
#[derive(Clone, Debug)]
pub struct DestView {
    /// As configured.
    pub config: DestConfig,
    /// Its connections.
    pub load: Arc<Load>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
}

/// A service as it is listed.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// As configured.
    pub config: ServiceConfig,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
    /// Its servers, newest first.
    pub dests: Vec<DestView>,
}

/// A service as a file of rules wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: ServiceConfig,
    /// Its servers, in the order in which they are to be added.
    pub dests: Vec<DestConfig>,
}
