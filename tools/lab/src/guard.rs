//! A child process that does not outlive its holder.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, command};

/// A running child; dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Guard {
    child: Option<Child>,
}

impl Guard {
    /// Starts a command in a process group of its own, so that a Ctrl-C for the holder is the
    /// holder's to pass on.
    pub fn spawn(command: &mut Command) -> Result<Self, Error> {
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start { command: command::line(command), source })?;
        Ok(Self { child: Some(child) })
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("only `keep` and `drop` take the child")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("only `keep` and `drop` take the child").id()
    }

    /// Sends a signal, SIGHUP for instance.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        Ok(kill_process(self.raw_pid(), signal)?)
    }

    /// How the child ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Asks the child to end (SIGTERM) and kills it when `patience` is over.
    pub fn stop(mut self, patience: Duration) -> std::io::Result<ExitStatus> {
        if self.ended().is_none() {
            self.signal(Signal::TERM)?;
        }
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child().try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child().kill()?;
        self.child().wait()
    }

    /// Lets the child live on without a holder and gives its process id.
    pub fn keep(mut self) -> u32 {
        self.child.take().expect("only `keep` and `drop` take the child").id()
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(self.pid() as i32).expect("no process has id 0")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be gone already; then there is only its status to collect.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Guard {
        Guard::spawn(Command::new("sleep").arg("60")).unwrap()
    }

    fn lives(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_dropped_guard_leaves_no_process() {
        let guard = sleeper();
        let pid = guard.pid();
        assert!(lives(pid));
        drop(guard);
        assert!(!lives(pid));
    }

    #[test]
    fn stop_lets_the_child_end_by_itself() {
        use std::os::unix::process::ExitStatusExt;
        let status = sleeper().stop(Duration::from_secs(5)).unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
    }
}
