//! Recordings of the state machines: what every sequence of packets made of its connection.
//!
//! A sequence is written `c:S s:SA c:A`: a SYN of the client, SYN and ACK of the server, an ACK of
//! the client. Beside it stand the state after its last packet, the seconds that were left then,
//! and where that packet went. Every beginning of a sequence is recorded as well, so only the
//! longest are played, each as a client of its own, and compared after each packet.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use serde::Deserialize;
use serde_json::{Map, Value};
use uvs_engine::clock::Ticks;
use uvs_engine::link::LinkId;
use uvs_engine::proto::state_name;
use uvs_engine::table::InKey;

use crate::Stop;
use crate::packet::Packet;
use crate::rig::{CLIENT_SIDE, DIRECTOR_SERVER_MAC, Left, Rig, SERVER_SIDE, server_mac};

/// Seconds that may have passed in the recorded kernel between a packet and the look at its
/// connection.
const DELAY: u32 = 3;

/// The client of the first sequence has this port, and each further one the next.
const FIRST_PORT: u16 = 1024;

/// The file. Fields that a replay does not need are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    proto: String,
    method: String,
    sysctl: Map<String, Value>,
    /// Lines of ipvsadm's that were run before.
    pre: Vec<String>,
    /// By service, by server: weight, active and inactive connections.
    counts_after: Map<String, Value>,
    sequences: Map<String, Value>,
}

/// What stands beside a sequence: the state or none, the seconds left, where the packet went.
type Seen = (Option<String>, Option<u32>, String);

/// Replays all sequences; stops at the first that differs.
pub(crate) fn replay(recording: &Recording) -> Result<(), Stop> {
    let mut replay = Replay::new(recording)?;
    let sequences = &recording.sequences;
    let beginnings: HashSet<&str> = sequences.keys().filter_map(|s| beginning(s)).collect();
    let whole = sequences.keys().filter(|sequence| !beginnings.contains(sequence.as_str()));
    for (number, sequence) in whole.enumerate() {
        let port = u16::try_from(number).ok().and_then(|number| FIRST_PORT.checked_add(number));
        let port = port.ok_or_else(|| Stop::NotSupported("so many sequences".into()))?;
        replay.sequence(sequence, SocketAddrV4::new(Ipv4Addr::new(172, 16, 0, 1), port))?;
    }
    replay.counts()?;
    replay.rig.balance()
}

/// The sequence without its last packet.
fn beginning(sequence: &str) -> Option<&str> {
    sequence.rsplit_once(' ').map(|(beginning, _)| beginning)
}

struct Replay<'a> {
    recording: &'a Recording,
    rig: Rig,
    service: SocketAddrV4,
    server: SocketAddrV4,
}

impl<'a> Replay<'a> {
    fn new(recording: &'a Recording) -> Result<Self, Stop> {
        let mut rig = Rig::new(1500, 1500);
        let option = match recording.proto.as_str() {
            "tcp" => "-t",
            "udp" => "-u",
            "sctp" => "--sctp-service",
            other => return Err(Stop::NotSupported(format!("the protocol {other}"))),
        };
        let method = match recording.method.as_str() {
            "dr" => "-g",
            "nat" => "-m",
            "tun" => "-i",
            other => return Err(Stop::NotSupported(format!("the method {other}"))),
        };
        for (name, value) in &recording.sysctl {
            rig.sysctl(name, value)?;
        }
        for line in &recording.pre {
            rig.ipvsadm(line)?;
        }
        // The defences look once a second.
        rig.advance(Ticks::from_secs(1));
        let (service, server) = recording.ends()?;
        rig.ipvsadm(&format!("-A {option} {service} -s rr"))?;
        rig.ipvsadm(&format!("-a {option} {service} -r {server} {method}"))?;
        Ok(Self { recording, rig, service, server })
    }

    fn sequence(&mut self, sequence: &str, client: SocketAddrV4) -> Result<(), Stop> {
        let ends = sequence.match_indices(' ').map(|(at, _)| at).chain([sequence.len()]);
        let mut start = 0;
        for end in ends {
            let expected = self.recording.seen(&sequence[..end])?;
            let got = self.packet(&sequence[start..end], client)?;
            if !agree(&expected, &got) {
                let so_far = &sequence[..end];
                return Err(Stop::Differs(format!(
                    "{so_far}: expected {expected:?}, came {got:?}"
                )));
            }
            start = end + 1;
        }
        Ok(())
    }

