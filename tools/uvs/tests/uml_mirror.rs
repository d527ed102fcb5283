//! `uvs mirror` between uvs and a real kernel, which real ipvsadm programs and lists.

mod uml;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use uml::{UVS, eventually, idle_engine, inside, printed, run, succeeded, with_input};
use uvs_control::client::Client;
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::{Command, listing, save};

/// Configurations that are drawn: half of them go to the kernel, half come from it.
const CONFIGURATIONS: u32 = 200;

/// Those that the kernel inside has; 6.1 is from before twos.
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "fo", "ovf", "mh"];

/// Numbers from a seed (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let given = std::env::var("UVS_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(now) | 1;
        println!("UVS_SEED={seed} draws the same again");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A whole configuration, as lines for `-R`.
    fn configuration(&mut self) -> String {
        let mut lines = "-C\n".to_owned();
        let mut seen = BTreeSet::new();
        for _ in 0..self.below(6) {
            let six = self.below(3) == 0;
            let kind = self.one_of(&["-t", "-u", "--sctp-service", "-f"]);
            let port = self.below(4) * 80;
            let key = match kind {
                "-f" => format!("-f {}{}", 1 + self.below(5), if six { " -6" } else { "" }),
                _ => format!("{kind} {}:{port}", self.address(six, 0)),
            };
            if seen.insert(key.clone()) {
                self.service(&mut lines, &key, kind, six, kind == "-f" || port == 0);
            }
        }
        lines
    }

    fn service(&mut self, lines: &mut String, key: &str, kind: &str, six: bool, persistent: bool) {
        let scheduler = self.one_of(&SCHEDULERS);
        let _ = write!(lines, "-A {key} -s {scheduler}");
        if persistent || self.below(3) == 0 {
            let mask = if six { "-M 64" } else { "-M 255.255.240.0" };
            let _ = write!(lines, " -p {} {}", 1 + self.below(9999), self.one_of(&["", mask]));
            if kind == "-u" {
                lines.push_str(self.one_of(&["", " --pe sip"]));
            }
        }
        if kind == "-u" {
            lines.push_str(self.one_of(&["", " -o"]));
        }
        if ["sh", "mh"].contains(&scheduler) && self.below(2) == 0 {
            let flag = self.one_of(&["port", "fallback"]);
            let _ = write!(lines, " -b {scheduler}-{flag}");
        }
        lines.push('\n');
        let mut servers = BTreeSet::new();
        for _ in 0..self.below(6) {
            let tunnel = self.one_of(&[
                "--tun-type ipip",
                "--tun-type gre --tun-csum",
                "--tun-type gue --tun-port 6080 --tun-remcsum",
                "--tun-type gue --tun-port 6081 --tun-nocsum",
            ]);
            let method = self.one_of(&["-g", "-m", "-i"]);
            // Only a tunnel may be of the other family.
            let six = six ^ (method == "-i" && self.below(4) == 0);
            // Two ports of one address are one server, but in NAT.
            let address = self.address(six, 1);
            if servers.insert(address.clone()) {
                let server = format!("{address}:{}", 8080 + self.below(2));
                let tunnel = if method == "-i" { tunnel } else { "" };
                let (upper, weight) = (self.below(3) * 10, self.below(4));
                let lower = upper / 2;
                let _ = writeln!(
                    lines,
                    "-a {key} -r {server} {method} -w {weight} -x {upper} -y {lower} {tunnel}"
                );
            }
        }
    }

    fn address(&mut self, six: bool, net: u8) -> String {
        let last = 1 + self.below(5);
        if six { format!("[fd00:{net}::{last}]") } else { format!("10.0.{net}.{last}") }
    }
}

/// What ipvsadm lists of the kernel's services and servers: what it saves, and the thresholds,
/// which it does not save.
fn kernels() -> [String; 2] {
    ["-S -n", "-L -n --thresholds"].map(|line| headless(&printed("ipvsadm", line)))
}

/// The same, as uvsadm lists uvs's; without a process, for there are many configurations.
fn ours() -> [String; 2] {
    let client = Client::new(&uml::socket());
    let (settings, services) = (client.settings().unwrap(), client.services().unwrap());
    let words: Vec<String> = ["-L", "-n", "--thresholds"].map(str::to_owned).to_vec();
    let Ok(Command::List(list)) = uvs_uvsadm::parse(&words) else { panic!("no listing") };
    let listed = listing::services(&list, &settings, &services, &Numeric).unwrap();
    [save(&services, &Numeric), headless(&listed)]
}

