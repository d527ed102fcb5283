//! What is wrong with what was asked for.

use uvs_sched::{Name, UnknownScheduler};

/// Why nothing was simulated: one sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Wrong {
    /// The scenario file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// The scenario file is not TOML.
    #[error("{path}, line {line}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A field of a scenario, of a group of servers or of a step.
    #[error("{place}{field}: {reason}")]
    Field {
        /// Where the field stands, with what parts it from the field's name; or nothing.
        place: String,
        /// The field.
        field: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// No such scheduler.
    #[error(transparent)]
    Scheduler(#[from] UnknownScheduler),
    /// A flag for a scheduler that has none.
    #[error("{name} has no flags; sh and mh have port and fallback")]
    Flagless {
        /// The scheduler.
        name: Name,
    },
    /// A flag that a scheduler does not have.
    #[error("{name} has no flag '{flag}'; it has port and fallback")]
    Flag {
        /// The scheduler.
        name: Name,
        /// The flag.
        flag: String,
    },
    /// A scheduler is there twice.
    #[error("scheduler {0} is named twice")]
    Twice(String),
    /// More servers than a scheduler can tell apart.
    #[error("{name} takes {most} servers at most, and there are {count}")]
    TooManyServers {
        /// The scheduler.
        name: Name,
        /// How many it takes.
        most: usize,
        /// How many there are.
        count: usize,
    },
    /// Something else, found in a file.
    #[error("{place}: {wrong}")]
    Within {
        /// The file.
        place: String,
        /// What.
        wrong: Box<Wrong>,
    },
    /// More connections than a run can hold.
    #[error(
        "a run of {connections:.0} connections is above the {most:.0} that it may have; lower rate \
         or for"
    )]
    TooLong {
        /// How many are expected.
        connections: f64,
        /// How many there may be.
        most: f64,
    },
}

impl Wrong {
    /// A wrong field of the scenario itself.
    pub(crate) fn field(field: &str, reason: impl Into<String>) -> Self {
        Self::Field { place: String::new(), field: field.to_owned(), reason: reason.into() }
    }

    /// The same, found in `place`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Field { place, field, reason } => {
                Self::Field { place: format!("{outer}, {place}"), field, reason }
            }
            wrong => Self::Within { place: outer.to_owned(), wrong: Box::new(wrong) },
        }
    }
}

/// A number within bounds, both included.
pub(crate) fn within(
    field: &str,
    value: f64,
    bounds: std::ops::RangeInclusive<f64>,
) -> Result<f64, Wrong> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (least, most) = bounds.into_inner();
    Err(Wrong::field(field, format!("cannot be {value}; it is {least} to {most}")))
}

/// A whole number within bounds, both included.
pub(crate) fn whole(
    field: &str,
    value: f64,
    bounds: std::ops::RangeInclusive<u32>,
) -> Result<u32, Wrong> {
    let (least, most) = bounds.into_inner();
    if value.fract() != 0.0 {
        return Err(Wrong::field(field, format!("cannot be {value}; it is a whole number")));
    }
    Ok(within(field, value, least.into()..=most.into())? as u32)
}
