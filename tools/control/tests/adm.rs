//! uvsadm against an engine: what it does by each of its names, and what it has besides ipvsadm.

mod engine;

use engine::{Engine, Said};
use proptest::prelude::*;
use uvs_control::adm::{Invocation, Program};
use uvs_control::client::Client;
use uvs_uvsadm::api::{Conn, Service, Timeouts};
use uvs_uvsadm::names::Numeric;

const RULES: &str = "\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1
-A -u 10.0.0.1:53 -s wlc -o
";

#[test]
fn ipvsadms_scripts_save_and_restore() {
    let engine = Engine::start("scripts");
    engine.restore(&format!("# web\n{RULES}"));
    assert_eq!(engine.does("ipvsadm-save -n"), RULES);
    assert_eq!(engine.does("/sbin/ipvsadm-save"), RULES);
    engine.restore("-A -f 7 -s rr\n");
    assert_eq!(engine.does("ipvsadm -Sn"), "-A -f 7 -s rr\n", "what was there before is gone");
    let said = engine.run("/sbin/ipvsadm-save --help", "");
    let usage = "ipvsadm-save: Script to save the IPVS table to stdout.\n   \
                 With the -n option, prints out the table in numeric format.\n";
    assert_eq!(said, Said { code: 1, out: String::new(), err: usage.into() });
}

/// A line that the engine refuses does not end it, one that cannot be read does; the last one's
/// exit code counts.
#[test]
fn restore_goes_on_and_ends_as_ipvsadms() {
    let engine = Engine::start("restore");
    engine.restore(RULES);
    let twice = "-A -t 10.0.0.1:80 -s rr\n\n  \n-A -t 10.0.0.9:80 -s rr\n";
    let said = engine.run("ipvsadm -R", twice);
    assert_eq!((said.code, said.err.as_str()), (0, "Service already exists\n"));
    let said = engine.run("uvsadm -R", &format!("{twice}-D -t 10.9.9.9:1\n"));
    let err =
        "line 1: Service already exists\nline 4: Service already exists\nline 5: No such service\n";
    assert_eq!((said.code, said.err.as_str()), (255, err));
    let wrong = "-A -t 10.0.0.10:80\n-A -t nonsense\n-A -t 10.0.0.11:80\n";
    let said = engine.run("ipvsadm -R", wrong);
    assert_eq!(
        (said.code, said.err.as_str()),
        (2, "illegal virtual server address[:port] specified\n")
    );
    let said = engine.run("uvsadm -R", wrong);
    let err = "line 1: Service already exists\n\
               line 2, column 7: illegal virtual server address[:port] specified\n";
    assert_eq!((said.code, said.err.as_str()), (2, err));
    let saved = engine.does("ipvsadm -Sn");
    assert!(saved.contains("10.0.0.10:80") && !saved.contains("10.0.0.11:80"), "{saved}");
    // What it is asked in between sees what was done before.
    let listed = engine.run("ipvsadm -R", "-C\n-A -f 5 -s rr\n-S -n\n-A -f 6 -s rr\n-C -n\n-C");
    assert_eq!(listed.out, "-A -f 5 -s rr\n");
    assert_eq!(
        (listed.code, listed.err.as_str()),
        (2, "Illegal 'numeric' option with the 'flush' command\n")
    );
    assert_eq!(engine.does("ipvsadm -Sn"), "-A -f 5 -s rr\n-A -f 6 -s rr\n");
    let said = engine.run("/sbin/ipvsadm -R", "-A -f 8\n-R\n");
    let err = "Try `/sbin/ipvsadm -h' or '/sbin/ipvsadm --help' for more information.\n";
    assert_eq!((said.code, said.err.as_str()), (255, err));
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let engine = Engine::start("dry-run");
    engine.restore(RULES);
    let plan = |line: &str, input: &str| engine.run(line, input);
    let edit = plan("uvsadm -e -t 10.0.0.1:80 -r 10.0.1.1 -w 0 -x 9 --dry-run", "");
    let line = "~ -e -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 0 -x 9\n0 added, 1 changed, 0 removed\n";
    assert_eq!((edit.code, edit.out.as_str()), (0, line));
    let clear = plan("uvsadm --dry-run -C", "");
    assert_eq!(clear.code, 255, "a command comes first: {}", clear.err);
    let clear = plan("uvsadm -C --dry-run", "");
    assert_eq!(
        clear.out,
        "- -D -t 10.0.0.1:80\n- -D -u 10.0.0.1:53\n0 added, 0 changed, 2 removed\n"
    );
    let refused = plan("uvsadm -A -t 10.0.0.1:80 --dry-run", "");
    assert_eq!(
        (refused.code, refused.out.as_str(), refused.err.as_str()),
        (255, "", "Service already exists\n")
    );
    let same = plan("uvsadm -E -t 10.0.0.1:80 -s rr --dry-run", "");
    assert_eq!(same.out, "0 added, 0 changed, 0 removed\n");
    // A file as a whole: what it does in the end, whatever way it goes.
    let file = "-C\n-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.1.2 -g\n-d -f 1 -r 10.0.0.1\n--set 5 0 0\n";
    let whole = plan("uvsadm -R --dry-run", file);
    let lines = "- -d -t 10.0.0.1:80 -r 10.0.1.1:80\n- -D -u 10.0.0.1:53\n~ --set 5 0 0\n\
                 0 added, 1 changed, 2 removed\n";
    assert_eq!((whole.code, whole.out.as_str()), (0, lines));
    assert_eq!(whole.err, "line 4: Service not defined\n");
    assert_eq!(engine.does("ipvsadm -Sn"), RULES);
    assert_eq!(engine.does("ipvsadm -L --timeout"), "Timeout (tcp tcpfin udp): 900 120 300\n");
}

