use proptest::prelude::*;

use super::*;
use crate::workload::tests::workload;
use crate::workload::{Lifetime, Workload};

fn outcome(name: &str, scenario: Scenario) -> Outcome {
    let mut scenario = scenario;
    scenario.check().unwrap();
    run(&scenario, name.parse().unwrap(), &|| {})
}

fn scenario(servers: &[&str], rate: f64, seconds: f64) -> Scenario {
    Scenario {
        workload: Workload { seconds, ..workload() },
        rate: Some(rate),
        servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
        ..Scenario::default()
    }
}

fn leave(server: usize) -> Step {
    Step { at: 50.0, change: Change::Leave, server }
}

/// Connections at a server, on average.
fn active(outcome: &Outcome, workers: f64) -> f64 {
    let loads = &outcome.series.loads;
    loads.iter().flatten().flatten().sum::<f64>() / loads.len() as f64 * workers
}

#[test]
fn a_single_worker_is_the_queue_of_the_textbook() {
    let run = outcome("rr", scenario(&["workers=1"], 1.2, 40_000.0));
    // M/M/1, 60 % busy, 0.5 s of work: they stay 0.5 / (1 - 0.6) s, of which they wait 0.75.
    let Latency { waited, wait, mean, p50, .. } = run.latency;
    let near = |is: f64, should: f64| assert!((is / should - 1.0).abs() < 0.06, "{is} {should}");
    near(waited, 0.6);
    near(wait, 0.75);
    near(mean, 1.25);
    near(p50, 1.25 * 2f64.ln());
    // Little's law: there are as many as come in the time that one stays.
    let rate = run.connections as f64 / 40_000.0;
    assert!((active(&run, 1.0) / (rate * mean) - 1.0).abs() < 0.001);
}

