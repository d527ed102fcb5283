//! `uvs sim`: the schedulers against a workload, in simulated time.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use uvs_sim::churn::{Change, Step};
use uvs_sim::scheduler::Choice;
use uvs_sim::server::Group;
use uvs_sim::workload::{Clients, Lifetime};
use uvs_sim::{PARTS, Report, Scenario, Wrong, plots};

use crate::Failure;

/// A run that takes longer says how far it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to simulate, and how to show it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Scenario", allow_negative_numbers = true)]
pub struct Options {
    /// Schedulers with commas between them, each with its flags as mh:port+fallback, or all
    /// [default: all].
    #[arg(long, value_name = "NAMES")]
    scheduler: Vec<String>,
    /// Servers, as '4*weight=1,speed=1' [default: '6*weight=10,speed=1;2*weight=30,speed=3'].
    #[arg(long, value_name = "GROUPS")]
    servers: Vec<String>,
    /// Connections a second [default: what makes the servers three quarters busy].
    #[arg(long, value_name = "CONNECTIONS")]
    rate: Option<f64>,
    /// How long they come, in simulated seconds [default: 300].
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// How often each client, and each virtual address, is met [default: zipf].
    #[arg(long, value_parser = clients())]
    clients: Option<Clients>,
    /// How many clients there are [default: 10000].
    #[arg(long, value_name = "CLIENTS")]
    population: Option<u32>,
    /// The exponent of zipf [default: 0.7].
    #[arg(long, value_name = "EXPONENT")]
    skew: Option<f64>,
    /// How many virtual addresses they ask for; dh, lblc and lblcr go by them [default: 1000].
    #[arg(long, value_name = "ADDRESSES")]
    destinations: Option<u32>,
    /// How lifetimes are distributed [default: pareto].
    #[arg(long, value_parser = lifetime())]
    lifetime: Option<Lifetime>,
    /// How long a worker of speed 1 has to do with a connection, on average [default: 0.5].
    #[arg(long, value_name = "SECONDS")]
    mean_lifetime: Option<f64>,
    /// The exponent of pareto [default: 1.5].
    #[arg(long, value_name = "EXPONENT")]
    shape: Option<f64>,
    /// How long a connection that has ended counts as inactive [default: 120].
    #[arg(long, value_name = "SECONDS")]
    inactive: Option<f64>,
    /// A server, by its number from 1, leaves then. May be given several times.
    #[arg(long, value_name = "SECONDS:SERVER")]
    leave: Vec<String>,
    /// A server joins then: one that has left, or was not there at first.
    #[arg(long, value_name = "SECONDS:SERVER")]
    join: Vec<String>,
    /// All that is drawn depends on it: the same seed, the same result [default: 1].
    #[arg(long)]
    seed: Option<u64>,
    /// A file with the same fields, in TOML; see below.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, conflicts_with = "csv", help_heading = "Output")]
    json: bool,
    /// Print CSV.
    #[arg(long, help_heading = "Output")]
    csv: bool,
    /// Write plots into this folder, as SVG.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    plots: Option<PathBuf>,
}

fn clients() -> impl TypedValueParser<Value = Clients> {
    PossibleValuesParser::new(["zipf", "uniform"])
        .map(|word| if word == "zipf" { Clients::Zipf } else { Clients::Uniform })
}

fn lifetime() -> impl TypedValueParser<Value = Lifetime> {
    PossibleValuesParser::new(["pareto", "exp"])
        .map(|word| if word == "pareto" { Lifetime::Pareto } else { Lifetime::Exp })
}

