//! `uvs demo`: what it prints, and that it takes down what it made, however it ends.

mod lab;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lab::{eventually, quiet, said, uvs};
use rustix::process::{Pid, kill_process};
use uvs_lab::{Guard, LabName, Signal, ready};

/// One at a time: each looks whether anything of a demo's lab stays.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> Option<MutexGuard<'static, ()>> {
    match ready() {
        Ok(()) => Some(TURN.lock().unwrap_or_else(PoisonError::into_inner)),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// A demo that was started; it is killed when this is dropped.
struct Demo {
    guard: Guard,
    progress: BufReader<std::process::ChildStderr>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut command = quiet(uvs().to_str().unwrap());
        command.arg("demo").args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut guard = Guard::spawn(&mut command).unwrap();
        let progress = BufReader::new(guard.child().stderr.take().unwrap());
        Self { guard, progress }
    }

    /// Reads what it does until it says `step`; gives that line.
    fn wait_for(&mut self, step: &str) -> String {
        let mut all = String::new();
        loop {
            let start = all.len();
            let read = self.progress.read_line(&mut all).unwrap();
            assert!(read > 0, "the demo ended before {step:?}:\n{all}");
            if all[start..].contains(step) {
                return all[start..].to_owned();
            }
        }
    }

    /// Waits for its end; its exit code, and what it said until then.
    fn end(&mut self) -> (Option<i32>, String) {
        eventually("the demo does not end", || self.guard.ended().is_some());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.progress, &mut rest).unwrap();
        (self.guard.ended().unwrap().code(), rest)
    }

    /// What of its lab is there.
    fn remains(&self) -> Vec<String> {
        remains(self.guard.pid())
    }
}

/// Namespaces, folders and processes of the labs of a maker.
fn remains(maker: u32) -> Vec<String> {
    let prefix = format!("uvs{maker}-");
    let mut remains = Vec::new();
    for folder in ["/run/netns", "/run"] {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        remains.extend(names.filter(|name| name.starts_with(&prefix)));
    }
    for pid in processes() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        remains.extend(line.contains(&prefix).then(|| format!("{pid}: {line}")));
    }
    remains
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The engine of the lab of a demo.
fn engine_of(maker: u32) -> u32 {
    let config = format!("/run/uvs{maker}-0/uvs.toml");
    let runs = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into())
            .collect();
        words.get(1).is_some_and(|word| word == "run") && words.contains(&config)
    };
    processes().into_iter().find(runs).expect("the demo runs an engine")
}

#[test]
fn a_demo_ends_well_and_prints_a_table() {
    let Some(_turn) = turn() else { return };
    let child: Child = quiet(uvs().to_str().unwrap())
        .args(["demo", "--mode", "dr", "--port", "raw"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let table = String::from_utf8_lossy(&output.stdout);
    let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["mode", "port", "load", "requests", "answers", "spread", "throughput"]);
    for load in ["HTTP", "UDP"] {
        let row = table.lines().find(|line| line.contains(load)).unwrap();
        assert!(row.starts_with("DR ") && row.contains("raw packet sockets"), "{row}");
        assert_eq!(row.matches(" 1000").count(), 2, "{row}");
        assert_eq!(row.matches(" / ").count(), 2, "a share of each of three servers: {row}");
    }
    let equation = table.lines().find(|line| line.contains(" = tx ")).unwrap();
    assert!(equation.contains(" + to_host ") && equation.ends_with("+ drops 0"), "{equation}");
    assert!(table.ends_with("every request had its right answer\n"), "{table}");
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(progress.contains("1000 HTTP requests by curl"), "{progress}");
    assert_eq!(remains(pid), Vec::<String>::new());
}

#[test]
fn an_interrupted_demo_takes_everything_down() {
    let Some(_turn) = turn() else { return };
    for (signal, step) in [
        (Signal::INT, "HTTP requests by curl"),
        (Signal::TERM, "laying"),
        (Signal::INT, "starting the engine"),
    ] {
        let mut demo = Demo::start(&["--mode", "nat", "--port", "raw"]);
        demo.wait_for(step);
        demo.guard.signal(signal).unwrap();
        let (code, rest) = demo.end();
        assert_eq!(code, Some(130), "at {step:?}: {rest}");
        assert_eq!(demo.remains(), Vec::<String>::new(), "at {step:?}");
    }
}

#[test]
fn a_demo_whose_engine_is_killed_fails_and_takes_everything_down() {
    let Some(_turn) = turn() else { return };
    let mut demo = Demo::start(&["--mode", "dr", "--port", "raw"]);
    demo.wait_for("downloading");
    let engine = Pid::from_raw(engine_of(demo.guard.pid()) as i32).unwrap();
    kill_process(engine, Signal::KILL).unwrap();
    let (code, rest) = demo.end();
    assert_eq!(code, Some(1), "{rest}");
    assert!(rest.contains("uvs: "), "it says why: {rest}");
    assert_eq!(demo.remains(), Vec::<String>::new());
}

#[test]
fn a_killed_demo_is_taken_down_by_its_undertaker() {
    let Some(_turn) = turn() else { return };
    let mut demo = Demo::start(&["--mode", "dr", "--port", "afxdp"]);
    demo.wait_for("UDP datagrams");
    demo.guard.signal(Signal::KILL).unwrap();
    demo.end();
    eventually("something stays", || demo.remains().is_empty());
}

#[test]
fn a_kept_demo_can_be_played_with_and_taken_down() {
    let Some(_turn) = turn() else { return };
    if !kept().is_empty() {
        eprintln!("skipped: {:?} is kept by somebody, and `--down` would remove it", kept());
        return;
    }
    let output = quiet(uvs().to_str().unwrap())
        .args(["demo", "--keep", "--mode", "tun", "--port", "raw"])
        .output()
        .unwrap();
    let kept_now = kept();
    let played = std::panic::catch_unwind(|| play(&String::from_utf8_lossy(&output.stdout)));
    let others = kept_now.len() > 1;
    if others {
        // Somebody else has kept one meanwhile: theirs stays.
        let own =
            |name: &LabName| String::from_utf8_lossy(&output.stdout).contains(&name.to_string());
        kept_now.iter().filter(|name| own(name)).for_each(|name| uvs_lab::remove(*name).unwrap());
    } else {
        let down = quiet(uvs().to_str().unwrap()).args(["demo", "--down"]).output().unwrap();
        assert!(down.status.success(), "{}", said(&down));
    }
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(kept_now.len(), 1, "exactly the one is kept: {kept_now:?}");
    assert_eq!(remains(kept_now[0].maker()), Vec::<String>::new());
    played.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The labs that are kept.
fn kept() -> Vec<LabName> {
    let names = fs::read_dir("/run").unwrap().flatten();
    let names = names.filter(|entry| entry.path().join("kept").exists());
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Runs printed commands as a person would.
fn play(text: &str) {
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let run = |part: &str| {
        let line = commands.iter().find(|line| line.contains(part) && !line.starts_with('#'));
        let line = line.unwrap_or_else(|| panic!("no command with {part:?} in {text}"));
        let output = quiet("timeout").args(["10", "sh", "-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let pages: Vec<String> = (0..3).map(|_| run("curl http://")).collect();
    for server in ["server 1\n", "server 2\n", "server 3\n"] {
        assert!(pages.iter().any(|page| page == server), "{pages:?}");
    }
    assert!(run("lab udp").contains("\"lost\":0"));
    assert!(run("adm -L -n").contains("Tunnel"));
    assert!(run("adm -L -n -c").contains("10.77.0.1:80"));
    assert!(run(" stats").starts_with("rx "));
}
