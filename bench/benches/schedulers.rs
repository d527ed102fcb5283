//! What a pick costs, and telling of a connection that opens or closes, beside the kernel's walk.
//!
//! Each service has forty connections a server, and is in a steady state: some that are drawn at
//! random close, as many open where the scheduler says. The work on the server's own counts is
//! within the figures. `-- wlc mh` measures these schedulers only.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uvs_bench::bars::Cost;
use uvs_bench::machine::Machine;
use uvs_sched::walk::Walk;
use uvs_sched::{Flags, Flow, Load, Name, Scheduler, Server, ServerId, Servers};

/// Servers of a service.
const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];

/// Connections a server.
const CONNS: usize = 40;

/// How many close, and then open, without a look at the clock.
const BURST: usize = 256;

/// Rounds of a measurement, and bursts of a round.
const ROUNDS: usize = 25;
const BURSTS: usize = 40;

/// Nanoseconds that a pick and an update may cost together.
fn bar(name: Name) -> Option<f64> {
    use Name::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Twos, Wlc, Wrr};
    match name {
        Rr | Wrr | Sh | Dh | Mh | Fo => Some(50.0),
        Lc | Wlc | Sed | Nq | Ovf => Some(150.0),
        Lblc | Lblcr | Twos => None,
    }
}

/// Who picks.
trait Picks {
    fn pick(&mut self, flow: &Flow) -> Option<usize>;
    fn changed(&self, place: usize);
}

impl Picks for Scheduler {
    fn pick(&mut self, flow: &Flow) -> Option<usize> {
        Scheduler::pick(self, flow)
    }

    fn changed(&self, place: usize) {
        Scheduler::changed(self, place);
    }
}

impl Picks for Walk {
    fn pick(&mut self, flow: &Flow) -> Option<usize> {
        Walk::pick(self, flow)
    }

    fn changed(&self, _place: usize) {}
}

struct Costs {
    pick: Cost,
    pick_and_open: Cost,
    close: Cost,
}

/// A service whose connections come and go.
struct Service<P> {
    /// A worker comes from the connection's server to its load; not through the list.
    loads: Vec<Arc<Load>>,
    picks: P,
    flows: Vec<Flow>,
    conns: Vec<usize>,
    dice: u64,
}

impl<P: Picks> Service<P> {
    fn new(list: &Servers, picks: P) -> Self {
        let loads = list.iter().map(|server| server.load.clone()).collect();
        let flows = (0..BURST as u32).map(flow).collect();
        let mut service = Self { loads, picks, flows, conns: Vec::new(), dice: 1 };
        while service.conns.len() < CONNS * list.len() {
            let (_, opened) = service.open();
            service.conns.extend(opened);
        }
        service
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.dice >> 33) as usize % sides
    }

    fn open(&mut self) -> (Duration, [usize; BURST]) {
        let mut opened = [0; BURST];
        let start = Instant::now();
        for (flow, opened) in self.flows.iter().zip(&mut opened) {
            let at = self.picks.pick(flow).expect("a server");
            self.loads[at].open(true);
            self.picks.changed(at);
            *opened = at;
        }
        (start.elapsed(), opened)
    }

    fn close(&mut self) -> Duration {
        let closed: [usize; BURST] = std::array::from_fn(|_| {
            let conn = self.roll(self.conns.len());
            self.conns.swap_remove(conn)
        });
        let start = Instant::now();
        for at in closed {
            self.loads[at].close(true);
            self.picks.changed(at);
        }
        start.elapsed()
    }

    /// Picks without an opening move rr's and wrr's cursor, and nothing else.
    fn pick(&mut self) -> Duration {
        let start = Instant::now();
        for flow in &self.flows {
            black_box(self.picks.pick(black_box(flow)));
        }
        start.elapsed()
    }

    fn measure(&mut self, bursts: usize) -> Costs {
        let (mut pick, mut pick_and_open, mut close) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut took = [Duration::ZERO; 3];
            for _ in 0..bursts {
                took[0] += self.close();
                let (opening, opened) = self.open();
                self.conns.extend(opened);
                took[1] += opening;
                took[2] += self.pick();
            }
            let each = |took: Duration| took.as_nanos() as f64 / (bursts * BURST) as f64;
            close.push(each(took[0]));
            pick_and_open.push(each(took[1]));
            pick.push(each(took[2]));
        }
        Costs {
            pick: Cost::of(pick),
            pick_and_open: Cost::of(pick_and_open),
            close: Cost::of(close),
        }
    }
}