/// Simulates, and prints the report.
pub fn sim(options: &Options) -> Result<ExitCode, Failure> {
    let scenario = scenario(options)?;
    let progress = Progress::of(scenario.schedulers.len() * PARTS);
    let report = Report::of(scenario, &|| progress.step());
    progress.clear();
    if let Some(folder) = &options.plots {
        save(&report, folder)?;
    }
    let text = match (options.json, options.csv) {
        (true, _) => report.json()?,
        (_, true) => report.csv(),
        _ => report.table(),
    };
    // A closed pipe is no failure of the report.
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// The file's fields, or the defaults, with the options in their place.
fn scenario(options: &Options) -> Result<Scenario, Wrong> {
    let mut scenario = match &options.scenario {
        Some(path) => Scenario::read(path)?,
        None => Scenario::default(),
    };
    let workload = &mut scenario.workload;
    put(&mut workload.seconds, options.seconds);
    put(&mut workload.clients, options.clients);
    put(&mut workload.population, options.population);
    put(&mut workload.skew, options.skew);
    put(&mut workload.destinations, options.destinations);
    put(&mut workload.lifetime, options.lifetime);
    put(&mut workload.mean_lifetime, options.mean_lifetime);
    put(&mut workload.shape, options.shape);
    put(&mut workload.seed, options.seed);
    put(&mut scenario.inactive, options.inactive);
    scenario.rate = options.rate.or(scenario.rate);
    if !options.servers.is_empty() {
        let groups = options.servers.iter().map(|text| Group::list(text));
        scenario.servers = groups.collect::<Result<Vec<_>, _>>()?.concat();
    }
    if !options.scheduler.is_empty() {
        let choices = options.scheduler.iter().map(|text| Choice::list(text));
        scenario.schedulers = choices.collect::<Result<Vec<_>, _>>()?.concat();
    }
    for (change, texts) in [(Change::Leave, &options.leave), (Change::Join, &options.join)] {
        for text in texts {
            scenario.steps.push(Step::parse(change, text)?);
        }
    }
    scenario.check()?;
    Ok(scenario)
}

fn put<T>(field: &mut T, option: Option<T>) {
    if let Some(value) = option {
        *field = value;
    }
}

/// Writes the plots; says where.
fn save(report: &Report, folder: &Path) -> Result<(), Failure> {
    let failure = |path: &Path, error: io::Error| {
        Failure(format!("cannot write {}: {error}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|error| failure(folder, error))?;
    for (name, svg) in plots::all(report) {
        let path = folder.join(name);
        fs::write(&path, svg).map_err(|error| failure(&path, error))?;
    }
    Ok(())
}

/// One line on a terminal, once it takes long.
struct Progress {
    terminal: bool,
    start: Instant,
    done: AtomicUsize,
    all: usize,
}

impl Progress {
    fn of(all: usize) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { terminal, start: Instant::now(), done: AtomicUsize::new(0), all }
    }

    fn step(&self) {
        // Relaxed: a number by itself.
        let done = self.done.fetch_add(1, Relaxed) + 1;
        if self.terminal && self.start.elapsed() > PATIENCE {
            let percent = 100 * done / self.all;
            let _ = write!(io::stderr(), "\r\x1b[Ksimulating: {percent} %");
        }
    }

    fn clear(&self) {
        if self.terminal && self.start.elapsed() > PATIENCE {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    #[test]
    fn the_help_knows_the_defaults() {
        let help = Options::augment_args(Command::new("sim")).render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let servers = "6*weight=10,speed=1;2*weight=30,speed=3";
        let Scenario { workload, servers: groups, inactive, .. } = Scenario::default();
        assert_eq!(Group::list(servers), Ok(groups));
        for default in [
            format!("[default: '{servers}']"),
            format!("in simulated seconds [default: {}]", workload.seconds),
            format!("clients there are [default: {}]", workload.population),
            format!("of zipf [default: {}]", workload.skew),
            format!("go by them [default: {}]", workload.destinations),
            format!("on average [default: {}]", workload.mean_lifetime),
            format!("of pareto [default: {}]", workload.shape),
            format!("counts as inactive [default: {inactive}]"),
        ] {
            assert!(help.contains(&default), "{default} in {help}");
        }
    }
}
