//! All schedulers of a scenario side by side: a table, CSV, JSON.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use serde::Serialize;

use crate::churn::Disruption;
use crate::measure::Latency;
use crate::run::{Outcome, run};
use crate::scenario::Scenario;
use crate::scheduler::Choice;
use crate::workload::{Clients, Lifetime};

/// What the schedulers of a scenario came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// Its schedulers' outcomes, in its order.
    pub outcomes: Vec<Outcome>,
}

/// A line of the report.
#[derive(Debug, Serialize)]
struct Row<'a> {
    scheduler: Choice,
    connections: usize,
    refused: usize,
    broken: usize,
    /// Absent when no server ever had a connection.
    max_over_mean: Option<f64>,
    variation: Option<f64>,
    #[serde(flatten)]
    latency: Latency,
    picks: &'a [usize],
    steps: &'a [Disruption],
}

/// The report, as JSON has it.
#[derive(Debug, Serialize)]
struct Document<'a> {
    scenario: &'a Scenario,
    schedulers: Vec<Row<'a>>,
}

impl<'a> Row<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        Self {
            scheduler: outcome.scheduler,
            connections: outcome.connections,
            refused: outcome.refused,
            broken: outcome.broken,
            max_over_mean: outcome.spread.map(|spread| spread.max_over_mean),
            variation: outcome.spread.map(|spread| spread.variation),
            latency: outcome.latency,
            picks: &outcome.picks,
            steps: &outcome.disruptions,
        }
    }
}

