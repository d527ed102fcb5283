//! Bad input: one clear sentence, an exit code that is not 0, and nothing changed on the host.

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use lab::{Lab, said, uvs};
use uvs_lab::{Arms, HTTP_PORT, Host, Method};

/// A lab whose engine is configured by the test.
struct Refusals {
    lab: Lab,
    folder: PathBuf,
    before: String,
}

impl Refusals {
    fn new() -> Option<Self> {
        let lab = Lab::up(Arms::One, Method::Route)?;
        let folder = lab.network.folder();
        let before = lab.state();
        Some(Self { lab, folder, before })
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.folder.join(file);
        fs::write(&path, text).unwrap();
        path
    }

    /// `uvs run` with this uvs.toml, on the director; it ends by itself or after so many seconds.
    fn run(&self, config: &str, seconds: &str) -> Output {
        let config = self.write("test.toml", config);
        let mut command = self.lab.network.command(Host::Director, "timeout");
        command.arg(seconds).arg(uvs()).args(["run", "--config"]).arg(config).output().unwrap()
    }

    /// Fails unless the engine refuses this uvs.toml with a sentence that has all of `words`.
    #[track_caller]
    fn refused(&self, config: &str, words: &[&str]) {
        let output = self.run(config, "10");
        assert_sentence(&output, words);
        assert_eq!(self.lab.state(), self.before, "the host was changed");
        assert!(!self.folder.join("test.sock").exists(), "the socket stayed");
    }

    /// A right uvs.toml, but for what is put in place of it.
    fn config(&self, more: &str) -> String {
        let socket = self.folder.join("test.sock");
        format!("outside = \"eth0\"\nsocket = \"{}\"\n{more}\n", socket.display())
    }
}