#[test]
fn every_connection_ends_in_one_way() {
    let groups = ["4*weight=3,workers=2,upper=6,lower=4", "weight=0", "weight=9,speed=3"];
    let steps = vec![leave(2), Step { at: 70.0, change: Change::Join, server: 2 }];
    for choice in Choice::all() {
        let run = outcome(
            choice.name.as_str(),
            Scenario { steps: steps.clone(), inactive: 1.0, ..scenario(&groups, 70.0, 100.0) },
        );
        let ended = run.responses.count() + run.refused + run.broken;
        assert_eq!(ended, run.connections, "{choice}");
        assert_eq!(run.picks.iter().sum::<usize>() + run.refused, run.connections, "{choice}");
        assert_eq!(run.picks[4], 0, "{choice}: no weight, no connection");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_simulated_adds_up(
        servers in prop::collection::vec((0u32..5, 1u32..4, 0u32..12), 1..6),
        rate in 1.0..60.0,
        times in prop::collection::vec(0.0..20.0, 0..6),
        choice in 0..Choice::all().len(),
        seed in 0u64..1_000,
    ) {
        let group = |(weight, workers, upper)| Group { weight, workers, upper, ..Group::default() };
        let mut scenario = scenario(&["weight=1"], rate, 20.0);
        scenario.servers.extend(servers.into_iter().map(group));
        // The first server leaves and joins in turn.
        let change = |n| if n % 2 == 0 { Change::Leave } else { Change::Join };
        let step = |(n, at)| Step { at, change: change(n), server: 1 };
        let mut times = times;
        times.sort_by(f64::total_cmp);
        scenario.steps = (0..).zip(times).map(step).collect();
        scenario.workload.seed = seed;
        scenario.inactive = 2.0;
        prop_assert_eq!(scenario.check(), Ok(()));
        let run = run(&scenario, Choice::all()[choice], &|| {});
        let ended = run.responses.count() + run.refused + run.broken;
        prop_assert_eq!(ended, run.connections);
        prop_assert_eq!(run.picks.iter().sum::<usize>() + run.refused, run.connections);
        for (group, picks) in scenario.servers.iter().zip(&run.picks) {
            prop_assert!(group.weight > 0 || *picks == 0);
        }
        let latency = run.latency;
        prop_assert!(latency.wait <= latency.mean && latency.waited <= 1.0);
        prop_assert!(latency.p50 <= latency.p99 && latency.p99 <= latency.p999);
        prop_assert!(run.series.loads.iter().flatten().flatten().all(|load| *load >= 0.0));
        for moved in run.disruptions.iter().filter_map(|disruption| disruption.moved) {
            prop_assert!(moved.needed + moved.needless <= moved.clients);
        }
    }
}

#[test]
fn rr_gives_equal_servers_equally_many() {
    let picks = outcome("rr", scenario(&["7*weight=1"], 60.0, 100.0)).picks;
    let (least, most) = (picks.iter().min().unwrap(), picks.iter().max().unwrap());
    assert!(most - least <= 1, "{picks:?}");
}

#[test]
fn a_heavier_server_gets_its_share() {
    for name in ["wrr", "sh", "mh", "wlc", "lblc", "twos"] {
        let mut scenario = scenario(&["weight=1,workers=8", "weight=3,workers=24"], 40.0, 300.0);
        scenario.workload.destinations = 500;
        scenario.inactive = 10.0;
        let run = outcome(name, scenario);
        let share = run.picks[1] as f64 / run.connections as f64;
        assert!((0.68..0.82).contains(&share), "{name}: {share}");
    }
}

#[test]
fn the_rule_decides_how_many_move_when_a_server_leaves() {
    let moved = |name: &str| {
        let base = scenario(&["10*weight=1"], 100.0, 100.0);
        let mut scenario = Scenario { steps: vec![leave(5)], ..base };
        scenario.workload.destinations = 1_000;
        outcome(name, scenario).disruptions[0].moved.unwrap()
    };
    let mh = moved("mh");
    assert!(mh.clients > 950, "nearly all had connected: {mh:?}");
    assert!((0.05..0.15).contains(&(mh.needed as f64 / mh.clients as f64)), "{mh:?}");
    assert!(mh.needless_share() < 0.1, "{mh:?}");
    // Their buckets are dealt out anew.
    for name in ["sh", "dh"] {
        let moved = moved(name);
        assert!(moved.needless_share() > 0.5, "{name}: {moved:?}");
    }
}

#[test]
fn who_leaves_breaks_its_connections_and_who_joins_begins_anew() {
    let steps = vec![leave(1), Step { at: 60.0, change: Change::Join, server: 1 }];
    let base = scenario(&["4*weight=1"], 40.0, 100.0);
    let run = outcome("wlc", Scenario { steps, ..base });
    assert!(run.broken > 0 && run.broken == run.disruptions[0].broken);
    let away: Vec<bool> = run.series.loads.iter().map(|loads| loads[0].is_none()).collect();
    assert_eq!(away.iter().filter(|away| **away).count(), 10);
    assert!(away[50] && away[59] && !away[49] && !away[60]);
    assert!(run.disruptions.iter().all(|disruption| disruption.moved.is_none()));
}

#[test]
fn a_server_that_joins_first_is_not_there_before() {
    let join = Step { at: 50.0, change: Change::Join, server: 2 };
    let base = scenario(&["2*weight=1"], 8.0, 100.0);
    let run = outcome("rr", Scenario { steps: vec![join], ..base });
    assert!(run.series.loads[..50].iter().all(|loads| loads[1].is_none()));
    let ratio = run.picks[0] as f64 / run.picks[1] as f64;
    assert!((2.0..4.0).contains(&ratio), "all of one half, half of the other: {ratio}");
}

#[test]
fn all_schedulers_get_the_same_connections() {
    let base = Scenario { ..scenario(&["4*weight=1"], 50.0, 20.0) };
    let [rr, twos] = ["rr", "twos"].map(|name| outcome(name, base.clone()));
    assert_eq!(rr.connections, twos.connections);
    assert_eq!(twos, outcome("twos", base), "the draws of twos are the seed's");
}

#[test]
fn inactive_connections_count_as_in_ipvs() {
    // One worker and nothing to wait for: the loads differ by what is remembered only.
    let picks = |inactive| {
        let base = scenario(&["3*weight=1"], 2.0, 100.0);
        let mut scenario = Scenario { inactive, ..base };
        scenario.workload.lifetime = Lifetime::Exp;
        scenario.workload.mean_lifetime = 0.001;
        outcome("wlc", scenario).picks
    };
    let forgotten = picks(0.0);
    assert!(forgotten[2] > 10 * forgotten[1].max(1), "always the head: {forgotten:?}");
    let remembered = picks(120.0);
    let (least, most) = (remembered.iter().min().unwrap(), remembered.iter().max().unwrap());
    assert!(most - least <= 3, "{remembered:?}");
}

#[test]
fn a_scheduler_is_told_of_each_connection() {
    let mut scenario = scenario(&["20*weight=1,upper=7"], 50.0, 2.0);
    // Nobody ends before the last has come.
    scenario.workload.mean_lifetime = 1e6;
    for name in ["lc", "wlc", "sed", "nq"] {
        let picks = outcome(name, scenario.clone()).picks;
        let (least, most) = (picks.iter().min().unwrap(), picks.iter().max().unwrap());
        assert!(most - least <= 1 && *most > 3, "{name}: {picks:?}");
    }
    let base = Scenario { rate: Some(100.0), ..scenario };
    let run = outcome("fo", base);
    assert_eq!(run.picks, [7; 20], "one after the other is full");
    assert_eq!(run.refused, run.connections - 140);
}

#[test]
fn a_lifetime_without_end_ends() {
    let mut scenario = scenario(&["workers=1,speed=0.001"], 10.0, 10.0);
    scenario.workload.lifetime = Lifetime::Pareto;
    (scenario.workload.mean_lifetime, scenario.workload.shape) = (1e6, 1.01);
    let run = outcome("rr", Scenario { inactive: 1e6, ..scenario });
    assert_eq!(run.responses.count(), run.connections);
}

#[test]
fn flags_outlive_a_change_of_the_list() {
    // Who finds its server full is refused, or with fallback gets another one.
    let at_once = Step { at: 0.0, ..leave(1) };
    let base = scenario(&["4*workers=8,upper=10"], 40.0, 100.0);
    let base = Scenario { steps: vec![at_once], inactive: 0.0, ..base };
    let refused = ["mh", "mh:fallback"].map(|name| outcome(name, base.clone()).refused);
    assert!(refused[0] > 2 * refused[1], "{refused:?}");
}

#[test]
fn a_server_is_measured_from_when_it_joined_and_without_weight_not_compared() {
    let join = Step { at: 50.5, change: Change::Join, server: 1 };
    let base = scenario(&["workers=1", "weight=0"], 1.0, 100.0);
    let mut scenario = Scenario { steps: vec![join], ..base };
    // Far more than it can do: its line only grows, and is never empty from the first on.
    scenario.workload.mean_lifetime = 1_000.0;
    scenario.rate = Some(500.0);
    let run = outcome("rr", scenario);
    let load = |window: usize| run.series.loads[window][0].unwrap();
    // 500 a second: 125 on average in half a second, 500 on average in the second after.
    assert!((0.6..1.6).contains(&(load(50) / 125.0)), "{}", load(50));
    assert!((0.8..1.2).contains(&(load(51) / 500.0)), "{}", load(51));
    let spread = run.spread.unwrap();
    assert_eq!((spread.max_over_mean, spread.variation), (1.0, 0.0), "it alone has a weight");
}
