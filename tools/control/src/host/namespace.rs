//! Network namespaces for tests: gone with the process that is in them.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

const INSIDE: &str = "UVS_TEST_INSIDE";

/// Whether the test goes on here. Outside of a namespace it is run again inside a fresh one, and
/// its end there is its end here; without root it is skipped with a line that says so.
pub(super) fn in_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let made = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped {test}: cannot make a network namespace (needs root)");
        return false;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("the test's own program"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

/// Runs a command line; it has to succeed.
pub(super) fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a command"));
    let output = command.args(words).output().expect("the command runs");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Feeds lines to `ip -batch`.
pub(super) fn batch(lines: &str) {
    let mut ip =
        Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip runs");
    ip.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("ip reads");
    assert!(ip.wait().expect("ip ends").success());
}

/// A host at the other end of a veth pair, in a namespace that lasts as long as it.
pub(super) struct Peer {
    holder: Child,
    /// The holder ends when this does, also when the test is killed.
    _stdin: ChildStdin,
}

impl Peer {
    /// Makes the pair, with these addresses on this end, `name`, and on the other.
    pub(super) fn new(name: &str, ours: &str, theirs: &str) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let stdin = holder.stdin.take().expect("a pipe");
        let peer = Self { holder, _stdin: stdin };
        let pid = peer.holder.id();
        // `unshare` changes its namespace a moment after it started.
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns == own) {
            std::thread::yield_now();
        }
        run(&format!("ip link add {name} type veth peer name peer netns {pid}"));
        run(&format!("ip address add {ours} dev {name}"));
        run(&format!("nsenter -n -t {pid} ip address add {theirs} dev peer"));
        run(&format!("nsenter -n -t {pid} ip link set peer up"));
        run(&format!("ip link set {name} up"));
        run("ip link set lo up");
        peer
    }

    /// The other end's Ethernet address.
    pub(super) fn mac(&self) -> [u8; 6] {
        let pid = self.holder.id();
        let line = run(&format!("nsenter -n -t {pid} ip -o link show peer"));
        let text = line.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
        let bytes = text.expect("a MAC").split(':').map(|hex| u8::from_str_radix(hex, 16));
        let bytes: Vec<u8> = bytes.map(|byte| byte.expect("hex")).collect();
        bytes.try_into().expect("six bytes")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
