//! The servers: a line of waiting connections each, and workers that serve them.
//!
//! A server has so many workers. A connection that comes gets a free worker, or waits; those that
//! wait are served first come, first served. A worker of speed s does in a second what one of
//! speed 1 does in s seconds, and serves one connection at a time, to its end. (That is the
//! queue M/G/c; its one simplification is that a worker's speed does not depend on the others.)

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use uvs_sched::{Load, ServerId};

use crate::error::{Wrong, whole, within};

/// Servers that a scenario may have.
pub const MOST_SERVERS: usize = 10_000;

/// As of ipvsadm's `-w`, `-x` and `-y`.
const MOST_WEIGHT: u32 = i32::MAX as u32;

/// The fields of a group, for messages.
const FIELDS: &str = "count weight speed workers upper lower";

/// Some servers that are alike, as `4*weight=1,speed=1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Group {
    /// How many.
    pub count: u32,
    /// The weight of each.
    pub weight: u32,
    /// The speed of a worker.
    pub speed: f64,
    /// How many connections a server serves at once.
    pub workers: u32,
    /// Connections from which it gets no more, as of ipvsadm's `-x`; 0 for no limit.
    pub upper: u32,
    /// Connections below which it gets some again, as of ipvsadm's `-y`; 0 for three quarters of
    /// the upper ones.
    pub lower: u32,
}

impl Default for Group {
    fn default() -> Self {
        Self { count: 1, weight: 1, speed: 1.0, workers: 8, upper: 0, lower: 0 }
    }
}

impl Group {
    /// Sets a field.
    pub(crate) fn set(&mut self, field: &str, value: f64) -> Result<(), Wrong> {
        let whole = |bounds| whole(field, value, bounds);
        match field {
            "count" => self.count = whole(1..=MOST_SERVERS as u32)?,
            "weight" => self.weight = whole(0..=MOST_WEIGHT)?,
            "speed" => self.speed = within(field, value, 1e-3..=1e6)?,
            "workers" => self.workers = whole(1..=65_535)?,
            "upper" => self.upper = whole(0..=MOST_WEIGHT)?,
            "lower" => self.lower = whole(0..=MOST_WEIGHT)?,
            _ => return Err(Wrong::field(field, format!("no such field; there are {FIELDS}"))),
        }
        Ok(())
    }

    /// Checks what depends on two fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.lower > self.upper {
            let Self { lower, upper, .. } = self;
            return Err(Wrong::field("lower", format!("{lower} is above upper, {upper}")));
        }
        Ok(())
    }

    /// Seconds of work that a server does in a second.
    pub fn capacity(&self) -> f64 {
        self.speed * f64::from(self.workers)
    }

    /// Some groups, with semicolons between them.
    ///
    /// # Errors
    ///
    /// What is no group, no field or no value of it.
    pub fn list(text: &str) -> Result<Vec<Self>, Wrong> {
        text.split(';').map(|group| group.trim().parse()).collect()
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let mut group = Self::default();
        let fields = match text.split_once('*') {
            None => text,
            Some((count, fields)) => {
                group.set("count", number("count", count)?)?;
                fields
            }
        };
        for field in fields.split(',') {
            let Some((field, value)) = field.split_once('=') else {
                return Err(Wrong::field(field.trim(), "no value; write NAME=VALUE"));
            };
            group.set(field.trim(), number(field.trim(), value)?)?;
        }
        group.check()?;
        Ok(group)
    }
}

fn number(field: &str, text: &str) -> Result<f64, Wrong> {
    let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| Wrong::field(field, format!("cannot be '{}'; it is a number", text.trim())))
}

impl FromStr for Group {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        Self::read(text).map_err(|wrong| wrong.within(&format!("servers '{text}'")))
    }
}

/// A connection at a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conn {
    /// When it came.
    pub arrived: u64,
    /// Nanoseconds of a worker of speed 1.
    pub work: f64,
}

/// A server for as long as it is in the list: who comes back begins anew.
#[derive(Debug)]
pub(crate) struct Station {
    /// Its number in the scenario, from 0.
    pub number: usize,
    /// Its place in the list; none once it has left.
    pub place: Option<usize>,
    pub group: Group,
    pub load: Arc<Load>,
    line: VecDeque<Conn>,
    busy: u32,
    /// Active connections times nanoseconds, since `since`.
    area: f64,
    since: u64,
    joined: u64,
}

impl Station {
    pub(crate) fn new(number: usize, group: Group, now: u64) -> Self {
        Self {
            number,
            place: None,
            group,
            load: Arc::default(),
            line: VecDeque::new(),
            busy: 0,
            area: 0.0,
            since: now,
            joined: now,
        }
    }

    /// As a scheduler sees it.
    pub(crate) fn server(&self) -> uvs_sched::Server {
        uvs_sched::Server {
            id: ServerId(self.number as u32),
            address: Ipv4Addr::from_bits(0x0a00_0001 + self.number as u32).into(),
            port: 80,
            weight: self.group.weight,
            last_weight: self.group.weight,
            load: self.load.clone(),
        }
    }

