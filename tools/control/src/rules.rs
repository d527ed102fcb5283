//! The file of services, from ipvsadm-save's lines to what is to be configured.

use std::collections::BTreeMap;
use std::path::Path;

use uvs_uvsadm::api::{ApiError, Change, ServiceKey};
use uvs_uvsadm::names::System;
use uvs_uvsadm::{RuleError, parse_rules};

use crate::director::Director;
use crate::service::Target;

/// Services by what names them.
pub type Targets = BTreeMap<ServiceKey, Target>;

/// What is wrong with a file of services; nothing of it was applied.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// A line does not parse.
    #[error("{path}, {error}")]
    Line {
        /// The file.
        path: String,
        /// Line, column, and what is wrong.
        error: RuleError,
    },
    /// A line asks for what cannot be.
    #[error("{path}, line {line}: {error}")]
    Refused {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// Why.
        error: ApiError,
    },
}

/// Reads a file of services.
///
/// # Errors
///
/// See [`RulesError`].
pub fn read(path: &Path) -> Result<Targets, RulesError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| RulesError::Unreadable {
        path: name.clone(),
        reason: error.to_string(),
    })?;
    parse(&text, &name)
}

/// The services that the text of a file, called `path` in messages, asks for.
///
/// # Errors
///
/// [`RulesError::Line`] and [`RulesError::Refused`].
pub fn parse(text: &str, path: &str) -> Result<Targets, RulesError> {
    let rules = parse_rules(text, &System::load())
        .map_err(|error| RulesError::Line { path: path.to_owned(), error })?;
    let changes: Vec<Change> = rules.iter().map(|rule| rule.change.clone()).collect();
    // The lines are tried where nothing is at stake: on a director of their own.
    let mut trial = Director::idle();
    trial.apply(&changes).map_err(|(number, error)| RulesError::Refused {
        path: path.to_owned(),
        line: rules[number].line,
        error,
    })?;
    Ok(trial.targets())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "\
# web
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.0.1.1 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m -w 3
";

    #[test]
    fn lines_become_services() {
        let targets = parse(RULES, "s.rules").unwrap();
        let target = targets.values().next().unwrap();
        assert_eq!(target.service.scheduler, "rr");
        let ports: Vec<u16> = target.dests.iter().map(|dest| dest.port).collect();
        assert_eq!(ports, [80, 8080], "in the order of the file");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let error = |text: &str| parse(text, "s.rules").unwrap_err().to_string();
        let twice = format!("{RULES}-A -t 10.0.0.1:80 -s rr\n");
        assert_eq!(error(&twice), "s.rules, line 5: Service already exists");
        assert!(
            error("-A -t 10.0.0.1:80 -s rr\n-a -t nonsense\n").starts_with("s.rules, line 2, ")
        );
        let unknown = error("-A -t 10.0.0.1:80 -s xyz\n");
        assert_eq!(unknown, "s.rules, line 1: Scheduler or persistence engine not found");
    }
}
