//! The end of labs: by their maker, by an undertaker when the maker died, by a later sweep.
//!
//! What belongs to a lab is found by its name alone: namespaces, the processes in them, and its
//! folder. So whoever buries it needs no list that could be lost.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{command, run, search_path};
use crate::{Error, LabName};

/// Where `ip netns` keeps the names of namespaces.
const NAMESPACES: &str = "/run/netns";

/// Says "ready" on start, and "stay away" when the maker dismisses the undertaker.
const WORD: u8 = b'.';

/// The longest that a command of a dead maker may still run.
const STRAGGLERS: Duration = Duration::from_millis(500);

/// Removes the labs of makers that are dead, but for those that shall be kept; gives their names.
pub fn sweep() -> Result<Vec<LabName>, Error> {
    bury_all(|name| !name.maker_lives() && !kept_mark(name).exists())
}

/// Removes the labs that were kept and those of dead makers; gives their names.
pub fn down() -> Result<Vec<LabName>, Error> {
    bury_all(|name| !name.maker_lives() || kept_mark(name).exists())
}

fn bury_all(dead: impl Fn(LabName) -> bool) -> Result<Vec<LabName>, Error> {
    let mut buried = Vec::new();
    for name in labs()? {
        if dead(name) {
            remove(name)?;
            buried.push(name);
        }
    }
    Ok(buried)
}

/// Removes one lab: its processes, namespaces and folder; that nothing of it is there is fine.
///
/// Whatever runs in its namespaces is killed, a person's shell too.
pub fn remove(name: LabName) -> Result<(), Error> {
    for namespace in entries(Path::new(NAMESPACES))? {
        if LabName::of_namespace(&namespace) == Some(name) {
            kill_all_in(&namespace)?;
            let deleted = run(command("ip").args(["netns", "delete", &namespace]));
            // Another may be burying the same lab, and was faster.
            if Path::new(NAMESPACES).join(&namespace).exists() {
                deleted?;
            }
        }
    }
    match fs::remove_dir_all(name.folder()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: name.folder(), source: error })
        }
        _ => Ok(()),
    }
}

/// Leaves a lab out of [`sweep`].
pub(crate) fn mark_kept(name: LabName) -> Result<(), Error> {
    fs::write(kept_mark(name), "").map_err(Error::file(kept_mark(name)))
}

fn kept_mark(name: LabName) -> PathBuf {
    name.folder().join("kept")
}

/// Every lab of which anything is there.
fn labs() -> Result<BTreeSet<LabName>, Error> {
    let namespaces = entries(Path::new(NAMESPACES))?;
    let folders = entries(LabName::folders())?;
    let by_namespace = namespaces.iter().filter_map(|each| LabName::of_namespace(each));
    Ok(by_namespace.chain(folders.iter().filter_map(|each| each.parse().ok())).collect())
}

/// The names in a folder; none when there is no such folder.
fn entries(folder: &Path) -> Result<Vec<String>, Error> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(Error::file(folder))?,
    };
    Ok(listing.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn kill_all_in(namespace: &str) -> Result<(), Error> {
    let listed = run(command("ip").args(["netns", "pids", namespace]));
    let pids = match listed {
        Err(_) if !Path::new(NAMESPACES).join(namespace).exists() => return Ok(()),
        listed => listed?,
    };
    let own = std::process::id();
    for pid in pids.lines().filter_map(|line| line.trim().parse::<u32>().ok()) {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        if let Some(raw) = raw.filter(|_| pid != own) {
            // Who is gone by now is gone.
            let _ = kill_process(raw, Signal::KILL);
        }
    }
    Ok(())
}

/// A child in a session of its own that buries the lab when its maker is gone, whatever ended it:
/// it waits for the end of a pipe that only the maker holds.
#[derive(Debug)]
pub(crate) struct Undertaker {
    child: Child,
}

impl Undertaker {
    /// Starts it with `PROGRAM lab undertaker NAME` and waits until it keeps watch.
    pub(crate) fn start(program: &Path, name: LabName) -> Result<Self, Error> {
        let line = format!("{} lab undertaker {name}", program.display());
        let mut child = Command::new(program)
            .args(["lab", "undertaker", &name.to_string()])
            .env("PATH", search_path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| Error::Start { command: line.clone(), source })?;
        let stdout = child.stdout.take().expect("the pipe was asked for");
        let mut said = Vec::new();
        let read = BufReader::new(stdout).read_until(WORD, &mut said);
        let undertaker = Self { child };
        match read {
            Ok(_) if said.as_slice() == [WORD] => Ok(undertaker),
            _ => {
                let detail =
                    format!("{:?} in place of a sign of life", String::from_utf8_lossy(&said));
                undertaker.dismiss();
                Err(Error::Output { command: line, detail })
            }
        }
    }

    /// Tells it that there is nothing to bury, and waits for its end.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // One that was killed cannot hear it, and need not.
            let _ = stdin.write_all(&[WORD]);
        }
        let _ = self.child.wait();
    }
}

/// The undertaker's own life: `uvs lab undertaker NAME`.
pub(crate) fn keep_watch(name: LabName) -> Result<(), Error> {
    rustix::process::setsid().map_err(|errno| Error::Socket {
        doing: "start a session".to_owned(),
        source: errno.into(),
    })?;
    let mut stdout = io::stdout();
    let standby = stdout.write_all(&[WORD]).and_then(|()| stdout.flush());
    standby.map_err(Error::file("stdout"))?;
    let mut word = [0];
    match io::stdin().read(&mut word) {
        Ok(1..) => Ok(()),
        _ => {
            remove(name)?;
            // A command that the maker was running when it died may just have made more.
            std::thread::sleep(STRAGGLERS);
            remove(name)
        }
    }
}
