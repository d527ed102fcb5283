//! Recordings of forwarding: frames in, frames out, byte for byte.

use serde::Deserialize;
use serde_json::{Map, Value};
use uvs_engine::link::LinkId;
use uvs_engine::proto;

use crate::Stop;
use crate::mask::masked;
use crate::rig::{CLIENT_SIDE, Left, Rig, SERVER_SIDE};
use crate::scheduling::needs_no_sysctl;

/// Seconds that the kernel's listing may lag behind the timeout that was set.
const LAG: u32 = 2;

/// The file.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    family: String,
    setup: Vec<String>,
    #[serde(default)]
    sysctl: Map<String, Value>,
    #[serde(default)]
    net_sysctl: Map<String, Value>,
    mtu_c: u16,
    mtu_r: u16,
    steps: Vec<Step>,
    #[serde(default)]
    conns_after: Vec<ConnAfter>,
}

#[derive(Debug, Deserialize)]
struct Step {
    label: String,
    in_dev: String,
    #[serde(rename = "in")]
    input: Vec<String>,
    #[serde(rename = "out")]
    output: Vec<Output>,
}

#[derive(Debug, Deserialize)]
struct Output {
    dev: String,
    hex: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct ConnAfter {
    proto: String,
    client: String,
    #[serde(rename = "virtual")]
    virtual_end: String,
    dest: String,
    state: String,
    expires: u32,
}

/// Replays all steps; stops at the first that differs.
pub(crate) fn replay(recording: Recording) -> Result<(), Stop> {
    if recording.family != "v4" {
        return Err(Stop::NotSupported(format!("the family {}", recording.family)));
    }
    needs_no_sysctl(&recording.sysctl)?;
    needs_no_sysctl(&recording.net_sysctl)?;
    let mut rig = Rig::new(recording.mtu_c, recording.mtu_r);
    for line in &recording.setup {
        if line.starts_with('!') {
            return Err(Stop::NotSupported(format!("the setup line `{line}`")));
        }
        rig.ipvsadm(line)?;
    }
    for (number, step) in recording.steps.iter().enumerate() {
        replay_step(&mut rig, step).map_err(|stop| match stop {
            Stop::Differs(what) => Stop::Differs(format!("step {number} ({}): {what}", step.label)),
            other => other,
        })?;
    }
    if !rig.balanced() {
        return Err(Stop::Differs("frames are missing: rx is not tx + to_host + drops".into()));
    }
    conns(&rig, &recording.conns_after)
}

fn replay_step(rig: &mut Rig, step: &Step) -> Result<(), Stop> {
    let mut left = Left::default();
    for frame in &step.input {
        let more = rig.frame(link(&step.in_dev)?, &bytes(frame)?);
        left.sent.extend(more.sent);
        left.to_host += more.to_host;
    }
    let mut expected = Vec::new();
    for output in &step.output {
        let frame = bytes(&output.hex)?;
        // The host's own stack answers what it is handed.
        if left.to_host == 0 || !own_stack(&frame) {
            expected.push((link(&output.dev)?, frame));
        }
    }
    if expected.len() != left.sent.len() {
        return Err(Stop::Differs(format!(
            "expected {} frames, came {} ({} handed to the host)",
            expected.len(),
            left.sent.len(),
            left.to_host
        )));
    }
    let pairs = expected.iter().zip(&left.sent);
    for ((expected_link, expected), (link, frame)) in pairs {
        if expected_link != link || masked(expected) != masked(frame) {
            return Err(Stop::Differs(format!(
                "expected on {}: {}\n    came on {}: {}",
                name(*expected_link),
                hex(expected),
                name(*link),
                hex(frame)
            )));
        }
    }
    Ok(())
}

/// Whether a director's own stack sends such a frame: a reset, an echo reply, ARP.
fn own_stack(frame: &[u8]) -> bool {
    use etherparse::{Icmpv4Type, NetSlice, SlicedPacket, TransportSlice};
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Arp(_)), _) => true,
        (_, Some(TransportSlice::Tcp(tcp))) => tcp.rst(),
        (_, Some(TransportSlice::Icmpv4(icmp))) => {
            matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(_))
        }
        _ => false,
    }
}

fn conns(rig: &Rig, expected: &[ConnAfter]) -> Result<(), Stop> {
    let mut got: Vec<ConnAfter> = rig
        .conns()
        .into_iter()
        .map(|(conn, expires)| ConnAfter {
            proto: match conn.proto {
                6 => "TCP".into(),
                17 => "UDP".into(),
                other => format!("IP protocol {other}"),
            },
            client: format!("{}:{}", conn.caddr, conn.cport),
            virtual_end: format!("{}:{}", conn.vaddr, conn.vport),
            dest: format!("{}:{}", conn.daddr, conn.dport),
            state: proto::state_name(conn.proto, conn.state).into(),
            expires,
        })
        .collect();
    for wanted in expected {
        let same = |conn: &ConnAfter| {
            let lag = conn.expires.checked_sub(wanted.expires);
            let named = ConnAfter { expires: wanted.expires, ..conn.clone() };
            named == *wanted && lag.is_some_and(|lag| lag <= LAG)
        };
        match got.iter().position(same) {
            Some(at) => drop(got.swap_remove(at)),
            None => {
                return Err(Stop::Differs(format!(
                    "connections afterwards: expected {wanted:?}, came {got:?}"
                )));
            }
        }
    }
    match got.first() {
        None => Ok(()),
        Some(extra) => Err(Stop::Differs(format!("a connection too many: {extra:?}"))),
    }
}

fn link(dev: &str) -> Result<LinkId, Stop> {
    match dev {
        "c" => Ok(CLIENT_SIDE),
        "r" => Ok(SERVER_SIDE),
        other => Err(Stop::Malformed(format!("there is no device {other}"))),
    }
}

fn name(link: LinkId) -> &'static str {
    if link == CLIENT_SIDE { "c" } else { "r" }
}

fn bytes(hex: &str) -> Result<Vec<u8>, Stop> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    bytes.ok_or_else(|| Stop::Malformed(format!("`{hex}` is not hexadecimal")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
