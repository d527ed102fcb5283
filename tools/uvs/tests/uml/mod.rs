//! Tests beside the real kernel's IPVS: each boots a kernel that has it (user-mode-linux), and
//! runs itself there.
//!
//! Where that cannot be, each says why it is skipped, and does nothing.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use uvs_control::client::Client;
use uvs_lab::{Guard, UmlJob, uml_ready, uml_run};

/// Set inside.
const INSIDE: &str = "UVS_TEST_INSIDE";

/// How long something that must come may take in a kernel that shares a processor with others.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the tests inside have their files, which go with the kernel.
const FOLDER: &str = "/run";

/// The program under test.
pub const UVS: &str = env!("CARGO_BIN_EXE_uvs");

/// Runs the work of the test of this name in a kernel with IPVS.
pub fn inside(test: &str, seconds: u64, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    if let Err(reason) = uml_ready() {
        // Not through the test's own output, which nobody sees when it succeeds.
        let _ = writeln!(io::stderr(), "skipped {test}: {reason}");
        return;
    }
    let this = std::env::current_exe().unwrap().into_os_string();
    let mut command = vec!["env".into(), format!("{INSIDE}=1").into(), this];
    command.extend([test, "--exact", "--nocapture"].map(Into::into));
    let job = UmlJob { seconds, ..UmlJob::new(command) };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = uml_run(&job, &mut out, &mut err);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    print!("{}{}", text(&out), text(&err));
    assert_eq!(ended.unwrap(), 0, "it failed inside; see above");
    assert!(text(&out).contains("1 passed"), "it did not run inside");
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    with_input(program, arguments, "")
}

/// Runs a program to its end, with this on its standard input.
pub fn with_input(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env("UVS_SOCKET", socket());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a program prints that must succeed; its arguments are separated by spaces.
#[track_caller]
pub fn printed(program: &str, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    succeeded(run(program, &words))
}

/// The standard output of what must have succeeded.
#[track_caller]
pub fn succeeded(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// The engine's socket.
pub fn socket() -> PathBuf {
    PathBuf::from(FOLDER).join("uvs.sock")
}

/// Starts an engine without traffic, on a cable that leads nowhere.
pub fn idle_engine() -> Guard {
    printed("ip", "link add uvs0 type veth peer name uvs1");
    printed("ip", "link set uvs0 up");
    printed("ip", "link set uvs1 up");
    printed("ip", "address add 192.168.77.1/24 dev uvs0");
    let config = format!("{FOLDER}/uvs.toml");
    let text = format!(
        "outside = \"uvs0\"\nmode = \"raw\"\nconnections = 10000\nsocket = {:?}\n",
        socket()
    );
    fs::write(&config, text).unwrap();
    let log = File::create(format!("{FOLDER}/uvs.log")).unwrap();
    let mut engine = Command::new(UVS);
    engine.args(["run", "--config", &config]).stdin(Stdio::null()).stderr(log);
    let mut engine = Guard::spawn(&mut engine).unwrap();
    let client = Client::new(&socket());
    eventually("the engine does not answer", || {
        assert!(engine.ended().is_none(), "{}", fs::read_to_string("/run/uvs.log").unwrap());
        client.counters().is_ok()
    });
    engine
}

/// Waits until `done`, or fails with `what`.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
