//! What became of a load.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Requests or datagrams, counted by what became of them:
/// `requests = answers + wrong + lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many were sent.
    pub requests: u64,
    /// Right answers, by the name of the server that gave them (`server 1`).
    pub answers: BTreeMap<String, u64>,
    /// Answers that were not what was asked for.
    pub wrong: u64,
    /// No answer: refused, reset or too late.
    pub lost: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// The first thing that went wrong, in words.
    pub complaint: Option<String>,
}

impl Tally {
    /// All right answers.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Whether every request had its right answer.
    pub fn is_clean(&self) -> bool {
        self.answered() == self.requests
    }

    /// Megabits of bodies a second.
    pub fn megabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Right answers a second.
    pub fn answers_per_second(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(crate) fn right(&mut self, server: &str, bytes: usize) {
        self.requests += 1;
        self.bytes += bytes as u64;
        match self.answers.get_mut(server) {
            Some(count) => *count += 1,
            None => drop(self.answers.insert(server.to_owned(), 1)),
        }
    }

    pub(crate) fn wrong(&mut self, complaint: impl FnOnce() -> String) {
        self.requests += 1;
        self.wrong += 1;
        self.complaint.get_or_insert_with(complaint);
    }

    pub(crate) fn lost(&mut self, complaint: impl FnOnce() -> String) {
        self.requests += 1;
        self.lost += 1;
        self.complaint.get_or_insert_with(complaint);
    }

    /// Adds what another thread counted; the clock is the caller's.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.bytes += other.bytes;
        for (server, count) in other.answers {
            *self.answers.entry(server).or_default() += count;
        }
        self.complaint = self.complaint.take().or(other.complaint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once() {
        let mut one = Tally::default();
        one.right("server 1", 9);
        one.lost(|| "timed out".to_owned());
        let mut sum = Tally::default();
        sum.right("server 2", 9);
        sum.wrong(|| "status 500".to_owned());
        sum.add(one);
        assert_eq!(sum.requests, sum.answered() + sum.wrong + sum.lost);
        assert_eq!((sum.requests, sum.answered(), sum.bytes), (4, 2, 18));
        assert_eq!(sum.complaint.as_deref(), Some("status 500"));
        assert!(!sum.is_clean());
    }

    #[test]
    fn throughput_is_of_bodies() {
        let elapsed = Duration::from_millis(500);
        let tally = Tally { bytes: 1_000_000, elapsed, ..Tally::default() };
        assert!((tally.megabits_per_second() - 16.0).abs() < 1e-9);
    }
}
