//! What the tests of the whole program stand on: a lab with servers in it, the program, and steps
//! into the lab's namespaces.
//!
//! Labs need root; without it each test says why it is skipped, and does nothing.

#![allow(dead_code, unused_imports, reason = "each test crate uses a part")]

mod conversation;
mod flood;
mod queues;
mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use uvs_control::api::Counters;
use uvs_lab::{
    Arms, Director, DirectorOptions, HTTP_PORT, Host, LabOptions, Load, Method, Network, Servers,
    Tally, ready,
};
use uvs_uvsadm::api::{Service, Stats};

pub use conversation::{Conversation, Conversations};
pub use flood::Flood;
pub use queues::{cores, queues_by_core, stay_on, two_queues};
pub use wire::{Wire, checksum, ipv4, mac, tcp, udp};

/// Both kinds of port, in uvs.toml's words.
pub const PORTS: [&str; 2] = ["afxdp", "raw"];

/// How long something that must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test.
pub fn uvs() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_uvs"))
}

/// A network with running servers; all of it goes when this is dropped.
pub struct Lab {
    pub servers: Servers,
    pub network: Network,
}

impl Lab {
    /// A lab with three servers; `None`, and the reason on stderr, where none can be made.
    pub fn up(arms: Arms, method: Method) -> Option<Self> {
        Self::with(LabOptions { arms, method, ..LabOptions::default() })
    }

    /// As [`up`](Self::up), with IPv6 beside IPv4.
    pub fn of_both_families(arms: Arms, method: Method) -> Option<Self> {
        Self::with(LabOptions { arms, method, ipv6: true, ..LabOptions::default() })
    }

    /// A lab as told, with the program under test.
    pub fn with(options: LabOptions) -> Option<Self> {
        if let Err(reason) = ready() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let options = LabOptions { program: Some(uvs()), ..options };
        let network = Network::up(&options, &mut |_| {}).unwrap();
        let servers = Servers::start(&network, &mut |_| {}).unwrap();
        Some(Self { servers, network })
    }

    /// Starts the engine, with round robin.
    pub fn engine(&self, port: &str) -> Director {
        Director::start(&self.network, &DirectorOptions::of(port)).unwrap()
    }

    /// Traffic from the client.
    pub fn load(&self) -> Load<'_> {
        Load::on(&self.network)
    }

    /// A socket of the client's that is connected to an echo.
    pub fn client_udp(&self, echo: impl Into<SocketAddr>) -> UdpSocket {
        let echo = echo.into();
        let any = if echo.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.inside(Host::Client, || UdpSocket::bind(any).unwrap());
        socket.connect(echo).unwrap();
        socket
    }

    /// Opens long-lived connections from the client and lets them go on.
    pub fn converse(&self, count: usize) -> Conversations {
        let target = self.network.service(HTTP_PORT);
        let open = || (0..count).map(|_| Conversation::open(target).unwrap()).collect();
        self.inside(Host::Client, || Conversations::start(open()))
    }

    /// Runs `work` on a thread that lives on `host`; threads that it starts live there too.
    pub fn inside<R: Send>(&self, host: Host, work: impl FnOnce() -> R + Send) -> R {
        uvs_lab::inside(&self.network.namespace(host), work).unwrap()
    }

    /// Runs the program on a host, with `socket` as the engine that it asks.
    pub fn uvs(&self, host: Host, arguments: &[&str]) -> Output {
        let mut command = self.network.command(host, uvs().to_str().unwrap());
        let socket = self.network.folder().join("uvs.sock");
        command.args(arguments).env("UVS_SOCKET", socket).output().unwrap()
    }

    /// `uvs adm`; its words are separated by spaces, it must succeed, and what it prints is given.
    pub fn adm(&self, line: &str) -> String {
        let words: Vec<&str> = std::iter::once("adm").chain(line.split_whitespace()).collect();
        let output = self.uvs(Host::Director, &words);
        assert!(output.status.success(), "uvs adm {line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// All that a program could have changed on the director: interfaces with the programs on
    /// them, addresses, routes, queueing disciplines with their filters, settings, packet sockets.
    pub fn state(&self) -> String {
        let run = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.network.run_in(Host::Director, words[0], &words[1..]).unwrap()
        };
        let mut state = run("ip -d link") + &run("ip addr") + &run("ip route show table all");
        state += &run("tc qdisc show");
        for interface in self.network.director_interfaces() {
            state += &run(&format!("tc filter show dev {interface} ingress"));
        }
        state += &run("sysctl -e -a -r net[.]ipv[46][.](conf|neigh|ip_forward)");
        let sockets = self.inside(Host::Director, || {
            std::fs::read_to_string("/proc/thread-self/net/packet").unwrap()
        });
        state + &format!("{} packet sockets\n", sockets.lines().count() - 1)
    }

    /// The namespaces of this lab.
    pub fn namespaces(&self) -> Vec<String> {
        let names = std::fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap());
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        let prefix = format!("{}-", self.network.name());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(&prefix)).collect();
        names.sort();
        names
    }
}

