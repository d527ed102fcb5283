//! Changes while traffic runs: by `uvs adm` and by SIGHUP. What a change does not name goes on.

mod lab;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use lab::{Conversations, Lab, PORTS, eventually};
use uvs_control::api::Counters;
use uvs_lab::{Arms, Director, HTTP_PORT, Method, Signal, Tally};

/// Long-lived connections, a third of them to each server.
const CONVERSATIONS: usize = 24;

/// Lets every conversation that `goes_on` have some more answers.
fn go_on(conversations: &Conversations, goes_on: &[usize]) {
    let before = conversations.answers();
    eventually("a conversation stands still", || {
        let now = conversations.answers();
        goes_on.iter().all(|&at| now[at] >= before[at] + 5)
    });
}

/// New connections, by curl, all of them right.
fn ask(lab: &Lab, requests: u64) -> Tally {
    let tally = lab.load().curl(lab.network.service(HTTP_PORT), requests).unwrap();
    assert!(tally.is_clean(), "{tally:?}");
    tally
}

fn names(tally: &Tally) -> Vec<&str> {
    tally.answers.keys().map(String::as_str).collect()
}

/// The numbers of the conversations with server `n`, by the engine's own table.
fn with_server(
    lab: &Lab,
    engine: &Director,
    conversations: &Conversations,
    n: usize,
) -> Vec<usize> {
    let servers = connections(engine);
    let rip = lab.network.rip(n).to_string();
    let clients = conversations.clients();
    let with = |client: &SocketAddr| servers[client].starts_with(&rip);
    clients.iter().enumerate().filter(|(_, client)| with(client)).map(|(at, _)| at).collect()
}

/// Each connection's server, by the client's end.
fn connections(engine: &Director) -> BTreeMap<SocketAddr, String> {
    let list = engine.client().connections().unwrap();
    let count = list.len();
    let server = |conn: &uvs_uvsadm::api::Conn| {
        let client = SocketAddr::new(conn.client.address, conn.client.port);
        (client, format!("{}:{}", conn.dest.address, conn.dest.port))
    };
    let servers: BTreeMap<_, _> = list.iter().map(server).collect();
    assert_eq!(servers.len(), count, "a connection is listed twice");
    servers
}

/// All had right answers to the end, from the server that they began with.
fn assert_none_broke(conversations: Conversations, before: &BTreeMap<SocketAddr, String>) {
    for ended in conversations.end() {
        assert_eq!(ended.broken, None, "{ended:?}");
        assert!(ended.answers > 10, "{ended:?}");
        assert!(before.contains_key(&ended.client));
    }
}

/// A removed server's connections got nothing, and all else came through.
fn assert_only_removed_dropped(counters: &Counters) {
    assert!(counters.balanced(), "{counters:?}");
    let reasons: Vec<&String> = counters.drops.keys().collect();
    assert_eq!(reasons, ["dest_unavailable"], "{counters:?}");
}

fn by_adm(arms: Arms, method: Method, port: &str) {
    let Some(lab) = Lab::up(arms, method) else { return };
    let engine = lab.engine(port);
    let conversations = lab.converse(CONVERSATIONS);
    let all: Vec<usize> = (0..CONVERSATIONS).collect();
    let before = connections(&engine);
    let third = with_server(&lab, &engine, &conversations, 3);
    let others: Vec<usize> = all.iter().copied().filter(|at| !third.contains(at)).collect();
    assert_eq!(third.len(), CONVERSATIONS / 3);
    go_on(&conversations, &all);

    let service = format!("-t {}:{HTTP_PORT}", lab.network.vip());
    let target = if method == Method::Masq { 8080 } else { HTTP_PORT };
    let option = if method == Method::Masq { "-m" } else { "-g" };
    let server = |n| format!("-r {}:{target}", lab.network.rip(n));

    // Without weight a server gets no new connections and keeps those it has.
    lab.adm(&format!("-e {service} {} {option} -w 0", server(2)));
    assert_eq!(names(&ask(&lab, 40)), ["server 1", "server 3"]);
    go_on(&conversations, &all);
    lab.adm(&format!("-e {service} {} {option} -w 1", server(2)));
    assert_eq!(names(&ask(&lab, 60)), ["server 1", "server 2", "server 3"]);

    // Removed, a server gets nothing; the others go on. It comes back to its connections.
    lab.adm(&format!("-d {service} {}", server(3)));
    assert_eq!(names(&ask(&lab, 40)), ["server 1", "server 2"]);
    go_on(&conversations, &others);
    lab.adm(&format!("-a {service} {} {option} -w 1", server(3)));
    assert_eq!(names(&ask(&lab, 60)), ["server 1", "server 2", "server 3"]);
    go_on(&conversations, &all);

    let after = connections(&engine);
    assert!(before.iter().all(|(client, server)| after[client] == *server), "a server changed");
    assert_none_broke(conversations, &before);
    assert_only_removed_dropped(&engine.counters().unwrap());
    engine.stop().unwrap();
}

