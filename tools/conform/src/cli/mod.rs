//! Recorded command lines: ipvsadm's own code, run against an engine without ports behind its real
//! API, on a socket; standard output, standard error and exit code are compared to the byte.
//!
//! The lines of a file were run one after another on one kernel, and so they are here. What no
//! command line did to that kernel stands in [`before`], what cannot be equal in [`compare`].

mod before;
mod compare;
mod director;
mod names;
mod shell;

use serde::Deserialize;
use serde_json::Value;

use self::director::Director;
use self::shell::{Ran, Shell};
use crate::{Outcome, Stop};

#[derive(Debug, Deserialize)]
struct File {
    records: Vec<Record>,
}

/// A command line, and what came of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Record {
    section: String,
    cmd: String,
    rc: u8,
    stdout: String,
    stderr: String,
    #[serde(default)]
    stdin: String,
}

/// How often a listing that shows time is looked at again, half a second later each time: how long
/// the recorded kernel had been idle between two commands nobody wrote down.
const LOOKS: usize = 12;

/// Replays a file of command lines, and tells of each.
pub(crate) fn replay(file: Value, seen: &mut dyn FnMut(String, Outcome)) {
    let file: File = match serde_json::from_value(file) {
        Ok(file) => file,
        Err(error) => return seen("records".into(), Stop::from(error).into()),
    };
    let director = match Director::start() {
        Ok(director) => director,
        Err(error) => {
            let outcome = Outcome::NotSupported(format!("no engine here: {error}"));
            return seen("records".into(), outcome);
        }
    };
    let mut shell = Shell::new(&director);
    let mut section = String::new();
    for record in file.records {
        if record.section != section {
            section.clone_from(&record.section);
            before::enter(&section, &director);
        }
        let outcome = compared(&mut shell, &director, &record);
        seen(record.cmd, outcome.err().map_or(Outcome::Passed, Outcome::from));
    }
}

fn compared(shell: &mut Shell, director: &Director, record: &Record) -> Result<(), Stop> {
    let mut ran = shell.run(&record.cmd, &record.stdin)?;
    for _ in 0..LOOKS {
        if compare::same(record, &ran) || !compare::shows_time(record) {
            break;
        }
        director.pass_half_a_second();
        ran = shell.run(&record.cmd, &record.stdin)?;
    }
    if compare::same(record, &ran) {
        return Ok(());
    }
    if let Some(what) = compare::unsupported(record, &ran) {
        return Err(Stop::NotSupported(what));
    }
    let Record { rc, stdout, stderr, .. } = record;
    let Ran { code, out, err } = ran;
    Err(Stop::Differs(format!("expected {rc} {stderr:?}\n{stdout}\ncame {code} {err:?}\n{out}")))
}
