//! One-arm DR on veth, 64-byte UDP, 1 k flows: uvs against a bare loop on the same AF_XDP port.
//!
//! The generator sends more than either can take; what comes back is counted. Both take turns for
//! some rounds, so that what else the machine does meets both.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use core_affinity::CoreId;
use serde::Serialize;
use uvs_bench::generator::{Generator, Returned};
use uvs_bench::machine::Machine;
use uvs_bench::rate::{self, Loop};
use uvs_bench::services::{fib, snapshot};
use uvs_bench::veth;
use uvs_engine::counters::{DropReason, Totals};
use uvs_engine::fib::Fib;
use uvs_engine::port::{self, AnyPort, Opened, Port, PortMode, Steered};
use uvs_engine::service::ServiceKey;
use uvs_forward::Method;

const FLOWS: u32 = 1000;
const BAR: f64 = 0.90;
const WARM_UP: Duration = Duration::from_millis(300);

type Failure = Box<dyn Error + Send + Sync>;

/// What the command line asks for.
struct Options {
    rounds: usize,
    span: Duration,
    save: bool,
}

/// The result, as it is saved.
#[derive(Serialize)]
struct Outcome {
    machine: Machine,
    port: String,
    flows: u32,
    /// Million frames a second that came back, round by round.
    bare_mpps: Vec<f64>,
    uvs_mpps: Vec<f64>,
    bare_median: f64,
    uvs_median: f64,
    /// The median of the rounds' ratios: both of a round were measured next to each other.
    ratio: f64,
    bar: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-veth: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = options()?;
    if !rustix::process::geteuid().is_root() {
        println!("bench-veth: skipped: network namespaces and AF_XDP need root; run it by sudo");
        return Ok(());
    }
    let outcome = measure(&options)?;
    let text = outcome.text();
    print!("{text}");
    if options.save {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("results")
            .join(outcome.machine.folder());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("bench-veth.txt"), text)?;
        fs::write(folder.join("bench-veth.json"), serde_json::to_string_pretty(&outcome)? + "\n")?;
        println!("saved in {}", folder.display());
    }
    Ok(())
}

fn options() -> Result<Options, Failure> {
    const USAGE: &str = "usage: bench-veth [--rounds N] [--seconds S] [--save]";
    let mut options = Options { rounds: 15, span: Duration::from_secs(1), save: false };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse::<u32>().ok()).filter(|n| *n > 0);
        match word.as_str() {
            "--rounds" => options.rounds = number().ok_or(USAGE)? as usize,
            "--seconds" => options.span = Duration::from_secs(number().ok_or(USAGE)?.into()),
            "--save" => options.save = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(options)
}

/// The generator on core 1 in the client's namespace, a worker on core 0 for each measurement,
/// and this thread, which reads the count before and after.
fn measure(options: &Options) -> Result<Outcome, Failure> {
    let client = veth::make()?;
    let fib = fib(veth::DIRECTOR, veth::number(veth::DIRECTOR)?);
    let Opened { mut ports, mut steering, .. } = port::open(fib.links(), 1, PortMode::AfXdp)?;
    let services = snapshot(Method::Route, fib.clone());
    let endpoints = services.services().iter().filter_map(|service| match service.key {
        ServiceKey::Endpoint(endpoint) => Some(endpoint),
        ServiceKey::Mark { .. } => None,
    });
    steering.update(&Steered { services: endpoints.collect(), ..Steered::default() })?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (says, hears) = channel();
        let stop = &stop;
        let generator = scope.spawn(move || generate(&client, &says, stop));
        let result = match hears.recv() {
            Ok(count) => compare(options, &mut ports[0], &fib, &count),
            Err(_) => Err("the generator did not start".into()),
        };
        // Relaxed: the flag stands for itself.
        stop.store(true, Ordering::Relaxed);
        // What failed there explains what failed here.
        generator.join().map_err(|_| "the generator panicked")??;
        result
    })
}