    /// Connections that are served or wait.
    pub(crate) fn active(&self) -> usize {
        self.busy as usize + self.line.len()
    }

    /// Takes a connection. Returns it with the time of its end if a worker is free.
    pub(crate) fn take(&mut self, conn: Conn, now: u64) -> Option<(Conn, u64)> {
        self.count(now);
        let conns = self.load.open(true);
        if self.group.upper != 0 && conns >= self.group.upper {
            self.load.set_overloaded(true);
        }
        if self.busy == self.group.workers {
            self.line.push_back(conn);
            return None;
        }
        self.busy += 1;
        Some((conn, self.end(conn, now)))
    }

    /// A worker has served a connection, which is inactive now. Returns the next one that it
    /// serves, with the time of its end.
    pub(crate) fn served(&mut self, now: u64) -> Option<(Conn, u64)> {
        self.count(now);
        self.load.turn(false);
        let Some(next) = self.line.pop_front() else {
            self.busy -= 1;
            return None;
        };
        Some((next, self.end(next, now)))
    }

    /// A connection is no longer remembered. As in IPVS, that may end the overload.
    pub(crate) fn forget(&mut self) {
        let conns = u64::from(self.load.close(false));
        let (upper, lower) = (u64::from(self.group.upper), u64::from(self.group.lower));
        let relieved = if lower == 0 { 4 * conns < 3 * upper } else { conns < lower };
        if upper == 0 || relieved {
            self.load.set_overloaded(false);
        }
    }

    /// Active connections a worker since the last time, on average.
    pub(crate) fn measure(&mut self, now: u64, since: u64) -> f64 {
        self.count(now);
        let area = std::mem::take(&mut self.area);
        area / (now - since.max(self.joined)).max(1) as f64 / f64::from(self.group.workers)
    }

    fn end(&self, conn: Conn, now: u64) -> u64 {
        // A lifetime may be drawn that no clock can reach the end of.
        now.saturating_add((conn.work / self.group.speed) as u64)
    }

    fn count(&mut self, now: u64) {
        self.area += self.active() as f64 * (now - self.since) as f64;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_from_text() {
        let group: Group = "4*weight=10, speed=1.5,workers=2,upper=9,lower=3".parse().unwrap();
        let expected = Group { count: 4, weight: 10, speed: 1.5, workers: 2, upper: 9, lower: 3 };
        assert_eq!(group, expected);
        let groups = Group::list("weight=3;2*weight=1").unwrap();
        assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_wrong_group_is_refused_by_field() {
        let refused = |text: &str, words: &[&str]| {
            let sentence = text.parse::<Group>().unwrap_err().to_string();
            assert!(sentence.starts_with(&format!("servers '{text}', ")), "{sentence}");
            assert!(words.iter().all(|word| sentence.contains(word)), "{sentence}");
        };
        refused("weight=2147483648", &["weight: cannot be 2147483648", "0 to 2147483647"]);
        refused("weight=-1", &["weight: cannot be -1"]);
        refused("weight=1.5", &["weight", "whole number"]);
        refused("weight=heavy", &["weight: cannot be 'heavy'", "a number"]);
        refused("speed=0", &["speed: cannot be 0"]);
        refused("speed=NaN", &["speed: cannot be 'NaN'"]);
        refused("workers=0", &["workers: cannot be 0"]);
        refused("upper=5,lower=6", &["lower: 6 is above upper, 5"]);
        refused("lower=6", &["lower: 6 is above upper, 0"]);
        refused("wieght=1", &["wieght: no such field; there are count weight"]);
        refused("weight", &["weight: no value"]);
        refused("0*weight=1", &["count: cannot be 0"]);
        refused("many*weight=1", &["count: cannot be 'many'"]);
    }

    #[test]
    fn who_finds_no_worker_waits_in_line() {
        let group = Group { workers: 1, speed: 2.0, ..Group::default() };
        let mut station = Station::new(0, group, 0);
        let conn = |arrived| Conn { arrived, work: 100.0 };
        assert_eq!(station.take(conn(0), 0).map(|(_, end)| end), Some(50));
        assert!(station.take(conn(10), 10).is_none());
        assert!(station.take(conn(20), 20).is_none());
        assert_eq!((station.active(), station.load.conns()), (3, (3, 0)));
        assert_eq!(station.served(50).map(|(next, end)| (next.arrived, end)), Some((10, 100)));
        assert_eq!(station.load.conns(), (2, 1));
        // One for 10, two for 10, three for 30, two for 50.
        assert!((station.measure(100, 0) - 2.2).abs() < 1e-9);
    }

    #[test]
    fn thresholds_are_ipvss() {
        let mut station = Station::new(0, Group { upper: 4, ..Group::default() }, 0);
        let conn = Conn { arrived: 0, work: 1.0 };
        (0..3).for_each(|_| _ = station.take(conn, 0));
        assert!(!station.load.overloaded());
        station.take(conn, 0);
        assert!(station.load.overloaded());
        (0..4).for_each(|_| _ = station.served(1));
        station.forget();
        assert!(station.load.overloaded(), "three is three quarters of four");
        station.forget();
        assert!(!station.load.overloaded());
    }
}
