//! Recordings of picks: which server got each packet, and the counts of each server.

use std::net::SocketAddrV4;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Stop;
use crate::packet::{Packet, Sent, sent};
use crate::rig::{CLIENT_SIDE, Left, Rig, SERVER_SIDE, server_mac};

/// The file. Fields that a replay does not need are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    #[serde(default)]
    family: Option<u8>,
    #[serde(default)]
    sysctl: Map<String, Value>,
    steps: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Step {
    AddService {
        args: String,
        #[serde(default)]
        sysctl: Map<String, Value>,
    },
    EditService {
        args: String,
    },
    AddDest(Dest),
    EditDest(Dest),
    DelDest {
        dest: String,
    },
    Packet {
        proto: String,
        src: String,
        dst: String,
        flags: Option<String>,
        picked: Option<String>,
        #[serde(default)]
        reply: Option<String>,
    },
    Counts {
        dests: Map<String, Value>,
    },
}

#[derive(Debug, Deserialize)]
struct Dest {
    dest: String,
    weight: u32,
    u_threshold: u32,
    l_threshold: u32,
    method: String,
}

/// Replays all steps; stops at the first that differs.
pub(crate) fn replay(recording: Recording) -> Result<(), Stop> {
    if recording.family == Some(6) {
        return Err(Stop::NotSupported("IPv6".into()));
    }
    needs_no_sysctl(&recording.sysctl)?;
    let mut replay = Replay { rig: Rig::new(1500, 1500), service: None };
    for (number, step) in recording.steps.into_iter().enumerate() {
        let malformed = |error| Stop::Malformed(format!("step {number}: {error}"));
        let known = [
            "add_service",
            "edit_service",
            "add_dest",
            "edit_dest",
            "del_dest",
            "packet",
            "counts",
        ];
        let op = step.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !known.contains(&op.as_str()) {
            return Err(Stop::NotSupported(format!("step {number}: `{op}`")));
        }
        let step: Step = serde_json::from_value(step).map_err(malformed)?;
        replay.step(step).map_err(|stop| at(number, stop))?;
    }
    match replay.rig.balanced() {
        true => Ok(()),
        false => Err(Stop::Differs("frames are missing: rx is not tx + to_host + drops".into())),
    }
}

/// Says at which step it was.
fn at(number: usize, stop: Stop) -> Stop {
    let place = |what: String| format!("step {number}: {what}");
    match stop {
        Stop::Differs(what) => Stop::Differs(place(what)),
        Stop::NotSupported(what) => Stop::NotSupported(place(what)),
        Stop::Malformed(what) => Stop::Malformed(place(what)),
    }
}

pub(crate) fn needs_no_sysctl(sysctl: &Map<String, Value>) -> Result<(), Stop> {
    match sysctl.iter().next() {
        None => Ok(()),
        Some((name, value)) => Err(Stop::NotSupported(format!("sysctl {name}={value}"))),
    }
}

struct Replay {
    rig: Rig,
    /// The service's option and address, as in `-t 10.0.0.1:80`.
    service: Option<String>,
}

