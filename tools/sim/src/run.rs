//! One scheduler over one scenario: events in the order of simulated time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use uvs_sched::Scheduler;

use crate::churn::{Change, Disruption, Moved, Step, in_order, there_at_first};
use crate::measure::{Latency, Series, Spread, Times};
use crate::scenario::Scenario;
use crate::scheduler::Choice;
use crate::server::{Conn, Group, Station};
use crate::workload::{Arrival, SECOND};

/// Windows over which loads are averaged.
const WINDOWS: u32 = 100;

/// How often `progress` is called.
pub const PARTS: usize = WINDOWS as usize;

/// What one scheduler came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The scheduler.
    pub scheduler: Choice,
    /// Connections that came.
    pub connections: usize,
    /// Those that no server could take.
    pub refused: usize,
    /// Those whose server left before their end.
    pub broken: usize,
    /// Those that each server got.
    pub picks: Vec<usize>,
    /// How unevenly servers were loaded, on average over the windows.
    pub spread: Option<Spread>,
    /// Waiting and response time of those that came to their end.
    pub latency: Latency,
    /// All response times.
    pub responses: Times,
    /// The load of each server.
    pub series: Series,
    /// What each step did.
    pub disruptions: Vec<Disruption>,
}

/// Simulates a scenario that was [checked](Scenario::check) with one of its schedulers. `progress`
/// is called each time a part of it is done, of [`PARTS`].
pub fn run(scenario: &Scenario, scheduler: Choice, progress: &dyn Fn()) -> Outcome {
    Run::new(scenario, scheduler).run(progress)
}

#[derive(Clone, Copy, Debug)]
enum What {
    Step(usize),
    Window,
    Arrival(Arrival),
    /// The station has served it.
    Served(usize, Conn),
    /// The station's connection is no longer remembered.
    Forgotten(usize),
}

/// The earliest is the greatest, as the heap wants it; of one time, the one that was put in first.
#[derive(Debug)]
struct Event {
    at: u64,
    number: u64,
    what: What,
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

struct Run<'a> {
    scenario: &'a Scenario,
    groups: Vec<Group>,
    steps: Vec<Step>,
    choice: Choice,
    scheduler: Scheduler,
    /// All that ever were in the list.
    stations: Vec<Station>,
    /// The stations in the list, in the kernel's order: who is added goes to the head.
    list: Vec<usize>,
    events: BinaryHeap<Event>,
    events_put_in: u64,
    now: u64,
    /// The port and the destination of each client's latest connection.
    known: Vec<Option<(u16, u32)>>,
    window_began: u64,
    spreads: Vec<Spread>,
    responses: Vec<f64>,
    waited: usize,
    wait: f64,
    outcome: Outcome,
}

