//! Recordings of ipvsadm's requests and the kernel's answers, through the codec of `uvs_ipvs`.
//!
//! Reads recordings as they were made, `messages [{dir, hex}]` or `request_hex` and `reply_hex`,
//! and the compact copy that comes with the project, in which each datagram stands once.

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
#[derive(Clone, Debug)]
pub struct Record {
    /// What was run or asked.
    pub name: String,
    /// Whether ipvsadm made it.
    pub ipvsadm: bool,
    /// What ipvsadm printed.
    pub stdout: String,
    /// What ipvsadm said was wrong.
    pub stderr: String,
    /// Of a request made by hand: 0 or a negative error number, where it was acknowledged.
    pub errno: Option<i64>,
    /// What went each way.
    pub datagrams: Vec<Datagram>,
}

/// A datagram between ipvsadm and the kernel.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Whether it went to the kernel.
    pub request: bool,
    /// The whole of it.
    pub bytes: Vec<u8>,
}

/// The recordings in a file; what is none has no datagrams.
pub fn read(file: &Value) -> Option<Vec<Record>> {
    let table: Vec<Vec<u8>> = items(&file["datagrams"]).map(hex).collect::<Option<_>>()?;
    items(&file["records"]).map(|record| self::record(record, &table)).collect()
}

fn record(record: &Value, table: &[Vec<u8>]) -> Option<Record> {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let ipvsadm = record["cmd"].is_string();
    let messages = items(&record["messages"]).map(|message| datagram(message, table));
    let mut datagrams: Vec<Datagram> = messages.collect::<Option<_>>()?;
    if datagrams.is_empty() {
        for (field, request) in [("request_hex", true), ("reply_hex", false)] {
            for text in items(&record[field]) {
                datagrams.push(Datagram { request, bytes: hex(text)? });
            }
        }
    }
    Some(Record {
        name: text(if ipvsadm { "cmd" } else { "raw" }),
        ipvsadm,
        stdout: text("stdout"),
        stderr: text("stderr"),
        errno: record["errno"].as_i64(),
        datagrams,
    })
}

fn datagram(message: &Value, table: &[Vec<u8>]) -> Option<Datagram> {
    let Some(compact) = message.as_array() else {
        let request = message["dir"] == "request";
        return Some(Datagram { request, bytes: hex(&message["hex"])? });
    };
    let number = |index: usize| compact.get(index).and_then(Value::as_u64);
    let (sequence, port) = (number(2)? as u32, number(3)? as u32);
    let asked = number(4).map_or(port, |port| port as u32);
    let mut bytes = table.get(number(1)? as usize)?.clone();
    let mut start = 0;
    while start < bytes.len() {
        let message = bytes.get_mut(start..)?;
        identify(message, sequence, port);
        if message.get(4) == Some(&2) {
            // An acknowledgement or error repeats the request after its code.
            identify(message.get_mut(20..)?, sequence, asked);
        }
        let length = u32::from_ne_bytes(message.get(..4)?.try_into().ok()?) as usize;
        start += length.max(16).next_multiple_of(4);
    }
    Some(Datagram { request: compact.first()? == "request", bytes })
}

/// Writes `nlmsg_seq` and `nlmsg_pid`.
pub fn identify(message: &mut [u8], sequence: u32, port: u32) {
    if let Some(fields) = message.get_mut(8..16) {
        fields[..4].copy_from_slice(&sequence.to_ne_bytes());
        fields[4..].copy_from_slice(&port.to_ne_bytes());
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn hex(text: &Value) -> Option<Vec<u8>> {
    let digits = text.as_str()?;
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Checks a recording: every datagram is read and written back byte for byte. In what ipvsadm asked
/// and the kernel answered nothing is unknown, and the values say it the same way again; a request
/// made by hand may be odd, but has the recorded error number.
///
/// # Errors
///
/// What does not hold.
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
    record.errno.map_or(Ok(()), |errno| check_errno(record, errno))
}

fn check_errno(record: &Record, errno: i64) -> Result<(), String> {
    let last = record.datagrams.last().ok_or("nothing was recorded")?;
    let packets = parse(&last.bytes).map_err(|error| error.to_string())?;
    let code = packets.last().and_then(|packet| match &packet.payload {
        NetlinkPayload::Error(error) => Some(i64::from(error.raw_code())),
        NetlinkPayload::Done(done) => Some(i64::from(done.code)),
        _ => None,
    });
    unless(code != Some(errno), &format!("error {errno} was recorded, came {code:?}"))
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
