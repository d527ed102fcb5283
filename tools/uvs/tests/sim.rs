//! `uvs sim`: bad input is one sentence and leaves nothing behind; the forms of its output.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let uvs = env!("CARGO_BIN_EXE_uvs");
    Command::new(uvs).arg("sim").args(arguments).output().unwrap()
}

/// A folder of the test's own, which is not there yet.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Fails unless it is refused with this sentence, prints nothing else, and writes no plot.
#[track_caller]
fn refused(arguments: &[&str], sentence: &str) {
    let plots = folder("refused");
    let output = sim(&[&["--plots", plots.to_str().unwrap()], arguments].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text, format!("uvs: {sentence}\n"));
    assert!(output.stdout.is_empty() && !plots.exists());
}

fn printed(arguments: &[&str]) -> String {
    let output = sim(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "progress is for terminals");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn wrong_schedulers_and_flags_are_refused() {
    refused(
        &["--scheduler", "wlc,best"],
        "unknown scheduler 'best'; there are rr wrr lc wlc lblc lblcr sh dh sed nq fo ovf mh twos",
    );
    refused(&["--scheduler", "rr:port"], "rr has no flags; sh and mh have port and fallback");
    refused(&["--scheduler", "mh:fast"], "mh has no flag 'fast'; it has port and fallback");
    refused(&["--scheduler", "wlc", "--scheduler", "wlc"], "scheduler wlc is named twice");
}

#[test]
fn wrong_servers_are_refused() {
    refused(
        &["--servers", "4*weight=1", "--servers", "weight=2147483648"],
        "servers 'weight=2147483648', weight: cannot be 2147483648; it is 0 to 2147483647",
    );
    refused(
        &["--servers", "weight=1,upper=5,lower=6"],
        "servers 'weight=1,upper=5,lower=6', lower: 6 is above upper, 5",
    );
    refused(
        &["--servers", "weight=1;height=2"],
        "servers 'height=2', height: no such field; there are count weight speed workers upper \
         lower",
    );
    refused(
        &["--servers", "4094*weight=1", "--rate", "10"],
        "mh takes 4093 servers at most, and there are 4094",
    );
    refused(&["--servers", "2*weight=0"], "servers: none has a weight, so none would be picked");
}

#[test]
fn wrong_numbers_and_steps_are_refused() {
    refused(&["--rate", "-1"], "rate: cannot be -1; it is 0.000001 to 1000000000");
    refused(&["--for", "nan"], "for: cannot be NaN; it is 0.001 to 10000000");
    refused(&["--leave", "10"], "leave: cannot be '10'; write SECONDS:SERVER");
    refused(&["--leave", "10:9"], "step 1, leave: there is no server 9; there are 1 to 8");
    refused(&["--join", "400:1"], "step 1, at: cannot be 400; it is 0 to 300");
    refused(&["--leave", "10:1", "--leave", "20:1"], "step 2, leave: server 1 has left already");
    let output = sim(&["--json", "--csv"]);
    assert_eq!(output.status.code(), Some(2), "clap's own code");
    let output = sim(&["--clients", "all"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("invalid value 'all'") && text.contains("zipf, uniform"), "{text}");
}

#[test]
fn a_wrong_scenario_is_refused_by_file_step_and_field() {
    let folder = folder("scenario");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("web.toml");
    let file = path.to_str().unwrap();
    let refused = |text: &str, sentence: &str| {
        fs::write(&path, text).unwrap();
        refused(&["--scenario", file], &format!("{file}{sentence}"));
    };
    let first = "[[steps]]\nat = 1\nleave = 1\n";
    refused(&format!("{first}[[steps]]\nat = \"soon\"\njoin = 1"), ", step 2, at: it is a number");
    refused(
        &format!("{first}[[steps]]\nat = 2\nleave = 1"),
        ", step 2, leave: server 1 has left already",
    );
    refused("[[servers]]\nweight = -1", ", servers 1, weight: cannot be -1; it is 0 to 2147483647");
    refused("reet = 1", ", reet: no such field");
    let missing = folder.join("no.toml");
    let missing = missing.to_str().unwrap();
    self::refused(
        &["--scenario", missing],
        &format!("cannot read {missing}: No such file or directory (os error 2)"),
    );
}

#[test]
fn plots_that_cannot_be_written_are_told() {
    let folder = folder("a-file");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("file");
    fs::write(&file, "mine").unwrap();
    let plots = file.to_str().unwrap();
    let output = sim(&["--for", "1", "--plots", plots]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with(&format!("uvs: cannot write {plots}: ")), "{text}");
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1));
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn a_run_prints_a_table_csv_or_json_and_writes_plots() {
    let run = ["--scheduler", "wlc,mh", "--for", "20", "--leave", "10:1"];
    let table = printed(&run);
    assert!(table.starts_with("8 servers, 144 connections a second for 20 s"), "{table}");
    assert_eq!(table, printed(&run), "the same seed, the same result");
    assert_ne!(table, printed(&[&run[..], &["--seed", "2"]].concat()));
    let csv = printed(&[&run[..], &["--csv"]].concat());
    let names: Vec<&str> = csv.lines().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names, ["scheduler", "wlc", "mh"]);
    let json = printed(&[&run[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["schedulers"][1]["scheduler"], "mh");
    let plots = folder("plots");
    printed(&[&run[..], &["--plots", plots.to_str().unwrap()]].concat());
    for name in ["load.svg", "response.svg", "imbalance.svg", "churn.svg"] {
        assert!(fs::read_to_string(plots.join(name)).unwrap().starts_with("<svg"), "{name}");
    }
}

#[test]
fn options_count_before_the_file() {
    let folder = folder("options");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("web.toml");
    fs::write(&path, "rate = 50\nfor = 10\nschedulers = [\"rr\"]\n[[servers]]\ncount = 3").unwrap();
    let file = ["--scenario", path.to_str().unwrap()];
    assert!(printed(&file).starts_with("3 servers, 50 connections a second for 10 s"));
    let table = printed(&[&file[..], &["--rate", "20", "--scheduler", "nq"]].concat());
    assert!(table.starts_with("3 servers, 20 connections a second for 10 s"), "{table}");
    assert!(table.contains("\nnq ") && !table.contains("\nrr "), "{table}");
}