#[test]
fn every_listing_is_json_too() {
    let engine = Engine::start("json");
    engine.restore(RULES);
    let listed = |line: &str| engine.does(line);
    for form in ["", "--stats", "--rate", "--thresholds", "--persistent-conn", "--tun-info"] {
        let services: Vec<Service> =
            serde_json::from_str(&listed(&format!("uvsadm -L --json {form}"))).unwrap();
        assert_eq!(services, {
            let mut all = engine.client.services().unwrap();
            all.sort_by_key(|service| service.config.key.protocol());
            all
        });
    }
    let one: Vec<Service> =
        serde_json::from_str(&listed("uvsadm -L -t 10.0.0.1:80 --json")).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(engine.run("uvsadm -L -t 10.0.0.1:81 --json", "").code, 1);
    let timeouts: Timeouts = serde_json::from_str(&listed("uvsadm -L --timeout --json")).unwrap();
    assert_eq!(timeouts, Timeouts { tcp: 900, tcp_fin: 120, udp: 300 });
    assert_eq!(listed("uvsadm -L -c --json"), "[]\n");
    assert_eq!(listed("uvsadm -L --daemon --json"), "[]\n");
    assert_eq!(listed("uvsadm -L --daemon"), "");
}

#[test]
fn connections_are_json_too() {
    use uvs_engine::clock::Ticks;
    use uvs_engine::table::{NewConn, Table};
    let (table, mut owners) = Table::new(64, 1, Ticks(0)).unwrap();
    let engine = Engine::over(&table, "json-connections");
    for cport in 1..=3 {
        let new = NewConn {
            proto: 6,
            caddr: [172, 16, 0, 1].into(),
            cport,
            vaddr: [10, 0, 0, 1].into(),
            vport: 80,
            daddr: [10, 0, 1, 1].into(),
            dport: 80,
            dest: 0,
            mark: 0,
            flags: 0,
            state: 1,
            timeout: Ticks::from_secs(900),
            control: None,
            extra: None,
        };
        owners[0].insert(table.hash_of(&new.in_key()), &new, Ticks(0)).unwrap();
        let text = engine.does("uvsadm -L -c --json");
        let conns: Vec<Conn> = serde_json::from_str(&text).unwrap();
        assert_eq!(conns.len(), usize::from(cport), "{text}");
    }
}

#[test]
fn help_is_ipvsadms_by_its_name_and_more_by_ours() {
    let engine = Engine::start("help");
    let ipvsadms = engine.does("ipvsadm -h");
    let ours = engine.does("uvsadm -h");
    assert!(!ipvsadms.contains("--json") && ipvsadms.contains("\n  ipvsadm -A|E virtual-service"));
    let (same, more) = ours.split_at(ipvsadms.replace("  ipvsadm ", "  uvsadm ").len());
    assert_eq!(same, ipvsadms.replace("  ipvsadm ", "  uvsadm "));
    assert!(more.starts_with("Options of uvs's own:\n") && more.contains("--dry-run"), "{more}");
}

