//! The connection table against its bars: memory, lookups, insertions, expiry, two threads.
//!
//! `--full` adds the large run: 100 M connections inserted, looked up and expired.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use uvs_bench::bars::Cost;
use uvs_bench::conns::Family;
use uvs_bench::machine::Machine;
use uvs_bench::table::{Nanos, Pair, Rig};

/// Connections of the large run.
const LARGE: u32 = 100_000_000;

/// How long the threads of a round work.
const SPAN: Duration = Duration::from_secs(2);

type Failure = Box<dyn Error + Send + Sync>;

/// What the command line asks for.
struct Options {
    connections: u32,
    rounds: usize,
    full: bool,
    json: bool,
    save: bool,
}

/// A line of the table.
#[derive(Serialize)]
struct Row {
    what: String,
    unit: &'static str,
    measured: f64,
    /// The fastest: what it is when nobody else uses caches and cores.
    least: Option<f64>,
    /// By the thread's processor time, all in.
    mean: Option<f64>,
    bar: Option<Bar>,
}

/// What it may or must be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// The result, as it is saved.
#[derive(Serialize)]
struct Outcome {
    machine: Machine,
    connections: u32,
    rounds: usize,
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-table: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = options()?;
    let mut outcome = Outcome {
        machine: Machine::here(),
        connections: options.connections,
        rounds: options.rounds,
        rows: Vec::new(),
    };
    if options.full {
        // Whether it fits is better known at once.
        drop(Rig::new(Family::V4, LARGE)?);
    }
    for family in [Family::V4, Family::V6] {
        measure(family, &options, &mut outcome.rows)?;
    }
    outcome.rows.push(pair(&options)?);
    if options.full {
        large(&mut outcome.rows)?;
    }
    outcome.show(&options)
}

