//! The API over its socket: versions, whole configurations, bad input.

mod engine;

use std::time::Instant;

use engine::Engine;
use uvs_control::client::ClientError;
use uvs_uvsadm::api::{
    Change, Config, DestConfig, Protocol, ServiceConfig, ServiceKey, Target, Timeouts,
};

fn target(port: u16, servers: u8) -> Target {
    let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], port);
    let dests = (1..=servers).map(|n| DestConfig::new([10, 0, 1, n], port)).collect();
    Target { service: ServiceConfig::new(key, "rr"), dests }
}

fn config(version: Option<u64>, services: Vec<Target>) -> Config {
    Config { version, services, ..Config::default() }
}

#[test]
fn a_configuration_is_replaced_as_one_and_by_its_version() {
    let engine = Engine::start("replace");
    let client = &engine.client;
    let first = client.config().unwrap().version.unwrap();
    let outcome = client.replace(&config(None, vec![target(80, 2), target(81, 1)])).unwrap();
    assert_eq!((outcome.version, outcome.changes.len()), (first + 1, 5));
    // Only what differs; what is told is what is done.
    let wanted = config(Some(first + 1), vec![target(80, 3)]);
    let outcome = client.replace(&wanted).unwrap();
    let gone = Change::DelService { service: target(81, 0).service.key };
    let dest = *target(80, 3).dests.last().unwrap();
    let new = Change::AddDest { service: target(80, 0).service.key, dest };
    assert_eq!(outcome.changes, [new, gone]);
    let again = client.replace(&wanted).unwrap_err();
    assert!(again.to_string().contains("of version 3 by now, not 2"), "{again}");
    let now = client.config().unwrap();
    assert_eq!((now.version, &now.services), (Some(3), &vec![target(80, 3)]));
    // What it says of itself is itself.
    let same = client.replace(&now).unwrap();
    assert_eq!((same.version, same.changes), (3, vec![]));
}

#[test]
fn a_refused_part_refuses_the_whole() {
    let engine = Engine::start("refuse");
    engine.client.replace(&config(None, vec![target(80, 2)])).unwrap();
    let before = engine.client.config().unwrap();
    let mut bad = target(82, 1);
    bad.service.scheduler = "nosuch".into();
    let mut twice = target(83, 1);
    twice.dests.push(twice.dests[0]);
    let settings = [("drop_entry".to_owned(), 9)].into();
    for (wanted, reason) in [
        (config(None, vec![target(81, 1), bad]), "Scheduler or persistence engine not found"),
        (config(None, vec![twice]), "Destination already exists"),
        (
            config(None, vec![target(84, 1), target(84, 2)]),
            "the service TCP 10.0.0.1:84 stands twice",
        ),
        (Config { settings, ..config(None, vec![]) }, "drop_entry is 9; it may be 0 to 3"),
    ] {
        let error = engine.client.replace(&wanted).unwrap_err();
        assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
        assert_eq!(error.to_string(), reason);
        assert_eq!(engine.client.config().unwrap(), before);
    }
}

#[test]
fn timeouts_and_settings_are_part_of_it() {
    let engine = Engine::start("settings");
    let timeouts = Timeouts { tcp: 60, ..Timeouts::default() };
    let settings = [("sloppy_tcp".to_owned(), 1)].into();
    let wanted = Config { timeouts, settings, ..Config::default() };
    let outcome = engine.client.replace(&wanted).unwrap();
    assert_eq!(outcome.changes.len(), 2);
    let now = engine.client.config().unwrap();
    assert_eq!(now.timeouts, Timeouts { tcp: 60, tcp_fin: 120, udp: 300 });
    assert_eq!(now.settings["sloppy_tcp"], 1);
    assert_eq!(engine.client.replace(&wanted).unwrap().changes, []);
}

