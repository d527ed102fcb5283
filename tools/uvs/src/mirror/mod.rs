//! `uvs mirror`: the kernel's IPVS holds what uvs holds, or the other way.

mod fallback;
mod side;
mod translate;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use uvs_control::client::Client;
use uvs_uvsadm::api::Change;
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::plan::line;

use crate::{Failure, adm};

pub use fallback::Fallback;
pub use side::{Engine, Kernel, Outcome, Side};

/// The command line of `uvs mirror`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("direction").args(["to_kernel", "from_kernel"])))]
#[command(group(
    clap::ArgGroup::new("what")
        .args(["to_kernel", "from_kernel", "diff"])
        .required(true)
        .multiple(true)
))]
pub struct Options {
    /// Make the kernel's IPVS hold what uvs holds.
    #[arg(long)]
    to_kernel: bool,
    /// Make uvs hold what the kernel's IPVS holds.
    #[arg(long)]
    from_kernel: bool,
    /// Change nothing; print what would be changed, in the kernel unless told otherwise. Exits with
    /// 1 if that is anything, with 2 if it cannot be told.
    #[arg(long)]
    diff: bool,
    /// Change nothing; print what would be changed.
    #[arg(long, conflicts_with = "diff")]
    dry_run: bool,
    /// Keep doing it until Ctrl-C.
    #[arg(long, requires = "direction", conflicts_with_all = ["diff", "dry_run"])]
    follow: bool,
    /// How often to look, with --follow.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5, requires = "follow")]
    interval: f64,
    /// Print JSON; with --follow, a line for each time that something was changed.
    #[arg(long)]
    json: bool,
}

/// The verb.
pub fn mirror(options: &Options) -> Result<ExitCode, Failure> {
    match options {
        Options { follow: true, .. } => follow(options),
        Options { diff: true, .. } => Ok(once(options).unwrap_or_else(Failure::trouble)),
        _ => once(options),
    }
}

fn once(options: &Options) -> Result<ExitCode, Failure> {
    let (mut from, mut to) = sides(options)?;
    let plan = to.read()?.plan(&from.read()?);
    if options.diff || options.dry_run {
        let differs = options.diff && !plan.is_empty();
        show_plan(options, &plan);
        return Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let outcome = to.make(plan);
    show(options, &outcome);
    Ok(if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where it comes from and where it goes.
type Pair = (Box<dyn Side>, Box<dyn Side>);

/// Both, as the options have them.
fn sides(options: &Options) -> Result<Pair, Failure> {
    let kernel = Box::new(Kernel::open()?);
    let engine = Box::new(Engine::new(Client::new(Path::new(&adm::socket()))));
    match options.from_kernel {
        true => Ok((kernel, engine)),
        false => Ok((engine, kernel)),
    }
}

/// Looks again and again. What cannot be done now may be possible the next time, so only the first
/// look has to succeed.
fn follow(options: &Options) -> Result<ExitCode, Failure> {
    let seconds = Duration::try_from_secs_f64(options.interval);
    let interval = seconds.map_err(|_| Failure("--interval is a number of seconds".into()))?;
    let stopped = signals()?;
    let mut sides = Some(sides(options)?);
    let mut first = true;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        let complaint = match look(options, &mut sides) {
            Ok(outcome) => complaint(&outcome),
            Err(failure) if first => return Err(failure),
            Err(Failure(sentence)) => {
                // Whatever broke, the next look starts anew.
                sides = None;
                sentence
            }
        };
        first = false;
        // Once, not each time that it is still so.
        if told != complaint {
            told = complaint;
            if !told.is_empty() {
                eprintln!("uvs: {told}");
            }
        }
        // However many services there are, to look takes a fifth of the time at most.
        let pause = interval.max(begun.elapsed() * 4);
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// One look, and what follows from it.
fn look(options: &Options, pair: &mut Option<Pair>) -> Result<Outcome, Failure> {
    if pair.is_none() {
        *pair = Some(sides(options)?);
    }
    let Some((from, to)) = pair else { return Ok(Outcome::default()) };
    let plan = to.read()?.plan(&from.read()?);
    let outcome = to.make(plan);
    if !outcome.done.is_empty() {
        print_done(options, &outcome);
    }
    Ok(outcome)
}

/// A message when a signal asks for the end.
fn signals() -> Result<Receiver<()>, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

fn show_plan(options: &Options, plan: &[Change]) {
    match options.json {
        true => print(&json!({ "differences": plan }).to_string()),
        false => plan.iter().for_each(|change| print(&line(change, &Numeric))),
    }
}

/// What was done on standard output, what was not on standard error.
fn show(options: &Options, outcome: &Outcome) {
    print_done(options, outcome);
    let complaint = complaint(outcome);
    if !complaint.is_empty() {
        eprintln!("uvs: {complaint}");
    }
}

fn print_done(options: &Options, outcome: &Outcome) {
    match options.json {
        true => print(&json!(outcome).to_string()),
        false => outcome.done.iter().for_each(|change| print(&line(change, &Numeric))),
    }
}

/// What was done and what was not, if anything was not; nothing otherwise.
fn complaint(outcome: &Outcome) -> String {
    if outcome.failed.is_empty() {
        return String::new();
    }
    let (done, left) = (outcome.done.len(), outcome.left.len());
    let mut text = format!(
        "{done} changes were made, {} refused, {left} not tried for that; run it again once this \
         is mended:",
        outcome.failed.len()
    );
    for failed in &outcome.failed {
        text += &format!("\n  refused: {}: {}", line(&failed.change, &Numeric), failed.reason);
    }
    for change in &outcome.left {
        text += &format!("\n  not tried: {}", line(change, &Numeric));
    }
    text
}

fn print(text: &str) {
    // A closed pipe is no failure of the mirror.
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
