//! What can go wrong with a lab.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a lab could not be made or used; each text is one sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces are for root, with CAP_NET_ADMIN and CAP_SYS_ADMIN.
    #[error(
        "the lab needs CAP_NET_ADMIN and CAP_SYS_ADMIN to make network namespaces: run it as root, \
         and in a container with --privileged"
    )]
    NotRoot,
    /// A device file or program that the lab stands on is not there.
    #[error("the lab needs {what}, which is not here: {remedy}")]
    Missing {
        /// The program or file.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// [`LabOptions`](crate::LabOptions) that no network can be made of.
    #[error("a lab has 1 to {most} {what}, not {given}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// The largest number that works.
        most: usize,
        /// The number that was asked for.
        given: usize,
    },
    /// A command could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A command ran and failed.
    #[error("`{command}` failed with {status}: {stderr}")]
    Failed {
        /// The command line, and of a batch the line at fault.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A command said something that the lab does not understand.
    #[error("`{command}` printed what the lab cannot read: {detail}")]
    Output {
        /// The command line.
        command: String,
        /// The parser's complaint.
        detail: String,
    },
    /// A server did not come up.
    #[error("{what} was not ready after {seconds} s: {detail}")]
    NotReady {
        /// Which server.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log.
        detail: String,
    },
    /// The engine did not start, did not answer or ended badly.
    #[error("the engine does not run: {}", .0.trim_end())]
    Engine(String),
    /// A kernel in user mode did not come as far as its command.
    #[error("the kernel in user mode did not run the command: {0}")]
    Boot(String),
    /// A kernel in user mode was killed.
    #[error("the time of {seconds} s was over; --seconds gives it more")]
    TimedOut {
        /// How long it had.
        seconds: u64,
    },
    /// A file of the lab could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A socket or device of the lab's own programs could not be made or used.
    #[error("cannot {doing}: {source}")]
    Socket {
        /// What was tried.
        doing: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err` on sockets and devices.
    pub(crate) fn socket(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Socket { doing, source }
    }
}
