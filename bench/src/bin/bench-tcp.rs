//! TCP by iperf3 through NAT over raw packet sockets, against the kernel's own NAT (nft) in the same
//! network of namespaces. The hosts leave checksums and segments to their network cards, as hosts
//! do. Both take turns, so that what else the machine does meets both.

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, thread};

use serde::Serialize;
use uvs_bench::machine::Machine;
use uvs_lab::{Arms, Director, DirectorOptions, Host, LabOptions, Method, Network, ready};
use uvs_uvsadm::Command as Adm;

const PORT: u16 = 5201;
const BAR: f64 = 0.5;

type Failure = Box<dyn Error>;

/// What the command line asks for.
struct Options {
    program: PathBuf,
    rounds: usize,
    seconds: u32,
    save: bool,
}

/// Whose NAT it is.
#[derive(Clone, Copy, Debug)]
enum Who {
    Kernel,
    Uvs,
}

/// Which way the data go.
#[derive(Clone, Copy, Debug, Serialize)]
enum Way {
    Upload,
    Download,
}

/// The rounds of one way, in Gbit/s.
#[derive(Serialize)]
struct Rounds {
    way: Way,
    kernel: Vec<f64>,
    uvs: Vec<f64>,
    /// The median of the rounds' ratios.
    ratio: f64,
}

#[derive(Serialize)]
struct Outcome {
    machine: Machine,
    rounds: Vec<Rounds>,
    bar: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-tcp: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let options = options()?;
    if let Err(reason) = ready() {
        println!("bench-tcp: skipped: {reason}");
        return Ok(());
    }
    let lab = LabOptions {
        arms: Arms::Two,
        method: Method::Masq,
        servers: 1,
        program: Some(fs::canonicalize(&options.program)?),
        ..LabOptions::default()
    };
    let network = Network::up(&lab, &mut |_| {})?;
    network.offload()?;
    let _server = network.spawn_in(Host::Server(1), "iperf3", &["-s", "--logfile", "/dev/null"])?;
    thread::sleep(Duration::from_millis(500));
    let rounds = [Way::Upload, Way::Download].into_iter();
    let rounds = rounds.map(|way| measure(&network, way, &options)).collect::<Result<_, _>>()?;
    let outcome = Outcome { machine: Machine::here(), rounds, bar: BAR };
    let text = outcome.text();
    print!("{text}");
    if options.save {
        let results = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
        let folder = results.join(outcome.machine.folder());
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("bench-tcp.txt"), text)?;
        fs::write(folder.join("bench-tcp.json"), serde_json::to_string_pretty(&outcome)? + "\n")?;
        println!("saved in {}", folder.display());
    }
    Ok(())
}

fn options() -> Result<Options, Failure> {
    const USAGE: &str = "usage: bench-tcp --program UVS [--rounds N] [--seconds S] [--save]";
    let mut options = Options { program: PathBuf::new(), rounds: 5, seconds: 3, save: false };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--program" => options.program = value()?.into(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--save" => options.save = true,
            _ => return Err(USAGE.into()),
        }
    }
    if options.program.as_os_str().is_empty() || options.rounds == 0 || options.seconds == 0 {
        return Err(USAGE.into());
    }
    Ok(options)
}

fn measure(network: &Network, way: Way, options: &Options) -> Result<Rounds, Failure> {
    let (mut kernel, mut uvs) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let order = if round % 2 == 0 { [Who::Kernel, Who::Uvs] } else { [Who::Uvs, Who::Kernel] };
        for who in order {
            let rate = rate_of(network, who, way, options.seconds)?;
            eprintln!("{way:?}, round {}: {who:?} {rate:.2} Gbit/s", round + 1);
            match who {
                Who::Kernel => kernel.push(rate),
                Who::Uvs => uvs.push(rate),
            }
        }
    }
    let ratio = median(kernel.iter().zip(&uvs).map(|(kernel, uvs)| uvs / kernel).collect());
    Ok(Rounds { way, kernel, uvs, ratio })
}

fn rate_of(network: &Network, who: Who, way: Way, seconds: u32) -> Result<f64, Failure> {
    let rip = network.rip(1);
    let service = network.service(PORT);
    match who {
        Who::Kernel => {
            let rule = format!("ip daddr {} tcp dport {PORT} dnat to {rip}:{PORT}", service.ip());
            for line in [
                "add table ip bench",
                "add chain ip bench nat { type nat hook prerouting priority -100 ; }",
                &format!("add rule ip bench nat {rule}"),
            ] {
                network.run_in(Host::Director, "nft", &[line])?;
            }
            let rate = iperf(network, way, seconds);
            network.run_in(Host::Director, "nft", &["delete table ip bench"])?;
            rate
        }
        Who::Uvs => {
            let engine = Director::start(network, &DirectorOptions::of("raw"))?;
            for line in
                [format!("-A -t {service} -s rr"), format!("-a -t {service} -r {rip}:{PORT} -m")]
            {
                let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                let Adm::Change { change, .. } = uvs_uvsadm::parse(&words)? else {
                    return Err("that is no change".into());
                };
                engine.client().change(&[change])?;
            }
            let rate = iperf(network, way, seconds);
            engine.stop()?;
            rate
        }
    }
}

/// Gbit/s that arrive.
fn iperf(network: &Network, way: Way, seconds: u32) -> Result<f64, Failure> {
    let service = network.service(PORT);
    let mut command: Command = network.command(Host::Client, "iperf3");
    command.args(["-c", &service.ip().to_string(), "-p", &PORT.to_string(), "-J"]);
    command.args(["-t", &seconds.to_string(), "-O", "1"]);
    if matches!(way, Way::Download) {
        command.arg("-R");
    }
    let output = command.output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    let error = || format!("iperf3 says: {}", report["error"]);
    Ok(bits.ok_or_else(error)? / 1e9)
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

impl Outcome {
    fn text(&self) -> String {
        let mut text = format!(
            "{}\niperf3, one TCP connection through NAT with two arms; raw packet sockets, GSO\n\n\
             Gbit/s               median   rounds\n",
            self.machine.line()
        );
        for Rounds { way, kernel, uvs, ratio } in &self.rounds {
            let way = format!("{way:?}").to_lowercase();
            for (who, rates) in [("kernel (nft)", kernel), ("uvs", uvs)] {
                let list: Vec<String> = rates.iter().map(|rate| format!("{rate:.2}")).collect();
                let median = median(rates.clone());
                text += &format!("{way:<9} {who:<12} {median:>5.2}   {}\n", list.join(" "));
            }
            let verdict = if *ratio >= self.bar { "reached" } else { "missed" };
            text += &format!("{way}: uvs / kernel {ratio:.2}; bar {:.2}: {verdict}\n", self.bar);
        }
        text
    }
}
