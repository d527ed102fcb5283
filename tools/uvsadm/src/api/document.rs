//! The whole configuration as one document, and what became of changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ApiError, Change, DestConfig, ServiceConfig, Timeouts};

/// A service as somebody wants it, with its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The service.
    pub service: ServiceConfig,
    /// Its servers, in the order in which they are to be added.
    #[serde(default)]
    pub dests: Vec<DestConfig>,
}

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Counts changes. In a request: the version that is to be replaced; any if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Timeouts; what is left out or 0 stays.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Settings by their names; what is left out stays.
    #[serde(default)]
    pub settings: BTreeMap<String, i64>,
    /// All services: those that are not here go.
    pub services: Vec<Target>,
}

/// A change that was not made, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// Which change, from 0.
    pub change: usize,
    /// Why.
    pub error: ApiError,
}

/// What became of a request for changes, or would become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// The configuration's version after it.
    pub version: u64,
    /// What was, or would be, added, changed and removed; nothing after a request for single
    /// changes, which says it itself.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Which of the changes cannot be made, where each counts for itself.
    #[serde(default)]
    pub refused: Vec<Refused>,
}

/// The version of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Counts changes.
    pub version: u64,
}
