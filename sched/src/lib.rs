//! IPVS schedulers: which server gets a new connection.
//!
//! One file a scheduler, with the kernel's name. A scheduler is built from an immutable list of
//! servers off the workers; workers share it and [`pick`](Schedule::pick) from it at the same
//! time. What changes between picks is either the scheduler's own cursor (atomic, so that the
//! sequence of picks stays one sequence over all cores) or a server's [`Load`].

#![forbid(unsafe_code)]

mod rr;
mod server;
mod wlc;
mod wrr;

pub use rr::Rr;
pub use server::{Load, Server, ServerId, Servers};
pub use wlc::Wlc;
pub use wrr::Wrr;

use std::net::IpAddr;

/// What a scheduler may know of the flow it picks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// The client.
    pub source: IpAddr,
    /// The client's port.
    pub source_port: u16,
    /// The virtual address.
    pub destination: IpAddr,
    /// The virtual port.
    pub destination_port: u16,
}

/// The rule of one scheduler.
///
/// A scheduler may read the flow, and of each server its weight and its [`Load`]; it keeps
/// nothing else. Servers are named by their place in the list that it was built from.
pub trait Schedule: Sized {
    /// The scheduler over `servers`, as after the service was added or its scheduler changed.
    fn build(servers: Servers) -> Self;

    /// The scheduler over a changed list (server added, removed or re-weighted), with whatever
    /// of `self`'s position survives the change.
    fn rebuild(&self, servers: Servers) -> Self;

    /// The server for a new connection, or `None` when no server can take one.
    fn pick(&self, flow: &Flow) -> Option<usize>;
}

/// The name of a scheduler as ipvsadm's `-s` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Weighted least connections, ipvsadm's default.
    Wlc,
}

impl Name {
    /// Every scheduler there is.
    pub const ALL: [Name; 3] = [Name::Rr, Name::Wrr, Name::Wlc];

    /// As ipvsadm writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Rr => "rr",
            Name::Wrr => "wrr",
            Name::Wlc => "wlc",
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Name {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, UnknownScheduler> {
        let known = Name::ALL.into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

/// A scheduler name that uvs does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScheduler(pub String);

impl std::fmt::Display for UnknownScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unknown scheduler '{}'; there are rr, wrr and wlc", self.0)
    }
}

impl std::error::Error for UnknownScheduler {}

/// A scheduler of any kind; an enum, so that the frame path calls no function by pointer.
#[derive(Debug)]
pub enum Scheduler {
    /// See [`Rr`].
    Rr(Rr),
    /// See [`Wrr`].
    Wrr(Wrr),
    /// See [`Wlc`].
    Wlc(Wlc),
}

/// Calls the same method on whichever scheduler it is.
macro_rules! each {
    ($scheduler:expr, $rule:ident => $call:expr) => {
        match $scheduler {
            Scheduler::Rr($rule) => $call,
            Scheduler::Wrr($rule) => $call,
            Scheduler::Wlc($rule) => $call,
        }
    };
}

impl Scheduler {
    /// The scheduler `name` over `servers`.
    pub fn build(name: Name, servers: Servers) -> Self {
        match name {
            Name::Rr => Self::Rr(Rr::build(servers)),
            Name::Wrr => Self::Wrr(Wrr::build(servers)),
            Name::Wlc => Self::Wlc(Wlc::build(servers)),
        }
    }

    /// The same scheduler over a changed list; see [`Schedule::rebuild`].
    pub fn rebuild(&self, servers: Servers) -> Self {
        match self {
            Self::Rr(rule) => Self::Rr(rule.rebuild(servers)),
            Self::Wrr(rule) => Self::Wrr(rule.rebuild(servers)),
            Self::Wlc(rule) => Self::Wlc(rule.rebuild(servers)),
        }
    }

    /// Which scheduler it is.
    pub fn name(&self) -> Name {
        match self {
            Self::Rr(_) => Name::Rr,
            Self::Wrr(_) => Name::Wrr,
            Self::Wlc(_) => Name::Wlc,
        }
    }

    /// The server for a new connection; see [`Schedule::pick`].
    #[inline]
    pub fn pick(&self, flow: &Flow) -> Option<usize> {
        each!(self, rule => rule.pick(flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn flow() -> Flow {
        let address = IpAddr::from([10, 0, 0, 1]);
        Flow {
            protocol: 6,
            source: address,
            source_port: 1024,
            destination: address,
            destination_port: 80,
        }
    }

    pub(crate) fn picks(rule: &impl Schedule, count: usize) -> Vec<usize> {
        (0..count).map(|_| rule.pick(&flow()).expect("a server")).collect()
    }

    #[test]
    fn names_are_ipvsadms() {
        for name in Name::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            assert_eq!(Scheduler::build(name, Servers::default()).name(), name);
        }
        let error = "RR".parse::<Name>().unwrap_err();
        assert_eq!(error.to_string(), "unknown scheduler 'RR'; there are rr, wrr and wlc");
    }
}