#[test]
fn adm_changes_break_no_connection_of_the_others_in_dr_over_afxdp() {
    by_adm(Arms::One, Method::Route, "afxdp");
}

#[test]
fn adm_changes_break_no_connection_of_the_others_in_nat_over_raw() {
    by_adm(Arms::Two, Method::Masq, "raw");
}

/// Has the file of services read again, and waits for what the engine says about it.
fn hang_up(engine: &mut Director, rules: &str) -> String {
    let said = engine.log().len();
    fs::write(engine.rules(), rules).unwrap();
    engine.process().signal(Signal::HUP).unwrap();
    eventually("SIGHUP was not answered", || engine.log()[said..].ends_with('\n'));
    engine.log()[said..].to_owned()
}

#[test]
fn sighup_applies_the_difference_and_breaks_no_connection() {
    let Some(lab) = Lab::up(Arms::Two, Method::Masq) else { return };
    for port in PORTS {
        let mut engine = lab.engine(port);
        let conversations = lab.converse(CONVERSATIONS);
        let all: Vec<usize> = (0..CONVERSATIONS).collect();
        let third = with_server(&lab, &engine, &conversations, 3);
        let others: Vec<usize> = all.iter().copied().filter(|at| !third.contains(at)).collect();
        let before = connections(&engine);
        go_on(&conversations, &all);
        let rules = fs::read_to_string(engine.rules()).unwrap();
        let counted = stats(&engine);

        assert!(hang_up(&mut engine, &rules).contains("nothing has changed"));
        // In HTTP, server 2 gets another weight and server 3 goes; nothing else changes.
        let rip = |n| lab.network.rip(n).to_string();
        let changed: Vec<String> = rules
            .lines()
            .filter(|line| !(line.contains(&rip(3)) && line.contains("8080")))
            .map(|line| match line.contains(&rip(2)) && line.contains("8080") {
                true => line.replace("-w 1", "-w 0"),
                false => line.to_owned(),
            })
            .collect();
        let said = hang_up(&mut engine, &(changed.join("\n") + "\n"));
        assert!(said.contains("2 changes applied"), "{said}");
        assert_eq!(names(&ask(&lab, 40)), ["server 1"]);
        go_on(&conversations, &others);
        let said = hang_up(&mut engine, &rules);
        assert!(said.contains("2 changes applied"), "{said}");
        assert_eq!(names(&ask(&lab, 60)), ["server 1", "server 2", "server 3"]);
        go_on(&conversations, &all);

        let after = stats(&engine);
        assert!(counted.iter().all(|(dest, conns)| after[dest] >= *conns), "counters began anew");
        let now = connections(&engine);
        assert!(before.iter().all(|(client, server)| now[client] == *server), "a server changed");
        assert_none_broke(conversations, &before);
        assert_only_removed_dropped(&engine.counters().unwrap());
        engine.stop().unwrap();
    }
}

/// How many connections each server of each service has had.
fn stats(engine: &Director) -> BTreeMap<String, u64> {
    let services = lab::settled(engine, |stats| stats.conns);
    let dests = services.iter().flat_map(|service| {
        let key = service.config.key;
        let name =
            move |dest: &uvs_uvsadm::api::Dest| format!("{key:?} {:?}", dest.config.endpoint());
        service.dests.iter().map(move |dest| (name(dest), dest.stats.conns))
    });
    dests.collect()
}

#[test]
fn sighup_with_a_wrong_file_applies_nothing_and_says_where() {
    let Some(lab) = Lab::up(Arms::One, Method::Route) else { return };
    let mut engine = lab.engine("raw");
    let conversations = lab.converse(CONVERSATIONS);
    let all: Vec<usize> = (0..CONVERSATIONS).collect();
    let rules = fs::read_to_string(engine.rules()).unwrap();
    let listed = lab.adm("-S -n");
    let vip = lab.network.vip();
    // Each begins with changes that would be right.
    let right = format!("-A -t {vip}:8081 -s rr\n");
    let wrong = [
        (format!("-a -t {vip}:8081 -r 10.77.1.1:80 -w many\n"), "line 2, column 41"),
        (format!("-a -t {vip}:8081 -r nowhere:80\n"), "line 2, column 25"),
        (format!("-a -t {vip}:9999 -r 10.77.1.1:80\n"), "line 2: Service not defined"),
        (right.clone(), "line 2: Service already exists"),
    ];
    for (line, place) in wrong {
        let said = hang_up(&mut engine, &format!("{right}{line}{rules}"));
        assert!(said.contains("nothing applied"), "{said}");
        assert!(said.contains(place), "not {place:?} in {said:?} for {line:?}");
        assert!(said.contains("services.rules, line") && said.lines().count() == 1, "{said}");
        assert_eq!(lab.adm("-S -n"), listed);
    }
    go_on(&conversations, &all);
    assert!(hang_up(&mut engine, &rules).contains("nothing has changed"));
    assert!(conversations.end().iter().all(|ended| ended.broken.is_none()));
    lab::assert_nothing_dropped(&engine.counters().unwrap());
    engine.stop().unwrap();
}
