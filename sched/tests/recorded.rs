//! What the kernel's schedulers picked, replayed.
//!
//! The recordings are those of `tools/conform`, which replays them through the whole engine. Here
//! the schedulers alone are asked, with a connection table that knows as much as they need: that
//! has no timers and no frames, and IPv4 and IPv6 are alike to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use uvs_sched::{Flags, Flow, Load, Name, Scheduler, Server, ServerId, Servers};

/// A server, with what the control plane knows of it.
struct Dest {
    server: Server,
    upper: u32,
    lower: u32,
}

impl Dest {
    fn bind(&self) {
        let conns = self.server.load.open(false);
        if self.upper != 0 && conns >= self.upper {
            self.server.load.set_overloaded(true);
        }
    }

    fn unbind(&self, active: bool) {
        let conns = self.server.load.close(active);
        let relieved = match (self.lower, self.upper) {
            (0, 0) => true,
            (0, upper) => conns * 4 < upper * 3,
            (lower, _) => conns < lower,
        };
        if relieved {
            self.server.load.set_overloaded(false);
        }
    }
}

/// A connection: its server, and what is left of the TCP state.
struct Conn {
    dest: SocketAddr,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    SynRecv,
    Established,
    FinWait,
    /// TIME_WAIT or CLOSE: a SYN takes its place.
    Over,
}

impl State {
    fn active(self) -> bool {
        matches!(self, Self::SynRecv | Self::Established)
    }

    /// After a client's packet, when the replies are not seen (ip_vs_proto_tcp.c).
    fn after(self, flags: &str) -> Self {
        let has = |flag| flags.contains(flag);
        match self {
            _ if has('R') && self != Self::SynRecv => Self::Over,
            Self::SynRecv if has('R') => Self::SynRecv,
            Self::Established if has('S') => Self::Established,
            _ if has('S') => Self::SynRecv,
            Self::SynRecv if has('F') => Self::Over,
            Self::Established if has('F') => Self::FinWait,
            Self::SynRecv if has('A') => Self::Established,
            state => state,
        }
    }
}

#[derive(Default)]
struct Replay {
    name: Option<Name>,
    flags: Flags,
    scheduler: Option<Scheduler>,
    /// In the kernel's order: the newest first.
    dests: Vec<Dest>,
    removed: Vec<Dest>,
    conns: HashMap<(SocketAddr, SocketAddr), Conn>,
}

fn text<'a>(step: &'a Value, field: &str) -> &'a str {
    step[field].as_str().unwrap_or_default()
}

fn number(step: &Value, field: &str) -> u32 {
    step[field].as_u64().expect(field) as u32
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("address {text}"))
}

impl Replay {
    fn step(&mut self, step: &Value) -> Result<(), String> {
        match text(step, "op") {
            "add_service" | "edit_service" => self.service(step),
            "add_dest" => self.add(step),
            "edit_dest" => self.edit(step),
            "del_dest" => self.delete(step),
            "packet" => return self.packet(step),
            "counts" => return self.counts(step),
            other => panic!("step {other}"),
        }
        Ok(())
    }

    fn service(&mut self, step: &Value) {
        let text_flags = text(step, "flags");
        let has = |flag| text_flags.contains(flag);
        let flags = Flags { port: has("-port"), fallback: has("-fallback") };
        let name: Name = text(step, "scheduler").parse().unwrap();
        if self.name != Some(name) {
            self.scheduler = None;
        } else if self.flags == flags || !name.has_flags() {
            // The list is the same: the scheduler is told nothing, and wrr's cursor stays.
            return;
        }
        (self.name, self.flags) = (Some(name), flags);
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let list: Servers = self.dests.iter().map(|dest| dest.server.clone()).collect();
        self.scheduler = Some(match &self.scheduler {
            Some(scheduler) => scheduler.rebuild(list, self.flags),
            None => Scheduler::build(self.name.unwrap(), list, self.flags),
        });
    }

    fn add(&mut self, step: &Value) {
        let at = address(text(step, "dest"));
        let is = |dest: &Dest| (dest.server.address, dest.server.port) == (at.ip(), at.port());
        let known = self.removed.iter().position(is).map(|found| self.removed.remove(found));
        let mut dest = known.unwrap_or_else(|| Dest {
            server: Server {
                id: ServerId(self.dests.len() as u32 + 1000 * self.conns.len() as u32),
                address: at.ip(),
                port: at.port(),
                weight: 0,
                last_weight: 0,
                load: Arc::new(Load::default()),
            },
            upper: 0,
            lower: 0,
        });
        set(&mut dest, step);
        dest.server.last_weight = dest.server.weight;
        self.dests.insert(0, dest);
        self.rebuild();
    }

    fn edit(&mut self, step: &Value) {
        let at = self.find(text(step, "dest")).expect("a server to edit");
        set(&mut self.dests[at], step);
        self.rebuild();
    }

    fn delete(&mut self, step: &Value) {
        let at = self.find(text(step, "dest")).expect("a server to remove");
        let dest = self.dests.remove(at);
        self.removed.push(dest);
        self.rebuild();
    }

    fn find(&self, dest: &str) -> Option<usize> {
        let at = address(dest);
        self.dests.iter().position(|d| (d.server.address, d.server.port) == (at.ip(), at.port()))
    }

