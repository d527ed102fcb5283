//! What is to be simulated.

use serde::Serialize;

use crate::churn::{self, Step};
use crate::error::{Wrong, within};
use crate::scheduler::Choice;
use crate::server::{Group, MOST_SERVERS};
use crate::workload::{Clients, Lifetime, Workload};

/// Connections that a run may have: their response times are kept.
const MOST_CONNECTIONS: f64 = 2e7;

/// How busy the servers are when no rate is given.
const BUSY: f64 = 0.75;

/// Servers, connections, what happens meanwhile, and who is to pick.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scenario {
    /// The connections. Their rate counts once [`check`](Self::check) has settled it.
    #[serde(flatten)]
    pub workload: Workload,
    /// The rate that is asked for; without one the servers are three quarters busy.
    #[serde(skip)]
    pub rate: Option<f64>,
    /// The servers, in the order in which they were added.
    pub servers: Vec<Group>,
    /// Servers that leave and join.
    pub steps: Vec<Step>,
    /// The schedulers to compare.
    #[serde(skip)]
    pub schedulers: Vec<Choice>,
    /// How long a connection that has ended is remembered as inactive, in seconds.
    pub inactive: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        let slow = Group { count: 6, weight: 10, ..Group::default() };
        let fast = Group { count: 2, weight: 30, speed: 3.0, ..Group::default() };
        Self {
            workload: Workload {
                rate: 0.0,
                seconds: 300.0,
                clients: Clients::Zipf,
                population: 10_000,
                skew: 0.7,
                destinations: 1_000,
                lifetime: Lifetime::Pareto,
                mean_lifetime: 0.5,
                shape: 1.5,
                seed: 1,
            },
            rate: None,
            servers: vec![slow, fast],
            steps: Vec::new(),
            schedulers: Choice::all(),
            inactive: 120.0,
        }
    }
}

impl Scenario {
    /// Checks all of it, and settles the rate.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&mut self) -> Result<(), Wrong> {
        for (number, group) in (1..).zip(&self.servers) {
            group.check().map_err(|wrong| wrong.within(&format!("servers {number}")))?;
        }
        let count = self.servers().count();
        if !(1..=MOST_SERVERS).contains(&count) {
            let reason = format!("there are {count}; there may be 1 to {MOST_SERVERS}");
            return Err(Wrong::field("servers", reason));
        }
        if self.capacity() == 0.0 {
            return Err(Wrong::field("servers", "none has a weight, so none would be picked"));
        }
        let mean_lifetime = self.workload.mean_lifetime;
        self.workload.rate = self.rate.unwrap_or(BUSY * self.capacity() / mean_lifetime);
        self.workload.check()?;
        within("inactive", self.inactive, 0.0..=1e6)?;
        churn::check(&self.steps, count, self.workload.seconds)?;
        self.check_schedulers(count)?;
        let (connections, most) = (self.workload.rate * self.workload.seconds, MOST_CONNECTIONS);
        if connections > most {
            return Err(Wrong::TooLong { connections, most });
        }
        Ok(())
    }

    fn check_schedulers(&self, count: usize) -> Result<(), Wrong> {
        if self.schedulers.is_empty() {
            return Err(Wrong::field("schedulers", "there is none; name some, or all"));
        }
        for (at, choice) in self.schedulers.iter().enumerate() {
            if self.schedulers[..at].contains(choice) {
                return Err(Wrong::Twice(choice.to_string()));
            }
            let name = choice.name;
            if let Some(most) = name.most_servers().filter(|most| count > *most) {
                return Err(Wrong::TooManyServers { name, most, count });
            }
        }
        Ok(())
    }

    /// The servers, one by one.
    pub fn servers(&self) -> impl Iterator<Item = Group> {
        self.servers.iter().flat_map(|group| std::iter::repeat_n(*group, group.count as usize))
    }

    /// Seconds of work that all servers with a weight do in a second.
    pub fn capacity(&self) -> f64 {
        self.servers().filter(|server| server.weight > 0).map(|server| server.capacity()).sum()
    }

    /// Which part of the servers' time the connections take, if all share them well.
    pub fn busy(&self) -> f64 {
        self.workload.rate * self.workload.mean_lifetime / self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(scenario: Scenario, sentence: &str) {
        let mut scenario = scenario;
        assert_eq!(scenario.check().unwrap_err().to_string(), sentence);
    }

    fn with(change: impl FnOnce(&mut Workload)) -> Scenario {
        let mut scenario = Scenario { rate: Some(10.0), ..Scenario::default() };
        change(&mut scenario.workload);
        scenario
    }

    #[test]
    fn without_a_rate_the_servers_are_three_quarters_busy() {
        let mut scenario = Scenario::default();
        scenario.check().unwrap();
        assert!((scenario.busy() - 0.75).abs() < 1e-9);
        assert_eq!(scenario.servers().count(), 8);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let servers = |groups: &[Group]| Scenario { servers: groups.to_vec(), ..with(|_| {}) };
        refused(with(|w| w.seconds = 0.0), "for: cannot be 0; it is 0.001 to 10000000");
        refused(with(|w| w.skew = f64::NAN), "skew: cannot be NaN; it is 0 to 10");
        refused(with(|w| w.shape = 1.0), "shape: cannot be 1; it is 1.01 to 100");
        refused(with(|w| w.population = 0), "population: cannot be 0; it is 1 to 1048576");
        refused(with(|w| w.destinations = 0), "destinations: cannot be 0; it is 1 to 131072");
        refused(
            with(|w| w.mean_lifetime = -1.0),
            "mean-lifetime: cannot be -1; it is 0.000001 to 1000000",
        );
        refused(
            Scenario { rate: Some(0.0), ..Scenario::default() },
            "rate: cannot be 0; it is 0.000001 to 1000000000",
        );
        refused(
            Scenario { inactive: -1.0, ..Scenario::default() },
            "inactive: cannot be -1; it is 0 to 1000000",
        );
        refused(servers(&[]), "servers: there are 0; there may be 1 to 10000");
        let wrong = Group { lower: 2, ..Group::default() };
        refused(servers(&[Group::default(), wrong]), "servers 2, lower: 2 is above upper, 0");
        refused(
            Scenario { rate: Some(1e6), ..Scenario::default() },
            "a run of 300000000 connections is above the 20000000 that it may have; lower rate or \
             for",
        );
    }

    #[test]
    fn schedulers_that_cannot_run_are_refused() {
        let mh = Scenario { schedulers: Choice::list("wlc,mh").unwrap(), ..with(|_| {}) };
        let group = |count| vec![Group { count, ..Group::default() }];
        refused(
            Scenario { servers: group(4094), ..mh.clone() },
            "mh takes 4093 servers at most, and there are 4094",
        );
        assert_eq!(Scenario { servers: group(4093), ..mh }.check(), Ok(()));
        let twice = Choice::list("wlc,mh:port,wlc").unwrap();
        refused(Scenario { schedulers: twice, ..with(|_| {}) }, "scheduler wlc is named twice");
        refused(
            Scenario { schedulers: Vec::new(), ..with(|_| {}) },
            "schedulers: there is none; name some, or all",
        );
    }
}
