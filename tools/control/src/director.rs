//! The desired configuration, and its way to the workers: check, then snapshot, then publish.
//!
//! A [`Director`] holds what is configured. Changes are tried on a copy; only when all of them
//! pass is the copy kept and published, so that bad input never half-applies. Services that a
//! change does not touch keep their scheduler, counters and place.

use std::collections::BTreeMap;
use std::sync::Arc;

use uvs_engine::fib::Fib;
use uvs_engine::proto::Timeouts;
use uvs_engine::snapshot::{Dest, Published, Snapshot};
use uvs_uvsadm::api::{ApiError, Change, DestConfig, ServiceKey};

use crate::desired::{Desired, DestEntry, ServiceEntry};
use crate::service::{ServiceView, Target};

/// See the module.
#[derive(Debug)]
pub struct Director {
    workers: usize,
    desired: Desired,
    timeouts: Timeouts,
    fib: Arc<Fib>,
    published: Arc<Published>,
}

impl Director {
    /// A director without services, for `workers` workers.
    pub fn new(workers: usize, fib: Fib) -> Self {
        let fib = Arc::new(fib);
        Self {
            workers,
            desired: Desired::default(),
            timeouts: Timeouts::default(),
            published: Published::new(Snapshot::empty(fib.clone())),
            fib,
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
        let mut next = self.desired.clone();
        if self.published.settled() {
            next.forget_idle();
        }
        for (number, change) in changes.iter().enumerate() {
            next.apply(change, self.workers).map_err(|refused| (number, refused.told(change)))?;
        }
        self.desired = next;
        self.publish();
        Ok(())
    }

    /// Publishes newer routes and neighbours.
    pub fn set_fib(&mut self, fib: Fib) {
        self.fib = Arc::new(fib);
        self.published.publish(self.published.current().with_fib(self.fib.clone()));
    }

    /// The services, with their servers.
    pub fn services(&self) -> Vec<ServiceView> {
        let view = |(key, entry): (&ServiceKey, &Arc<ServiceEntry>)| ServiceView {
            config: entry.config(*key),
            traffic: entry.traffic.clone(),
            dests: entry.dests.iter().map(DestEntry::view).collect(),
        };
        self.desired.services.iter().map(view).collect()
    }

    /// What is configured, as a target for [`plan`](Self::plan): servers in the order in which
    /// they were added.
    pub fn targets(&self) -> BTreeMap<ServiceKey, Target> {
        let target = |(key, entry): (&ServiceKey, &Arc<ServiceEntry>)| {
            let dests = entry.dests.iter().rev().map(|dest| dest.config).collect();
            (*key, Target { service: entry.config(*key), dests })
        };
        self.desired.services.iter().map(target).collect()
    }

    /// The changes that lead from what is configured to `target`, without touching what is equal.
    pub fn plan(&self, target: &BTreeMap<ServiceKey, Target>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, entry) in &self.desired.services {
            match target.get(key) {
                None => changes.push(Change::DelService { service: *key }),
                Some(target) => entry.plan(*key, target, &mut changes),
            }
        }
        for (key, target) in target {
            if !self.desired.services.contains_key(key) {
                changes.push(Change::AddService { service: target.service.clone() });
                let add = |dest: &DestConfig| Change::AddDest { service: *key, dest: *dest };
                changes.extend(target.dests.iter().map(add));
            }
        }
        changes
    }

