//! Arguments and files that nobody would write on purpose.

use proptest::prelude::*;
use uvs_uvsadm::api::{Change, DestConfig, Method, Protocol, ServiceConfig, ServiceKey};
use uvs_uvsadm::api::{Dest, Rates, Service, Stats};
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::{parse_rules, parse_with, save};

/// Arguments that look like the grammar's, so that a line comes far.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        "-[A-Za-z0-9]{1,3}",
        "--?[a-z-]{0,12}=?[a-z0-9]{0,3}",
        "-?[0-9x.:\\[\\]]{0,14}",
        prop::sample::select(vec![
            "-A",
            "-a",
            "-e",
            "-L",
            "-t",
            "-u",
            "-r",
            "10.0.0.1:80",
            "10.0.1.1",
            "-m",
            "-w",
            "1",
            "--",
            "-",
            "",
            "-p",
            "-f",
            "[::1]:80",
            "--tun-type",
            "gue",
            "-b",
            "sh-port",
        ])
        .prop_map(String::from),
        "\\PC{0,8}",
    ]
}

fn service() -> impl Strategy<Value = Service> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let key = (protocol, any::<[u8; 4]>(), 1u16..).prop_map(|(protocol, address, port)| {
        ServiceKey { protocol, address: address.into(), port }
    });
    let method = prop::sample::select(vec![Method::Masq, Method::Tunnel, Method::Route]);
    let dest = (any::<[u8; 4]>(), any::<u16>(), 0..=i32::MAX as u32, method);
    (key, "[a-z]{1,8}", prop::collection::vec(dest, 0..6)).prop_map(|(key, scheduler, dests)| {
        let dests = dests.into_iter().map(|(address, port, weight, method)| {
            let port = if method == Method::Masq { port } else { key.port };
            let (address, u_threshold, l_threshold) = (address.into(), 0, 0);
            let config = DestConfig { address, port, weight, method, u_threshold, l_threshold };
            Dest {
                config,
                active: 0,
                inactive: 0,
                stats: Stats::default(),
                rates: Rates::default(),
            }
        });
        let config = ServiceConfig { key, scheduler, flags: vec![] };
        let dests = dests.collect();
        Service { config, stats: Stats::default(), rates: Rates::default(), dests }
    })
}

/// The services that a file of additions makes.
fn built(text: &str) -> Vec<Service> {
    let (stats, rates) = (Stats::default(), Rates::default());
    let mut services: Vec<Service> = Vec::new();
    for rule in parse_rules(text, &Numeric).unwrap() {
        match rule.change {
            Change::AddService { service } => {
                services.push(Service { config: service, stats, rates, dests: vec![] });
            }
            Change::AddDest { service, dest } => {
                let last = services.last_mut().unwrap();
                assert_eq!(last.config.key, service);
                last.dests.push(Dest { config: dest, active: 0, inactive: 0, stats, rates });
            }
            other => panic!("{other:?}"),
        }
    }
    services
}

proptest! {
    #[test]
    fn arguments_never_panic(args in prop::collection::vec(argument(), 0..12)) {
        if let Err(error) = parse_with(&args, &Numeric) {
            prop_assert!(!error.message.is_empty() && !error.reason().is_empty());
            prop_assert!(error.arg.is_none_or(|arg| arg < args.len()), "{error:?}");
        }
    }

    #[test]
    fn text_never_panics(text in "\\PC{0,60}(\n\\PC{0,60}){0,3}", args in prop::collection::vec(argument(), 0..12)) {
        let _ = parse_rules(&text, &Numeric);
        let line = args.join(" ");
        if let Err(error) = parse_rules(&line, &Numeric) {
            prop_assert!(error.column >= 1 && error.column <= line.chars().count().max(1), "{error:?}");
        }
    }

    #[test]
    fn what_is_saved_is_read_again(services in prop::collection::vec(service(), 0..8)) {
        let text = save(&services, &Numeric);
        let again = built(&text);
        prop_assert_eq!(again.len(), services.len());
        for service in &services {
            let found = again.iter().find(|s| s.config == service.config && s.dests.len() == service.dests.len());
            prop_assert!(found.is_some());
            let found = found.unwrap();
            for dest in &service.dests {
                prop_assert!(again.iter().any(|s| s.config == service.config && s.dests.contains(dest)));
            }
            prop_assert_eq!(found.dests.len(), service.dests.len());
        }
    }
}
