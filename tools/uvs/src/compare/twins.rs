//! The two directors at work: configured alike, given the same frames, watched on all cables.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use uvs_control::client::Client;
use uvs_control::plan::plan;
use uvs_control::rules::Targets;
use uvs_lab::{Guard, Pair, Twin, Wire, inside};

use super::traffic::Side;
use super::{Options, Services};
use crate::Failure;

/// How long an engine may take to answer, and to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a frame that only one of the two has sent is waited for at the other: as long as a busy
/// machine may keep uvs from running, for what comes later counts as the next frame's.
const LATE: Duration = Duration::from_secs(3);

/// How long is waited for what still comes at the end.
const REST: Duration = Duration::from_millis(300);

/// How long is waited for a frame that neither sends.
const QUIET: Duration = Duration::from_millis(20);

/// What left a director after one frame, in the order in which it left on each side.
#[derive(Debug, Default)]
pub struct Left {
    /// To the clients.
    pub clients: Vec<Vec<u8>>,
    /// To the servers.
    pub servers: Vec<Vec<u8>>,
}

impl Left {
    /// The frames of both sides.
    pub fn frames(&self) -> usize {
        self.clients.len() + self.servers.len()
    }
}

/// The directors; all of it goes when this is dropped.
pub struct Twins {
    engine: Option<Guard>,
    /// The engine.
    pub client: Client,
    /// The network.
    pub pair: Pair,
    /// The kernel's cables and uvs's, of each the clients' end first.
    wires: [[Wire; 2]; 2],
}

impl Twins {
    /// Makes both, with these services.
    pub fn up(options: &Options, services: &Services) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let pair = Pair::up(&program, &services.vips, &services.servers)?;
        let wires = inside(&pair.wires(), || {
            let [kernel, uvs] = Twin::BOTH.map(open);
            Ok::<_, uvs_lab::Error>([kernel?, uvs?])
        })??;
        let socket = pair.folder().join("uvs.sock");
        let engine = start(&pair, &program, &socket, &options.port)?;
        let client = Client::new(&socket);
        // One by one, as the kernel gets them: wrr goes on from where a change finds it.
        for change in plan(&Targets::new(), &services.targets) {
            client.change(&[change])?;
        }
        mirror(&pair, &program, &socket)?;
        Ok(Self { engine: Some(engine), client, pair, wires })
    }

    /// Sends a frame to both and gives what leaves them, the kernel's first.
    pub fn send(&mut self, side: Side, frame: &[u8]) -> Result<[Left; 2], Failure> {
        for wires in &self.wires {
            wires[side as usize].send(frame)?;
        }
        let mut left = [Left::default(), Left::default()];
        let begun = Instant::now();
        loop {
            self.collect(&mut left);
            let [kernel, uvs] = &left;
            let patience = match (kernel.frames(), uvs.frames()) {
                (0, 0) => QUIET,
                (kernel, uvs) if kernel == uvs => Duration::ZERO,
                _ => LATE,
            };
            if begun.elapsed() >= patience {
                return Ok(left);
            }
            std::thread::yield_now();
        }
    }

    /// What still comes when nothing is sent any more.
    pub fn rest(&mut self) -> [Left; 2] {
        std::thread::sleep(REST);
        let mut left = [Left::default(), Left::default()];
        self.collect(&mut left);
        left
    }

    fn collect(&mut self, left: &mut [Left; 2]) {
        for ([clients, servers], left) in self.wires.iter_mut().zip(left) {
            let ends = [(clients, &mut left.clients), (servers, &mut left.servers)];
            for (wire, frames) in ends {
                while let Some(frame) = wire.receive() {
                    if !is_neighbourly(frame) {
                        frames.push(frame.to_vec());
                    }
                }
            }
        }
    }

    /// The wires of one director, the clients' first, for whoever sends without looking.
    pub fn wires(&self, twin: Twin) -> &[Wire; 2] {
        &self.wires[twin as usize]
    }
}

impl Drop for Twins {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            let _ = engine.stop(PATIENCE);
        }
    }
}

/// The ends of a director's cables, the clients' first.
fn open(twin: Twin) -> Result<[Wire; 2], uvs_lab::Error> {
    let [clients, servers] = twin.wires();
    Ok([Wire::open(&clients)?, Wire::open(&servers)?])
}

/// Starts an engine without services and waits until it answers.
fn start(pair: &Pair, program: &Path, socket: &Path, port: &str) -> Result<Guard, Failure> {
    let (config, log) = (pair.folder().join("uvs.toml"), pair.folder().join("uvs.log"));
    let text = format!(
        "outside = \"c1\"\ninside = \"r1\"\nmode = {port:?}\nconnections = 1000000\n\
         socket = {socket:?}\n"
    );
    fs::write(&config, text)?;
    let mut command = pair.command(Twin::Uvs, program);
    command.args(["run", "--config"]).arg(&config);
    let mut engine = Guard::spawn(command.stdout(Stdio::null()).stderr(File::create(&log)?))?;
    let deadline = Instant::now() + PATIENCE;
    while Client::new(socket).counters().is_err() {
        if engine.ended().is_some() || Instant::now() > deadline {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure(format!("the engine does not run: {}", said.trim_end())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(engine)
}

/// Has the kernel hold what uvs holds.
fn mirror(pair: &Pair, program: &Path, socket: &Path) -> Result<(), Failure> {
    let mut command = pair.command(Twin::Kernel, program);
    let output = command.args(["mirror", "--to-kernel"]).env("UVS_SOCKET", socket).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Failure(said.trim().trim_start_matches("uvs: ").to_owned()))
        }
    }
}

/// Whether it is said by a host's own stack to its neighbours: ARP, neighbour discovery, group
/// membership.
fn is_neighbourly(frame: &[u8]) -> bool {
    const ARP: [u8; 2] = [0x08, 0x06];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    const ICMPV6: u8 = 58;
    let kind = frame.get(12..14).unwrap_or_default();
    let next = frame.get(20).copied();
    // Membership reports have a hop-by-hop header before theirs.
    kind == ARP
        || kind == IPV6 && next == Some(0)
        || kind == IPV6
            && next == Some(ICMPV6)
            && frame.get(54).is_some_and(|kind| (130..=143).contains(kind))
}