    /// Lets one packet of a sequence come, and looks at its connection.
    fn packet(&mut self, event: &str, client: SocketAddrV4) -> Result<Seen, Stop> {
        let malformed = || Stop::Malformed(format!("the event {event}"));
        let (from, flags) = event.split_once(':').ok_or_else(malformed)?;
        let (link, source, destination) = match from {
            "c" => (CLIENT_SIDE, client, self.service),
            "s" => (SERVER_SIDE, self.server, client),
            _ => return Err(malformed()),
        };
        let packet = Packet {
            protocol: &self.recording.proto,
            source: SocketAddr::V4(source),
            destination: SocketAddr::V4(destination),
            flags: Some(flags),
        };
        let mut frame = packet.frame()?;
        if link == SERVER_SIDE {
            frame[..6].copy_from_slice(&DIRECTOR_SERVER_MAC);
            frame[6..12].copy_from_slice(&server_mac(self.server.ip().octets()[3]));
        }
        let protocol = frame[23];
        let left = self.rig.frame(link, &frame);
        let conn = self.rig.conn(&InKey {
            proto: protocol,
            caddr: (*client.ip()).into(),
            cport: client.port(),
            vaddr: (*self.service.ip()).into(),
            vport: self.service.port(),
            template: false,
            name: 0,
        });
        let state = conn.map(|(conn, _)| state_name(protocol, conn.state).to_owned());
        Ok((state, conn.map(|(_, seconds)| seconds), went(&left)))
    }

    fn counts(&self) -> Result<(), Stop> {
        let services = self.rig.director().services();
        let dest = services.iter().flat_map(|service| &service.dests).next();
        let got = dest.map(|d| vec![d.config.weight, d.load.active(), d.load.inactive()]);
        let expected = self.recording.counts_after.values().find_map(|dests| {
            let counts = dests.get(self.server.to_string())?;
            serde_json::from_value(counts.clone()).ok()
        });
        if got == expected {
            return Ok(());
        }
        Err(Stop::Differs(format!(
            "counts [weight, active, inactive] at the end: expected {expected:?}, came {got:?}"
        )))
    }
}

impl Recording {
    /// The one service and its one server.
    fn ends(&self) -> Result<(SocketAddrV4, SocketAddrV4), Stop> {
        let malformed = || Stop::Malformed("`counts_after` has no service with a server".into());
        let (service, dests) = self.counts_after.iter().next().ok_or_else(malformed)?;
        let server = dests.as_object().and_then(|dests| dests.keys().next());
        let service = service.rsplit(' ').next().and_then(|address| address.parse().ok());
        let server = server.and_then(|address| address.parse().ok());
        service.zip(server).ok_or_else(malformed)
    }

    fn seen(&self, sequence: &str) -> Result<Seen, Stop> {
        let missing = || Stop::Malformed(format!("nothing is recorded for {sequence}"));
        let seen = self.sequences.get(sequence).ok_or_else(missing)?;
        Ok(serde_json::from_value(seen.clone())?)
    }
}

/// Where a frame went, in the recordings' letters.
fn went(left: &Left) -> String {
    let side = |(link, _): &(LinkId, Vec<u8>)| if *link == SERVER_SIDE { "r" } else { "c" };
    match left.to_host.len() {
        0 => left.sent.iter().map(side).collect(),
        _ => "host".into(),
    }
}

/// The seconds may differ by what passed while the kernel was looked at. A packet without a
/// connection is the host's affair: it answers some with a RST and others not.
fn agree(expected: &Seen, got: &Seen) -> bool {
    let in_time = match (expected.1, got.1) {
        (Some(expected), Some(got)) => (expected..=expected + DELAY).contains(&got),
        (expected, got) => expected == got,
    };
    let way = match expected.0 {
        Some(_) => got.2 == expected.2,
        None => got.2 == "host",
    };
    expected.0 == got.0 && in_time && way
}
