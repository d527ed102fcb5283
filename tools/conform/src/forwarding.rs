//! Recordings of forwarding: frames in, frames out, byte for byte.

use serde::Deserialize;
use serde_json::{Map, Value};
use uvs_engine::port::Offload;

use crate::Stop;
use crate::conns::{self, ConnSeen};
use crate::frames::{self, Output};
use crate::rig::{Left, Rig};

/// The file.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    #[serde(default)]
    name: String,
    setup: Vec<String>,
    #[serde(default)]
    setup_errors: Vec<String>,
    #[serde(default)]
    sysctl: Map<String, Value>,
    #[serde(default)]
    net_sysctl: Map<String, Value>,
    mtu_c: u16,
    mtu_r: u16,
    steps: Vec<Step>,
    #[serde(default)]
    conns_after: Vec<ConnSeen>,
}

#[derive(Debug, Deserialize)]
struct Step {
    label: String,
    /// Why the recorder left it out.
    #[serde(default)]
    skipped: Option<Value>,
    #[serde(default)]
    in_dev: String,
    #[serde(default, rename = "in")]
    input: Vec<String>,
    #[serde(default, rename = "out")]
    output: Vec<Output>,
}

/// Replays all steps; stops at the first that differs.
pub(crate) fn replay(recording: Recording) -> Result<(), Stop> {
    let mut rig = Rig::new(recording.mtu_c, recording.mtu_r);
    for (name, value) in &recording.net_sysctl {
        rig.net_sysctl(name, value)?;
    }
    for (name, value) in &recording.sysctl {
        rig.sysctl(name, value)?;
    }
    for line in &recording.setup {
        match line.strip_prefix('!') {
            Some(line) => rig.shell(line)?,
            None => set_up(&mut rig, line, &recording.setup_errors)?,
        }
    }
    let conditions = Conditions {
        gue: gue_ports(&recording.setup),
        unfinished: recording.name.starts_with("partial_"),
    };
    let steps = recording.steps.iter().enumerate().filter(|(_, step)| step.skipped.is_none());
    for (number, step) in steps {
        let place = format!("step {number} ({})", step.label);
        replay_step(&mut rig, step, &conditions).map_err(|stop| stop.about(&place))?;
    }
    rig.balance()?;
    conns::compare(&rig, &recording.conns_after)
}

/// Whether the kernel lost an ICMPv6 error of a NAT server, for want of a network card that
/// vouches for its checksum; uvs translates it (docs/parity.md).
fn lost_by_the_kernel(step: &Step) -> Result<bool, Stop> {
    const NEXT_HEADER: usize = 14 + 6;
    const ICMPV6: u8 = 58;
    let frames: Result<Vec<_>, _> = step.input.iter().map(|hex| frames::bytes(hex)).collect();
    let is_icmp = |frame: &Vec<u8>| {
        frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(NEXT_HEADER) == Some(&ICMPV6)
    };
    Ok(step.output.is_empty() && step.in_dev == "r" && frames?.iter().all(is_icmp))
}

/// Runs a line of ipvsadm's; the recorded kernel refused those in `errors`.
fn set_up(rig: &mut Rig, line: &str, errors: &[String]) -> Result<(), Stop> {
    let refused = errors.iter().find_map(|error| error.strip_prefix(line)?.strip_prefix(": "));
    match refused {
        None => rig.ipvsadm(line),
        Some(error) => rig.ipvsadm_refuses(line, error),
    }
}

/// The servers' ports of the tunnels that are set up.
fn gue_ports(setup: &[String]) -> Vec<u16> {
    let port = |line: &String| {
        line.split_once("--tun-port ")?.1.split_whitespace().next()?.parse::<u16>().ok()
    };
    setup.iter().filter_map(port).collect()
}

/// How the frames of a recording came, and what they may leave in.
struct Conditions {
    /// The servers' ports of the tunnels that are set up.
    gue: Vec<u16>,
    /// Whether their senders left the checksums open.
    unfinished: bool,
}

fn replay_step(rig: &mut Rig, step: &Step, conditions: &Conditions) -> Result<(), Stop> {
    let mut left = Left::default();
    for frame in &step.input {
        let frame = frames::bytes(frame)?;
        let offload = match conditions.unfinished {
            true => frames::unfinished(&frame),
            false => Offload::NONE,
        };
        if let Some(time) = frames::stamped(&frame, &step.output)? {
            rig.set_time_of_day(time);
        }
        let more = rig.frame_with(frames::link(&step.in_dev)?, &frame, offload);
        left.sent.extend(more.sent);
        left.to_host.extend(more.to_host);
        left.asked |= more.asked;
    }
    if left.sent.len() == step.input.len() && lost_by_the_kernel(step)? {
        return Ok(());
    }
    frames::compare(&left, &step.output, &conditions.gue)
}
