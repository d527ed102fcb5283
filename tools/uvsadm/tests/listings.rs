//! What ipvsadm 1.31 printed of a table on a real kernel, to the byte, against what uvsadm prints.
//!
//! The services are made by the recorded command lines. Figures, which depend on traffic and time,
//! are read from the recorded text; what stands around them is ours.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use uvs_uvsadm::api::{
    Change, Conn, Dest, Endpoint, Protocol, Rates, Service, Settings, Stats, Timeouts,
};
use uvs_uvsadm::names::{Names, Numeric};
use uvs_uvsadm::{Command, Form, List, listing, parse_with, save};

/// The names of ports as they were on the recording machine; hosts had none.
struct Recorded;

const PORTS: [(&str, u16, &[Protocol]); 6] = [
    ("http", 80, &[Protocol::Tcp]),
    ("https", 443, &[Protocol::Tcp]),
    ("http-alt", 8080, &[Protocol::Tcp, Protocol::Udp]),
    ("domain", 53, &[Protocol::Tcp, Protocol::Udp]),
    ("sip", 5060, &[Protocol::Tcp, Protocol::Udp]),
    ("tcpmux", 1, &[Protocol::Tcp]),
];

impl Names for Recorded {
    fn host(&self, _: &str) -> Option<IpAddr> {
        None
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let of =
            |(known, _, of): &&(&str, u16, &[Protocol])| *known == name && of.contains(&protocol);
        PORTS.iter().find(of).map(|(_, port, _)| *port)
    }

    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        let of =
            |(_, known, of): &&(&str, u16, &[Protocol])| *known == port && of.contains(&protocol);
        PORTS.iter().find(of).map(|(name, _, _)| (*name).to_owned())
    }
}

#[derive(Default)]
struct Table {
    services: Vec<Service>,
    settings: Settings,
}

impl Table {
    fn apply(&mut self, change: Change) {
        match change {
            Change::AddService { service } => self.services.push(Service::new(service)),
            Change::AddDest { service, dest } => {
                let mut services = self.services.iter_mut();
                let service = services.find(|found| found.config.key == service).unwrap();
                service.dests.insert(0, Dest::new(dest));
            }
            Change::SetTimeouts { timeouts } => {
                let set = |place: &mut u32, value| {
                    if value != 0 {
                        *place = value
                    }
                };
                set(&mut self.settings.timeouts.tcp, timeouts.tcp);
                set(&mut self.settings.timeouts.tcp_fin, timeouts.tcp_fin);
                set(&mut self.settings.timeouts.udp, timeouts.udp);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The table with the figures of a recorded listing; services in its order.
    fn with_figures(&self, form: Form, text: &str) -> Vec<Service> {
        let mut filled: Vec<Service> = Vec::new();
        for line in text.lines() {
            let figures: Vec<u64> = {
                let fields = line.split_whitespace().rev();
                let numbers = fields.map_while(|field| field.parse().ok()).collect::<Vec<u64>>();
                numbers.into_iter().rev().collect()
            };
            if let Some(dest) = line.strip_prefix("  -> ") {
                let name = dest.split_whitespace().next().unwrap();
                let Some(service) = filled.last_mut() else { continue };
                let protocol = service.config.key.protocol();
                let named = |dest: &&mut Dest| {
                    [true, false]
                        .iter()
                        .any(|numeric| shown(dest.config.endpoint(), protocol, *numeric) == name)
                };
                let dest = service.dests.iter_mut().find(named).expect(name);
                fill(dest, form, &figures);
            } else if let Some(service) = self.named(line) {
                let mut service = service.clone();
                fill_service(&mut service, form, &figures);
                filled.push(service);
            }
        }
        filled
    }

    fn named(&self, line: &str) -> Option<&Service> {
        let mut fields = line.split_whitespace();
        let (kind, name, family) = (fields.next()?, fields.next()?, fields.next());
        self.services.iter().find(|service| match service.config.key.endpoint() {
            Some(end) => {
                let protocol = service.config.key.protocol();
                let named = |numeric| shown(end, protocol, numeric) == name;
                protocol.is_some_and(|p| p.to_string() == kind) && (named(true) || named(false))
            }
            None => {
                let key =
                    format!("FWM {name}{}", if family == Some("IPv6") { " IPv6" } else { "" });
                kind == "FWM" && service.config.key.to_string() == key
            }
        })
    }
}

fn shown(end: Endpoint, protocol: Option<Protocol>, numeric: bool) -> String {
    let name = protocol.filter(|_| !numeric).and_then(|p| Recorded.port_name(end.port, p));
    let (host, _) = end.to_string().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.len())).unwrap();
    format!("{host}:{}", name.unwrap_or_else(|| end.port.to_string()))
}

fn fill(dest: &mut Dest, form: Form, figures: &[u64]) {
    let last_two = figures.last_chunk::<2>().map(|two| two.map(|n| n as u32));
    match form {
        Form::Stats => dest.stats = stats(figures),
        Form::Rate => dest.rates = rates(figures),
        Form::PersistentConn => {
            dest.persistent = figures[1] as u32;
            [dest.active, dest.inactive] = last_two.unwrap();
        }
        _ => [dest.active, dest.inactive] = last_two.unwrap(),
    }
}

fn fill_service(service: &mut Service, form: Form, figures: &[u64]) {
    match form {
        Form::Stats => service.stats = stats(figures),
        Form::Rate => service.rates = rates(figures),
        _ => {}
    }
}

fn stats(figures: &[u64]) -> Stats {
    let [conns, in_pkts, out_pkts, in_bytes, out_bytes] = *figures.last_chunk().unwrap();
    Stats { conns, in_pkts, out_pkts, in_bytes, out_bytes }
}

fn rates(figures: &[u64]) -> Rates {
    let [cps, in_pps, out_pps, in_bps, out_bps] = *figures.last_chunk().unwrap();
    Rates { cps, in_pps, out_pps, in_bps, out_bps }
}

/// The connections of a recorded listing, with ports as numbers.
fn conns(text: &str) -> Vec<Conn> {
    let end = |text: &str| {
        let socket: SocketAddr = text.parse().unwrap();
        Endpoint { address: socket.ip(), port: socket.port() }
    };
    let conn = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (minutes, seconds) = fields[1].split_once(':').unwrap();
        Conn {
            protocol: Protocol::ALL.into_iter().find(|p| p.to_string() == fields[0]),
            client: end(fields[3]),
            vip: end(fields[4]),
            dest: end(fields[5]),
            state: fields[2].to_owned(),
            expires: minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap(),
            pe: None,
        }
    };
    text.lines().skip(2).map(conn).collect()
}

