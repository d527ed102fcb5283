//! Recorded datagrams, and what must hold for each. Reads the compact copy beside the tests as
//! well as recordings as they were made: `messages [{dir, hex}]` or `request_hex`, `reply_hex`.

#![allow(dead_code)] // not every test uses all of it

use netlink_packet_core::NetlinkPayload;
use serde_json::Value;
use uvs_ipvs::wire::{
    Attributes, CommandAttribute, Content, DaemonAttribute, DestAttribute, Packet,
    ServiceAttribute, emit, parse,
};
use uvs_ipvs::{
    AddressFamily, Daemon, Dest, ListedDest, ListedService, Service, ServiceKey, ValueError,
};

/// A command of ipvsadm, or one request made by hand.
pub struct Record {
    /// What was run or asked.
    pub name: String,
    /// Whether ipvsadm made it.
    pub ipvsadm: bool,
    pub stdout: String,
    pub stderr: String,
    /// Of a request made by hand: 0 or a negative error number, where it was acknowledged.
    pub errno: Option<i64>,
    pub datagrams: Vec<Datagram>,
}

#[derive(Clone)]
pub struct Datagram {
    pub request: bool,
    pub bytes: Vec<u8>,
}

/// The compact copy of all recordings.
pub fn load() -> Vec<Record> {
    read(include_str!("../data/ipvs_genl.json")).unwrap()
}

pub fn read(text: &str) -> Result<Vec<Record>, serde_json::Error> {
    let file: Value = serde_json::from_str(text)?;
    let table: Vec<_> = items(&file["datagrams"]).map(hex).collect();
    Ok(items(&file["records"]).map(|record| self::record(record, &table)).collect())
}

fn record(record: &Value, table: &[Vec<u8>]) -> Record {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let ipvsadm = record["cmd"].is_string();
    let mut datagrams: Vec<_> =
        items(&record["messages"]).map(|message| datagram(message, table)).collect();
    if datagrams.is_empty() {
        let raw = |field: &str, request| {
            let list =
                items(&record[field]).map(move |text| Datagram { request, bytes: hex(text) });
            list.collect::<Vec<_>>()
        };
        datagrams = [raw("request_hex", true), raw("reply_hex", false)].concat();
    }
    Record {
        name: text(if ipvsadm { "cmd" } else { "raw" }),
        ipvsadm,
        stdout: text("stdout"),
        stderr: text("stderr"),
        errno: record["errno"].as_i64(),
        datagrams,
    }
}

fn datagram(message: &Value, table: &[Vec<u8>]) -> Datagram {
    let Some(compact) = message.as_array() else {
        return Datagram { request: message["dir"] == "request", bytes: hex(&message["hex"]) };
    };
    let number = |index: usize| compact.get(index).and_then(Value::as_u64);
    let (sequence, port) = (number(2).unwrap() as u32, number(3).unwrap() as u32);
    let asked = number(4).map_or(port, |port| port as u32);
    let mut bytes = table[number(1).unwrap() as usize].clone();
    let mut start = 0;
    while start < bytes.len() {
        identify(&mut bytes[start..], sequence, port);
        if bytes[start + 4] == 2 {
            // An acknowledgement or error repeats the request after its code.
            identify(&mut bytes[start + 20..], sequence, asked);
        }
        let length = u32::from_ne_bytes(bytes[start..start + 4].try_into().unwrap());
        start += (length as usize).next_multiple_of(4);
    }
    Datagram { request: compact[0] == "request", bytes }
}

/// Writes `nlmsg_seq` and `nlmsg_pid`.
pub fn identify(message: &mut [u8], sequence: u32, port: u32) {
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message[12..16].copy_from_slice(&port.to_ne_bytes());
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// What must hold for a recording: every datagram is read and written back byte for byte. In what
/// ipvsadm asked and the kernel answered nothing is unknown, and the values say it the same way
/// again; a request made by hand may be odd.
pub fn check(record: &Record) -> Result<(), String> {
    for datagram in &record.datagrams {
        let packets = parse(&datagram.bytes).map_err(|error| error.to_string())?;
        if emit(&packets) != datagram.bytes {
            return Err(format!("written back otherwise: {packets:?}"));
        }
        if record.ipvsadm || !datagram.request {
            packets.iter().try_for_each(|packet| understand(packet, datagram.request))?;
        }
    }
    Ok(())
}

fn understand(packet: &Packet, request: bool) -> Result<(), String> {
    let NetlinkPayload::InnerMessage(Content::Ipvs(message)) = &packet.payload else {
        return Ok(());
    };
    let unknown = format!("{message:?}").contains("Other(");
    unless(unknown, "an attribute is not known")?;
    let Attributes::Command(list) = &message.payload.attributes else { return Ok(()) };
    list.iter().try_for_each(|attribute| match attribute {
        CommandAttribute::Service(list) if request => {
            unless(!list.flag, "a request's list without its flag")?;
            requested_service(&list.attributes)
        }
        CommandAttribute::Service(list) => listed_service(&list.attributes),
        CommandAttribute::Dest(list) if request => requested_dest(&list.attributes),
        CommandAttribute::Dest(list) => listed_dest(&list.attributes),
        CommandAttribute::Daemon(list) => daemon(&list.attributes),
        _ => Ok(()),
    })
}

fn unless(wrong: bool, what: &str) -> Result<(), String> {
    if wrong { Err(what.to_owned()) } else { Ok(()) }
}

fn text(error: ValueError) -> String {
    error.to_string()
}

/// ipvsadm says whole services, or keys.
fn requested_service(list: &[ServiceAttribute]) -> Result<(), String> {
    let key = ServiceKey::read(list).map_err(text)?;
    let again = Service::read(list).map_or(key.attributes(), |service| service.attributes());
    unless(again != list, "a service that is not said as ipvsadm says it")
}

fn listed_service(list: &[ServiceAttribute]) -> Result<(), String> {
    let service = ListedService::read(list).map_err(text)?.service;
    let again = Service::read(&service.attributes());
    unless(again != Ok(service), "a service that cannot be said again")
}

fn requested_dest(list: &[DestAttribute]) -> Result<(), String> {
    let dest = Dest::read(list, AddressFamily::Inet).map_err(text)?;
    unless(dest.attributes() != clean(list), "a destination that is not said as ipvsadm says it")
}

fn listed_dest(list: &[DestAttribute]) -> Result<(), String> {
    // What the kernel says of the address family counts.
    let dest = ListedDest::read(list, AddressFamily::Inet).map_err(text)?.dest;
    let again = Dest::read(&dest.attributes(), AddressFamily::Inet);
    unless(again != Ok(dest), "a destination that cannot be said again")
}

fn daemon(list: &[DaemonAttribute]) -> Result<(), String> {
    let again = Daemon::read(list).map_err(text)?.attributes();
    unless(again != list, "a daemon that is not said as ipvsadm says it")
}

/// Behind the IPv4 address of an IPv6 service's destination, ipvsadm sends what its buffer had
/// before; the kernel does not look at it.
pub fn clean(list: &[DestAttribute]) -> Vec<DestAttribute> {
    let mut list = list.to_vec();
    let v4 = list.contains(&DestAttribute::AddressFamily(2));
    for attribute in &mut list {
        if let DestAttribute::Address(union) = attribute
            && v4
        {
            union[4..].fill(0);
        }
    }
    list
}
