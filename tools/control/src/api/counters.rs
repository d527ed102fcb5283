//! What became of every frame, as the API tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uvs_engine::counters::Totals;

/// What became of every frame (INV-4), as [`Totals`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// Frames received.
    pub rx: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received frames sent on.
    pub tx: u64,
    /// Bytes sent on.
    pub tx_bytes: u64,
    /// Frames that wait for an Ethernet address.
    pub waiting: u64,
    /// Frames whose bytes went on in others: fragments in their packets, packets in fragments.
    #[serde(default)]
    pub merged: u64,
    /// Frames that were made of parts of packets.
    #[serde(default)]
    pub parted: u64,
    /// Frames that the engine made itself.
    pub originated: u64,
    /// Frames handed to the host, by reason; reasons without a frame are left out.
    pub to_host: BTreeMap<String, u64>,
    /// Frames dropped, by reason; reasons without a frame are left out.
    pub drops: BTreeMap<String, u64>,
    /// Each worker's share, worker 0 first.
    #[serde(default)]
    pub workers: Vec<WorkerCounters>,
}

/// One worker's share of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerCounters {
    /// Frames received.
    pub rx: u64,
    /// Received frames sent on.
    pub tx: u64,
}

impl From<&Totals> for WorkerCounters {
    fn from(totals: &Totals) -> Self {
        Self { rx: totals.rx, tx: totals.tx }
    }
}

impl Counters {
    /// Frames handed to the host.
    pub fn host_frames(&self) -> u64 {
        self.to_host.values().sum()
    }

    /// Frames dropped.
    pub fn dropped_frames(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Whether `rx + parted = tx + to_host + sum(drops) + merged + waiting`.
    pub fn balanced(&self) -> bool {
        let gone = self.tx + self.host_frames() + self.dropped_frames() + self.merged;
        self.rx + self.parted == gone + self.waiting
    }
}

impl From<&Totals> for Counters {
    fn from(totals: &Totals) -> Self {
        let some = |(name, count): (&str, u64)| (count > 0).then(|| (name.to_owned(), count));
        Self {
            rx: totals.rx,
            rx_bytes: totals.rx_bytes,
            tx: totals.tx,
            tx_bytes: totals.tx_bytes,
            waiting: totals.waiting,
            merged: totals.merged,
            parted: totals.parted,
            originated: totals.originated,
            to_host: totals.to_host.iter().filter_map(|(r, n)| some((r.as_str(), *n))).collect(),
            drops: totals.drops.iter().filter_map(|(r, n)| some((r.as_str(), *n))).collect(),
            workers: Vec::new(),
        }
    }
}
