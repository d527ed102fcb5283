//! Servers that leave and join, and whom that sends elsewhere.

use std::str::FromStr;

use serde::Serialize;

use crate::error::{Wrong, within};

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is removed; its connections break.
    Leave,
    /// It is added, as a new one, at the head of the list.
    Join,
}

impl Change {
    /// As options and fields call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Join => "join",
        }
    }
}

/// A server leaves or joins at some time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// When, in seconds.
    pub at: f64,
    /// What.
    pub change: Change,
    /// Which server, from 1, in the order of the scenario.
    pub server: usize,
}

impl Step {
    /// From `SECONDS:SERVER`.
    ///
    /// # Errors
    ///
    /// When it is not of that form.
    pub fn parse(change: Change, text: &str) -> Result<Self, Wrong> {
        let form =
            || Wrong::field(change.as_str(), format!("cannot be '{text}'; write SECONDS:SERVER"));
        let (at, server) = text.split_once(':').ok_or_else(form)?;
        let at = f64::from_str(at).map_err(|_| form())?;
        let server = server.parse().map_err(|_| form())?;
        Ok(Self { at, change, server })
    }
}

/// The steps in the order of time.
pub(crate) fn in_order(steps: &[Step]) -> Vec<Step> {
    let mut steps = steps.to_vec();
    steps.sort_by(|one, other| one.at.total_cmp(&other.at));
    steps
}

/// Whether a server is in the list from the start: unless the first that it does is to join.
pub(crate) fn there_at_first(steps: &[Step], server: usize) -> bool {
    let first = in_order(steps).into_iter().find(|step| step.server == server);
    first.is_none_or(|step| step.change == Change::Leave)
}

/// Checks the steps of a run of so many servers and seconds.
pub(crate) fn check(steps: &[Step], servers: usize, seconds: f64) -> Result<(), Wrong> {
    for (number, step) in (1..).zip(steps) {
        check_one(steps, step, servers, seconds)
            .map_err(|wrong| wrong.within(&format!("step {number}")))?;
    }
    Ok(())
}

fn check_one(steps: &[Step], step: &Step, servers: usize, seconds: f64) -> Result<(), Wrong> {
    let Step { at, change, server } = *step;
    within("at", at, 0.0..=seconds)?;
    let wrong = |reason| Err(Wrong::field(change.as_str(), reason));
    if !(1..=servers).contains(&server) {
        return wrong(format!("there is no server {server}; there are 1 to {servers}"));
    }
    let ordered = in_order(steps);
    let own: Vec<&Step> = ordered.iter().filter(|step| step.server == server).collect();
    let twice = own.windows(2).any(|pair| pair[0].change == change && pair[1] == step);
    match change {
        Change::Leave if twice => wrong(format!("server {server} has left already")),
        Change::Join if twice => wrong(format!("server {server} has joined already")),
        _ => Ok(()),
    }
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disruption {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Connections that were served or waited at the server that left.
    pub broken: usize,
    /// Whom it sent elsewhere; for schedulers that hash.
    pub moved: Option<Moved>,
}

/// Clients whose pick a step changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Clients that had connected before.
    pub clients: usize,
    /// Those that had to: their server left, or they went to the one that joined.
    pub needed: usize,
    /// Those that went from a server that stayed to another that was there before.
    pub needless: usize,
}

impl Moved {
    /// From each client's server before and after.
    pub(crate) fn count(
        step: &Step,
        picks: impl Iterator<Item = (Option<usize>, Option<usize>)>,
    ) -> Self {
        let mut moved = Self::default();
        for (before, after) in picks {
            moved.clients += 1;
            let where_it_counts = match step.change {
                Change::Leave => before,
                Change::Join => after,
            };
            match before != after {
                true if where_it_counts == Some(step.server - 1) => moved.needed += 1,
                true => moved.needless += 1,
                false => {}
            }
        }
        moved
    }

    /// The needless ones of all clients, from 0 to 1.
    pub fn needless_share(&self) -> f64 {
        self.needless as f64 / self.clients.max(1) as f64
    }

    /// All that moved, from 0 to 1.
    pub fn share(&self) -> f64 {
        (self.needed + self.needless) as f64 / self.clients.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: f64, change: Change, server: usize) -> Step {
        Step { at, change, server }
    }

    #[test]
    fn a_step_is_read_from_text() {
        assert_eq!(Step::parse(Change::Leave, "60:3"), Ok(step(60.0, Change::Leave, 3)));
        for text in ["60", "60:", ":3", "60:x", "soon:3", "60:-1"] {
            let sentence = Step::parse(Change::Join, text).unwrap_err().to_string();
            assert_eq!(sentence, format!("join: cannot be '{text}'; write SECONDS:SERVER"));
        }
    }

    #[test]
    fn steps_that_cannot_be_are_refused() {
        use Change::{Join, Leave};
        let refused = |steps: &[Step], sentence: &str| {
            assert_eq!(check(steps, 3, 100.0).unwrap_err().to_string(), sentence);
        };
        refused(&[step(101.0, Leave, 1)], "step 1, at: cannot be 101; it is 0 to 100");
        refused(&[step(f64::NAN, Leave, 1)], "step 1, at: cannot be NaN; it is 0 to 100");
        refused(&[step(1.0, Leave, 4)], "step 1, leave: there is no server 4; there are 1 to 3");
        refused(&[step(1.0, Join, 0)], "step 1, join: there is no server 0; there are 1 to 3");
        let twice = [step(9.0, Leave, 2), step(3.0, Leave, 2)];
        refused(&twice, "step 1, leave: server 2 has left already");
        let again = [step(1.0, Join, 2), step(2.0, Join, 1), step(2.0, Join, 2)];
        refused(&again, "step 3, join: server 2 has joined already");
        let right = [step(5.0, Join, 1), step(1.0, Leave, 1), step(9.0, Leave, 1)];
        assert_eq!(check(&right, 3, 100.0), Ok(()));
        assert!(there_at_first(&right, 1));
        assert!(!there_at_first(&again, 2));
    }

    #[test]
    fn who_had_to_move_is_told_from_who_had_not() {
        let picks = [
            (Some(0), Some(0)),
            (Some(1), Some(0)),
            (Some(2), Some(0)),
            (Some(2), None),
            (None, None),
        ];
        let left = Moved::count(&step(0.0, Change::Leave, 2), picks.into_iter());
        assert_eq!(left, Moved { clients: 5, needed: 1, needless: 2 });
        let back = picks.into_iter().map(|(before, after)| (after, before));
        let joined = Moved::count(&step(0.0, Change::Join, 2), back);
        assert_eq!(joined, Moved { clients: 5, needed: 1, needless: 2 });
    }
}