/// The services for HTTP and for the UDP echo, with what they counted once traffic is over.
pub fn services(engine: &Director) -> [Service; 2] {
    let all = |stats: &Stats| stats.conns + stats.in_pkts + stats.out_pkts;
    settled(engine, all).try_into().expect("the lab's engine has two services")
}

/// The services once these figures stand still: they move on a tick of two seconds.
pub fn settled(engine: &Director, figure: impl Fn(&Stats) -> u64) -> Vec<Service> {
    let mut before = engine.client().services().unwrap();
    loop {
        std::thread::sleep(Duration::from_millis(2500));
        let now = engine.client().services().unwrap();
        let same =
            |(now, before): (&Service, &Service)| figure(&now.stats) == figure(&before.stats);
        if now.iter().zip(&before).all(same) {
            return now;
        }
        before = now;
    }
}

/// Sends a datagram of so many bytes and waits for its echo; what is behind the server's name in it
/// must be what was sent. False when nothing came in time.
pub fn is_echoed(socket: &UdpSocket, bytes: usize, patience: Duration) -> bool {
    let datagram: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    socket.set_read_timeout(Some(patience)).unwrap();
    // What an ICMP error said of an earlier datagram is no answer to this one.
    while let Err(error) = socket.send(&datagram) {
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "{error}");
    }
    let mut echo = vec![0; 1 << 16];
    match socket.recv(&mut echo) {
        Ok(len) => {
            assert!(echo[..len].ends_with(&datagram), "{bytes} bytes came back changed");
            true
        }
        Err(_) => false,
    }
}

/// What a command printed, for a test's complaint.
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Waits until `done`, or fails with `what`.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every frame was accounted for, and none dropped.
#[track_caller]
pub fn assert_nothing_dropped(counters: &Counters) {
    assert!(counters.balanced(), "{counters:?}");
    assert_eq!(counters.dropped_frames(), 0, "{counters:?}");
}

/// Every answer came, and round robin gave each server of the service as many connections as any
/// other, or one more.
///
/// The answers may differ by a little more: a client that uses a port again while the table still
/// has its last connection reaches that one's server, as with the kernel's IPVS. Linux does so now
/// and then where many connect at once.
#[track_caller]
pub fn assert_spread_evenly(tally: &Tally, service: &Service) {
    assert!(tally.is_clean(), "{tally:?}");
    let opened: Vec<u64> = service.dests.iter().map(|dest| dest.stats.conns).collect();
    let (least, most) = (opened.iter().min().unwrap(), opened.iter().max().unwrap());
    assert!(most - least <= 1, "{service:?}");
    let flows: u64 = opened.iter().sum();
    assert!(service.stats.conns == flows && flows <= tally.requests, "{service:?}");
    let each = tally.requests / service.dests.len() as u64;
    let even = |answers: &u64| answers.abs_diff(each) <= 1 + each / 10;
    assert_eq!(tally.answers.len(), service.dests.len(), "{tally:?}");
    assert!(tally.answers.values().all(even), "{tally:?}");
}

/// A command without input, whose output is caught.
pub fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}
