//! Arguments and files that nobody would write on purpose.

use std::net::IpAddr;

use proptest::prelude::*;
use uvs_uvsadm::api::{
    Change, Dest, DestConfig, Method, MssClamp, Netmask, Persistence, Protocol, Service,
    ServiceConfig, ServiceKey, Timeouts,
};
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
            "-6",
            "-o",
            "-M",
            "255.0.255.0",
            "--conn-timeout",
            "--mss-clamp",
            "1,2,3",
            "--set",
            "-Z",
        ])
        .prop_map(String::from),
        "\\PC{0,8}",
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop::sample::select(Protocol::ALL.to_vec());
    let by_address = (protocol, address(), 1u16..)
        .prop_map(|(protocol, address, port)| ServiceKey::new(protocol, address, port));
    let by_mark = (1u32.., any::<bool>()).prop_map(|(mark, ipv6)| ServiceKey::Mark { mark, ipv6 });
    prop_oneof![by_address, by_mark]
}

fn persistence(ipv6: bool) -> impl Strategy<Value = Option<Persistence>> {
    let netmask = prop::option::of((any::<[u8; 4]>(), 1..=128u8));
    prop::option::of((1..=2_678_400u32, netmask)).prop_map(move |persistence| {
        let (timeout, netmask) = persistence?;
        let mask = netmask.map(|(v4, v6)| match ipv6 {
            true => Netmask::V6(v6),
            false => Netmask::V4(v4.into()),
        });
        Some(Persistence { timeout, netmask: mask.and_then(Netmask::unless_all) })
    })
}

fn config() -> impl Strategy<Value = ServiceConfig> {
    let with_key = key().prop_flat_map(|key| (Just(key), persistence(key.is_ipv6())));
    let own = prop::option::of((1..=2_678_400u32, 0..9u32, 0..9u32));
    (with_key, "[a-z]{1,8}", prop::option::of("[a-z]{1,8}"), any::<bool>(), own).prop_map(
        |((key, persistence), scheduler, pe, one_packet, own)| ServiceConfig {
            key,
            scheduler,
            flags: vec![],
            persistence,
            pe,
            one_packet: one_packet
                && !matches!(key.protocol(), Some(Protocol::Tcp | Protocol::Sctp)),
            mss_clamp: own
                .filter(|_| !matches!(key.protocol(), Some(Protocol::Udp | Protocol::Sctp)))
                .map(|(tcp, ..)| match tcp {
                    0 => MssClamp::Pmtu,
                    bytes => MssClamp::Bytes(88 + (bytes % 1000) as u16),
                }),
            conn_timeouts: own.map(|(tcp, tcp_fin, udp)| Timeouts { tcp, tcp_fin, udp }),
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let method = prop::sample::select(vec![Method::Masq, Method::Tunnel, Method::Route]);
    let dest = (address(), any::<u16>(), 0..=i32::MAX as u32, method);
    (config(), prop::collection::vec(dest, 0..6)).prop_map(|(config, dests)| {
        let key = config.key;
        let dests = dests.into_iter().filter_map(|(address, port, weight, method)| {
            let port = match key.endpoint() {
                Some(end) if method != Method::Masq => end.port,
                _ => port,
            };
            let mixed = address.is_ipv6() != key.is_ipv6() && method != Method::Tunnel;
            let config = DestConfig { weight, method, ..DestConfig::new(address, port) };
            (!mixed).then(|| Dest::new(config))
        });
        Service { dests: dests.collect(), ..Service::new(config) }
    })
}

/// The services that a file of additions makes.
fn built(text: &str) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for rule in parse_rules(text, &Numeric).unwrap() {
        match rule.change {
            Change::AddService { service } => services.push(Service::new(service)),
            Change::AddDest { service, dest } => {
                let last = services.last_mut().unwrap();
                assert_eq!(last.config.key, service);
                last.dests.push(Dest::new(dest));
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
