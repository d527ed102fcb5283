//! The changes that lead from one set of services to another, and touch nothing else.

use std::collections::{BTreeMap, BTreeSet};

use uvs_uvsadm::api::{Change, DestConfig, Endpoint};

use crate::rules::Targets;
use crate::service::Target;

/// The changes that lead from `have` to `want`, in an order in which each may be made by itself: a
/// service that has a server with a weight on both sides has one after every step.
pub fn plan(have: &Targets, want: &Targets) -> Vec<Change> {
    let mut changes = Vec::new();
    for (key, want) in want {
        match have.get(key) {
            Some(have) => of_service(have, want, &mut changes),
            None => {
                changes.push(Change::AddService { service: want.service.clone() });
                let add = |dest: &DestConfig| Change::AddDest { service: *key, dest: *dest };
                changes.extend(want.dests.iter().map(add));
            }
        }
    }
    let gone = have.keys().filter(|key| !want.contains_key(key));
    changes.extend(gone.map(|key| Change::DelService { service: *key }));
    changes
}

/// Servers that shall serve come first, then those that shall take nothing new, then those that
/// go, and last what brings the rest into order.
fn of_service(have: &Target, want: &Target, changes: &mut Vec<Change>) {
    let service = want.service.key;
    if have.service != want.service {
        changes.push(Change::EditService { service: want.service.clone() });
    }
    let held: BTreeMap<Endpoint, &DestConfig> =
        have.dests.iter().map(|dest| (dest.endpoint(), dest)).collect();
    let wanted: BTreeSet<Endpoint> = want.dests.iter().map(DestConfig::endpoint).collect();
    let held = &held;
    let edits = |serving: bool| {
        let differs = move |dest: &&DestConfig| {
            (dest.weight > 0) == serving
                && held.get(&dest.endpoint()).is_some_and(|before| *before != *dest)
        };
        want.dests.iter().filter(differs).map(move |dest| Change::EditDest { service, dest: *dest })
    };
    let new = || want.dests.iter().filter(|dest| !held.contains_key(&dest.endpoint()));
    changes.extend(edits(true));
    changes.extend(new().map(|dest| Change::AddDest { service, dest: *dest }));
    changes.extend(edits(false));
    let gone = have.dests.iter().rev().map(DestConfig::endpoint).filter(|it| !wanted.contains(it));
    changes.extend(gone.map(|dest| Change::DelDest { service, dest }));

    let kept = have.dests.iter().map(DestConfig::endpoint).filter(|it| wanted.contains(it));
    for dest in moves(want, kept.chain(new().map(DestConfig::endpoint))) {
        changes.push(Change::DelDest { service, dest: dest.endpoint() });
        changes.push(Change::AddDest { service, dest: *dest });
    }
}