/// What uvsadm prints where ipvsadm printed `recorded`.
fn printed(table: &Table, list: &List, recorded: &str, numbered: &str) -> Option<String> {
    match list.form {
        Form::Timeouts => Some(listing::timeouts(&table.settings)),
        Form::Connections | Form::ConnectionsWithPe => {
            let conns = conns(if list.numeric { recorded } else { numbered });
            let lines = conns.iter().map(|conn| listing::connection(list, conn, &Recorded));
            Some(listing::connections_header(list) + &lines.collect::<String>())
        }
        form => {
            let services = table.with_figures(form, recorded);
            listing::services(list, &table.settings, &services, &Recorded)
        }
    }
}

#[test]
fn recorded_listings_are_printed_the_same() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/listings.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let timeouts = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
    let settings = Settings { table_size: 4096, timeouts, settings: Vec::new() };
    let mut table = Table { services: Vec::new(), settings };
    let (mut same, mut wrong, mut numbered) = (0, Vec::new(), String::new());
    for record in file["records"].as_array().unwrap() {
        let line = record["cmd"].as_str().unwrap();
        let recorded = record["stdout"].as_str().unwrap_or_default();
        let args: Vec<String> = line.split_whitespace().skip(1).map(String::from).collect();
        let found = match parse_with(&args, &Recorded) {
            Ok(Command::Change(change)) => {
                table.apply(change);
                continue;
            }
            Ok(Command::Save { numeric: true }) => save(&table.services, &Numeric),
            Ok(Command::Save { numeric: false }) => save(&table.services, &Recorded),
            Ok(Command::List(list)) => {
                let found = printed(&table, &list, recorded, &numbered);
                if list.form == Form::Connections && list.numeric {
                    recorded.clone_into(&mut numbered);
                }
                found.unwrap()
            }
            Err(error) => {
                assert_eq!(Some(i64::from(error.exit)), record["rc"].as_i64(), "{line}");
                continue;
            }
            Ok(other) => panic!("{line}: {other:?}"),
        };
        if found == recorded {
            same += 1;
        } else {
            wrong.push(format!("{line}\nrecorded:\n{recorded}\ncame:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same >= 54, "{same}");
}
