//! On what a result was measured: a figure without it says little.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine and the day.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: String,
    /// Its cores that this process may use.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The day, as 2026-01-31, UTC.
    pub date: String,
}

impl Machine {
    /// This one, today.
    pub fn here() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self {
            cpu: model.map_or("unknown CPU", |(_, name)| name).trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            date: day(seconds / 86_400),
        }
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let Self { cpu, cores, kernel, date } = self;
        format!("{date}, {cpu}, {cores} cores, Linux {kernel}")
    }

    /// A folder's name for results: day and processor.
    pub fn folder(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let cpu: String = self.cpu.chars().map(plain).collect();
        let words: Vec<&str> = cpu.split('-').filter(|word| !word.is_empty()).collect();
        format!("{}-{}", self.date, words.join("-"))
    }
}

/// The date of a day since 1970: years of March to February, in cycles of 400 years.
fn day(days: u64) -> String {
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + 400 * cycle, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{month:02}-{day:02}", year + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        let dates = [0, 31 + 28, 11_016, 20_413, 20_514].map(day);
        assert_eq!(dates, ["1970-01-01", "1970-03-01", "2000-02-29", "2025-11-21", "2026-03-02"]);
    }

    #[test]
    fn a_folder_is_named_in_plain_letters() {
        let machine = Machine {
            cpu: "AMD EPYC (9R14)".into(),
            cores: 2,
            kernel: String::new(),
            date: "2026-01-31".into(),
        };
        assert_eq!(machine.folder(), "2026-01-31-amd-epyc-9r14");
    }
}
