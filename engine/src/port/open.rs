//! Opening a port on every link for each worker: everything, or nothing and the reason.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::str::FromStr;
use std::time::Duration;

use super::afxdp::{self, AfXdpPort};
use super::raw::{self, RawPort};
use super::steer::Steering;
use super::{Frame, OpenError, Port, PortStats, why};
use crate::link::{Link, LinkId, MAX_LINKS};

/// Which kind of port to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortMode {
    /// AF_XDP, in the fastest way that works; raw packet sockets where none does.
    #[default]
    Auto,
    /// AF_XDP or nothing.
    AfXdp,
    /// Raw packet sockets.
    Raw,
}

/// A word that is not a port mode.
#[derive(Debug, thiserror::Error)]
#[error("port mode {0:?} is unknown; there are auto, afxdp and raw")]
pub struct UnknownMode(String);

impl FromStr for PortMode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        match word {
            "auto" => Ok(Self::Auto),
            "afxdp" => Ok(Self::AfXdp),
            "raw" => Ok(Self::Raw),
            _ => Err(UnknownMode(word.to_owned())),
        }
    }
}

/// What was opened.
#[derive(Debug)]
pub struct Opened {
    /// A port for each worker.
    pub ports: Vec<AnyPort>,
    /// What steers frames to them. Nothing comes before its first
    /// [`update`](Steering::update), and dropped, it gives all back to the kernel.
    pub steering: Steering,
    /// What was tried, what was taken and why, a line each.
    pub report: Vec<String>,
}

/// Opens a port on all of `links` for each of `workers`.
///
/// # Errors
///
/// See [`OpenError`]; nothing is left on the host then.
pub fn open(links: &[Link], workers: usize, mode: PortMode) -> Result<Opened, OpenError> {
    why::check_capabilities()?;
    if links.is_empty() || links.len() > MAX_LINKS {
        return Err(OpenError::LinkCount(links.len()));
    }
    if workers == 0 {
        return Err(OpenError::NoWorker);
    }
    for link in links {
        check_present(link)?;
    }
    let mut report = Vec::new();
    if mode != PortMode::Raw {
        match afxdp::open(links, workers as u32, &mut report) {
            Ok((ports, steering)) => {
                let ports = ports.into_iter().map(AnyPort::AfXdp).collect();
                return Ok(Opened { ports, steering, report });
            }
            Err(error) if mode == PortMode::AfXdp || !is_a_limit(&error) => return Err(error),
            Err(OpenError::AfXdp(tried)) => report = tried,
            Err(error) => report.push(format!("AF_XDP: {error}")),
        }
    }
    let (ports, steering) = raw::open(links, workers, &mut report)?;
    let ports = ports.into_iter().map(AnyPort::Raw).collect();
    Ok(Opened { ports, steering, report })
}

/// Whether AF_XDP failed by what this machine can do, so that raw sockets are the answer. A
/// program of somebody else is a conflict that the operator should know of.
fn is_a_limit(error: &OpenError) -> bool {
    !matches!(error, OpenError::HasProgram { .. })
}

fn check_present(link: &Link) -> Result<(), OpenError> {
    let unknown = || OpenError::NoLink(link.name.clone());
    let name = CString::new(link.name.as_str()).map_err(|_| unknown())?;
    // SAFETY: a C string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 || index != link.ifindex { Err(unknown()) } else { Ok(()) }
}

/// A port of one of the kinds that [`open`] makes.
#[derive(Debug)]
pub enum AnyPort {
    /// On AF_XDP sockets.
    AfXdp(AfXdpPort),
    /// On packet sockets.
    Raw(RawPort),
}

/// Calls the same method of whichever port it is.
macro_rules! of_either {
    ($port:expr, $method:ident($($argument:expr),*)) => {
        match $port {
            AnyPort::AfXdp(port) => port.$method($($argument),*),
            AnyPort::Raw(port) => port.$method($($argument),*),
        }
    };
}

impl Port for AnyPort {
    #[inline]
    fn rx(&mut self, room: usize, into: &mut Vec<Frame>) -> usize {
        of_either!(self, rx(room, into))
    }

    #[inline]
    fn alloc(&mut self) -> Option<Frame> {
        of_either!(self, alloc())
    }

    #[inline]
    fn tx(&mut self, link: LinkId, frame: Frame) -> Result<(), Frame> {
        of_either!(self, tx(link, frame))
    }

    #[inline]
    fn free(&mut self, frame: Frame) {
        of_either!(self, free(frame));
    }

    fn flush(&mut self) {
        of_either!(self, flush());
    }

    fn wait(&mut self, wake: &dyn AsRawFd, limit: Duration) -> io::Result<()> {
        of_either!(self, wait(wake, limit))
    }

    fn mode(&self) -> &str {
        of_either!(self, mode())
    }

    fn stats(&self) -> PortStats {
        of_either!(self, stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_one_of_three_words() {
        assert_eq!("afxdp".parse::<PortMode>().unwrap(), PortMode::AfXdp);
        let error = "dpdk".parse::<PortMode>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "port mode \"dpdk\" is unknown; there are auto, afxdp and raw"
        );
    }
}
