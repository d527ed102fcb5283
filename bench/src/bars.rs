//! What a frame costs, against the bars of the project.

use std::time::{Duration, Instant};

use uvs_engine::port::BATCH;

use crate::rig::{Rig, timed};

/// Rounds of a measurement; the median of an odd number is one of them.
const ROUNDS: usize = 15;

/// How long the turns of a round take together, at least.
const ROUND: Duration = Duration::from_millis(40);

/// Nanoseconds that a frame took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The median of the rounds.
    pub median: f64,
    /// The fastest round: what it is when nobody else uses the machine's caches and cores.
    pub least: f64,
}

impl Cost {
    /// Of some rounds.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        Self { median: rounds[rounds.len() / 2], least: rounds[0] }
    }
}

/// Measures what a frame costs in this rig.
///
/// # Panics
///
/// When the engine does not forward every frame.
pub fn measure(rig: &mut Rig) -> Cost {
    let round = |_| {
        let (mut took, mut turns) = (Duration::ZERO, 0);
        while took < ROUND {
            took += rig.turn(timed);
            turns += 1;
        }
        took.as_nanos() as f64 / (turns * BATCH) as f64
    };
    let cost = Cost::of((0..ROUNDS).map(round).collect());
    rig.check();
    cost
}

/// What the end of a connection costs, by the timer wheel, in nanoseconds.
///
/// # Panics
///
/// As [`measure`].
pub fn measure_end(rig: &mut Rig, flows: u32) -> Cost {
    let round = |_| {
        for _ in 0..flows as usize / BATCH {
            rig.turn(|engine| engine.turn());
        }
        let (count, took) = rig.close_all();
        took.as_nanos() as f64 / count as f64
    };
    Cost::of((0..5).map(round).collect())
}

/// Nanoseconds that the timing of a turn adds to each of its frames.
pub fn clock_cost() -> f64 {
    const READS: u32 = 1_000_000;
    let start = Instant::now();
    for _ in 0..READS {
        std::hint::black_box(Instant::now().elapsed());
    }
    // Of the two reads about one falls between them.
    start.elapsed().as_nanos() as f64 / f64::from(READS) / 2.0 / BATCH as f64
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// How many flows there were.
    pub flows: u32,
    /// What it costs.
    pub cost: Cost,
    /// What it may cost; `None` where no bar is set.
    pub bar: Option<f64>,
}

/// The table, as text.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        format!("{:<28}{:>8}{:>9}{:>8}{:>7}\n", "ns a frame", "flows", "median", "least", "bar");
    for Row { name, flows, cost, bar } in rows {
        let verdict = match bar {
            None => String::new(),
            Some(bar) if cost.median <= *bar => format!("{bar:>7.0}  reached"),
            Some(bar) => format!("{bar:>7.0}  missed by {:.0}", cost.median - bar),
        };
        let flows = short(*flows);
        text += &format!("{name:<28}{flows:>8}{:>9.1}{:>8.1}{verdict}\n", cost.median, cost.least);
    }
    text
}

fn short(flows: u32) -> String {
    match flows {
        1_000_000.. => format!("{} M", flows / 1_000_000),
        1_000.. => format!("{} k", flows / 1_000),
        _ => flows.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_bar_is_reached() {
        let cost = Cost::of(vec![30.0, 10.0, 20.0]);
        assert_eq!((cost.median, cost.least), (20.0, 10.0));
        let row = |flows, bar| Row { name: "DR".into(), flows, cost, bar };
        let text = table(&[row(1_000, Some(25.0)), row(10_000_000, Some(12.0)), row(9, None)]);
        let ends: Vec<&str> = text.lines().skip(1).map(|line| line[28..].trim()).collect();
        assert_eq!(
            ends,
            [
                "1 k     20.0    10.0     25  reached",
                "10 M     20.0    10.0     12  missed by 8",
                "9     20.0    10.0"
            ]
        );
    }
}