/// Without an engine: one sentence, and the exit code that ipvsadm has without IPVS; what needs no
/// engine is done.
#[test]
fn without_an_engine() {
    let run = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let program = Program::called(&words.next().unwrap()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut invocation = Invocation {
            program: &program,
            client: &Client::new("/nowhere/uvs.sock".as_ref()),
            names: &Numeric,
            input: &mut "-C\n".as_bytes(),
            out: &mut out,
            err: &mut err,
            colour: false,
        };
        let code = invocation.run(&words.collect::<Vec<_>>());
        (code, String::from_utf8(err).unwrap())
    };
    for line in [
        "ipvsadm -L",
        "uvsadm -C",
        "uvsadm -L -c",
        "uvsadm -L --daemon",
        "ipvsadm -R",
        "ipvsadm-save",
    ] {
        let (code, err) = run(line);
        assert_eq!((code, err.lines().count()), (2, 1), "{line}: {err}");
        assert!(err.starts_with("Can't initialize ipvs: no engine answers on /nowhere"), "{err}");
    }
    assert_eq!(run("ipvsadm -v"), (0, String::new()));
    assert_eq!(run("ipvsadm -A").0, 2);
}

/// An address of either family, a port, and what belongs to a service.
fn service() -> impl Strategy<Value = String> {
    let end = prop_oneof![
        (0..4u8).prop_map(|n| format!("10.0.0.{n}")),
        (0..4u8).prop_map(|n| format!("[fd00::{n}]")),
    ];
    let key = prop_oneof![
        (prop::sample::select(vec!["-t", "-u", "--sctp-service"]), end, 1..4u16)
            .prop_map(|(protocol, end, port)| format!("{protocol} {end}:{port}")),
        (1..5u32, any::<bool>())
            .prop_map(|(mark, v6)| format!("-f {mark}{}", if v6 { " -6" } else { "" })),
    ];
    let scheduler = prop::sample::select(vec![
        "rr",
        "wrr",
        "wlc",
        "sh -b sh-port",
        "mh -b mh-fallback,mh-port",
        "fo",
        "lblc -b flag-2",
    ]);
    let persistence = prop_oneof![
        Just(""),
        Just(" -p"),
        Just(" -p 50"),
        Just(" -p 7 -M 64"),
        Just(" -p 9 -M 255.255.0.0"),
    ];
    let more = prop_oneof![
        Just(""),
        Just(" -o"),
        Just(" --pe sip"),
        Just(" --conn-timeout 5,0,7"),
        Just(" --mss-clamp pmtu")
    ];
    (key, scheduler, persistence, more).prop_map(|(key, scheduler, persistence, more)| {
        format!("-A {key} -s {scheduler}{persistence}{more}")
    })
}

fn server() -> impl Strategy<Value = (usize, String)> {
    let address = prop_oneof![
        (1..6u8).prop_map(|n| format!("10.0.1.{n}")),
        (1..6u8).prop_map(|n| format!("[fd00:2::{n}]")),
    ];
    let method = prop::sample::select(vec![
        "-g",
        "-m",
        "-i",
        "-i --tun-type gue --tun-port 6080 --tun-csum",
        "-i --tun-type gre --tun-csum",
    ]);
    (0..20usize, address, 0..3u16, method, 0..9u32).prop_map(
        |(service, address, port, method, weight)| {
            (service, format!("-r {address}:{port} {method} -w {weight}"))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Whatever of random lines is taken: what is saved, restored and saved again is the same.
    #[test]
    fn what_is_saved_and_restored_loses_nothing(
        services in prop::collection::vec(service(), 1..12),
        servers in prop::collection::vec(server(), 0..40),
    ) {
        use std::sync::OnceLock;
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| Engine::start("property"));
        engine.does("ipvsadm -C");
        // One by one: a line that ipvsadm's grammar refuses would end the file.
        for line in &services {
            engine.run(&format!("uvsadm {line}"), "");
        }
        for (service, server) in &servers {
            let service = &services[service % services.len()];
            let key = service[3..].split(" -s ").next().unwrap();
            engine.run(&format!("uvsadm -a {key} {server}"), "");
        }
        let saved = engine.does("ipvsadm-save -n");
        let config = engine.client.config().unwrap().services;
        engine.restore(&saved);
        prop_assert_eq!(engine.does("ipvsadm-save -n"), saved);
        // But for the order of servers, which ipvsadm sorts.
        let sorted = |mut config: Vec<uvs_uvsadm::api::Target>| {
            config.iter_mut().for_each(|target| target.dests.sort_by_key(|dest| dest.endpoint()));
            config
        };
        prop_assert_eq!(sorted(engine.client.config().unwrap().services), sorted(config));
    }
}