impl Replay {
    fn step(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::AddService { args, sysctl } => {
                needs_no_sysctl(&sysctl)?;
                let words: Vec<&str> = args.split_whitespace().collect();
                self.service = words.get(1..3).map(|service| service.join(" "));
                self.rig.ipvsadm(&args)
            }
            Step::EditService { args } => self.rig.ipvsadm(&args),
            Step::AddDest(dest) => self.dest("-a", &dest),
            Step::EditDest(dest) => self.dest("-e", &dest),
            Step::DelDest { dest } => {
                let service = self.service()?;
                self.rig.ipvsadm(&format!("-d {service} -r {dest}"))
            }
            Step::Packet { proto, src, dst, flags, picked, reply } => {
                let packet = Packet {
                    protocol: &proto,
                    source: address(&src)?,
                    destination: address(&dst)?,
                    flags: flags.as_deref(),
                };
                self.packet(packet, picked.as_deref(), reply.as_deref())
            }
            Step::Counts { dests } => self.counts(&dests),
        }
    }

    fn service(&self) -> Result<&str, Stop> {
        let missing = || Stop::Malformed("a server before its service".into());
        self.service.as_deref().ok_or_else(missing)
    }

    fn dest(&mut self, command: &str, dest: &Dest) -> Result<(), Stop> {
        let method = match dest.method.as_str() {
            "dr" => "-g",
            "nat" => "-m",
            "tun" => "-i",
            other => return Err(Stop::NotSupported(format!("the method {other}"))),
        };
        let Dest { dest, weight, u_threshold, l_threshold, .. } = dest;
        let service = self.service()?;
        self.rig.ipvsadm(&format!(
            "{command} {service} -r {dest} {method} -w {weight} -x {u_threshold} -y {l_threshold}"
        ))
    }

    fn packet(
        &mut self,
        packet: Packet<'_>,
        picked: Option<&str>,
        reply: Option<&str>,
    ) -> Result<(), Stop> {
        let left = self.rig.frame(CLIENT_SIDE, &packet.frame()?);
        let got = self.picked(&left, packet.destination);
        let answer = answer(&left, packet.destination, reply);
        if got.as_deref() == picked && answer.as_deref() == reply {
            return Ok(());
        }
        let show = |pick: Option<&str>, reply: Option<&str>| {
            let reply = reply.map_or(String::new(), |reply| format!(", reply {reply}"));
            format!("{}{reply}", pick.unwrap_or("no server"))
        };
        Err(Stop::Differs(format!(
            "{} {} {} -> {}: expected {}, came {}",
            packet.protocol,
            packet.flags.unwrap_or(""),
            packet.source,
            packet.destination,
            show(picked, reply),
            show(got.as_deref(), answer.as_deref()),
        )))
    }

    /// The configured server to which a frame left.
    fn picked(&self, left: &Left, virtual_end: SocketAddrV4) -> Option<String> {
        let to_server = left.sent.iter().find(|(link, _)| *link == SERVER_SIDE);
        let sent = sent(&to_server?.1, virtual_end);
        let services = self.rig.director().services();
        let dests = services.iter().flat_map(|service| &service.dests);
        let found = dests.map(|dest| dest.config.endpoint()).find(|dest| match sent {
            Sent::Direct(mac) => mac == server_mac(dest.address.octets()[3]),
            Sent::Translated(to) => to == SocketAddrV4::new(dest.address, dest.port),
            Sent::Tunnelled(to) => to == dest.address,
            Sent::Icmp(..) | Sent::Other => false,
        });
        Some(found.map_or_else(|| format!("{sent:?}"), |dest| dest.to_string()))
    }

    fn counts(&self, expected: &Map<String, Value>) -> Result<(), Stop> {
        let services = self.rig.director().services();
        let dests = services.iter().flat_map(|service| &service.dests);
        let got: Vec<(String, Value)> = dests
            .map(|dest| {
                let counts = [dest.config.weight, dest.load.active(), dest.load.inactive()];
                (dest.config.endpoint().to_string(), Value::from(counts.to_vec()))
            })
            .collect();
        let expected: Vec<(String, Value)> =
            expected.iter().map(|(dest, counts)| (dest.clone(), counts.clone())).collect();
        if got == expected {
            return Ok(());
        }
        let show = |list: &[(String, Value)]| {
            let line = |(dest, counts): &(String, Value)| format!("{dest} {counts}");
            list.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        Err(Stop::Differs(format!(
            "counts [weight, active, inactive]: expected {}; came {}",
            show(&expected),
            show(&got)
        )))
    }
}

/// What the director sent to the client. What its host's stack would answer is met by handing the
/// packet to the host.
fn answer(left: &Left, virtual_end: SocketAddrV4, expected: Option<&str>) -> Option<String> {
    if let Some((_, frame)) = left.sent.iter().find(|(link, _)| *link == CLIENT_SIDE) {
        return Some(match sent(frame, virtual_end) {
            Sent::Icmp(kind, code) => format!("icmp {kind}/{code}"),
            other => format!("{other:?}"),
        });
    }
    let from_host = expected.filter(|reply| reply.starts_with("tcp ") && left.to_host > 0);
    from_host.map(str::to_owned)
}

fn address(text: &str) -> Result<SocketAddrV4, Stop> {
    text.parse().map_err(|_| Stop::NotSupported(format!("the address {text}")))
}
