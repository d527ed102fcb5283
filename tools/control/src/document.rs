//! The whole configuration as one document: what is configured, and what leads to another.

use std::collections::BTreeMap;

use uvs_engine::clock::Ticks;
use uvs_engine::proto::{self, tcp};
use uvs_uvsadm::api::{ApiError, Change, Config, ErrorCode, Timeouts};

use crate::director::Director;

/// What is configured.
pub(crate) fn of(director: &Director, version: u64) -> Config {
    let services = director.targets().into_values().collect();
    Config { version: Some(version), services, ..of_rules(director) }
}

/// The timeouts that ipvsadm shows and sets.
pub(crate) fn timeouts(timeouts: &proto::Timeouts) -> Timeouts {
    let seconds = |ticks: Ticks| ticks.to_duration().as_secs() as u32;
    Timeouts {
        tcp: seconds(timeouts.tcp[usize::from(tcp::ESTABLISHED)]),
        tcp_fin: seconds(timeouts.tcp[usize::from(tcp::FIN_WAIT)]),
        udp: seconds(timeouts.udp),
    }
}

/// The changes that lead from what is configured to `wanted`.
///
/// # Errors
///
/// A service that stands twice, of which nobody can say which is meant.
pub(crate) fn plan(director: &Director, wanted: &Config) -> Result<Vec<Change>, ApiError> {
    let mut targets = BTreeMap::new();
    for target in &wanted.services {
        let key = target.service.key;
        if targets.insert(key, target.clone()).is_some() {
            let message = format!("the service {key} stands twice");
            return Err(ApiError { code: ErrorCode::Exists, message });
        }
    }
    let mut changes = director.plan(&targets);
    let is = of_rules(director);
    changes.extend(set_timeouts(&is.timeouts, &wanted.timeouts));
    let other =
        wanted.settings.iter().filter(|(name, value)| is.settings.get(*name) != Some(value));
    changes.extend(
        other.map(|(name, value)| Change::SetSetting { name: name.clone(), value: *value }),
    );
    Ok(changes)
}

/// What is configured besides services.
fn of_rules(director: &Director) -> Config {
    let rules = director.rules();
    let settings = rules.settings.iter();
    Config {
        timeouts: timeouts(&rules.timeouts),
        settings: settings.map(|(s, value)| (s.name.to_owned(), i64::from(value))).collect(),
        ..Config::default()
    }
}

/// Sets those that are wanted and differ.
fn set_timeouts(is: &Timeouts, wanted: &Timeouts) -> Option<Change> {
    let other = |is: u32, wanted: u32| if wanted == is { 0 } else { wanted };
    let timeouts = Timeouts {
        tcp: other(is.tcp, wanted.tcp),
        tcp_fin: other(is.tcp_fin, wanted.tcp_fin),
        udp: other(is.udp, wanted.udp),
    };
    (timeouts != Timeouts::default()).then_some(Change::SetTimeouts { timeouts })
}
