//! How fast the two are, on the same machine, one after the other.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use uvs_lab::{Twin, inside};
use uvs_uvsadm::api::Protocol;

use super::Services;
use super::traffic::{Flow, client, opening, question};
use super::twins::Twins;
use crate::Failure;

/// Connections over which packets go.
const FLOWS: usize = 256;

/// The first client, behind those that made conversations.
const FIRST: usize = 200_000;

/// Of /proc/stat, a second.
const JIFFIES: f64 = 100.0;

/// One of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// New connections a second: first packets that reached a server.
    pub connections: f64,
    /// Packets of known connections a second that reached a server.
    pub packets: f64,
    /// Processor time a packet in microseconds: all that the machine did meanwhile, sending and
    /// whoever else was busy included.
    pub processor: f64,
}

/// Both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// The kernel's.
    pub kernel: Rate,
    /// uvs's.
    pub uvs: Rate,
}

/// Measures both over the first TCP service by address; `None` when there is none.
pub fn measure(
    twins: &Twins,
    services: &Services,
    time: Duration,
) -> Result<Option<Rates>, Failure> {
    let keys = services.targets.keys();
    let tcp = |key: &&uvs_uvsadm::api::ServiceKey| key.protocol() == Some(Protocol::Tcp);
    let Some(end) = keys.filter(tcp).find_map(|key| key.endpoint()) else { return Ok(None) };
    let vip = SocketAddr::new(end.address, if end.port == 0 { 8080 } else { end.port });
    Ok(Some(Rates {
        kernel: rate(twins, Twin::Kernel, vip, time)?,
        uvs: rate(twins, Twin::Uvs, vip, time)?,
    }))
}

fn rate(twins: &Twins, twin: Twin, vip: SocketAddr, time: Duration) -> Result<Rate, Failure> {
    let flow = |place: usize| Flow::new(client(vip.ip(), FIRST + place), vip, Protocol::Tcp);
    let mut place = 0;
    let mut next = || {
        place += 1;
        flow(place).frame(&opening())
    };
    let (connections, _) = load(twins, twin, time, &mut next)?;
    let frames: Vec<_> = (1..=FLOWS).map(|place| flow(place).frame(&question())).collect();
    let mut turn = frames.iter().cycle();
    let mut again = || turn.next().cloned().unwrap_or_default();
    let (packets, processor) = load(twins, twin, time, &mut again)?;
    Ok(Rate { connections, packets, processor })
}

/// Sends for a time; gives what reached a server a second, and microseconds of the processors'
/// time for each.
fn load(
    twins: &Twins,
    twin: Twin,
    time: Duration,
    next: &mut dyn FnMut() -> Vec<u8>,
) -> Result<(f64, f64), Failure> {
    let [clients, _] = twins.wires(twin);
    let (came, busy, begun) = (came(twins, twin)?, busy()?, Instant::now());
    while begun.elapsed() < time {
        let frame = next();
        while !clients.send(&frame)? && begun.elapsed() < time {
            std::thread::yield_now();
        }
    }
    let took = begun.elapsed().as_secs_f64();
    let processor = self::busy()? - busy;
    let reached = (self::came(twins, twin)? - came) as f64;
    Ok((reached / took, processor * 1e6 / reached.max(1.0)))
}

/// Frames that have come to the servers of one of the two.
fn came(twins: &Twins, twin: Twin) -> Result<u64, Failure> {
    let [_, wire] = twin.wires();
    let text = inside(&twins.pair.wires(), || fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(&wire)?.strip_prefix(':'));
    let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    packets.ok_or_else(|| Failure(format!("/proc/net/dev does not tell of {wire}")))
}

/// Seconds that the processors have been busy.
fn busy() -> Result<f64, Failure> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let figures: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|figure| figure.parse().ok()).collect();
    // Fourth and fifth are idle and waiting (proc(5)).
    let idle = |at: &usize| ![3, 4].contains(at);
    let busy: f64 = (0..figures.len().min(8)).filter(idle).map(|at| figures[at]).sum();
    Ok(busy / JIFFIES)
}
