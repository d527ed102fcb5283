//! `uvsadm` and `ipvsadm` as names of the program, against a running engine: what is said comes
//! to be, what is saved can be restored, and what is not supported is refused.

mod lab;

use std::io::Write;
use std::net::Ipv6Addr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use lab::{Lab, said, uvs};
use uvs_control::client::ClientError;
use uvs_lab::{Arms, Director, ECHO_PORT, HTTP_PORT, Method, UdpJob};
use uvs_uvsadm::api::Refused;
use uvs_uvsadm::api::{
    Change, DestConfig, ErrorCode, Method as ApiMethod, Protocol, ServiceKey, Tunnel, TunnelKind,
};

/// A running engine, and the program under ipvsadm's name.
struct Admin {
    engine: Director,
    program: PathBuf,
    lab: Lab,
}

impl Admin {
    fn new(name: &str) -> Option<Self> {
        let lab = Lab::up(Arms::One, Method::Route)?;
        let program = lab.network.folder().join(name);
        symlink(uvs(), &program).unwrap();
        let engine = lab.engine("raw");
        Some(Self { engine, program, lab })
    }

    fn run(&self, line: &str, input: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.args(line.split_whitespace()).env("UVS_SOCKET", self.engine.socket());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not read its input closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// It succeeds, says nothing on stderr, and this is what it prints.
    #[track_caller]
    fn does(&self, line: &str) -> String {
        let output = self.run(line, "");
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// It is refused: nothing on stdout, these words on stderr, this exit code, nothing changed.
    #[track_caller]
    fn refuses(&self, line: &str, code: i32, words: &str) {
        let before = self.does("-S -n");
        let output = self.run(line, "");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.stdout.is_empty(), "{line}: {}", said(&output));
        assert_eq!(output.status.code(), Some(code), "{line}: {}", said(&output));
        assert!(text.contains(words), "{line}: no {words:?} in {text:?}");
        assert_eq!(self.does("-S -n"), before, "{line} changed something");
    }

    /// Its lines in an order that does not depend on when what was added.
    fn saved(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.does("-S -n").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

const NUMBERS: &str = "\
-A -t 10.77.0.1:443 -s wrr
-a -t 10.77.0.1:443 -r 10.77.1.1:443 -g -w 3
-a -t 10.77.0.1:443 -r 10.77.1.2:443 -i -w 0 --tun-type ipip
-a -t 10.77.0.1:443 -r 10.77.1.3:8443 -m -w 65535
-A -u 10.77.0.1:53 -s wlc
-a -u 10.77.0.1:53 -r 10.77.1.1:53 -g -w 1
-A -t 10.77.0.1:8080 -s rr
";

#[test]
fn services_and_servers_are_added_edited_deleted_and_listed() {
    let Some(admin) = Admin::new("uvsadm") else { return };
    admin.does("-C");
    assert_eq!(
        admin.does("-L -n"),
        "IP Virtual Server version 1.2.1 (size=100000)\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
    );
    admin.does("-A -t 10.77.0.1:443 -s wrr");
    admin.does("-a -t 10.77.0.1:443 -r 10.77.1.1:443 -g -w 3");
    admin.does("-a -t 10.77.0.1:443 -r 10.77.1.2 -i");
    admin.does("--add-service --udp-service 10.77.0.1:53 --scheduler rr");
    admin.does("--add-server -u 10.77.0.1:53 --real-server 10.77.1.1:5353 --masquerading");
    let listed = admin.does("-L -n");
    let rows: Vec<&str> = listed.lines().skip(3).map(str::trim_end).collect();
    assert_eq!(
        rows,
        [
            "TCP  10.77.0.1:443 wrr",
            "  -> 10.77.1.1:443                Route   3      0          0",
            "  -> 10.77.1.2:443                Tunnel  1      0          0",
            "UDP  10.77.0.1:53 rr",
            "  -> 10.77.1.1:5353               Masq    1      0          0",
        ]
    );
    admin.does("-E -t 10.77.0.1:443 -s wlc");
    admin.does("-e -t 10.77.0.1:443 -r 10.77.1.2:443 -m -w 7");
    admin.does("-d -t 10.77.0.1:443 -r 10.77.1.1:443");
    let listed = admin.does("-L -n -t 10.77.0.1:443");
    let rows: Vec<&str> =
        listed.lines().map(str::trim_end).skip_while(|l| !l.starts_with("TCP")).collect();
    assert_eq!(
        rows,
        ["TCP  10.77.0.1:443 wlc", "  -> 10.77.1.2:443                Masq    7      0          0"]
    );
    admin.does("-D -t 10.77.0.1:443");
    assert_eq!(
        admin.does("-S -n"),
        "-A -u 10.77.0.1:53 -s rr\n-a -u 10.77.0.1:53 -r 10.77.1.1:5353 -m -w 1\n"
    );
    admin.does("-C");
    assert_eq!(admin.does("-S -n"), "");
}

#[test]
fn what_is_saved_restores_to_the_same() {
    let Some(admin) = Admin::new("ipvsadm") else { return };
    admin.does("-C");
    let restored = admin.run("-R", NUMBERS);
    assert!(restored.status.success() && restored.stderr.is_empty(), "{}", said(&restored));
    let mut expected: Vec<&str> = NUMBERS.lines().collect();
    expected.sort();
    assert_eq!(admin.saved(), expected, "nothing is lost and nothing added");

    // With names in place of numbers as well.
    let first = admin.does("-S -n");
    let named = admin.does("-S");
    for text in [&first, &named] {
        admin.does("-C");
        assert!(admin.run("-R", text).status.success());
        assert_eq!(admin.saved(), expected);
    }
    // A line that is wrong ends it there; what stood before it is done.
    admin.does("-C");
    let wrong = "-A -t 10.77.0.1:1 -s rr\n-A -t nonsense\n-A -t 10.77.0.1:3 -s rr\n";
    let output = admin.run("-R", wrong);
    assert_eq!(output.status.code(), Some(2));
    let expected = "illegal virtual server address[:port] specified\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(admin.saved(), ["-A -t 10.77.0.1:1 -s rr"]);
}

#[test]
fn listings_show_connections_and_what_was_counted() {
    let Some(admin) = Admin::new("uvsadm") else { return };
    let load = admin.lab.load();
    assert!(load.curl(admin.lab.network.service(HTTP_PORT), 30).unwrap().is_clean());
    let job =
        UdpJob { flows: 3, datagrams: 30, ..UdpJob::to(admin.lab.network.service(ECHO_PORT)) };
    assert!(load.udp(&job).unwrap().is_clean());
    let counters = admin.engine.counters().unwrap();

    let connections = admin.does("-L -n -c");
    let rows: Vec<Vec<&str>> =
        connections.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let [http, udp] = lab::services(&admin.engine);
    assert_eq!(rows.len() as u64, http.stats.conns + udp.stats.conns, "{connections}");
    assert_eq!(udp.stats.conns, 3);
    assert!(connections.starts_with("IPVS connection entries\npro expire state"), "{connections}");
    let client = format!("{}:", admin.lab.network.client());
    for row in &rows {
        let [protocol, expire, state, source, virtual_, destination] = row[..] else {
            panic!("{row:?}")
        };
        assert!(expire.len() == 5 && expire.as_bytes()[2] == b':', "{row:?}");
        assert!(source.starts_with(&client) && destination.starts_with("10.77.1."), "{row:?}");
        match protocol {
            // The engine sees the client's side only, in DR.
            "TCP" => assert!(["FIN_WAIT", "ESTABLISHED", "CLOSE"].contains(&state), "{row:?}"),
            "UDP" => assert_eq!((state, virtual_), ("UDP", "10.77.0.1:7")),
            _ => panic!("{row:?}"),
        }
    }

    let stats = admin.does("-L -n --stats --exact");
    let packets = |prefix: &str| -> Vec<u64> {
        let rows = stats.lines().filter(|line| line.starts_with(prefix));
        let row = |line: &str| line.split_whitespace().nth(3).unwrap().parse().unwrap();
        rows.skip(usize::from(prefix == "  ->")).map(row).collect()
    };
    let services: u64 = packets("TCP").iter().chain(&packets("UDP")).sum();
    assert_eq!(services, counters.rx, "{stats}");
    assert_eq!(packets("  ->").iter().sum::<u64>(), counters.rx, "{stats}");
    let row = stats.lines().find(|line| line.starts_with("UDP")).unwrap();
    let numbers: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(numbers[..5], ["UDP", "10.77.0.1:7", "3", "30", "0"], "{stats}");

    let timeouts = admin.does("-L --timeout");
    assert_eq!(timeouts, "Timeout (tcp tcpfin udp): 900 120 300\n");
}

#[test]
fn what_cannot_be_done_is_refused_with_ipvsadms_exit_codes() {
    let Some(admin) = Admin::new("ipvsadm") else { return };
    let refuses = |line: &str, code: i32, words: &str| admin.refuses(line, code, words);
    // The engine's refusals, in ipvsadm's words.
    refuses("-A -t 10.77.0.1:80 -s rr", 255, "Service already exists");
    refuses("-D -t 10.77.0.1:81", 255, "No such service");
    refuses("-E -t 10.77.0.1:81 -s rr", 255, "No such service");
    refuses("-a -t 10.77.0.1:81 -r 10.77.1.1", 255, "Service not defined");
    refuses("-a -t 10.77.0.1:80 -r 10.77.1.1", 255, "Destination already exists");
    refuses("-e -t 10.77.0.1:80 -r 10.77.1.9", 255, "No such destination");
    refuses("-d -t 10.77.0.1:80 -r 10.77.1.9", 255, "No such destination");
    refuses("-A -t 10.77.0.1:81 -s nosuch", 255, "Scheduler");
    // What is wrong already on the command line.
    refuses("-A -t 10.77.0.1:81 -s rr -w 3", 2, "Illegal 'weight' option");
    refuses("-a -t 10.77.0.1:80", 2, "supply the 'real-server' option");
    refuses("-A -L", 2, "invalid option `-L'");
    refuses("--no-such-option", 255, "--help");
    // A tunnel of another kind is one of the kinds there are.
    let gue = "-a -t 10.77.0.1:80 -r 10.77.1.9 -i --tun-type gue";
    refuses(gue, 2, "tun-port");
    admin.does(&format!("{gue} --tun-port 6080"));
    assert!(admin.does("-S -n").contains("-r 10.77.1.9:80 -i -w 1 --tun-type gue --tun-port 6080"));
    // What uvs does not do yet says so.
    for line in ["--start-daemon master", "--stop-daemon backup"] {
        refuses(line, 255, "the sync daemon comes later");
    }
    assert_eq!(admin.does("-L --daemon"), "");
}

/// The words are those recorded of ipvsadm.
#[test]
fn a_tunnel_that_cannot_be_is_refused() {
    let Some(admin) = Admin::new("ipvsadm") else { return };
    let server = "-a -t 10.77.0.1:80 -r 10.77.1.9";
    let no_port = "You need to supply the 'tun-port' option for the 'gue' tunnel type";
    let other_method = "Tunnel options conflict with forward method";
    for (options, words) in [
        ("-i --tun-type gue", no_port),
        ("-i --tun-type gue --tun-csum --tun-remcsum", no_port),
        ("-i --tun-type gue --tun-port 0", "illegal tunnel port specified"),
        ("-i --tun-type gue --tun-port 70000", "illegal tunnel port specified"),
        ("-i --tun-type sit", "illegal tunnel type specified"),
        (
            "-i --tun-type gre --tun-port 6080",
            "Illegal 'tun-port' option with the 'gre' tunnel type",
        ),
        (
            "-i --tun-type gre --tun-remcsum",
            "Illegal 'tun-remcsum' option with the 'gre' tunnel type",
        ),
        (
            "-i --tun-type gre --tun-csum --tun-nocsum",
            "The option 'tun-csum' conflicts with the 'tun-nocsum' option in the 'gre' tunnel type",
        ),
        ("-i --tun-csum", "Illegal 'tun-csum' option with the 'ipip' tunnel type"),
        ("-m --tun-type gue --tun-port 6080", other_method),
        ("-g --tun-csum", other_method),
    ] {
        admin.refuses(&format!("{server} {options}"), 2, words);
        // Nor does a server that is there become one.
        let edit = format!("-e -t 10.77.0.1:80 -r 10.77.1.1:80 {options}");
        admin.refuses(&edit, 2, words);
        let lines = format!("{server}:80 -g\n{server}:81 {options}\n");
        let restored = admin.run("-R", &lines);
        assert!(!restored.status.success(), "{options}: {}", said(&restored));
        admin.does("-d -t 10.77.0.1:80 -r 10.77.1.9:80");
    }
}

#[test]
fn a_server_of_the_other_family_is_refused_but_behind_a_tunnel() {
    let Some(admin) = Admin::new("ipvsadm") else { return };
    let words = "Different address family is allowed only for tunneling servers";
    for method in ["", "-g", "-m"] {
        admin.refuses(&format!("-a -t 10.77.0.1:80 -r [fd78::1]:80 {method}"), 2, words);
        admin.refuses(&format!("-e -t 10.77.0.1:80 -r [fd78::1]:80 {method}"), 2, words);
    }
    admin.does("-a -t 10.77.0.1:80 -r [fd78::1]:80 -i");
    admin.refuses("-e -t 10.77.0.1:80 -r [fd78::1]:80 -m", 2, words);
}

/// Who asks the engine itself has no ipvsadm in front: it refuses what the kernel refuses, and of
/// the changes that come together it makes all or none.
#[test]
fn the_engine_refuses_such_servers_too() {
    let Some(admin) = Admin::new("ipvsadm") else { return };
    let before = admin.does("-S -n");
    let service = ServiceKey::new(Protocol::Tcp, [10, 77, 0, 1], HTTP_PORT);
    let right = DestConfig::new([10, 77, 1, 9], HTTP_PORT);
    let gue = |port| Tunnel { kind: TunnelKind::Gue, port, ..Tunnel::default() };
    let other_family = |method| {
        let address = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1);
        DestConfig { method, ..DestConfig::new(address, HTTP_PORT) }
    };
    for wrong in [
        DestConfig { method: ApiMethod::Tunnel, tunnel: gue(0), ..right },
        other_family(ApiMethod::Route),
        other_family(ApiMethod::Masq),
    ] {
        let first = DestConfig { port: 81, ..right };
        let add = |dest| Change::AddDest { service, dest };
        let refused = admin.engine.client().change(&[add(first), add(wrong)]).unwrap_err();
        let ClientError::Refused(Refused { change: 1, error }) = refused else {
            panic!("{wrong:?}: {refused}")
        };
        assert_eq!(error.code, ErrorCode::Invalid, "{wrong:?}");
        assert!(error.message.starts_with("Invalid operation."), "{}", error.message);
        assert_eq!(admin.does("-S -n"), before, "{wrong:?} changed something");
    }
    let behind = DestConfig { tunnel: gue(6080), ..other_family(ApiMethod::Tunnel) };
    admin.engine.client().change(&[Change::AddDest { service, dest: behind }]).unwrap();
}
