//! The desired configuration, and its way to the workers: check, then snapshot, then publish.
//!
//! A [`Director`] holds what is configured. Changes are tried on a copy; only when all of them
//! pass is the copy kept and published, so that bad input never half-applies. Services that a
//! change does not touch keep their scheduler, counters and place.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use uvs_engine::clock::Ticks;
use uvs_engine::fib::Fib;
use uvs_engine::marks::Marks;
use uvs_engine::publish::Published;
use uvs_engine::service::{Service, ServiceKey as EngineKey};
use uvs_engine::snapshot::{Rules, Snapshot};
use uvs_uvsadm::api::{ApiError, Change, ServiceKey, Traffic};

use crate::desired::Desired;
use crate::entry::{ServiceEntry, engine_key};
use crate::plan::plan;
use crate::service::{ServiceView, Target};
use crate::stats::Ledger;

/// See the module.
#[derive(Debug)]
pub struct Director {
    workers: usize,
    desired: Desired,
    ledger: Ledger,
    published: Arc<Published>,
    /// Whether schedulers were published that have not been told that all workers use them.
    fresh: bool,
}

impl Director {
    /// A director without services, for `workers` workers.
    pub fn new(workers: usize, fib: Fib) -> Self {
        Self {
            workers,
            desired: Desired::default(),
            ledger: Ledger::new(workers),
            published: Published::new(Snapshot::empty(Arc::new(fib))),
            fresh: false,
        }
    }

    /// A director that no worker reads, to try changes on.
    pub fn idle() -> Self {
        Self::new(1, Fib::new(Vec::new(), &[], []))
    }

    /// Where the workers read the configuration.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Applies all the changes, in order, or none.
    ///
    /// # Errors
    ///
    /// The number of the first change that is refused, from 0, and why.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), (usize, ApiError)> {
        self.apply_with(self.desired.rules.clone(), changes)
    }

    /// Takes over timeouts, settings and marks and applies all the changes, or does nothing.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply).
    pub fn apply_with(
        &mut self,
        rules: Rules,
        changes: &[Change],
    ) -> Result<(), (usize, ApiError)> {
        let mut next = self.next(rules);
        for (number, change) in changes.iter().enumerate() {
            next.apply(change, self.workers).map_err(|refused| (number, refused.told(change)))?;
        }
        self.take(next);
        Ok(())
    }

    /// Applies those of the changes that can be, in order; says which cannot be, and why.
    pub fn apply_each(&mut self, changes: &[Change]) -> Vec<(usize, ApiError)> {
        let mut next = self.next(self.desired.rules.clone());
        let refused = next.apply_each(changes, self.workers);
        self.take(next);
        refused
    }

    /// What [`apply_each`](Self::apply_each) would do, as changes from what is configured, and what
    /// it would refuse; does nothing.
    pub fn trial(&self, changes: &[Change]) -> (Vec<Change>, Vec<(usize, ApiError)>) {
        let mut next = self.desired.clone();
        let refused = next.apply_each(changes, self.workers);
        let mut plan = self.plan(&next.targets());
        let made = |number: &usize| refused.iter().all(|(other, _)| other != number);
        let others = (0..changes.len()).filter(made).map(|number| &changes[number]);
        plan.extend(others.filter(|change| !change.is_of_table()).cloned());
        (plan, refused)
    }

    /// A copy to try changes on.
    fn next(&self, rules: Rules) -> Desired {
        let mut next = self.desired.clone();
        if self.published.settled() {
            next.forget_idle();
        }
        next.set_rules(rules);
        next
    }

    /// Keeps and publishes what was tried.
    fn take(&mut self, mut next: Desired) {
        self.ledger.follow(next.new_traffic.drain(..));
        if std::mem::take(&mut next.zeroed) {
            self.ledger.zero();
        }
        self.desired = next;
        self.publish();
    }

    /// Two seconds have passed: statistics move on, and so do the schedulers that keep time.
    pub fn tick(&mut self, now: Ticks) {
        self.desired.each_service(ServiceEntry::tick);
        self.ledger.tick();
        // Until all workers use the newest schedulers, some told older ones of their changes.
        let refresh = self.fresh && self.published.settled();
        self.fresh &= !refresh;
        for service in self.published.current().services() {
            service.scheduler.tick(now.0);
            if refresh {
                service.scheduler.refresh();
            }
        }
    }

    /// Publishes newer routes and neighbours.
    pub fn set_fib(&mut self, fib: Fib) {
        self.published.publish(self.published.current().with_fib(Arc::new(fib)));
    }

    /// Timeouts, settings and marks.
    pub fn rules(&self) -> &Rules {
        &self.desired.rules
    }

    /// Publishes other rules of firewall marks.
    pub fn set_marks(&mut self, marks: Marks) {
        self.desired.rules.marks = Arc::new(marks);
        self.publish();
    }

    /// The services, with their servers.
    pub fn services(&self) -> Vec<ServiceView> {
        self.desired.services.values().map(|entry| entry.view()).collect()
    }

    /// Totals and rates over all services that ever were, as of the last tick.
    pub fn traffic(&self) -> Traffic {
        self.ledger.traffic()
    }

    /// What names services that were removed while servers of them have connections.
    pub fn lingering(&self) -> HashSet<EngineKey> {
        let used = self.desired.removed.iter().filter(|gone| gone.dest.used());
        let gone = used.filter(|gone| !self.desired.services.contains_key(&gone.service));
        gone.map(|gone| engine_key(&gone.service)).collect()
    }

    /// What is configured, as a target for [`plan`](Self::plan): servers in the order in which
    /// they were added.
    pub fn targets(&self) -> BTreeMap<ServiceKey, Target> {
        self.desired.targets()
    }

    /// The changes that lead from what is configured to `target`, without touching what is equal.
    pub fn plan(&self, target: &BTreeMap<ServiceKey, Target>) -> Vec<Change> {
        plan(&self.targets(), target)
    }

    fn publish(&mut self) {
        self.fresh = true;
        let before = self.published.current();
        let Desired { services, removed, rules, next_id, resting_ids, .. } = &mut self.desired;
        let mut dests = before.dests().to_vec();
        dests.resize(*next_id as usize, None);
        for id in resting_ids {
            dests[*id as usize] = None;
        }
        for gone in removed {
            dests[gone.dest.id.0 as usize] = Some(Arc::new(gone.build(rules)));
        }
        for entry in services.values_mut().filter(|entry| entry.built.is_none()) {
            Arc::make_mut(entry).build(rules);
            set_expiration(entry, rules);
            for dest in entry.built.iter().flat_map(|service| &service.servers) {
                dests[dest.id.0 as usize] = Some(dest.clone());
            }
        }
        let list: Vec<_> = services.values().filter_map(|entry| entry.built.clone()).collect();
        self.published.publish(before.next(list, dests, rules.clone()));
    }
}

/// Tells lblc and lblcr how long they remember.
fn set_expiration(entry: &ServiceEntry, rules: &Rules) {
    for Service { scheduler, .. } in entry.built.iter().map(Arc::as_ref) {
        if let Some(time) = rules.settings.expiration(scheduler.name()) {
            scheduler.set_expiration(time.0);
        }
    }
}

#[cfg(test)]
mod tests;