fn options() -> Result<Options, Failure> {
    const USAGE: &str =
        "usage: bench-table [--connections N] [--rounds N] [--full] [--json] [--save]";
    let (connections, rounds) = (10_000_000, 11);
    let mut options = Options { connections, rounds, full: false, json: false, save: false };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u32>().ok()).filter(|n| *n > 0);
        match word.as_str() {
            "--connections" => options.connections = number().ok_or(USAGE)?,
            "--rounds" => options.rounds = number().ok_or(USAGE)? as usize,
            "--full" => options.full = true,
            "--json" => options.json = true,
            "--save" => options.save = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

/// Says on the terminal what goes on.
struct Progress {
    what: String,
    begun: Instant,
}

impl Progress {
    fn of(what: impl Into<String>) -> Self {
        let this = Self { what: what.into(), begun: Instant::now() };
        this.say("");
        this
    }

    fn say(&self, rest: &str) {
        if std::io::stderr().is_terminal() {
            eprint!("\r{} {rest}\x1b[K", self.what);
            // Nothing depends on it.
            let _ = std::io::stderr().flush();
        }
    }

    fn connections(&self, count: u32) {
        self.say(&format!("{:.1} M", f64::from(count) / 1e6));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.say("");
        let end = if std::io::stderr().is_terminal() { "\r" } else { "" };
        eprintln!("{end}{}: {:.1} s", self.what, self.begun.elapsed().as_secs_f64());
    }
}

fn fill(rig: &mut Rig, what: String) -> uvs_bench::table::Filled {
    let progress = Progress::of(what);
    rig.fill(&mut |count| progress.connections(count))
}

fn expire(rig: &mut Rig, what: String) -> Nanos {
    let progress = Progress::of(what);
    rig.expire(&mut |count| progress.connections(count))
}

/// The bars of one family. All but memory count for a table whose memory has been in use before.
fn measure(family: Family, options: &Options, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let bars = family == Family::V4;
    let v = family.as_str();
    let mut rig = Rig::new(family, options.connections)?;
    let first = fill(&mut rig, format!("{v}: first filling"));
    let most = if bars { 88.0 } else { 160.0 };
    rows.push(Row::bytes(format!("memory, a {v} connection, 80 % full"), first.bytes, most));

    let progress = Progress::of(format!("{v}: look-ups"));
    let cost = Cost::of((0..options.rounds).map(|_| rig.look_up()).collect());
    drop(progress);
    let (measured, least, bar) = (cost.median, Some(cost.least), bars.then_some(Bar::AtMost(30.0)));
    let what = format!("look-up, {v}, batches of 64");
    rows.push(Row { what, unit: "ns", measured, least, mean: None, bar });

    expire(&mut rig, format!("{v}: expiry"));
    let again = fill(&mut rig, format!("{v}: second filling"));
    let end = expire(&mut rig, format!("{v}: expiry again"));
    let most = |most: f64| bars.then_some(Bar::AtMost(most));
    rows.push(Row::nanos(format!("insertion, {v}"), &again.insert, most(100.0)));
    rows.push(Row::nanos(format!("insertion, {v}, untouched memory"), &first.insert, None));
    rows.push(Row::nanos(format!("expiry, {v}, 1 M a second"), &end, most(50.0)));
    Ok(())
}

fn pair(options: &Options) -> Result<Row, Failure> {
    let progress = Progress::of("two threads");
    let mut pair = Pair::new(options.connections)?;
    let mut times = Vec::new();
    for round in 0..options.rounds {
        progress.say(&format!("round {}", round + 1));
        times.push(pair.scale(SPAN));
    }
    let what = "two threads do, of one's work".into();
    let (measured, bar) = (Cost::of(times).median, Some(Bar::AtLeast(1.8)));
    Ok(Row { what, unit: "times", measured, least: None, mean: None, bar })
}

/// Whether 100 M connections can be inserted, looked up and expired, and what that costs.
fn large(rows: &mut Vec<Row>) -> Result<(), Failure> {
    let mut rig = Rig::new(Family::V4, LARGE)?;
    let filled = fill(&mut rig, "100 M: filling".into());
    rows.push(Row::bytes("100 M: memory, a v4 connection".into(), filled.bytes, 100.0));
    rows.push(Row::nanos("100 M: insertion, untouched memory".into(), &filled.insert, None));
    let cost = Cost::of((0..5).map(|_| rig.look_up()).collect());
    let (measured, least) = (cost.median, Some(cost.least));
    let what = "100 M: look-up".into();
    rows.push(Row { what, unit: "ns", measured, least, mean: None, bar: None });
    let end = expire(&mut rig, "100 M: expiry".into());
    rows.push(Row::nanos("100 M: expiry".into(), &end, None));
    Ok(())
}

impl Row {
    fn bytes(what: String, measured: f64, most: f64) -> Self {
        let bar = Some(Bar::AtMost(most));
        Self { what, unit: "bytes", measured, least: None, mean: None, bar }
    }

    fn nanos(what: String, nanos: &Nanos, bar: Option<Bar>) -> Self {
        let Nanos { cost: Cost { median, least }, mean } = *nanos;
        Self { what, unit: "ns", measured: median, least: Some(least), mean: Some(mean), bar }
    }

    fn line(&self) -> String {
        let Self { what, unit, measured, least, mean, bar } = self;
        let precision = if *unit == "times" { 2 } else { 1 };
        let number =
            |value: &Option<f64>| value.map_or(String::new(), |n| format!("{n:.precision$}"));
        let (bar, verdict) = match *bar {
            None => (None, ""),
            Some(Bar::AtMost(most)) => {
                (Some(most), if *measured <= most { "ok" } else { "missed" })
            }
            Some(Bar::AtLeast(least)) => {
                (Some(least), if *measured >= least { "ok" } else { "missed" })
            }
        };
        let line = format!(
            "{what:<38}{:>9} {unit:<6}{:>8}{:>8}{:>8}  {verdict}",
            number(&Some(*measured)),
            number(least),
            number(mean),
            number(&bar),
        );
        line.trim_end().to_owned() + "\n"
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut text = format!(
            "{}\n{:.1} M connections in a table for {:.1} M, {} rounds; medians\n\n{:<38}{:>9} {:<6}{:>8}{:>8}{:>8}\n",
            self.machine.line(),
            f64::from(self.connections) / 1e6,
            f64::from(self.connections) / 0.8e6,
            self.rounds,
            "what",
            "measured",
            "",
            "least",
            "mean",
            "bar",
        );
        text.extend(self.rows.iter().map(Row::line));
        text
    }

    fn show(&self, options: &Options) -> Result<(), Failure> {
        let (text, json) = (self.text(), serde_json::to_string_pretty(self)? + "\n");
        print!("{}", if options.json { &json } else { &text });
        if options.save {
            let results = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
            let folder = results.join(self.machine.folder());
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("bench-table.txt"), text)?;
            fs::write(folder.join("bench-table.json"), json)?;
            eprintln!("saved in {}", folder.display());
        }
        Ok(())
    }
}