fn generate(
    client: &veth::Client,
    says: &Sender<Returned>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    core_affinity::set_for_current(CoreId { id: 1 });
    client.enter()?;
    let generator = Generator::new(veth::number(veth::CLIENT)?, FLOWS)?;
    says.send(generator.returned()?)?;
    generator.run(stop)?;
    Ok(())
}

fn compare(
    options: &Options,
    port: &mut AnyPort,
    fib: &Fib,
    returned: &Returned,
) -> Result<Outcome, Failure> {
    let (mut bare, mut uvs) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // Who is first changes, too.
        let order = if round % 2 == 0 { [Loop::Bare, Loop::Uvs] } else { [Loop::Uvs, Loop::Bare] };
        for who in order {
            let mpps = rate_of(who, port, fib, returned, options.span)?;
            eprintln!("round {}: {:<9} {mpps:.3} Mpps", round + 1, who.as_str());
            match who {
                Loop::Bare => bare.push(mpps),
                Loop::Uvs => uvs.push(mpps),
            }
        }
    }
    let ratios = bare.iter().zip(&uvs).map(|(bare, uvs)| uvs / bare).collect();
    Ok(Outcome {
        machine: Machine::here(),
        port: port.mode().to_owned(),
        flows: FLOWS,
        bare_median: median(bare.clone()),
        uvs_median: median(uvs.clone()),
        ratio: median(ratios),
        bare_mpps: bare,
        uvs_mpps: uvs,
        bar: BAR,
    })
}

/// Million frames a second that come back while one of the loops works.
fn rate_of(
    who: Loop,
    port: &mut AnyPort,
    fib: &Fib,
    returned: &Returned,
    span: Duration,
) -> Result<f64, Failure> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let worker = scope.spawn(move || -> Result<(), Failure> {
            core_affinity::set_for_current(CoreId { id: 0 });
            match who {
                Loop::Bare => rate::bare(port, stop),
                Loop::Uvs => check(&rate::uvs(port, snapshot(Method::Route, fib.clone()), stop)?)?,
            }
            Ok(())
        });
        thread::sleep(WARM_UP);
        let (start, before) = (Instant::now(), returned.count()?);
        thread::sleep(span);
        let (took, after) = (start.elapsed(), returned.count()?);
        // Relaxed: the flag stands for itself.
        stop.store(true, Ordering::Relaxed);
        worker.join().map_err(|_| "the worker panicked")??;
        Ok((after - before) as f64 / took.as_secs_f64() / 1e6)
    })
}

/// Whether uvs did what is measured: all that it took was balanced, or found the ring full.
fn check(totals: &Totals) -> Result<(), Failure> {
    let through = totals.tx + totals.dropped(DropReason::TxFull);
    // Router solicitations and the like are not steered here.
    if totals.balanced() && totals.tx > 0 && through == totals.rx {
        return Ok(());
    }
    Err(format!("uvs did not forward what it received: {totals:?}").into())
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

impl Outcome {
    fn text(&self) -> String {
        let list = |rates: &[f64]| {
            rates.iter().map(|rate| format!("{rate:.3}")).collect::<Vec<_>>().join(" ")
        };
        let verdict = if self.ratio >= self.bar { "reached" } else { "missed" };
        format!(
            "{}\n\
             one-arm DR on veth, {}, 64-byte UDP, {} flows, worker on core 0, generator on core 1\n\n\
             Mpps        median   rounds\n\
             bare loop  {:>7.3}   {}\n\
             uvs        {:>7.3}   {}\n\n\
             uvs / bare loop, median of the rounds: {:.3}; bar {:.2}: {verdict}\n",
            self.machine.line(),
            self.port,
            self.flows,
            self.bare_median,
            list(&self.bare_mpps),
            self.uvs_median,
            list(&self.uvs_mpps),
            self.ratio,
            self.bar,
        )
    }
}