#[test]
fn versions_stand_in_the_headers_too() {
    let engine = Engine::start("headers");
    let body = serde_json::to_vec(&config(None, vec![target(80, 1)])).unwrap();
    let put = |tag: &str| engine.ask(&format!("PUT /v1/config HTTP/1.1\r\nif-match: {tag}"), &body);
    assert_eq!(put("\"7\"").0, 412);
    assert_eq!(put("seven").0, 400);
    assert_eq!(put("\"1\"").0, 200);
    assert_eq!(put("*").0, 200);
    let mut other = config(None, vec![]);
    other.version = Some(1);
    let stale = engine.ask("PUT /v1/config HTTP/1.1", &serde_json::to_vec(&other).unwrap());
    assert_eq!(stale.0, 412, "{}", stale.1);
    let trial = engine.ask("PUT /v1/config?dry_run=true HTTP/1.1", b"{\"services\": []}");
    assert!(trial.0 == 200 && trial.1.contains("del-service"), "{trial:?}");
    assert_eq!(engine.client.services().unwrap().len(), 1);
}

#[test]
fn who_watches_is_told_of_the_next_change() {
    let engine = Engine::start("watch");
    let version = engine.client.config().unwrap().version.unwrap();
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| engine.client.watch(version).unwrap());
        let change = Change::AddService { service: target(80, 0).service };
        let made = engine.client.change(&[change]).unwrap().version;
        assert_eq!(watch.join().unwrap(), made);
        assert_eq!(made, version + 1);
    });
    // Who is behind already is told at once.
    assert_eq!(engine.client.watch(version).unwrap(), version + 1);
    assert_eq!(engine.client.watch(99).unwrap(), version + 1);
}

#[test]
fn a_body_of_another_shape_is_told_by_its_field() {
    let engine = Engine::start("shape");
    let ask = |head: &str, body: &str| engine.ask(&format!("{head} HTTP/1.1"), body.as_bytes());
    let (status, text) = ask("POST /v1/changes", r#"[{"change": "flush"}, {"change": "jump"}]"#);
    assert_eq!(status, 422);
    assert!(text.starts_with("`[1]") && text.contains("unknown variant `jump`"), "{text}");
    let service =
        r#"{"service": {"key": {"fwmark": 5}, "scheduler": "rr"}, "dests": [{"address": 5}]}"#;
    let (status, text) = ask("PUT /v1/config", &format!("{{\"services\": [{service}]}}"));
    assert_eq!(status, 422);
    assert!(text.contains("services[0].dests[0].address"), "{text}");
    assert_eq!(ask("POST /v1/changes", "").0, 422);
    assert_eq!(ask("POST /v1/changes?mode=maybe", "[]").0, 400);
    assert_eq!(ask("GET /v1/watch", "").0, 400);
    assert_eq!(ask("GET /v1/nothing", "").0, 404);
    assert_eq!(ask("DELETE /v1/config", "").0, 405);
    assert_eq!(engine.client.services().unwrap(), []);
}

#[test]
fn a_request_of_100_mb_is_refused_with_a_sentence() {
    let engine = Engine::start("large");
    let (status, text) = engine.ask("PUT /v1/config HTTP/1.1", &vec![b' '; 100 << 20]);
    assert_eq!(status, 413);
    assert!(text.starts_with("the request is larger than 64 MB"), "{text}");
    assert_eq!(engine.client.services().unwrap(), [], "it goes on");
}

/// Many services, each with servers.
fn large(services: u16) -> Vec<Target> {
    (1..=services).map(|port| target(port, 5)).collect()
}

/// The least of three: what is compared is work, not what else the machine does.
fn least(mut work: impl FnMut()) -> f64 {
    let one = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_secs_f64()
    };
    (0..3).map(one).fold(f64::INFINITY, f64::min)
}

/// Eight times the services take about eight times the time, not sixty-four, and so do listings;
/// lines of a file are made together, not one after another.
#[test]
fn time_grows_with_the_configuration_and_no_faster() {
    let engine = Engine::start("scale");
    let mut spent = [250, 2000].map(|services| {
        let wanted = config(None, large(services));
        let apply = least(|| {
            engine.client.replace(&config(None, vec![])).unwrap();
            engine.client.replace(&wanted).unwrap();
        });
        let list = least(|| drop(engine.does("ipvsadm -Ln")));
        let saved = engine.does("ipvsadm -Sn");
        let restore = least(|| engine.restore(&saved));
        [apply, list, restore]
    });
    let [small, large] = &mut spent;
    for (small, large) in small.iter().zip(large.iter()) {
        assert!(large / small < 24.0, "{spent:?}");
    }
}
