//! Recordings in steps: changes of the configuration, packets and where they went, and looks at
//! counts, connections and statistics.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Stop;
use crate::conns::{self, ConnSeen};
use crate::frames::{self, Output};
use crate::packet::{Packet, Sent, sent};
use crate::rig::{CLIENT_SIDE, Left, Rig, SERVER_SIDE, server_mac};
use crate::statistics::{self, Series};

/// The file. Fields that a replay does not need are left out.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    #[serde(default)]
    fwmark: Option<u32>,
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
    Packet(Recorded),
    Raw {
        label: String,
        dev: String,
        hex: String,
        out: Vec<Output>,
    },
    Counts {
        dests: Map<String, Value>,
    },
    Conns {
        list: Vec<ConnSeen>,
    },
    Sysctl {
        key: String,
        value: Value,
    },
    Sleep {
        ms: u32,
    },
    Ipvsadm {
        args: String,
        rc: u8,
        stderr: String,
    },
    Stats {
        text: String,
    },
    Rate {
        text: String,
    },
    Rates {
        series: Vec<Series>,
    },
    IpVsStats {
        text: String,
    },
    Text {
        cmd: String,
        text: String,
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

/// A packet, where it went, and what the director answered.
#[derive(Debug, Deserialize)]
struct Recorded {
    proto: String,
    src: String,
    dst: String,
    flags: Option<String>,
    picked: Option<String>,
    #[serde(default)]
    reply: Option<String>,
}

/// Replays all steps; stops at the first that differs.
pub(crate) fn replay(recording: Recording) -> Result<(), Stop> {
    let mut replay = Replay { rig: Rig::new(1500, 1500), service: None, drops_entries: false };
    if let Some(mark) = recording.fwmark {
        replay.rig.mark(mark);
    }
    replay.sysctls(&recording.sysctl)?;
    for (number, step) in recording.steps.into_iter().enumerate() {
        let place = format!("step {number}");
        let step: Step =
            serde_json::from_value(step).map_err(|error| Stop::from(error).about(&place))?;
        replay.step(step).map_err(|stop| stop.about(&place))?;
    }
    replay.rig.balance()
}

struct Replay {
    rig: Rig,
    /// The service's option and address, as in `-t 10.0.0.1:80`.
    service: Option<String>,
    /// Whether drop_entry was on: which connections it takes is drawn at random.
    drops_entries: bool,
}

impl Replay {
    fn step(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::AddService { args, sysctl } => {
                self.sysctls(&sysctl)?;
                let words: Vec<&str> = args.split_whitespace().collect();
                // A mark's family is an option of its own.
                let end = if words.get(3) == Some(&"-6") { 4 } else { 3 };
                self.service = words.get(1..end).map(|service| service.join(" "));
                self.rig.ipvsadm(&args)
            }
            Step::EditService { args } => self.rig.ipvsadm(&args),
            Step::AddDest(dest) => self.dest("-a", &dest),
            Step::EditDest(dest) => self.dest("-e", &dest),
            Step::DelDest { dest } => {
                let service = self.service()?;
                self.rig.ipvsadm(&format!("-d {service} -r {dest}"))
            }
            Step::Packet(recorded) => self.packet(&recorded),
            Step::Raw { label, dev, hex, out } => {
                let compared = frames::raw(&mut self.rig, &dev, &hex, &out);
                compared.map_err(|stop| stop.about(&label))
            }
            Step::Counts { dests } => self.counts(&dests),
            Step::Conns { list } => self.rig.look(|rig| conns::compare(rig, &list)),
            Step::Sysctl { key, value } => self.sysctl(&key, &value),
            Step::Sleep { ms } => {
                self.rig.sleep(ms);
                Ok(())
            }
            Step::Ipvsadm { args, rc, stderr } => self.rig.ipvsadm_says(&args, rc, &stderr),
            Step::Stats { text } => self.rig.look(|rig| statistics::stats(rig, &text)),
            Step::Rate { text } => self.rig.look(|rig| statistics::rate(rig, &text)),
            Step::Rates { series } => {
                let service = self.service()?.to_owned();
                statistics::series(&mut self.rig, &service, &series)
            }
            Step::IpVsStats { text } => statistics::totals(&self.rig, &text),
            Step::Text { cmd, text } => conns::compare_text(&self.rig, &cmd, &text),
        }
    }

    fn sysctls(&mut self, sysctl: &Map<String, Value>) -> Result<(), Stop> {
        sysctl.iter().try_for_each(|(name, value)| self.sysctl(name, value))
    }

    fn sysctl(&mut self, name: &str, value: &Value) -> Result<(), Stop> {
        self.drops_entries |= name == "drop_entry" && value.as_i64() != Some(0);
        self.rig.sysctl(name, value)
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

    fn packet(&mut self, recorded: &Recorded) -> Result<(), Stop> {
        let packet = Packet {
            protocol: &recorded.proto,
            source: address(&recorded.src)?,
            destination: address(&recorded.dst)?,
            flags: recorded.flags.as_deref(),
        };
        let (picked, reply) = (recorded.picked.as_deref(), recorded.reply.as_deref());
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
    fn picked(&self, left: &Left, virtual_end: SocketAddr) -> Option<String> {
        let to_server = left.sent.iter().find(|(link, _)| *link == SERVER_SIDE);
        let sent = sent(&to_server?.1, virtual_end);
        let services = self.rig.director().services();
        let dests = services.iter().flat_map(|service| &service.dests);
        let found = dests.map(|dest| dest.config.endpoint()).find(|dest| match sent {
            Sent::Direct(mac) => mac == server_mac(last_byte(dest.address)),
            Sent::Translated(to) => to.ip() == dest.address && [0, to.port()].contains(&dest.port),
            Sent::Tunnelled(to) => to == dest.address,
            Sent::Icmp(..) | Sent::Icmp6(..) | Sent::Other => false,
        });
        Some(found.map_or_else(|| format!("{sent:?}"), |dest| dest.to_string()))
    }

    fn counts(&self, expected: &Map<String, Value>) -> Result<(), Stop> {
        let dests = self.rig.newest_dests();
        let got: Vec<(String, Value)> = dests
            .iter()
            .map(|dest| {
                let counts = [dest.config.weight, dest.load.active(), dest.load.inactive()];
                (dest.config.endpoint().to_string(), Value::from(counts.to_vec()))
            })
            .collect();
        let expected: Vec<(String, Value)> =
            expected.iter().map(|(dest, counts)| (dest.clone(), counts.clone())).collect();
        if got == expected || self.drops_entries && nearly(&got, &expected) {
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

/// Whether the same servers have about as many connections in all: within a tenth.
fn nearly(got: &[(String, Value)], expected: &[(String, Value)]) -> bool {
    let all = |list: &[(String, Value)]| -> u64 {
        let counts = list.iter().flat_map(|(_, counts)| counts.as_array()).flatten();
        counts.filter_map(Value::as_u64).sum()
    };
    let names = |list: &[(String, Value)]| -> Vec<String> {
        list.iter().map(|(dest, _)| dest.clone()).collect()
    };
    names(got) == names(expected) && all(got).abs_diff(all(expected)) * 10 <= all(expected)
}

/// What the director sent to the client. What its host's stack would answer is met by handing the
/// packet to the host.
fn answer(left: &Left, virtual_end: SocketAddr, expected: Option<&str>) -> Option<String> {
    if let Some((_, frame)) = left.sent.iter().find(|(link, _)| *link == CLIENT_SIDE) {
        return Some(match sent(frame, virtual_end) {
            Sent::Icmp(kind, code) => format!("icmp {kind}/{code}"),
            Sent::Icmp6(kind, code) => format!("icmp6 {kind}/{code}"),
            other => format!("{other:?}"),
        });
    }
    let from_host = expected.filter(|reply| reply.starts_with("tcp ") && !left.to_host.is_empty());
    from_host.map(str::to_owned)
}

fn address(text: &str) -> Result<SocketAddr, Stop> {
    text.parse().map_err(|_| Stop::Malformed(format!("the address {text}")))
}

/// Server n of the lab has n at its address's end.
pub(crate) fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}
