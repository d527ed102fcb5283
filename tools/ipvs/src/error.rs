//! What can go wrong between us and the kernel's IPVS.

use std::io;

use crate::wire::{Command, ParseError};

/// A list of attributes that does not say a service, a destination and so on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// An attribute that must be there is not.
    #[error("{attribute} is missing")]
    Missing {
        /// Its name in the kernel.
        attribute: &'static str,
    },
    /// An attribute is there, but not with a value of its kind.
    #[error("{attribute} has {length} bytes that are not a value of its kind")]
    Malformed {
        /// Its name in the kernel.
        attribute: &'static str,
        /// How many bytes its value has.
        length: usize,
    },
    /// A number that has no meaning here.
    #[error("{attribute} is {value}, which is not known")]
    Unknown {
        /// The attribute's name in the kernel.
        attribute: &'static str,
        /// The number.
        value: u32,
    },
    /// A name for which the kernel itself has no room.
    #[error("{attribute} is {name:?}, which is too long")]
    Name {
        /// The attribute's name in the kernel.
        attribute: &'static str,
        /// The name.
        name: String,
    },
}

/// Why the kernel's IPVS did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket, or no answer on it.
    #[error("cannot speak with the kernel over generic netlink: {0}")]
    Socket(#[from] io::Error),
    /// The kernel does not know the family.
    #[error("the kernel has no IPVS; `modprobe ip_vs` loads it where it is built as a module")]
    NoIpvs,
    /// EPERM.
    #[error("Permission denied (you must be root)")]
    Denied,
    /// The kernel said no; the text is ipvsadm's.
    #[error("{}", words(*command, *errno))]
    Refused {
        /// What was asked.
        command: Command,
        /// The error's number, as in errno.h.
        errno: i32,
    },
    /// A list changed each time while it was read.
    #[error("IPVS's services change faster than they can be read; try again")]
    Unstable,
    /// The kernel was silent, as it is when what it did was interrupted (EINTR).
    #[error("the kernel did not answer {0}; look whether it was done, and try again")]
    Silent(Command),
    /// An answer that is not netlink.
    #[error("the kernel's answer cannot be read: {0}")]
    Answer(#[from] ParseError),
    /// An answer that says something else than what was asked.
    #[error("the kernel's answer cannot be understood: {0}")]
    Value(#[from] ValueError),
}

/// What ipvsadm says when the kernel answers `command` with an error.
fn words(command: Command, errno: i32) -> String {
    let service = (Command::NEW_SERVICE..=Command::GET_SERVICE).contains(&command);
    let dest = (Command::NEW_DEST..=Command::GET_DEST).contains(&command);
    let daemon = (Command::NEW_DAEMON..=Command::GET_DAEMON).contains(&command);
    let text = match errno {
        libc::EEXIST if service => "Service already exists",
        libc::ENOENT if service => "Scheduler or persistence engine not found",
        libc::ESRCH if service || command == Command::ZERO => "No such service",
        libc::ESRCH if dest => "Service not defined",
        libc::EEXIST if dest => "Destination already exists",
        libc::ENOENT if dest => "No such destination",
        libc::EEXIST if daemon => "Daemon has already run",
        libc::ESRCH if daemon => "No daemon is running",
        libc::EPERM => "Permission denied (you must be root)",
        // The two spaces are ipvsadm's.
        libc::EINVAL => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        libc::ENOMEM => "Memory allocation problem",
        _ => return system(errno),
    };
    text.to_owned()
}

/// The C library's text for an error number.
fn system(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let number = format!(" (os error {errno})");
    text.strip_suffix(&number).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipvsadm_has_no_words_for_is_the_systems() {
        let text = |errno| Error::Refused { command: Command::NEW_DEST, errno }.to_string();
        assert_eq!(text(libc::ERANGE), "Numerical result out of range");
        assert_eq!(text(libc::ENODEV), "No such device");
    }
}