impl Report {
    /// Runs all schedulers of a scenario that was [checked](Scenario::check), on all cores.
    /// `progress` is called for each of the [`PARTS`](crate::PARTS) of each of them.
    pub fn of(scenario: Scenario, progress: &(dyn Fn() + Sync)) -> Self {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                // Relaxed: each takes a number of its own, whatever the order.
                let at = next.fetch_add(1, Relaxed);
                let Some(choice) = scenario.schedulers.get(at) else { return done };
                done.push((at, run(&scenario, *choice, progress)));
            }
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
            let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        outcomes.sort_by_key(|(at, _)| *at);
        let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        Self { scenario, outcomes }
    }

    /// What was simulated, in one line.
    pub fn title(&self) -> String {
        let workload = &self.scenario.workload;
        let clients = match workload.clients {
            Clients::Zipf => "zipf",
            Clients::Uniform => "uniform",
        };
        let lifetimes = match workload.lifetime {
            Lifetime::Pareto => "pareto",
            Lifetime::Exp => "exponential",
        };
        format!(
            "{} servers, {} connections a second for {} s, {clients} clients, {lifetimes} \
             lifetimes of {} s: {:.0} % busy if shared well",
            self.scenario.servers().count(),
            short(workload.rate),
            workload.seconds,
            workload.mean_lifetime,
            self.scenario.busy() * 100.0,
        )
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new(&[
            "SCHEDULER",
            "MAX/MEAN",
            "CV",
            "WAITED",
            "WAIT s",
            "MEAN s",
            "P50 s",
            "P99 s",
            "P999 s",
            "REFUSED",
            "BROKEN",
        ]);
        for row in self.outcomes.iter().map(Row::of) {
            let share = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
            let seconds = |value: f64| format!("{value:.3}");
            let Latency { waited, wait, mean, p50, p99, p999 } = row.latency;
            table.row([
                row.scheduler.to_string(),
                share(row.max_over_mean),
                share(row.variation),
                percent(waited),
                seconds(wait),
                seconds(mean),
                seconds(p50),
                seconds(p99),
                seconds(p999),
                count(row.refused),
                count(row.broken),
            ]);
        }
        let window = short(self.scenario.workload.seconds / crate::PARTS as f64);
        format!(
            "{}\n\n{}\n\
             MAX/MEAN, CV  of the servers' loads, on average over windows of {window} s; 1 and 0 when even.\n\
             \u{20}             A load is active connections a worker; above 1 some wait.\n\
             WAITED        connections that found no free worker\n\
             WAIT          time until a worker took the connection, on average over all\n\
             MEAN .. P999  response time, from arrival to end\n{}",
            self.title(),
            table.text(),
            self.steps(),
        )
    }

    /// What the steps did, for people; nothing when there were none.
    fn steps(&self) -> String {
        if self.scenario.steps.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["SCHEDULER", "AT s", "STEP", "BROKEN", "MOVED", "NEEDLESS"]);
        for outcome in &self.outcomes {
            for Disruption { step, broken, moved } in &outcome.disruptions {
                let share = |part: fn(&crate::churn::Moved) -> f64| {
                    moved.as_ref().map_or("-".to_owned(), |moved| percent(part(moved)))
                };
                table.row([
                    outcome.scheduler.to_string(),
                    step.at.to_string(),
                    format!("{} {}", step.change.as_str(), step.server),
                    count(*broken),
                    share(|moved| moved.share()),
                    share(|moved| moved.needless_share()),
                ]);
            }
        }
        format!(
            "\n{}\n\
             BROKEN    connections that were at the server that left\n\
             MOVED     clients that get another server than before the step (sh, dh, mh)\n\
             NEEDLESS  of these, those whose server stayed and who do not go to the one that joined\n",
            table.text(),
        )
    }

    /// For spreadsheets: a line a scheduler.
    pub fn csv(&self) -> String {
        let mut text = "scheduler,connections,refused,broken,max_over_mean,variation,waited,\
                        wait_s,mean_s,p50_s,p99_s,p999_s,moved,needless\n"
            .to_owned();
        for outcome in &self.outcomes {
            let row = Row::of(outcome);
            let Latency { waited, wait, mean, p50, p99, p999 } = row.latency;
            let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
            let moved = |part: fn(&crate::churn::Moved) -> usize| {
                let all = row.steps.iter().filter_map(|step| step.moved.as_ref());
                let sum = all.map(part).reduce(|one, other| one + other);
                sum.map_or(String::new(), |sum| sum.to_string())
            };
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{waited},{wait},{mean},{p50},{p99},{p999},{},{}",
                row.scheduler,
                row.connections,
                row.refused,
                row.broken,
                number(row.max_over_mean),
                number(row.variation),
                moved(|moved| moved.needed + moved.needless),
                moved(|moved| moved.needless),
            );
        }
        text
    }

    /// For programs.
    ///
    /// # Errors
    ///
    /// What serde_json says; a report has nothing that it cannot write.
    pub fn json(&self) -> serde_json::Result<String> {
        let schedulers = self.outcomes.iter().map(Row::of).collect();
        serde_json::to_string_pretty(&Document { scenario: &self.scenario, schedulers })
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn count(count: usize) -> String {
    if count == 0 { "-".to_owned() } else { count.to_string() }
}

/// Three digits, or all before the point.
pub(crate) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Words to the left in the first column, figures to the right in the others.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    fn new(head: &[&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned)] }
    }

    fn row(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    fn text(&self) -> String {
        let width = |at: usize| self.rows.iter().map(|row| row[at].chars().count()).max();
        let widths: [usize; N] = std::array::from_fn(|at| width(at).unwrap_or(0));
        let mut text = String::new();
        for row in &self.rows {
            let _ = write!(text, "{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::churn::{Change, Step};
    use crate::workload::Workload;

    fn report() -> Report {
        let mut scenario = Scenario {
            schedulers: Choice::list("wlc,mh:port+fallback").unwrap(),
            steps: vec![Step { at: 5.0, change: Change::Leave, server: 2 }],
            workload: Workload { seconds: 10.0, ..Scenario::default().workload },
            ..Scenario::default()
        };
        scenario.check().unwrap();
        Report::of(scenario, &|| {})
    }

    #[test]
    fn the_same_seed_is_the_same_report() {
        let report = report();
        assert_eq!(report, self::report());
        let mut scenario = report.scenario.clone();
        scenario.workload.seed = 2;
        assert_ne!(Report::of(scenario, &|| {}).csv(), report.csv());
    }

    #[test]
    fn a_table_has_a_line_a_scheduler_and_a_line_a_step() {
        let text = report().table();
        assert!(text.starts_with("8 servers, 144 connections a second for 10 s, zipf"), "{text}");
        let starts = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((starts("wlc "), starts("mh:port+fallback ")), (2, 2), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        let step = text.lines().find(|line| line.contains("leave 2")).unwrap();
        assert!(step.starts_with("wlc") && step.ends_with("-         -"), "{step}");
    }

    #[test]
    fn csv_has_as_many_fields_in_each_line() {
        let text = report().csv();
        let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [14; 3], "{text}");
    }

    #[test]
    fn json_has_the_scenario_and_each_scheduler() {
        let report = report();
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["scenario"]["for"], 10.0);
        assert_eq!(json["scenario"]["servers"][1]["weight"], 30);
        let mh = &json["schedulers"][1];
        assert_eq!(mh["scheduler"], "mh:port+fallback");
        assert_eq!(mh["connections"], report.outcomes[1].connections);
        assert_eq!(mh["steps"][0]["change"], "leave");
        assert!(mh["steps"][0]["moved"]["needed"].as_u64().unwrap() > 0);
        assert!(json["schedulers"][0]["steps"][0]["moved"].is_null());
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1.0, 1.5, 0.04512, 12.34, 144.0, 3499.4].map(short);
        assert_eq!(texts, ["0", "1", "1.5", "0.0451", "12.3", "144", "3499"]);
    }
}