    fn place(&self, at: SocketAddr) -> Option<usize> {
        self.find(&at.to_string())
    }

    /// Tells a server's load and the scheduler.
    fn change(&self, at: SocketAddr, change: impl FnOnce(&Dest)) {
        let is = |dest: &&Dest| (dest.server.address, dest.server.port) == (at.ip(), at.port());
        let dest = self.dests.iter().chain(&self.removed).find(is);
        change(dest.expect("a server of a connection"));
        if let (Some(place), Some(scheduler)) = (self.place(at), &self.scheduler) {
            scheduler.changed(place);
        }
    }

    fn packet(&mut self, step: &Value) -> Result<(), String> {
        let flow = (address(text(step, "src")), address(text(step, "dst")));
        let opens = |flags: &str| flags.contains('S') && !flags.contains('R');
        let (tcp, flags) = (text(step, "proto") == "tcp", text(step, "flags"));
        let old = self.conns.get(&flow);
        if tcp && opens(flags) && old.is_some_and(|conn| conn.state == State::Over) {
            let conn = self.conns.remove(&flow).unwrap();
            self.change(conn.dest, |dest| dest.unbind(conn.state.active()));
        }
        if !self.conns.contains_key(&flow) {
            // What never opens a connection tells nothing about schedulers.
            if tcp && !opens(flags) {
                return Ok(());
            }
            let picked = self.schedule(flow, text(step, "proto"));
            if picked != step["picked"].as_str().map(address) {
                return Err(format!("picked {picked:?}"));
            }
            let Some(dest) = picked else { return Ok(()) };
            self.conns.insert(flow, Conn { dest, state: State::New });
            self.change(dest, Dest::bind);
        }
        let (conn, proto) = (&self.conns[&flow], text(step, "proto"));
        let (dest, before) = (conn.dest, conn.state);
        if self.place(dest).is_none() {
            return Ok(());
        }
        let after = match proto {
            "tcp" => before.after(flags),
            "sctp" if flags == "COOKIE_ECHO" => State::Established,
            _ => before,
        };
        self.conns.get_mut(&flow).unwrap().state = after;
        if before.active() != after.active() {
            self.change(dest, |dest| dest.server.load.turn(after.active()));
        }
        Ok(())
    }

    fn schedule(
        &self,
        (source, destination): (SocketAddr, SocketAddr),
        proto: &str,
    ) -> Option<SocketAddr> {
        let protocol = match proto {
            "tcp" => 6,
            "udp" => 17,
            "sctp" => 132,
            other => panic!("protocol {other}"),
        };
        let flow = Flow {
            protocol,
            source: source.ip(),
            source_port: source.port(),
            destination: destination.ip(),
            destination_port: destination.port(),
            now: 0,
        };
        let at = self.scheduler.as_ref()?.pick(&flow)?;
        let server = &self.dests[at].server;
        Some(SocketAddr::new(server.address, server.port))
    }

    fn counts(&self, step: &Value) -> Result<(), String> {
        let counts = step["dests"].as_object().unwrap();
        let count = |dest: &Dest| {
            let (active, inactive) = dest.server.load.conns();
            let at = SocketAddr::new(dest.server.address, dest.server.port);
            (at.to_string(), serde_json::json!([dest.server.weight, active, inactive]))
        };
        let counted: serde_json::Map<String, Value> = self.dests.iter().map(count).collect();
        let same = counts.len() == counted.len()
            && counts
                .iter()
                .all(|(at, count)| counted.get(&address(at).to_string()) == Some(count));
        if same { Ok(()) } else { Err(format!("counted {counted:?}, not {counts:?}")) }
    }
}

/// A raised or lifted upper threshold ends an overload (ip_vs_ctl.c, __ip_vs_update_dest).
fn set(dest: &mut Dest, step: &Value) {
    let (weight, upper) = (number(step, "weight"), number(step, "u_threshold"));
    if upper == 0 || upper > dest.upper {
        dest.server.load.set_overloaded(false);
    }
    if weight != 0 {
        dest.server.last_weight = weight;
    }
    (dest.server.weight, dest.upper, dest.lower) = (weight, upper, number(step, "l_threshold"));
}

fn replay(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let recording: Value = serde_json::from_str(&text).unwrap();
    let mut replay = Replay::default();
    for (at, step) in recording["steps"].as_array().unwrap().iter().enumerate() {
        let told = |error| format!("{}: step {at}, {step}: {error}", path.display());
        replay.step(step).map_err(told)?;
    }
    Ok(())
}

fn recordings() -> Vec<PathBuf> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/conform/cases/sched");
    let paths = std::fs::read_dir(cases).expect("the recordings of tools/conform");
    let mut paths: Vec<PathBuf> = paths.map(|entry| entry.unwrap().path()).collect();
    // These are about the first packet's TCP state, not about the server that it gets.
    paths.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("nonsyn_first"));
    paths.sort();
    paths
}

#[test]
fn picks_are_the_kernels() {
    let recordings = recordings();
    let failed: Vec<String> = recordings.iter().filter_map(|path| replay(path).err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), recordings.len(), failed.join("\n"));
    assert!(recordings.len() > 100, "{}", recordings.len());
}
