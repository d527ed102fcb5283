//! What is compared when nobody says what: each scheduler with each way to a server.

use std::fmt::Write as _;

/// Those whose picks are a function of what came before; twos draws its servers at random.
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "fo", "ovf", "mh"];

const METHODS: [&str; 5] = [
    "-g",
    "-m",
    "-i --tun-type ipip",
    "-i --tun-type gre --tun-csum",
    "-i --tun-type gue --tun-port 6080 --tun-csum",
];

/// Flags of the schedulers that have some, beside none.
const FLAGS: [(&str, &str); 2] =
    [("sh", "-b sh-port,sh-fallback"), ("mh", "-b mh-port,mh-fallback")];

/// The first port of the services.
const FIRST_PORT: u16 = 1001;

/// The services, as a file of rules: TCP for all, UDP and SCTP, persistence, and IPv6 for some.
pub fn rules() -> String {
    let mut text = String::new();
    let mut port = FIRST_PORT;
    let mut add = |kind: &str, six: bool, options: &str, method: &str| {
        let (vip, net) = if six { ("[fd00::1]", "[fd00:2::") } else { ("10.0.0.1", "10.0.1.") };
        let close = if six { "]" } else { "" };
        let _ = writeln!(text, "-A {kind} {vip}:{port} -s {options}");
        for server in 1..=4 {
            let to = if method == "-m" { port + 1000 } else { port };
            let end = format!("{net}{server}{close}:{to}");
            let _ = writeln!(text, "-a {kind} {vip}:{port} -r {end} {method} -w {server}");
        }
        port += 1;
    };
    for method in METHODS {
        SCHEDULERS.iter().for_each(|scheduler| add("-t", false, scheduler, method));
        for (scheduler, flags) in FLAGS {
            add("-t", false, &format!("{scheduler} {flags}"), method);
        }
        for kind in ["-u", "--sctp-service"] {
            add(kind, false, "wlc", method);
        }
        add("-u", false, "rr -o", method);
        add("-t", false, "wrr -p 300 -M 255.255.255.0", method);
        for kind in ["-t", "-u"] {
            add(kind, true, "wrr", method);
        }
    }
    text
}
