//! What ipvsadm 1.31 did with a command line on a real kernel, against what uvsadm makes of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;
use uvs_uvsadm::api::{Change, Dest, ErrorCode, Protocol, Service, ServiceKey};
use uvs_uvsadm::names::{Names, Numeric};
use uvs_uvsadm::{Command, ParseError, parse_rules, parse_with, save};

/// The names that the recordings use, as they were on the recording machine.
struct Recorded;

impl Names for Recorded {
    fn host(&self, name: &str) -> Option<IpAddr> {
        (name == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let ports = [
            ("http", Protocol::Tcp, 80),
            ("www", Protocol::Tcp, 80),
            ("domain", Protocol::Tcp, 53),
            ("domain", Protocol::Udp, 53),
            ("shell", Protocol::Tcp, 514),
            ("syslog", Protocol::Tcp, 514),
            ("syslog", Protocol::Udp, 514),
            ("tcpmux", Protocol::Tcp, 1),
            ("tftp", Protocol::Udp, 69),
        ];
        ports.iter().find(|(n, p, _)| *n == name && *p == protocol).map(|(_, _, port)| *port)
    }

    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

fn load(name: &str) -> Value {
    let path = format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Errors that the kernel gave after ipvsadm had accepted the line, so that parsing says nothing.
const OF_THE_KERNEL: [&str; 10] = [
    "No such service",
    "Service not defined",
    "Service already exists",
    "Destination already exists",
    "No such destination",
    "Scheduler or persistence engine not found",
    "Numerical result out of range",
    "Invalid operation.",
    "No such device",
    "No daemon is running",
];

/// What of ipvsadm is refused for now: a line that is refused as not supported has to have one.
const UNSUPPORTED: [&str; 2] = ["--start-daemon", "--stop-daemon"];

/// Whether the parser's answer is the recorded one; the error says how they differ.
fn compare(args: &[String], rc: i64, stderr: &str) -> Result<Option<Command>, String> {
    let accepted = rc == 0 || OF_THE_KERNEL.iter().any(|text| stderr.starts_with(text));
    match parse_with(args, &Recorded) {
        Ok(command) if accepted => Ok(Some(command)),
        Ok(command) => Err(format!("{args:?}: {command:?}, recorded {rc} {stderr:?}")),
        Err(ParseError { unsupported: true, message, .. }) => {
            let named = args.iter().any(|arg| UNSUPPORTED.iter().any(|word| arg.starts_with(word)));
            if accepted && named { Ok(None) } else { Err(format!("{args:?}: {message}")) }
        }
        Err(error) if i64::from(error.exit) == rc && format!("{error}\n") == stderr => Ok(None),
        Err(error) => Err(format!("{args:?}: {} {error:?}, recorded {rc} {stderr:?}", error.exit)),
    }
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn find(table: &mut [Service], key: ServiceKey) -> Result<&mut Service, ErrorCode> {
    table.iter_mut().find(|s| s.config.key == key).ok_or(ErrorCode::NoSuchService)
}

/// The table as the kernel would have it after a change.
fn apply(table: &mut Vec<Service>, change: &Change) -> Result<(), ErrorCode> {
    match change {
        Change::AddService { service } => {
            if find(table, service.key).is_ok() {
                return Err(ErrorCode::Exists);
            }
            table.push(Service::new(service.clone()));
        }
        Change::EditService { service } => find(table, service.key)?.config = service.clone(),
        Change::DelService { service } => {
            find(table, *service)?;
            table.retain(|s| s.config.key != *service);
        }
        Change::Flush => table.clear(),
        Change::AddDest { service, dest } => {
            let dests = &mut find(table, *service)?.dests;
            if dests.iter().any(|d| d.config.endpoint() == dest.endpoint()) {
                return Err(ErrorCode::Exists);
            }
            dests.push(Dest::new(*dest));
        }
        Change::EditDest { service, dest } => {
            let mut dests = find(table, *service)?.dests.iter_mut();
            let found = dests.find(|d| d.config.endpoint() == dest.endpoint());
            found.ok_or(ErrorCode::NoSuchDest)?.config = *dest;
        }
        Change::DelDest { service, dest } => {
            let dests = &mut find(table, *service)?.dests;
            let at = dests.iter().position(|d| d.config.endpoint() == *dest);
            dests.remove(at.ok_or(ErrorCode::NoSuchDest)?);
        }
        Change::Zero { service: Some(key) } => drop(find(table, *key)?),
        // Not of the table.
        Change::Zero { service: None } | Change::SetTimeouts { .. } | Change::SetSetting { .. } => {
        }
    }
    Ok(())
}

/// More than a thousand lines that were given to ipvsadm for their grammar, each on the table
/// that `base` makes; `saved` is what `ipvsadm -Sn` said afterwards.
#[test]
fn grammar_and_effect_are_as_recorded() {
    let file = load("grammar.json");
    let mut base = Vec::new();
    for rule in parse_rules(file["base"].as_str().unwrap(), &Numeric).unwrap() {
        apply(&mut base, &rule.change).unwrap();
    }
    let (mut wrong, mut effects, mut refused) = (Vec::new(), 0, 0);
    for record in file["records"].as_array().unwrap() {
        let args: Vec<String> = serde_json::from_value(record["args"].clone()).unwrap();
        let (rc, stderr) = (record["rc"].as_i64().unwrap(), record["stderr"].as_str().unwrap());
        let change = match compare(&args, rc, stderr) {
            Ok(Some(Command::Change { change, .. })) => change,
            Ok(_) => continue,
            Err(difference) => {
                wrong.push(difference);
                continue;
            }
        };
        if rc == 0 && !change.is_of_table() {
            continue;
        }
        let mut table = base.clone();
        match (apply(&mut table, &change), record["saved"].as_str()) {
            (Ok(()), Some(saved)) if save(&table, &Numeric) == saved => effects += 1,
            (Err(code), None) if format!("{}\n", code.text(&change)) == stderr => refused += 1,
            // What the kernel judges by other means is not modelled here.
            (Ok(()), None) if rc == 255 => refused += 1,
            other => wrong.push(format!("{args:?}: {other:?}")),
        }
    }
    report(&wrong);
    assert!(effects >= 152 && refused >= 28, "{effects} {refused}");
}
