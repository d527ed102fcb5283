//! The recordings that the project carries, replayed; and that a wrong one is noticed.

use std::path::{Path, PathBuf};

use uvs_conform::{Outcome, replay, run};

fn cases(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(folder)
}

/// All pass, and these are at least so many.
fn all_pass(folder: &str, at_least: usize) {
    let cases = run(&[cases(folder)], |_| {}).unwrap();
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| case.outcome != Outcome::Passed)
        .map(|case| format!("{case}: {}", case.outcome))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(cases.len() >= at_least, "only {} recordings in {folder}", cases.len());
}

#[test]
fn picks_are_the_kernels() {
    all_pass("sched", 177);
}

#[test]
fn frames_are_the_kernels() {
    all_pass("fwd", 213);
}

#[test]
fn states_are_the_kernels() {
    all_pass("state", 45);
}

#[test]
fn netlink_is_ipvsadms() {
    all_pass("netlink", 155);
}

/// All but those for which a sync daemon has to run.
#[test]
fn command_lines_are_ipvsadms() {
    let cases = run(&[cases("cli")], |_| {}).unwrap();
    let name = |case: &uvs_conform::Case| case.name.clone().unwrap();
    let of = |wanted: fn(&Outcome) -> bool| cases.iter().filter(move |case| wanted(&case.outcome));
    let failed: Vec<String> = of(|o| matches!(o, Outcome::Differs(_) | Outcome::Malformed(_)))
        .map(|case| format!("{case}: {}", case.outcome))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let daemons: Vec<String> = of(|o| matches!(o, Outcome::NotSupported(_))).map(name).collect();
    assert!(daemons.iter().all(|line| line.contains("daemon")), "{daemons:?}");
    assert_eq!((cases.len(), daemons.len()), (222, 8), "{daemons:?}");
}

#[test]
fn a_changed_state_is_noticed() {
    let text = std::fs::read_to_string(cases("state").join("udp_dr.json")).unwrap();
    let shorter = text.replacen("299", "290", 1);
    assert!(matches!(replay(&shorter), Outcome::Differs(_)));
    let elsewhere = text.replacen("\"r\"", "\"c\"", 1);
    assert!(matches!(replay(&elsewhere), Outcome::Differs(_)));
    assert!(elsewhere != text && shorter != text);
    let text = std::fs::read_to_string(cases("state").join("tcp_tun.json")).unwrap();
    let changed = text.replacen("TIME_WAIT", "CLOSE", 1);
    assert!(replay(&changed).to_string().contains("TIME_WAIT"), "{}", replay(&changed));
    let miscounted = text.replacen("47", "48", 1);
    assert!(replay(&miscounted).to_string().contains("at the end"));
}

#[test]
fn a_changed_pick_is_noticed() {
    let text = std::fs::read_to_string(cases("sched").join("rr_equal.json")).unwrap();
    let changed = text.replacen("\"picked\":\"10.0.1.4:80\"", "\"picked\":\"10.0.1.3:80\"", 1);
    assert_ne!(changed, text);
    let outcome = replay(&changed).to_string();
    assert!(outcome.contains("expected 10.0.1.3:80, came 10.0.1.4:80"), "{outcome}");
}

#[test]
fn a_changed_byte_is_noticed() {
    let text = std::fs::read_to_string(cases("fwd").join("dr_v4_tcp.json")).unwrap();
    // The TTL of the first frame that leaves.
    let changed = text.replacen("40003b0686", "40003c0686", 1);
    assert_ne!(changed, text);
    assert!(matches!(replay(&changed), Outcome::Differs(_)));
}

#[test]
fn what_is_missing_fails_and_says_so() {
    assert!(matches!(replay("{}"), Outcome::Malformed(_)));
    assert!(matches!(replay("nonsense"), Outcome::Malformed(_)));
    let step = r#"{"family": 4, "steps": [{"op": "dance"}]}"#;
    assert!(
        replay(step).to_string().starts_with("not a recording: step 0: unknown variant `dance`")
    );
}