/// The servers to be removed and added again so that all are in the wanted order, not in that in
/// which they came: none where nothing goes by it, or where nobody else would serve meanwhile.
///
/// Two directors that hash the same servers agree only if both have them in one order.
fn moves(want: &Target, mut came: impl Iterator<Item = Endpoint>) -> &[DestConfig] {
    if !matches!(want.service.scheduler.as_str(), "sh" | "dh" | "mh") {
        return &[];
    }
    let in_place = |dest: &&DestConfig| came.any(|end| end == dest.endpoint());
    let moving = &want.dests[want.dests.iter().take_while(in_place).count()..];
    let serving = |dests: &[DestConfig]| dests.iter().filter(|dest| dest.weight > 0).count();
    match (serving(&want.dests), serving(moving)) {
        (1, 1) => &[],
        _ => moving,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uvs_uvsadm::api::{Method, Protocol, ServiceConfig, ServiceKey};

    use super::*;

    fn any_dest(weights: std::ops::Range<u32>) -> impl Strategy<Value = DestConfig> {
        let methods = prop::sample::select(vec![Method::Route, Method::Masq, Method::Tunnel]);
        (1..7u8, weights, methods, 0..2u32).prop_map(|(last, weight, method, u_threshold)| {
            let dest = DestConfig::new([10, 0, 1, last], 80);
            DestConfig { weight, method, u_threshold, ..dest }
        })
    }

    /// Up to four services of one scheduler, with servers of these weights.
    fn any_targets(
        schedulers: &'static [&'static str],
        weights: std::ops::Range<u32>,
    ) -> impl Strategy<Value = Targets> {
        let dests = prop::collection::vec(any_dest(weights), 0..6);
        let service = (80..84u16, prop::sample::select(schedulers), dests);
        prop::collection::vec(service, 0..5).prop_map(|services| {
            let target = |(port, scheduler, mut dests): (u16, &str, Vec<DestConfig>)| {
                let mut seen = BTreeSet::new();
                dests.retain(|dest| seen.insert(dest.endpoint()));
                let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], port);
                (key, Target { service: ServiceConfig::new(key, scheduler), dests })
            };
            services.into_iter().map(target).collect()
        })
    }

    /// Makes one change as IPVS does it; what IPVS would refuse is a fault.
    fn apply(targets: &mut Targets, change: &Change) {
        let place = |target: &Target, end: &Endpoint| {
            target.dests.iter().position(|dest| dest.endpoint() == *end)
        };
        match change {
            Change::AddService { service } => {
                let target = Target { service: service.clone(), dests: Vec::new() };
                assert!(targets.insert(service.key, target).is_none());
            }
            Change::EditService { service } => {
                targets.get_mut(&service.key).unwrap().service = service.clone();
            }
            Change::DelService { service } => assert!(targets.remove(service).is_some()),
            Change::AddDest { service, dest } => {
                let target = targets.get_mut(service).unwrap();
                assert_eq!(place(target, &dest.endpoint()), None);
                target.dests.push(*dest);
            }
            Change::EditDest { service, dest } => {
                let target = targets.get_mut(service).unwrap();
                let at = place(target, &dest.endpoint()).unwrap();
                assert_ne!(target.dests[at], *dest, "nothing differs");
                target.dests[at] = *dest;
            }
            Change::DelDest { service, dest } => {
                let target = targets.get_mut(service).unwrap();
                let at = place(target, dest).unwrap();
                target.dests.remove(at);
            }
            other => panic!("{other:?} is no part of a plan"),
        }
    }

    fn serves(targets: &Targets, key: &ServiceKey) -> bool {
        let dests = targets.get(key).map(|target| &target.dests[..]).unwrap_or_default();
        dests.iter().any(|dest| dest.weight > 0)
    }

    /// Follows the plan; every service that can serve throughout does.
    fn follow(have: &Targets, want: &Targets) -> Targets {
        let throughout: Vec<_> =
            want.keys().filter(|key| serves(have, key) && serves(want, key)).collect();
        let mut now = have.clone();
        for change in plan(have, want) {
            apply(&mut now, &change);
            for key in &throughout {
                assert!(serves(&now, key), "{key} serves nobody after {change:?}");
            }
        }
        now
    }

    fn sorted(mut targets: Targets) -> Targets {
        targets.values_mut().for_each(|it| it.dests.sort_by_key(DestConfig::endpoint));
        targets
    }

    const ALL: &[&str] = &["rr", "wlc", "sh", "mh"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_plan_leads_to_what_is_wanted(
            have in any_targets(ALL, 0..3), want in any_targets(ALL, 0..3)
        ) {
            let led = follow(&have, &want);
            prop_assert_eq!(sorted(led), sorted(want));
        }

        #[test]
        fn servers_that_are_hashed_come_into_their_order(
            have in any_targets(&["sh", "dh", "mh"], 1..3),
            want in any_targets(&["sh", "dh", "mh"], 1..3)
        ) {
            prop_assert_eq!(follow(&have, &want), want);
        }

        #[test]
        fn what_is_equal_is_left_alone(have in any_targets(ALL, 0..3)) {
            prop_assert_eq!(plan(&have, &have), []);
        }
    }

    #[test]
    fn an_only_server_is_not_moved_away() {
        let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 80);
        let dest = |last, weight| DestConfig { weight, ..DestConfig::new([10, 0, 1, last], 80) };
        let targets = |dests: &[DestConfig]| {
            let service = ServiceConfig::new(key, "sh");
            Targets::from([(key, Target { service, dests: dests.to_vec() })])
        };
        let order = |have: &[DestConfig], want: &[DestConfig]| {
            let led = follow(&targets(have), &targets(want));
            led[&key].dests == want
        };
        assert!(!order(&[dest(1, 1), dest(2, 0)], &[dest(2, 0), dest(1, 1)]));
        assert!(order(&[dest(1, 0), dest(2, 1)], &[dest(2, 1), dest(1, 0)]));
    }
}
