//! Services as they are listed, and as somebody wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uvs_engine::counters::Traffic;
use uvs_sched::Load;
use uvs_uvsadm::api::{Dest, DestConfig, Rates, Service, ServiceConfig, Stats};

pub use uvs_uvsadm::api::Target;

/// A server as it is listed.
#[derive(Clone, Debug)]
pub struct DestView {
    /// As configured.
    pub config: DestConfig,
    /// Its connections.
    pub load: Arc<Load>,
    /// Its persistence templates.
    pub templates: Arc<AtomicU32>,
    /// What it counts.
    pub traffic: Arc<Traffic>,
    /// Its totals as of the last tick.
    pub stats: Stats,
    /// Its rates as of the last tick.
    pub rates: Rates,
}

/// A service as it is listed.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// As configured.
    pub config: ServiceConfig,
    /// What it counts.
    pub traffic: Arc<Traffic>,
    /// Its totals as of the last tick.
    pub stats: Stats,
    /// Its rates as of the last tick.
    pub rates: Rates,
    /// Its servers, newest first.
    pub dests: Vec<DestView>,
}

impl From<&DestView> for Dest {
    fn from(view: &DestView) -> Self {
        Self {
            config: view.config,
            active: view.load.active(),
            inactive: view.load.inactive(),
            // Relaxed: a number by itself.
            persistent: view.templates.load(Ordering::Relaxed),
            stats: view.stats,
            rates: view.rates,
        }
    }
}

impl From<&ServiceView> for Service {
    fn from(view: &ServiceView) -> Self {
        Self {
            config: view.config.clone(),
            stats: view.stats,
            rates: view.rates,
            dests: view.dests.iter().map(Dest::from).collect(),
        }
    }
}