/// A listing without the line that tells how large the table is.
fn headless(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("IP Virtual"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn ipvsadm_lists_in_the_kernel_what_uvsadm_put_into_uvs_and_the_other_way() {
    let test = "ipvsadm_lists_in_the_kernel_what_uvsadm_put_into_uvs_and_the_other_way";
    inside(test, 900, || {
        let _engine = idle_engine();
        let mut dice = Dice::new();
        for number in 0..CONFIGURATIONS {
            let lines = dice.configuration();
            let (restore, way) = match number % 2 {
                0 => (with_input(UVS, &["adm", "-R"], &lines), "--to-kernel"),
                _ => (with_input("ipvsadm", &["-R"], &lines), "--from-kernel"),
            };
            let complaint = String::from_utf8_lossy(&restore.stderr).into_owned();
            assert!(restore.status.success(), "{lines}{complaint}");
            printed(UVS, &format!("mirror {way}"));
            assert_eq!(kernels(), ours(), "number {number}, {way}:\n{lines}");
        }
    });
}

#[test]
fn what_is_refused_is_named_and_the_next_run_mends_it() {
    inside("what_is_refused_is_named_and_the_next_run_mends_it", 120, || {
        let _engine = idle_engine();
        let lines = "-A -t 10.0.0.1:80 -s twos\n-a -t 10.0.0.1:80 -r 10.0.1.1:80\n\
                     -A -u 10.0.0.1:53 -s rr\n-a -u 10.0.0.1:53 -r 10.0.1.1:53\n";
        succeeded(with_input(UVS, &["adm", "-R"], lines));
        let differs = run(UVS, &["mirror", "--diff"]);
        assert_eq!(differs.status.code(), Some(1));
        let planned = String::from_utf8(differs.stdout).unwrap();
        assert_eq!(planned.lines().count(), 4, "{planned}");
        assert_eq!(printed(UVS, "mirror --to-kernel --dry-run"), planned);
        assert_eq!(printed("ipvsadm", "-S -n"), "", "neither changes anything");

        let refused = run(UVS, &["mirror", "--to-kernel"]);
        assert_eq!(refused.status.code(), Some(1));
        let (done, left) = (String::from_utf8(refused.stdout), String::from_utf8(refused.stderr));
        assert_eq!(
            done.unwrap(),
            "-A -u 10.0.0.1:53 -s rr\n-a -u 10.0.0.1:53 -r 10.0.1.1:53 -g -w 1\n"
        );
        assert_eq!(
            left.unwrap(),
            "uvs: 2 changes were made, 1 refused, 1 not tried for that; run it again once this is \
             mended:\n  refused: -A -t 10.0.0.1:80 -s twos: Scheduler or persistence engine not \
             found\n  not tried: -a -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 1\n"
        );

        printed(UVS, "adm -E -t 10.0.0.1:80 -s wlc");
        printed(UVS, "mirror --to-kernel");
        assert_eq!(kernels(), ours());

        // The other way, where a service's own timeouts are not the kernel's to take away.
        printed(UVS, "adm -E -t 10.0.0.1:80 -s wlc --conn-timeout 30,0,5");
        assert_eq!(printed(UVS, "mirror --diff"), "");
        printed("ipvsadm", "-E -t 10.0.0.1:80 -s lc");
        printed("ipvsadm", "--set 100 20 30");
        printed(UVS, "mirror --from-kernel");
        let saved = printed(UVS, "adm -S -n");
        assert!(saved.contains("-A -t 10.0.0.1:80 -s lc --conn-timeout 30,0,5\n"), "{saved}");
        assert!(printed(UVS, "adm -L --timeout").ends_with("100 20 30\n"));
    });
}

#[test]
fn a_follower_carries_changes_until_it_is_interrupted() {
    inside("a_follower_carries_changes_until_it_is_interrupted", 120, || {
        let engine = idle_engine();
        let mut follower = std::process::Command::new(UVS);
        follower.args(["mirror", "--from-kernel", "--follow", "--interval", "0.05"]);
        follower.env("UVS_SOCKET", uml::socket());
        let mut follower = uvs_lab::Guard::spawn(&mut follower).unwrap();
        printed("ipvsadm", "-A -t 10.0.0.1:80 -s rr");
        eventually("the service does not come", || printed(UVS, "adm -S -n").contains("-s rr"));
        // An engine that goes away and comes back.
        engine.stop(std::time::Duration::from_secs(20)).unwrap();
        printed("ip", "link delete uvs0");
        printed("ipvsadm", "-a -t 10.0.0.1:80 -r 10.0.1.1:80");
        let _engine = idle_engine();
        eventually("the server does not come", || printed(UVS, "adm -S -n").contains("10.0.1.1"));
        follower.signal(uvs_lab::Signal::INT).unwrap();
        eventually("it does not end", || follower.ended().is_some());
        assert_eq!(follower.ended().unwrap().code(), Some(0));
    });
}

/// Outside: most hosts that tests run on have no IPVS; then the kernel is at fault, not the engine.
#[test]
fn without_ipvs_or_an_engine_there_is_one_sentence() {
    let output = run(UVS, &["mirror", "--diff"]);
    assert_eq!(output.status.code(), Some(2), "1 is for a difference");
    let said = String::from_utf8(output.stderr).unwrap();
    let has = std::path::Path::new("/proc/sys/net/ipv4/vs").exists();
    let expected = if has { "uvs: no engine answers on " } else { "uvs: the kernel has no IPVS; " };
    assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
}
