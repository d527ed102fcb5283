//! Replays recordings of the real kernel's IPVS through the engine, and says where it differs.
//!
//! A recording is a JSON file; [`replay`] runs one, [`run`] all that it finds under some paths, also
//! files of many recordings: of ipvsadm's command lines and of its netlink.
//! Frames take the engine's own path, over the port `memory`, in the lab in which the kernel was
//! recorded ([`rig`]); time stands still unless a recording moves it. What a recording needs and
//! uvs does not have yet is a failure that says so, never a skip.

#![forbid(unsafe_code)]

mod cli;
mod conns;
mod forwarding;
mod frames;
mod mask;
pub mod netlink;
mod packet;
pub mod rig;
mod states;
mod statistics;
mod steps;
mod topology;

pub use mask::masked;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What came of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The engine did what the kernel did.
    Passed,
    /// The first difference.
    Differs(String),
    /// Something that uvs does not do yet.
    NotSupported(String),
    /// The file is not a recording.
    Malformed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Differs(what) => f.write_str(what),
            Self::NotSupported(what) => write!(f, "not supported yet: {what}"),
            Self::Malformed(what) => write!(f, "not a recording: {what}"),
        }
    }
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("{0}")]
    Differs(String),
    #[error("{0}")]
    NotSupported(String),
    #[error("{0}")]
    Malformed(String),
}

impl Stop {
    /// Says in front what it is about.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Differs(why) => Self::Differs(format!("{what}: {why}")),
            Self::NotSupported(why) => Self::NotSupported(format!("{what}: {why}")),
            Self::Malformed(why) => Self::Malformed(format!("{what}: {why}")),
        }
    }
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Differs(what) => Self::Differs(what),
            Stop::NotSupported(what) => Self::NotSupported(what),
            Stop::Malformed(what) => Self::Malformed(what),
        }
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Replays a file that is one recording.
pub fn replay(text: &str) -> Outcome {
    match serde_json::from_str(text).map_err(Stop::from).and_then(dispatch) {
        Ok(()) => Outcome::Passed,
        Err(stop) => stop.into(),
    }
}

fn dispatch(value: Value) -> Result<(), Stop> {
    let has = |field: &str| value.get(field).is_some();
    if has("mode") && has("setup") {
        forwarding::replay(serde_json::from_value(value)?)
    } else if has("sequences") {
        states::replay(&serde_json::from_value(value)?)
    } else if has("steps") {
        steps::replay(serde_json::from_value(value)?)
    } else {
        Err(Stop::Malformed("it has neither `steps` nor `sequences`".into()))
    }
}

/// Replays a file; one of command lines or of netlink has many recordings, each with its name.
fn replay_file(text: &str, mut seen: impl FnMut(Option<String>, Outcome)) {
    let records =
        serde_json::from_str::<Value>(text).ok().filter(|file| file["records"].is_array());
    let Some(file) = records else { return seen(None, replay(text)) };
    if file["records"][0].get("section").is_some() {
        return cli::replay(file, &mut |name, outcome| seen(Some(name), outcome));
    }
    let Some(records) = netlink::read(&file) else {
        return seen(None, Outcome::Malformed("a datagram is not hexadecimal".into()));
    };
    for record in records {
        let outcome = match netlink::check(&record) {
            Ok(()) => Outcome::Passed,
            Err(what) => Outcome::Differs(what),
        };
        seen(Some(record.name), outcome);
    }
}

/// A recording and what came of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file.
    pub path: PathBuf,
    /// Which of the file's recordings, where it has several.
    pub name: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

/// Replays every recording in these files and folders, in order of their names, and shows each
/// result to `seen` as it comes.
///
/// # Errors
///
/// A path that cannot be read.
pub fn run(paths: &[PathBuf], mut seen: impl FnMut(&Case)) -> Result<Vec<Case>, UnreadablePath> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    let mut cases = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|e| UnreadablePath::new(&path, &e))?;
        replay_file(&text, |name, outcome| {
            let case = Case { path: path.clone(), name, outcome };
            seen(&case);
            cases.push(case);
        });
    }
    Ok(cases)
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), UnreadablePath> {
    let unreadable = |error: std::io::Error| UnreadablePath::new(path, &error);
    if !path.metadata().map_err(unreadable)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut inside = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        inside.push(entry.map_err(unreadable)?.path());
    }
    inside.sort();
    for entry in inside {
        if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "json") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

/// The file, and which of its recordings.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.name.iter().try_for_each(|name| write!(f, ": {name}"))
    }
}

/// A file or folder that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read {path}: {reason}")]
pub struct UnreadablePath {
    path: String,
    reason: String,
}

impl UnreadablePath {
    fn new(path: &Path, error: &std::io::Error) -> Self {
        Self { path: path.display().to_string(), reason: error.to_string() }
    }
}
