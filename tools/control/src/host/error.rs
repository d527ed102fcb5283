//! What can go wrong between the host and us.

use std::io;

/// Why the host's interfaces or routes cannot be had; each a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A name that no interface has.
    #[error("no interface {name:?}; there are: {present} (see `ip link`)")]
    NoInterface {
        /// The name that was asked for.
        name: String,
        /// The interfaces that are there, separated by commas.
        present: String,
    },
    /// The interface exists but is switched off.
    #[error("interface {name:?} is down; `ip link set {name} up` brings it up")]
    Down {
        /// Its name.
        name: String,
    },
    /// The interface has no Ethernet addresses.
    #[error("interface {name:?} is not Ethernet; the engine needs one that is")]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// The same name twice.
    #[error("interface {name:?} is named twice; name each interface once")]
    Twice {
        /// The name.
        name: String,
    },
    /// More names than the engine has links.
    #[error("{count} interfaces are named, but the engine works on {most} at most")]
    TooMany {
        /// How many names there were.
        count: usize,
        /// How many are allowed.
        most: usize,
    },
    /// The kernel did not answer, or refused.
    #[error("the kernel does not tell its {what}: {source}")]
    Kernel {
        /// What was asked for: `routes`, `neighbours` and so on.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The thread that follows the kernel could not be started.
    #[error("cannot start the thread that follows the kernel's routes: {0}")]
    Thread(#[source] io::Error),
}
