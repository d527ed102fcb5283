//! `ping` and `traceroute` to the VIP, by the real programs: the host answers as ever, and on the
//! way to a service the director is a hop that answers as the VIP.

mod lab;

use std::net::IpAddr;

use lab::{Lab, PORTS};
use uvs_lab::{Arms, ECHO_PORT, HTTP_PORT, Host, Method};

fn run(lab: &Lab, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    lab.network.run_in(Host::Client, words[0], &words[1..]).unwrap()
}

/// Who answered at each hop.
fn hops(lab: &Lab, vip: IpAddr, how: &str) -> Vec<String> {
    let text = run(lab, &format!("traceroute -n -q 1 -w 5 -m 5 {how} {vip}"));
    let hops = text.lines().skip(1);
    hops.map(|hop| hop.split_whitespace().nth(1).unwrap_or("").to_owned()).collect()
}

/// The host's own answers are one hop away, a service's server is two; each says to be the VIP.
fn the_vip_is_reached(arms: Arms, method: Method) {
    let Some(lab) = Lab::of_both_families(arms, method) else { return };
    for port in PORTS {
        let engine = lab.engine(port);
        let mut answers = 0;
        for vip in [lab.network.vip().into(), lab.network.vip_v6().into()] {
            let pinged = run(&lab, &format!("ping -n -c 3 -i 0.2 -W 5 {vip}"));
            assert!(pinged.contains(" 3 received, 0% packet loss"), "{pinged}");
            for how in ["-I", "-U -p 33434"] {
                assert_eq!(hops(&lab, vip, how), [vip.to_string()], "{how} over {port}");
            }
            assert_eq!(engine.counters().unwrap().originated, answers, "the host answered");
            for how in [format!("-T -p {HTTP_PORT}"), format!("-U -p {ECHO_PORT}")] {
                let vip_twice = [vip.to_string(), vip.to_string()];
                assert_eq!(hops(&lab, vip, &how), vip_twice, "{how} over {port}");
            }
            let counters = engine.counters().unwrap();
            answers += 2;
            assert_eq!(counters.originated, answers, "the director was a hop: {counters:?}");
            assert_eq!(counters.drops, [("ttl_exceeded".to_owned(), answers)].into());
            assert!(counters.balanced(), "{counters:?}");
        }
        engine.stop().unwrap();
    }
}

#[test]
fn through_dr() {
    the_vip_is_reached(Arms::One, Method::Route);
}

#[test]
fn through_nat() {
    the_vip_is_reached(Arms::Two, Method::Masq);
}

#[test]
fn through_tun() {
    the_vip_is_reached(Arms::Two, Method::Tunnel);
}