    fn publish(&mut self) {
        let mut dests: Vec<Option<Arc<Dest>>> = vec![None; self.desired.next_id as usize];
        for (key, entry) in &mut self.desired.services {
            if entry.built.is_none() {
                Arc::make_mut(entry).build(key);
            }
            for dest in entry.built.iter().flat_map(|service| &service.servers) {
                dests[dest.id.0 as usize] = Some(dest.clone());
            }
        }
        for gone in &self.desired.removed {
            let dest = gone.dest.build(&gone.service, false, &gone.service_traffic);
            dests[gone.dest.id.0 as usize] = Some(Arc::new(dest));
        }
        let list = self.desired.services.values().filter_map(|entry| entry.built.clone()).collect();
        let timeouts = self.timeouts.clone();
        self.published.publish(Snapshot::new(list, dests, self.fib.clone(), timeouts));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use uvs_engine::snapshot::{Endpoint, Service};
    use uvs_sched::{Load, ServerId};
    use uvs_uvsadm::api::{Method, Protocol, ServiceConfig};

    use crate::desired::{endpoint, with_port};
    use crate::service::DestView;

    use super::*;
    use proptest::prelude::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn key(port: u16) -> ServiceKey {
        ServiceKey { protocol: Protocol::Tcp, address: VIP, port }
    }

    fn config(port: u16, scheduler: &str) -> ServiceConfig {
        ServiceConfig { key: key(port), scheduler: scheduler.into(), flags: Vec::new() }
    }

    fn dest(last: u8) -> DestConfig {
        DestConfig {
            address: Ipv4Addr::new(10, 0, 1, last),
            port: 80,
            weight: 1,
            method: Method::Route,
            u_threshold: 0,
            l_threshold: 0,
        }
    }

    fn add_service(port: u16) -> Change {
        Change::AddService { service: config(port, "rr") }
    }

    fn add(port: u16, last: u8) -> Change {
        Change::AddDest { service: key(port), dest: dest(last) }
    }

    fn edit(dest: DestConfig) -> Change {
        Change::EditDest { service: key(80), dest }
    }

    fn del(port: u16, last: u8) -> Change {
        Change::DelDest { service: key(port), dest: dest(last).endpoint() }
    }

    /// A service on port 80 over servers 1, 2 and 3.
    fn director() -> Director {
        let mut director = Director::idle();
        director.apply(&[add_service(80), add(80, 1), add(80, 2), add(80, 3)]).unwrap();
        director
    }

    fn view(director: &Director, last: u8) -> DestView {
        let services = director.services();
        let mut dests = services.iter().flat_map(|service| &service.dests);
        dests.find(|d| d.config.address.octets()[3] == last).expect("a server").clone()
    }

    /// The number of a server, known to be in the newest snapshot.
    fn id(director: &Director, last: u8) -> Option<ServerId> {
        let snapshot = director.published().current();
        let mut ids = (0..100).map(ServerId);
        ids.find(|id| snapshot.dest(*id).is_some_and(|d| d.address.octets()[3] == last))
    }

    fn built(director: &Director) -> BTreeMap<Endpoint, Arc<Service>> {
        let snapshot = director.published().current();
        snapshot.services().iter().map(|service| (service.endpoint, service.clone())).collect()
    }

    #[test]
    fn the_newest_server_comes_first() {
        let director = director();
        let order = |dests: &[DestView]| -> Vec<u8> {
            dests.iter().map(|dest| dest.config.address.octets()[3]).collect()
        };
        assert_eq!(order(&director.services()[0].dests), [3, 2, 1]);
        let service = built(&director).remove(&endpoint(&key(80))).unwrap();
        let servers: Vec<u8> = service.servers.iter().map(|d| d.address.octets()[3]).collect();
        assert_eq!(servers, [3, 2, 1]);
        let target = &director.targets()[&key(80)];
        assert_eq!(target.dests, [dest(1), dest(2), dest(3)], "in the order of adding");
    }

    #[test]
    fn all_or_nothing() {
        let mut director = director();
        let (before, published) = (director.targets(), director.published().current());
        let too_heavy = DestConfig { weight: 1 << 31, ..dest(9) };
        let crossed = DestConfig { u_threshold: 1, l_threshold: 2, ..dest(9) };
        let bad = [
            (add(80, 1), "exists"),
            (add(81, 1), "no service"),
            (del(80, 9), "no server"),
            (edit(dest(9)), "no server"),
            (add_service(80), "exists"),
            (add_service(0), "port 0"),
            (Change::DelService { service: key(81) }, "no service"),
            (Change::EditService { service: config(80, "nonsense") }, "no scheduler"),
            (Change::AddDest { service: key(80), dest: too_heavy }, "weight"),
            (edit(DestConfig { address: dest(1).address, ..crossed }), "thresholds"),
        ];
        let heavier = DestConfig { weight: 5, ..dest(3) };
        let good = [add_service(82), add(82, 7), del(80, 2), edit(heavier)];
        for (bad, why) in bad {
            let changes = [&good[..], &[bad, add(80, 8)]].concat();
            let (number, _) = director.apply(&changes).unwrap_err();
            assert_eq!(number, good.len(), "{why}");
            assert_eq!(director.targets(), before, "{why}");
            assert!(Arc::ptr_eq(&director.published().current(), &published), "{why}");
        }
        director.apply(&good).unwrap();
        assert_ne!(director.targets(), before);
    }

    #[test]
    fn a_server_that_comes_back_keeps_its_connections_and_counters() {
        for whole_service in [false, true] {
            let mut director = director();
            let before = view(&director, 2);
            before.load.open(true);
            before.traffic.opened(0);
            let number = id(&director, 2);
            if whole_service {
                director.apply(&[Change::DelService { service: key(80) }]).unwrap();
                director.apply(&[add_service(81)]).unwrap();
            } else {
                director.apply(&[del(80, 2)]).unwrap();
            }
            let snapshot = director.published().current();
            let gone = snapshot.dest(number.unwrap()).expect("kept while it has connections");
            assert!(!gone.available && Arc::ptr_eq(&gone.load, &before.load));

            let again = DestConfig { weight: 7, ..dest(2) };
            let mut changes = vec![Change::AddDest { service: key(80), dest: again }];
            if whole_service {
                changes.insert(0, add_service(80));
            }
            director.apply(&changes).unwrap();
            let after = view(&director, 2);
            assert!(Arc::ptr_eq(&after.load, &before.load));
            assert!(Arc::ptr_eq(&after.traffic, &before.traffic));
            assert_eq!((after.config, id(&director, 2)), (again, number));
            assert!(director.published().current().dest(number.unwrap()).unwrap().available);
            assert!(director.desired.removed.iter().all(|gone| gone.dest.config != after.config));
        }
    }

    #[test]
    fn a_number_is_given_away_only_when_no_worker_knows_it() {
        let mut director = director();
        let mut worker = director.published().reader();
        worker.refresh();
        let number = id(&director, 1);
        director.apply(&[del(80, 1)]).unwrap();
        // The worker still has it, so it may still get a connection.
        director.apply(&[add(80, 11)]).unwrap();
        assert!(id(&director, 1).is_some() && id(&director, 11) != number);
        worker.refresh();
        // It is forgotten now, but in the worker's snapshot its number means the old one.
        director.apply(&[add(80, 12)]).unwrap();
        assert!(id(&director, 1).is_none() && id(&director, 12) != number);
        director.apply(&[add(80, 13)]).unwrap();
        assert_ne!(id(&director, 13), number);
        worker.refresh();
        director.apply(&[add(80, 14)]).unwrap();
        assert_eq!(id(&director, 14), number);
    }

    #[test]
    fn a_removed_server_is_known_as_long_as_it_has_connections() {
        let mut director = director();
        let (number, load) = (id(&director, 1), view(&director, 1).load);
        load.open(false);
        director.apply(&[Change::DelService { service: key(80) }]).unwrap();
        for port in 1..5 {
            director.apply(&[add_service(port)]).unwrap();
            assert_eq!(id(&director, 1), number);
        }
        load.close(false);
        director.apply(&[add_service(5)]).unwrap();
        assert_eq!((id(&director, 1), director.desired.removed.len()), (None, 0));
    }

    /// A worker that has not seen the removal yet may still open a connection.
    #[test]
    fn a_server_is_not_forgotten_by_the_change_that_removes_it() {
        let mut director = director();
        let mut worker = director.published().reader();
        worker.refresh();
        let number = id(&director, 1);
        director.apply(&[del(80, 1)]).unwrap();
        worker.snapshot().dest(number.unwrap()).unwrap().bind();
        worker.refresh();
        director.apply(&[add(80, 4), add(80, 5)]).unwrap();
        assert_eq!(id(&director, 1), number, "its connection is known");
        assert!(id(&director, 4) != number && id(&director, 5) != number);
    }

    #[test]
    fn thresholds_can_be_edited() {
        let mut director = director();
        let limits = |u_threshold, l_threshold| DestConfig { u_threshold, l_threshold, ..dest(1) };
        director.apply(&[edit(limits(2, 1))]).unwrap();
        let snapshot = director.published().current();
        let in_use = snapshot.dest(id(&director, 1).unwrap()).unwrap();
        assert_eq!((in_use.upper_threshold, in_use.lower_threshold), (2, 1));
        in_use.bind();
        in_use.bind();
        assert!(in_use.load.overloaded());
        for (upper, overloaded) in [(2, true), (1, true), (3, false)] {
            director.apply(&[edit(limits(upper, 1))]).unwrap();
            assert_eq!(view(&director, 1).load.overloaded(), overloaded, "{upper}");
        }
        view(&director, 1).load.set_overloaded(true);
        director.apply(&[edit(limits(0, 0))]).unwrap();
        assert!(!view(&director, 1).load.overloaded(), "no limit");
    }

    #[test]
    fn a_nat_server_is_known_as_one_while_it_has_connections() {
        let mut director = director();
        let with = |method| DestConfig { method, ..dest(1) };
        let is_nat = |director: &Director| {
            let endpoint = Endpoint { protocol: 6, address: dest(1).address, port: 80 };
            director.published().current().is_nat_server(&endpoint)
        };
        assert!(!is_nat(&director));
        director.apply(&[edit(with(Method::Masq))]).unwrap();
        assert!(is_nat(&director));
        let load = view(&director, 1).load;
        load.open(true);
        director.apply(&[edit(with(Method::Route))]).unwrap();
        assert!(is_nat(&director), "its connection's replies still come");
        load.close(true);
        director.apply(&[edit(with(Method::Tunnel))]).unwrap();
        assert!(!is_nat(&director));
    }

    #[test]
    fn a_plan_adds_before_it_removes() {
        let director = director();
        let mut target = director.targets();
        target.get_mut(&key(80)).unwrap().dests = vec![dest(4), dest(2)];
        let plan = director.plan(&target);
        let heavier = DestConfig { weight: 9, ..dest(1) };
        assert_eq!(plan, [add(80, 4), del(80, 3), del(80, 1)]);
        target.get_mut(&key(80)).unwrap().dests = vec![heavier, dest(2), dest(3)];
        assert_eq!(director.plan(&target), [edit(heavier)]);
        let Some(entry) = target.get_mut(&key(80)) else { panic!("no service") };
        (entry.dests[0], entry.service.scheduler) = (dest(1), "wlc".into());
        let change = Change::EditService { service: config(80, "wlc") };
        assert_eq!(director.plan(&target), [change]);
    }

    type Targets = BTreeMap<ServiceKey, Target>;

    fn any_dest() -> impl Strategy<Value = DestConfig> {
        let methods = prop::sample::select(vec![Method::Route, Method::Masq, Method::Tunnel]);
        (1..6u8, 0..2u16, 0..4u32, methods, 0..3u32).prop_map(|(last, port, weight, method, u)| {
            // Port 0 is the service's own.
            let port = port * 8080;
            DestConfig { port, weight, method, u_threshold: u, l_threshold: u / 2, ..dest(last) }
        })
    }

    fn any_targets() -> impl Strategy<Value = Targets> {
        let scheduler = prop::sample::select(vec!["rr", "wrr", "wlc", "sh"]);
        let service =
            (80..84u16, any::<bool>(), scheduler, prop::collection::vec(any_dest(), 0..6));
        prop::collection::vec(service, 0..6).prop_map(|services| {
            let target = |(port, udp, scheduler, mut dests): (u16, bool, &str, Vec<DestConfig>)| {
                let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                let key = ServiceKey { protocol, address: VIP, port };
                let mut seen = Vec::new();
                dests.retain(|d| {
                    let endpoint = with_port(&key, d).endpoint();
                    let first = !seen.contains(&endpoint);
                    seen.push(endpoint);
                    first
                });
                let service = ServiceConfig { key, scheduler: scheduler.into(), flags: Vec::new() };
                (key, Target { service, dests })
            };
            services.into_iter().map(target).collect()
        })
    }

    /// Servers in one order and with their ports, to compare.
    fn normal(targets: &Targets) -> Targets {
        let mut targets = targets.clone();
        for (key, target) in &mut targets {
            target.dests.iter_mut().for_each(|d| *d = with_port(key, d));
            target.dests.sort_by_key(DestConfig::endpoint);
        }
        targets
    }

    /// What lives as long as a server does, by its service and itself.
    fn lasting(director: &Director) -> BTreeMap<(ServiceKey, Ipv4Addr, u16), Arc<Load>> {
        let services = director.services();
        let dests = services.iter().flat_map(|s| s.dests.iter().map(move |d| (s.config.key, d)));
        dests.map(|(key, d)| ((key, d.config.address, d.config.port), d.load.clone())).collect()
    }

    proptest! {
        #[test]
        fn a_plan_leads_to_its_target(steps in prop::collection::vec(any_targets(), 1..6)) {
            let mut director = Director::idle();
            for target in steps {
                let (before, old) = (normal(&director.targets()), built(&director));
                let loads = lasting(&director);
                director.apply(&director.plan(&target)).unwrap();
                prop_assert_eq!(normal(&director.targets()), normal(&target));
                prop_assert!(director.plan(&target).is_empty());
                let new = built(&director);
                prop_assert_eq!(new.len(), target.len());
                for (key, target) in &normal(&target) {
                    if before.get(key) == Some(target) {
                        let place = endpoint(key);
                        prop_assert!(Arc::ptr_eq(&old[&place], &new[&place]), "{} was touched", key);
                    }
                }
                for (dest, load) in lasting(&director) {
                    let same = loads.get(&dest).is_none_or(|before| Arc::ptr_eq(before, &load));
                    prop_assert!(same, "{:?} lost its counts", dest);
                }
                let snapshot = director.published().current();
                for service in snapshot.services() {
                    for dest in &service.servers {
                        prop_assert!(dest.available);
                        let found = snapshot.dest(dest.id).map(|d| &d.load);
                        prop_assert!(found.is_some_and(|load| Arc::ptr_eq(load, &dest.load)));
                    }
                }
            }
        }
    }

    #[test]
    #[ignore = "a measurement: run it with --release -- --ignored --nocapture"]
    fn one_change_of_many_services() {
        let mut changes = Vec::new();
        for port in 1..=10_000 {
            changes.push(add_service(port));
            changes.extend((1..=10).map(|last| add(port, last)));
        }
        let mut director = Director::idle();
        let start = std::time::Instant::now();
        director.apply(&changes).unwrap();
        println!("110,000 changes: {:?}", start.elapsed());
        for last in 11..16 {
            let start = std::time::Instant::now();
            let copy = director.desired.clone();
            let cloned = start.elapsed();
            drop(copy);
            let start = std::time::Instant::now();
            director.apply(&[add(5000, last)]).unwrap();
            println!("one change: {:?}, of which the copy {cloned:?}", start.elapsed());
        }
    }
}