fn nanos(seconds: f64) -> u64 {
    (seconds * SECOND) as u64
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, choice: Choice) -> Self {
        let groups: Vec<Group> = scenario.servers().collect();
        let outcome = Outcome {
            scheduler: choice,
            connections: 0,
            refused: 0,
            broken: 0,
            picks: vec![0; groups.len()],
            spread: None,
            latency: Latency::default(),
            responses: Times::default(),
            series: Series::default(),
            disruptions: Vec::new(),
        };
        let mut run = Self {
            scenario,
            steps: in_order(&scenario.steps),
            choice,
            scheduler: choice.build(Default::default(), scenario.workload.seed),
            stations: Vec::new(),
            list: Vec::new(),
            events: BinaryHeap::new(),
            events_put_in: 0,
            now: 0,
            known: vec![None; scenario.workload.population as usize],
            window_began: 0,
            spreads: Vec::new(),
            responses: Vec::new(),
            waited: 0,
            wait: 0.0,
            groups,
            outcome,
        };
        for server in 0..run.groups.len() {
            if there_at_first(&scenario.steps, server + 1) {
                run.join(server);
            }
        }
        run.settle();
        // As after the last server was added: nothing has been picked before.
        run.scheduler = choice.build(run.servers(), scenario.workload.seed);
        run.put_in_fixed();
        run
    }

    /// The ends of the windows, and the steps, which come after a window that ends with them.
    fn put_in_fixed(&mut self) {
        let end = nanos(self.scenario.workload.seconds);
        for window in 1..=WINDOWS {
            let at = u128::from(end) * u128::from(window) / u128::from(WINDOWS);
            self.put_in(at as u64, What::Window);
        }
        for step in 0..self.steps.len() {
            self.put_in(nanos(self.steps[step].at), What::Step(step));
        }
    }

    fn put_in(&mut self, at: u64, what: What) {
        self.events.push(Event { at, number: self.events_put_in, what });
        self.events_put_in += 1;
    }

    fn run(mut self, progress: &dyn Fn()) -> Outcome {
        let mut arrivals = self.scenario.workload.arrivals();
        let mut next = arrivals.next();
        loop {
            if let Some(arrival) = next.take() {
                self.put_in(arrival.at, What::Arrival(arrival));
            }
            let Some(Event { at, what, .. }) = self.events.pop() else { break };
            self.now = at;
            match what {
                What::Arrival(arrival) => {
                    self.arrive(&arrival);
                    next = arrivals.next();
                }
                What::Served(station, conn) => self.served(station, conn),
                What::Forgotten(station) => {
                    self.stations[station].forget();
                    self.tell(station);
                }
                What::Step(step) => self.step(step),
                What::Window => {
                    self.measure();
                    progress();
                }
            }
        }
        self.end()
    }

    fn arrive(&mut self, arrival: &Arrival) {
        let Arrival { at, client, port, destination, work } = *arrival;
        self.outcome.connections += 1;
        self.known[client as usize] = Some((port, destination));
        let flow = self.scenario.workload.flow(client, port, destination, at);
        let Some(place) = self.scheduler.pick(&flow) else {
            self.outcome.refused += 1;
            return;
        };
        let station = self.list[place];
        self.outcome.picks[self.stations[station].number] += 1;
        let begun = self.stations[station].take(Conn { arrived: at, work }, at);
        self.tell(station);
        self.begin(station, begun);
    }

    /// The connection has a worker.
    fn begin(&mut self, station: usize, begun: Option<(Conn, u64)>) {
        let Some((conn, end)) = begun else { return };
        self.put_in(end, What::Served(station, conn));
    }

    fn served(&mut self, station: usize, conn: Conn) {
        // Who was at a server that left is broken, not served.
        if self.stations[station].place.is_none() {
            return;
        }
        self.responses.push((self.now - conn.arrived) as f64 / SECOND);
        let next = self.stations[station].served(self.now);
        self.tell(station);
        if let Some((next, _)) = next {
            self.waited += 1;
            self.wait += (self.now - next.arrived) as f64 / SECOND;
        }
        self.begin(station, next);
        let forgotten = self.now.saturating_add(nanos(self.scenario.inactive));
        self.put_in(forgotten, What::Forgotten(station));
    }

    /// As a worker tells the scheduler.
    fn tell(&self, station: usize) {
        if let Some(place) = self.stations[station].place {
            self.scheduler.changed(place);
        }
    }

    fn step(&mut self, number: usize) {
        let step = self.steps[number];
        let before = self.picks_of_known();
        let server = step.server - 1;
        let broken = match step.change {
            Change::Leave => self.leave(server),
            Change::Join => {
                self.join(server);
                0
            }
        };
        self.settle();
        self.scheduler = self.scheduler.rebuild(self.servers(), self.choice.flags);
        self.scheduler.refresh();
        self.outcome.broken += broken;
        let moved = before.map(|before| {
            let after = self.picks_of_known().unwrap_or_default();
            Moved::count(&step, before.into_iter().zip(after))
        });
        self.outcome.disruptions.push(Disruption { step, broken, moved });
    }

    fn join(&mut self, server: usize) {
        self.stations.push(Station::new(server, self.groups[server], self.now));
        self.list.insert(0, self.stations.len() - 1);
    }

    /// Returns how many connections that broke.
    fn leave(&mut self, server: usize) -> usize {
        let Some(place) = self.place_of(server) else { return 0 };
        let station = self.list.remove(place);
        self.stations[station].place = None;
        self.stations[station].active()
    }

    fn place_of(&self, server: usize) -> Option<usize> {
        self.list.iter().position(|station| self.stations[*station].number == server)
    }

    /// Tells the stations their places.
    fn settle(&mut self) {
        for (place, station) in self.list.iter().enumerate() {
            self.stations[*station].place = Some(place);
        }
    }

    fn servers(&self) -> uvs_sched::Servers {
        self.list.iter().map(|station| self.stations[*station].server()).collect()
    }

    /// Which server each client that has connected would get now, where that changes nothing.
    fn picks_of_known(&self) -> Option<Vec<Option<usize>>> {
        if !self.choice.hashes() {
            return None;
        }
        let latest = (0..).zip(&self.known).filter_map(|(client, known)| Some((client, (*known)?)));
        let pick = |(client, (port, destination))| {
            let flow = self.scenario.workload.flow(client, port, destination, self.now);
            let place = self.scheduler.pick(&flow)?;
            Some(self.stations[self.list[place]].number)
        };
        Some(latest.map(pick).collect())
    }

    fn measure(&mut self) {
        let mut loads = vec![None; self.groups.len()];
        let mut compared = Vec::with_capacity(self.list.len());
        for station in &self.list {
            let station = &mut self.stations[*station];
            let load = station.measure(self.now, self.window_began);
            loads[station.number] = Some(load);
            if station.group.weight > 0 {
                compared.push(load);
            }
        }
        self.spreads.extend(Spread::of(&compared));
        self.outcome.series.ends.push(self.now as f64 / SECOND);
        self.outcome.series.loads.push(loads);
        self.window_began = self.now;
        // What the control plane does about once a second.
        self.scheduler.tick((self.now / 10_000_000) as u32);
    }

    fn end(self) -> Outcome {
        let responses = Times::of(self.responses);
        let served = responses.count().max(1) as f64;
        let percentile = |part| responses.percentile(part).unwrap_or(0.0);
        let latency = Latency {
            waited: self.waited as f64 / served,
            wait: self.wait / served,
            mean: responses.mean().unwrap_or(0.0),
            p50: percentile(0.5),
            p99: percentile(0.99),
            p999: percentile(0.999),
        };
        let spread = Spread::mean(&self.spreads);
        Outcome { spread, latency, responses, ..self.outcome }
    }
}

#[cfg(test)]
mod tests;
