//! `uvs demo`: every forwarding method over every port, with real servers and real traffic.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use uvs_control::api::Counters;
use uvs_lab::{
    Arms, Director, DirectorOptions, ECHO_PORT, HTTP_PORT, LabOptions, Load, Method, Network,
    Servers, Tally, UdpJob,
};

use crate::{Failure, stats};

/// HTTP requests of a run, each over a connection of its own, by curl.
const REQUESTS: u64 = 1000;
/// UDP datagrams of a run.
const DATAGRAMS: u64 = 1000;
/// How long the throughput of a run is measured.
const DOWNLOAD: Duration = Duration::from_secs(1);

/// A forwarding method, as the demo's option takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Direct routing.
    Dr,
    /// Network address translation.
    Nat,
    /// IPIP tunnels.
    Tun,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::Dr, Mode::Nat, Mode::Tun];

    fn method(self) -> Method {
        match self {
            Mode::Dr => Method::Route,
            Mode::Nat => Method::Masq,
            Mode::Tun => Method::Tunnel,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Mode::Dr => "DR",
            Mode::Nat => "NAT",
            Mode::Tun => "TUN",
        }
    }
}

/// A port, as the demo's option takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PortKind {
    /// AF_XDP sockets.
    Afxdp,
    /// Raw packet sockets.
    Raw,
}

impl PortKind {
    const ALL: [PortKind; 2] = [PortKind::Afxdp, PortKind::Raw];

    fn name(self) -> &'static str {
        match self {
            PortKind::Afxdp => "afxdp",
            PortKind::Raw => "raw",
        }
    }
}

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this forwarding method [default: all three].
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Only this port [default: both].
    #[arg(long, value_enum)]
    port: Option<PortKind>,
    /// Leave the network and the engine up, and print commands to play with it.
    #[arg(long, conflicts_with_all = ["down", "json"])]
    keep: bool,
    /// Take down what --keep left.
    #[arg(long)]
    down: bool,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
}

/// What one run of a mode over a port came to.
#[derive(Debug, serde::Serialize)]
struct Run {
    mode: &'static str,
    port: String,
    http: Tally,
    udp: Tally,
    download_mbits: f64,
    counters: Counters,
}

impl Run {
    fn good(&self) -> bool {
        self.http.is_clean() && self.udp.is_clean() && self.counters.balanced()
    }
}

