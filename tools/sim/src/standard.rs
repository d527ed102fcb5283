//! The standard workloads: what schedulers are compared with.

use crate::Scenario;
use crate::churn::{Change, Step};
use crate::scheduler::Choice;
use crate::server::Group;
use crate::workload::{Clients, Lifetime};

/// A scenario with a name.
#[derive(Clone, Debug)]
pub struct Standard {
    /// In a word.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub what: &'static str,
    /// All of it; to be checked.
    pub scenario: Scenario,
}

/// All of them, the default first.
pub fn all() -> Vec<Standard> {
    vec![mixed(), equal(), parallel(), churn()]
}

fn mixed() -> Standard {
    Standard {
        name: "mixed",
        what: "Six slow servers and two of three times their speed and weight; some clients come \
               much more often than others, and a few connections are very long.",
        scenario: Scenario::default(),
    }
}

fn equal() -> Standard {
    let mut scenario = Scenario {
        servers: vec![Group { count: 8, weight: 10, ..Group::default() }],
        ..Scenario::default()
    };
    scenario.workload.clients = Clients::Uniform;
    scenario.workload.lifetime = Lifetime::Exp;
    Standard { name: "equal", what: "Eight equal servers, all clients alike.", scenario }
}

fn parallel() -> Standard {
    let small = Group { count: 6, weight: 8, workers: 8, ..Group::default() };
    let large = Group { count: 2, weight: 24, workers: 24, ..Group::default() };
    Standard {
        name: "parallel",
        what: "Six small servers and two that are no faster, but serve three times as many \
               connections at once; the weight of each is how many it serves.",
        scenario: Scenario { servers: vec![small, large], ..Scenario::default() },
    }
}

fn churn() -> Standard {
    let step = |at, change| Step { at, change, server: 3 };
    Standard {
        name: "churn",
        what: "Ten equal servers, of which one leaves after 100 s and joins again after 200 s.",
        scenario: Scenario {
            servers: vec![Group { count: 10, weight: 10, ..Group::default() }],
            steps: vec![step(100.0, Change::Leave), step(200.0, Change::Join)],
            schedulers: Choice::all(),
            ..Scenario::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_workload_can_be_run() {
        for Standard { name, mut scenario, .. } in all() {
            assert_eq!(scenario.check(), Ok(()), "{name}");
            assert_eq!(scenario.schedulers, Choice::all(), "{name}");
        }
    }
}