/// One line, by uvs, with all of `words`, and an exit code of uvs's own.
#[track_caller]
fn assert_sentence(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(output.stdout.is_empty(), "{}", said(output));
    assert!(text.starts_with("uvs: ") && text.lines().count() == 1, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[test]
fn the_configuration_is_right_but_for_what_these_tests_make_wrong() {
    let Some(refusals) = Refusals::new() else { return };
    let output = refusals.run(&refusals.config("connections = 1000"), "1");
    assert_eq!(
        output.status.code(),
        Some(124),
        "it runs until its time is over: {}",
        said(&output)
    );
    assert_eq!(refusals.lab.state(), refusals.before);
}

#[test]
fn a_wrong_uvs_toml_is_refused_with_line_and_what_is_allowed() {
    let Some(refusals) = Refusals::new() else { return };
    let refused = |more: &str, words: &[&str]| refusals.refused(&refusals.config(more), words);
    let place = "test.toml, line 3: ";
    refused("colour = 1", &[place, "`colour`", "expected one of `outside`, `inside`"]);
    refused("mode = \"dpdk\"", &[place, "auto, afxdp or raw"]);
    refused("queues = 65", &[place, "1 to 64"]);
    refused("connections = 0", &[place, "at least 1"]);
    refused("busy = \"yes\"", &[place, "boolean"]);
    refused("mode = raw", &[place]);
    refused("inside = \"eth0\"", &[place, "one-arm"]);
    refused("cores = [4711]", &["core 4711 does not exist", "may use the cores 0"]);
    let words = ["cannot read", "no-such.toml"];
    let mut command = refusals.lab.network.command(Host::Director, uvs().to_str().unwrap());
    assert_sentence(&command.args(["run", "--config", "no-such.toml"]).output().unwrap(), &words);
}

#[test]
fn an_interface_that_does_not_serve_is_refused() {
    let Some(refusals) = Refusals::new() else { return };
    let socket = refusals.folder.join("test.sock");
    let on = |interface: &str, more: &str| {
        format!("outside = \"{interface}\"\nsocket = \"{}\"\n{more}\n", socket.display())
    };
    refusals.refused(&on("eth7", ""), &["no interface \"eth7\"", "eth0"]);
    refusals.refused(&refusals.config("inside = \"eth7\""), &["no interface \"eth7\""]);
    let queues = refusals.config("queues = 2\nmode = \"afxdp\"");
    refusals.refused(&queues, &["eth0 has 1 queue", "ethtool -L eth0"]);
}

#[test]
fn a_process_without_privileges_is_refused() {
    let Some(refusals) = Refusals::new() else { return };
    // Where nobody may read and write: the program, its configuration and its socket.
    let folder = refusals.folder.join("nobody");
    fs::create_dir(&folder).unwrap();
    for path in [&refusals.folder, &folder] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let (program, config) = (folder.join("uvs"), folder.join("uvs.toml"));
    fs::copy(uvs(), &program).unwrap();
    fs::write(&config, "outside = \"eth0\"\nconnections = 1000\nsocket = \"nobody.sock\"\n")
        .unwrap();
    for mode in ["auto", "afxdp", "raw"] {
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{}mode = \"{mode}\"\n", before_mode(&text))).unwrap();
        let mut command = refusals.lab.network.command(Host::Director, "setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(&program).args(["run", "--config"]).arg(&config).current_dir(&folder);
        let words = ["not allowed", "CAP_NET_ADMIN", "CAP_NET_RAW", "run uvs as root", "setcap"];
        assert_sentence(&command.output().unwrap(), &words);
        assert_eq!(refusals.lab.state(), refusals.before);
        assert!(!folder.join("nobody.sock").exists());
    }
}

fn before_mode(text: &str) -> &str {
    text.split("mode").next().unwrap_or(text)
}

#[test]
fn an_interface_with_a_program_of_somebody_else_is_refused() {
    let Some(refusals) = Refusals::new() else { return };
    let engine = refusals.lab.engine("afxdp");
    let with_engine = refusals.lab.state();
    for mode in ["afxdp", "auto"] {
        let config = refusals.config(&format!("mode = \"{mode}\""));
        let output = refusals.run(&config, "10");
        assert_sentence(&output, &["eth0 already has an XDP program", "uvs_xdp", "mode raw"]);
        assert_eq!(refusals.lab.state(), with_engine);
    }
    let tally = refusals.lab.load().curl(refusals.lab.network.service(HTTP_PORT), 30).unwrap();
    assert!(tally.is_clean(), "the first engine goes on: {tally:?}");
    engine.stop().unwrap();
}

#[test]
fn a_wrong_file_of_services_is_refused_with_line_and_column() {
    let Some(refusals) = Refusals::new() else { return };
    let config = refusals.config("services = \"test.rules\"");
    let right = "-A -t 10.77.0.1:80 -s rr\n-a -t 10.77.0.1:80 -r 10.77.1.1:80 -g -w 1\n";
    let refused = |line: &str, words: &[&str]| {
        refusals.write("test.rules", &format!("{right}{line}\n"));
        refusals.refused(&config, &[&["test.rules, line 3"], words].concat());
    };
    refused("-a -t 10.77.0.1:80 -r here:80", &[", column 23: illegal real server"]);
    refused("-a -t 10.77.0.1:80 -r 10.77.1.2:80 -w many", &[", column 39: illegal weight"]);
    refused("-A -t 10.77.0.1:99999 -s rr", &[", column 7: illegal virtual server"]);
    refused("-A -t 10.77.0.1:81 -s nosuch", &[": Scheduler"]);
    refused("-a -t 10.77.0.1:81 -r 10.77.1.1", &[": Service not defined"]);
    refused("-A -t 10.77.0.1:80 -s rr", &[": Service already exists"]);
    let server = "-a -t 10.77.0.1:80 -r 10.77.1.2:80";
    refused(&format!("{server} -i --tun-type gue"), &["supply the 'tun-port' option"]);
    refused(
        &format!("{server} -i --tun-type gre --tun-remcsum"),
        &[", column 54: Illegal 'tun-remcsum' option with the 'gre' tunnel type"],
    );
    let other_family = "-a -t 10.77.0.1:80 -r [fd78::1]:80 -m";
    refused(other_family, &[", column 20: Different address family"]);
    refusals.write("test.rules", "-A -t [fd00::1]:80 -s rr\n");
    refusals.refused(&config, &["fd00::1 does not reach this host", "ip address add fd00::1/128"]);
    refusals.write("test.rules", "-A -t 10.99.0.1:80 -s rr\n");
    refusals
        .refused(&config, &["10.99.0.1 does not reach this host", "ip address add 10.99.0.1/32"]);
    let missing = refusals.config("services = \"no.rules\"");
    refusals.refused(&missing, &["cannot read", "no.rules"]);
}

#[test]
fn a_table_that_does_not_fit_memory_is_refused() {
    let Some(refusals) = Refusals::new() else { return };
    let most = refusals.config("connections = 18446744073709551615");
    refusals.refused(&most, &["connection", "at most"]);
    // Fewer than a table can hold, and more than twice the memory of this machine.
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes: u64 = info.split_whitespace().nth(1).unwrap().parse().unwrap();
    let connections = (kilobytes * 1024 / 32).min(1 << 31);
    if connections * 64 > kilobytes * 1024 {
        refusals.refused(&refusals.config(&format!("connections = {connections}")), &["capacity"]);
    }
}

#[test]
fn a_socket_of_a_live_engine_is_refused() {
    let Some(refusals) = Refusals::new() else { return };
    let engine = refusals.lab.engine("raw");
    let with_engine = refusals.lab.state();
    let socket = engine.socket();
    let config = format!("outside = \"eth0\"\nmode = \"raw\"\nsocket = \"{}\"\n", socket.display());
    let output = refusals.run(&config, "10");
    assert_sentence(&output, &["another engine answers on", "uvs.sock", "another `socket`"]);
    assert_eq!(refusals.lab.state(), with_engine);
    assert_eq!(engine.client().services().unwrap().len(), 2, "the first engine goes on");
    engine.stop().unwrap();
    refusals.write("a-file", "mine");
    let file = refusals.folder.join("a-file");
    let config = format!("outside = \"eth0\"\nsocket = \"{}\"\n", file.display());
    refusals.refused(&config, &["a-file is there and is no socket"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

/// What needs no engine and no root: the question to one that is not there.
#[test]
fn without_an_engine_adm_and_stats_say_so() {
    let ask = |arguments: &[&str]| {
        Command::new(uvs()).args(arguments).env("UVS_SOCKET", "/nowhere/uvs.sock").output().unwrap()
    };
    assert_sentence(&ask(&["stats"]), &["no engine answers on /nowhere/uvs.sock", "uvs run"]);
    let output = ask(&["adm", "-L", "-n"]);
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no engine answers") && text.lines().count() == 1, "{text}");
}