/// Runs the demo; the exit code is 1 when any answer was wrong or missing.
pub fn demo(options: &Options) -> Result<ExitCode, Failure> {
    if options.down {
        uvs_lab::down()?;
        return Ok(ExitCode::SUCCESS);
    }
    let interrupted = Interrupt::catch()?;
    let progress = Progress::new();
    if options.keep {
        return keep(options, &progress);
    }
    let mut runs = Vec::new();
    for mode in options.mode.map_or(Mode::ALL.to_vec(), |mode| vec![mode]) {
        match show(mode, options.port, &progress, &interrupted)? {
            Some(more) => runs.extend(more),
            None => {
                progress.clear();
                eprintln!("uvs: interrupted; the network is taken down");
                return Ok(ExitCode::from(130));
            }
        }
    }
    progress.clear();
    let text = if options.json { serde_json::to_string_pretty(&runs)? } else { table(&runs) };
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    let good = runs.iter().all(Run::good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One mode over its ports, on one network; `None` when interrupted.
fn show(
    mode: Mode,
    only: Option<PortKind>,
    progress: &Progress,
    interrupted: &Interrupt,
) -> Result<Option<Vec<Run>>, Failure> {
    let mut runs = Vec::new();
    let network = up(mode, progress)?;
    let servers = Servers::start(&network, &mut |line| progress.say(mode.name(), line))?;
    for port in only.map_or(PortKind::ALL.to_vec(), |port| vec![port]) {
        if interrupted.came() {
            return Ok(None);
        }
        let run = run(&network, mode, port, progress);
        if interrupted.came() {
            return Ok(None);
        }
        runs.push(run?);
    }
    drop(servers);
    Ok(Some(runs))
}

fn up(mode: Mode, progress: &Progress) -> Result<Network, Failure> {
    // NAT stands between two networks; with DR and TUN one arm is usual.
    let arms = if mode == Mode::Nat { Arms::Two } else { Arms::One };
    let options = LabOptions { arms, method: mode.method(), ..LabOptions::default() };
    Ok(Network::up(&options, &mut |line| progress.say(mode.name(), line))?)
}

fn run(network: &Network, mode: Mode, port: PortKind, progress: &Progress) -> Result<Run, Failure> {
    let title = format!("{} over {}", mode.name(), port.name());
    progress.say(&title, "starting the engine");
    let director = Director::start(network, &DirectorOptions::of(port.name()))?;
    let load = Load::on(network);
    progress.say(&title, &format!("{REQUESTS} HTTP requests by curl"));
    let http = load.curl(network.service(HTTP_PORT), REQUESTS)?;
    progress.say(&title, &format!("{DATAGRAMS} UDP datagrams"));
    let job = UdpJob { datagrams: DATAGRAMS, ..UdpJob::to(network.service(ECHO_PORT)) };
    let udp = load.udp(&job)?;
    progress.say(&title, "downloading for a second");
    let download = load.download(network.service(HTTP_PORT), DOWNLOAD)?;
    let run = Run {
        mode: mode.name(),
        port: director.port(),
        http,
        udp,
        download_mbits: download.megabits_per_second(),
        counters: director.counters()?,
    };
    director.stop()?;
    Ok(run)
}

/// Leaves one network up.
fn keep(options: &Options, progress: &Progress) -> Result<ExitCode, Failure> {
    let mode = options.mode.unwrap_or(Mode::Dr);
    let port = options.port.map_or("auto", PortKind::name);
    let network = up(mode, progress)?;
    let servers = Servers::start(&network, &mut |line| progress.say(mode.name(), line))?;
    let director = Director::start(&network, &DirectorOptions::of(port))?;
    progress.clear();
    let mut text = format!("{} over {} is up. To play with it:\n\n", mode.name(), director.port());
    let socket = format!("UVS_SOCKET={}", director.socket().display());
    let program = network.program().display();
    let mut commands = network.commands();
    commands.extend([
        (format!("{socket} {program} adm -L -n"), "services and servers"),
        (format!("{socket} {program} adm -L -n -c"), "connections"),
        (format!("{socket} {program} stats"), "what became of every frame"),
        (format!("{program} demo --down"), "take it all down"),
    ]);
    for (command, meaning) in commands {
        let _ = writeln!(text, "  # {meaning}\n  {command}");
    }
    servers.keep();
    director.keep();
    network.keep()?;
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The results, a line a run, and what went wrong below.
fn table(runs: &[Run]) -> String {
    let head = ["mode", "port", "load", "requests", "answers", "spread", "throughput"];
    let mut rows = vec![head.map(str::to_owned)];
    for run in runs {
        let http = format!("{:.0} Mbit/s", run.download_mbits);
        rows.push(row(run, "HTTP", &run.http, http));
        let udp = format!("{:.0} answers/s", run.udp.answers_per_second());
        rows.push(row(run, "UDP", &run.udp, udp));
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Figures to the right, words to the left.
            let _ = match at {
                3 | 4 | 6 => write!(text, "{cell:>width$}   "),
                _ => write!(text, "{cell:<width$}   "),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push_str("\nevery frame, by the engine's own counters:\n");
    for run in runs {
        let equation = stats::equation(&run.counters);
        let _ = writeln!(text, "  {:<4} {:<18} {equation}", run.mode, run.port);
    }
    for (run, tally) in runs.iter().flat_map(|run| [(run, &run.http), (run, &run.udp)]) {
        if let Some(complaint) = &tally.complaint {
            let (wrong, lost) = (tally.wrong, tally.lost);
            let _ = writeln!(
                text,
                "\n{} over {}: {wrong} wrong, {lost} lost: {complaint}",
                run.mode, run.port
            );
        }
    }
    let verdict = if runs.iter().all(Run::good) {
        "every request had its right answer"
    } else {
        "NOT every request had its right answer"
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn row(run: &Run, load: &str, tally: &Tally, throughput: String) -> [String; 7] {
    let spread: Vec<String> = tally.answers.values().map(u64::to_string).collect();
    [
        run.mode.to_owned(),
        run.port.clone(),
        load.to_owned(),
        tally.requests.to_string(),
        tally.answered().to_string(),
        spread.join(" / "),
        throughput,
    ]
}

/// Ctrl-C and SIGTERM, noticed between the steps of a demo. Children have process groups of their
/// own, so that only the demo itself is interrupted and takes them down.
struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn catch() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second one ends the demo at once; the lab's undertaker cleans up then.
            signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())?;
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    fn came(&self) -> bool {
        // Relaxed: the flag stands for itself.
        self.0.load(Ordering::Relaxed)
    }
}

/// Says what is going on: one line that changes on a terminal, a line a step elsewhere.
struct Progress {
    terminal: bool,
    start: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), start: Instant::now() }
    }

    fn say(&self, title: &str, line: &str) {
        let seconds = self.start.elapsed().as_secs();
        let mut stderr = io::stderr();
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K[{seconds:>2} s] {title}: {line}"),
            false => writeln!(stderr, "[{seconds:>2} s] {title}: {line}"),
        };
    }

    fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
