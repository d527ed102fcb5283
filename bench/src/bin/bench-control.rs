//! The control plane against its bars: 10,000 services with 100,000 servers applied, listed and
//! changed, over the API's socket. No ports: what the workers do meanwhile is not measured here.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use uvs_bench::machine::Machine;
use uvs_control::access::Access;
use uvs_control::adm::{Invocation, Program};
use uvs_control::api::Socket;
use uvs_control::client::Client;
use uvs_control::config::Config;
use uvs_control::control::Control;
use uvs_control::director::Director;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::table::Table;
use uvs_uvsadm::api::{
    self, Change, DestConfig, Method, Protocol, ServiceConfig, ServiceKey, Target,
};
use uvs_uvsadm::names::Numeric;

/// Services, and servers of each.
const SERVICES: u16 = 10_000;
const SERVERS: u8 = 10;

/// Changes of a diff.
const DIFF: usize = 100;

/// Rounds, of which the middle one counts: of what takes long, and of what does not.
const ROUNDS: usize = 5;
const SHORT_ROUNDS: usize = 101;

type Failure = Box<dyn Error>;

fn target(number: u16) -> Target {
    let [high, low] = number.to_be_bytes();
    let key = ServiceKey::new(Protocol::Tcp, [10, 1, high, low], 80);
    let dest = |n| DestConfig {
        method: if n % 2 == 0 { Method::Masq } else { Method::Route },
        ..DestConfig::new([10, 10 + n, high, low], 80)
    };
    Target { service: ServiceConfig::new(key, "wlc"), dests: (0..SERVERS).map(dest).collect() }
}

/// Weights of some servers, as a health checker would change them.
fn diff(weight: u32) -> Vec<Change> {
    let change = |number: usize| {
        let Target { service, dests } = target((number * 97 % usize::from(SERVICES)) as u16);
        Change::EditDest { service: service.key, dest: DestConfig { weight, ..dests[3] } }
    };
    (0..DIFF).map(change).collect()
}

fn serve() -> Result<(Control, Client), Failure> {
    let path = std::env::temp_dir().join(format!("uvs-bench-{}", std::process::id()));
    let (table, _) = Table::new(1 << 20, 1, Ticks(0))?;
    let config = Config::parse("outside = \"eth0\"", "uvs.toml")?;
    let clock = Clock::manual(Ticks(0));
    let control = Control::without_ports(Director::idle(), Arc::clone(&table), clock, config);
    let socket = Socket::open(&path, &Access::default())?;
    let served = control.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if let Err(error) = runtime.block_on(socket.serve(served, std::future::pending())) {
            eprintln!("the API ended: {error}");
        }
    });
    Ok((control, Client::new(&path)))
}

/// Runs uvsadm, and returns what it printed.
fn uvsadm(client: &Client, words: &[&str], input: &str) -> Result<Vec<u8>, Failure> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    let mut invocation = Invocation {
        program: &Program::uvsadm("uvsadm"),
        client,
        names: &Numeric,
        input: &mut input.as_bytes(),
        out: &mut out,
        err: &mut err,
        colour: false,
    };
    match invocation.run(&words) {
        0 => Ok(out),
        code => Err(format!("uvsadm ended with {code}: {}", String::from_utf8_lossy(&err)).into()),
    }
}

/// The middle one of some rounds, in milliseconds, as a line of the table.
fn measure(
    what: &str,
    bar: f64,
    rounds: usize,
    mut round: impl FnMut(usize) -> Result<f64, Failure>,
) -> Result<(), Failure> {
    let mut times = (0..rounds).map(&mut round).collect::<Result<Vec<f64>, Failure>>()?;
    times.sort_by(f64::total_cmp);
    println!("{what:<58} {:>9.1} ms   bar {bar:>6.0} ms", times[rounds / 2]);
    Ok(())
}

fn timed<R>(work: impl FnOnce() -> Result<R, Failure>) -> Result<f64, Failure> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn main() -> Result<(), Failure> {
    println!("{}", Machine::here().line());
    println!("{SERVICES} services with {SERVERS} servers each");
    let (control, client) = serve()?;
    let empty = api::Config::default();
    let whole = api::Config { services: (0..SERVICES).map(target).collect(), ..empty.clone() };
    measure("PUT /v1/config: all, from nothing", 2000.0, ROUNDS, |_| {
        client.replace(&empty)?;
        timed(|| Ok(client.replace(&whole)?))
    })?;
    let saved = String::from_utf8(uvsadm(&client, &["-S", "-n"], "")?)?;
    measure("uvsadm -R: all, from nothing", 2000.0, ROUNDS, |_| {
        client.replace(&empty)?;
        timed(|| uvsadm(&client, &["-R"], &saved))
    })?;
    measure("GET /v1/services, by the client", 1000.0, ROUNDS, |_| {
        timed(|| Ok(client.services()?))
    })?;
    measure("uvsadm -Ln", 1000.0, ROUNDS, |_| timed(|| uvsadm(&client, &["-L", "-n"], "")))?;
    measure("POST /v1/changes: 100 weights", 10.0, SHORT_ROUNDS, |round| {
        let changes = diff(1000 + round as u32);
        timed(|| Ok(client.change(&changes)?))
    })?;
    measure("  of which the control plane alone", 10.0, SHORT_ROUNDS, |round| {
        let changes = diff(2000 + round as u32);
        timed(|| Ok(control.change(&changes)?))
    })?;
    measure("uvsadm -R: 100 weights", 10.0, SHORT_ROUNDS, |round| {
        let weight = 3000 + round;
        let line = |change: Change| match change {
            Change::EditDest { service, dest } => {
                let end = service.endpoint().map(|end| end.to_string()).unwrap_or_default();
                let method = dest.method.option();
                format!("-e -t {end} -r {} {method} -w {weight}\n", dest.endpoint())
            }
            _ => String::new(),
        };
        let lines: String = diff(0).into_iter().map(line).collect();
        timed(|| uvsadm(&client, &["-R"], &lines))
    })?;
    measure("PUT /v1/config: all, of which 100 weights differ", 2000.0, ROUNDS, |round| {
        let mut other = whole.clone();
        for target in other.services.iter_mut().step_by(usize::from(SERVICES) / DIFF) {
            target.dests[0].weight = 4000 + round as u32;
        }
        timed(|| Ok(client.replace(&other)?))
    })
}