fn flow(n: u32) -> Flow {
    Flow {
        protocol: 6,
        source: Ipv4Addr::from_bits(0xac10_0000 + n * 77).into(),
        source_port: 1024,
        destination: Ipv4Addr::from_bits(0x0a09_0000 + n % 64).into(),
        destination_port: 80,
        now: 0,
    }
}

/// Servers of weights from 10 to 106, no two neighbours alike.
fn servers(count: u32) -> Servers {
    let server = |number: u32| {
        let weight = 10 * (1 + number % 10) + number % 7;
        Server {
            id: ServerId(number),
            address: Ipv4Addr::from_bits(0x0a01_0000 + number).into(),
            port: 80,
            weight,
            last_weight: weight,
            load: Arc::new(Load::default()),
        }
    };
    (0..count).map(server).collect()
}

fn row(name: Name, count: u32) -> String {
    let list = servers(count);
    let scheduler = Scheduler::build(name, list.clone(), Flags::default());
    let Costs { pick, pick_and_open, close } = Service::new(&list, scheduler).measure(BURSTS);
    let together = pick_and_open.median.max(pick.median + close.median);
    let least = pick_and_open.least.max(pick.least + close.least);
    let verdict = match bar(name) {
        None => String::new(),
        Some(bar) if together <= bar => format!("{bar:>6.0}  reached"),
        Some(bar) => format!("{bar:>6.0}  missed by {:.0}", together - bar),
    };
    let walk = if Walk::knows(name) {
        let list = servers(count);
        let walk = Walk::new(name, list.clone());
        let cost = Service::new(&list, walk).measure(1).pick_and_open;
        format!("{:>10.0}", cost.median)
    } else {
        format!("{:>10}", "")
    };
    format!(
        "{name:<6}{count:>7}{:>8.1}{:>12.1}{:>8.1}{together:>10.1}{least:>8.1}{walk}{verdict}",
        pick.median, pick_and_open.median, close.median,
    )
}

/// What the control plane does when a list changes: milliseconds, and the bar.
fn rebuilds() -> Vec<(String, f64, Option<f64>)> {
    let cases = [(Name::Mh, 1_000, Some(2.0)), (Name::Mh, 4_000, None), (Name::Wlc, 10_000, None)];
    let rebuilt = cases.map(|(name, count, bar)| {
        let scheduler = Scheduler::build(name, servers(count), Flags::default());
        let list = servers(count);
        let rebuild = || drop(black_box(scheduler.rebuild(list.clone(), Flags::default())));
        (format!("{name}, {count} servers, rebuilt"), milliseconds(rebuild), bar)
    });
    let wlc = Scheduler::build(Name::Wlc, servers(10_000), Flags::default());
    let refreshed = ("wlc, 10000 servers, refreshed".into(), milliseconds(|| wlc.refresh()), None);
    rebuilt.into_iter().chain([refreshed]).collect()
}

fn milliseconds(work: impl Fn()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    Cost::of((0..ROUNDS).map(time).collect()).median
}

fn main() {
    // cargo adds `--bench`.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    println!("{}\n", Machine::here().line());
    println!("ns, medians; together: a pick and the dearer update; least: its fastest rounds");
    println!("       servers  pick  pick + open   close  together   least  the walk   bar");
    for &name in Name::ALL {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name.as_str()) {
            SIZES.into_iter().for_each(|count| println!("{}", row(name, count)));
        }
    }
    println!();
    for (what, took, bar) in rebuilds() {
        let bar = bar.map_or(String::new(), |bar| format!("  bar {bar:.0}"));
        println!("{what:<34}{took:>8.3} ms{bar}");
    }
}
