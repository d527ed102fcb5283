//! IPVS schedulers: which server gets a new connection.
//!
//! One file a scheduler, with the kernel's name; each says its rule in words first. A scheduler is
//! built from an immutable list of servers off the workers; workers share it and
//! [`pick`](Schedule::pick) from it at the same time. What changes between picks is either the
//! scheduler's own (atomic, so that the sequence of picks stays one sequence over all cores) or a
//! server's [`Load`], of which the scheduler is [told](Schedule::changed).
//!
//! The kernel walks the list for most picks. Here a pick costs the same for ten servers and for ten
//! thousand: `tree.rs` keeps what the walk would find. The walk itself is [`walk`], the judge of
//! tests and benches.

#![forbid(unsafe_code)]

mod cache;
mod dh;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod local;
#[cfg(all(test, loom))]
mod loom;
mod mh;
mod nq;
mod ovf;
mod ranked;
mod roster;
mod rr;
mod sed;
mod server;
mod set;
mod sh;
mod sync;
mod tree;
mod twos;
#[doc(hidden)]
pub mod walk;
mod wlc;
mod wrr;

pub use dh::Dh;
pub use fo::Fo;
pub use lblc::Lblc;
pub use lblcr::Lblcr;
pub use lc::Lc;
pub use mh::Mh;
pub use nq::Nq;
pub use ovf::Ovf;
pub use rr::Rr;
pub use sed::Sed;
pub use server::{Load, Server, ServerId, Servers};
pub use sh::Sh;
pub use twos::Twos;
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
    /// When it came, in hundredths of a second; goes round.
    pub now: u32,
}

/// What `-b` sets. Every scheduler takes them, as in the kernel; sh and mh heed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The client's port counts as well as its address (`sh-port`, `mh-port`).
    pub port: bool,
    /// When the server is not available another is looked for (`sh-fallback`, `mh-fallback`).
    pub fallback: bool,
}

/// The rule of one scheduler.
///
/// What a scheduler may read: the [`Flow`] (addresses, ports, protocol, time); of each [`Server`]
/// address, port and weights, fixed as long as the list is; the [`Flags`]; and the live [`Load`].
///
/// When it is told of a change: a server was added, removed or re-weighted:
/// [`rebuild`](Self::rebuild), by the control plane. The service was edited but keeps its servers:
/// [`renew`](Self::renew), of which the kernel tells no scheduler. A connection was opened, became active,
/// became inactive or was closed, or the overload mark changed: [`changed`](Self::changed), by
/// the worker. Time went on: [`tick`](Self::tick).
///
/// Servers are named by their place in the list. Nothing here allocates or waits but for `build`,
/// `rebuild` and `tick`.
pub trait Schedule: Sized {
    /// The scheduler over `servers`, as after the service was added or its scheduler changed.
    fn build(servers: Servers, flags: Flags) -> Self;

    /// The scheduler over a changed list (server added, removed or re-weighted), with whatever of
    /// `self`'s position survives the change.
    fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
        Self::build(servers, flags)
    }

    /// The scheduler over the same list, perhaps with other flags, where `self` stands.
    fn renew(&self, servers: Servers, flags: Flags) -> Self {
        self.rebuild(servers, flags)
    }

    /// The server for a new connection, or `None` when no server can take one.
    fn pick(&self, flow: &Flow) -> Option<usize>;

    /// Told after the [`Load`] of the server at `place` changed, by the worker that changed it: a
    /// connection was opened, became active, became inactive or was closed, or the overload mark
    /// was set or cleared. Cheap, and safe beside picks and changes on all cores.
    #[inline]
    fn changed(&self, place: usize) {
        let _ = place;
    }

    /// Looks at every load again. The control plane calls it once all workers use the snapshot
    /// with this scheduler: until then some of them told the one before of their changes. Safe
    /// beside picks and changes.
    fn refresh(&self) {}

    /// Sets how long lblc or lblcr keep what was not used, in hundredths of a second: the sysctl
    /// lblc_expiration or lblcr_expiration. A day if it is never set. Survives a rebuild.
    fn set_expiration(&self, ticks: u32) {
        let _ = ticks;
    }

    /// For the control plane, about once a second: lblc and lblcr sweep out what expired.
    fn tick(&self, now: u32) {
        let _ = now;
    }
}

/// Declares the schedulers from one list: their names, and the enum that holds any of them.
macro_rules! schedulers {
    ($($rule:ident $name:literal $what:literal,)*) => {
        /// The name of a scheduler as ipvsadm's `-s` takes it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $what] $rule,)*
        }

        impl Name {
            /// Every scheduler there is.
            pub const ALL: &[Name] = &[$(Name::$rule,)*];

            /// As ipvsadm writes it.
            pub fn as_str(self) -> &'static str {
                match self { $(Name::$rule => $name,)* }
            }
        }

        /// A scheduler of any kind; an enum, so that the frame path calls no function by pointer.
        #[derive(Debug)]
        pub enum Scheduler {
            $(#[doc = $what] $rule($rule),)*
        }

        impl Scheduler {
            /// The scheduler `name` over `servers`.
            pub fn build(name: Name, servers: Servers, flags: Flags) -> Self {
                match name { $(Name::$rule => Self::$rule($rule::build(servers, flags)),)* }
            }

            /// The same scheduler over a changed list; see [`Schedule::rebuild`].
            pub fn rebuild(&self, servers: Servers, flags: Flags) -> Self {
                match self { $(Self::$rule(rule) => Self::$rule(rule.rebuild(servers, flags)),)* }
            }

            /// The same scheduler over the same list; see [`Schedule::renew`].
            pub fn renew(&self, servers: Servers, flags: Flags) -> Self {
                match self { $(Self::$rule(rule) => Self::$rule(rule.renew(servers, flags)),)* }
            }

            /// Which scheduler it is.
            pub fn name(&self) -> Name {
                match self { $(Self::$rule(_) => Name::$rule,)* }
            }

            /// The server for a new connection; see [`Schedule::pick`].
            #[inline]
            pub fn pick(&self, flow: &Flow) -> Option<usize> {
                match self { $(Self::$rule(rule) => rule.pick(flow),)* }
            }

            /// The load of the server at this place changed; see [`Schedule::changed`].
            #[inline]
            pub fn changed(&self, place: usize) {
                match self { $(Self::$rule(rule) => rule.changed(place),)* }
            }

            /// All workers use this scheduler now; see [`Schedule::refresh`].
            pub fn refresh(&self) {
                match self { $(Self::$rule(rule) => rule.refresh(),)* }
            }

            /// Sets a sysctl; see [`Schedule::set_expiration`].
            pub fn set_expiration(&self, ticks: u32) {
                match self { $(Self::$rule(rule) => rule.set_expiration(ticks),)* }
            }

            /// Time goes on; see [`Schedule::tick`].
            pub fn tick(&self, now: u32) {
                match self { $(Self::$rule(rule) => rule.tick(now),)* }
            }
        }
    };
}

schedulers! {
    Rr "rr" "Round robin.",
    Wrr "wrr" "Weighted round robin.",
    Lc "lc" "Least connections.",
    Wlc "wlc" "Weighted least connections, ipvsadm's default.",
    Lblc "lblc" "Locality-based least connections.",
    Lblcr "lblcr" "Locality-based least connections with replication.",
    Sh "sh" "Source hashing.",
    Dh "dh" "Destination hashing.",
    Sed "sed" "Shortest expected delay.",
    Nq "nq" "Never queue.",
    Fo "fo" "Failover to the highest weight.",
    Ovf "ovf" "Overflow to the next highest weight.",
    Mh "mh" "Maglev hashing.",
    Twos "twos" "The less loaded of two that were drawn at random.",
}

impl Name {
    /// How many servers a service may have with this scheduler, where there is a limit.
    pub fn most_servers(self) -> Option<usize> {
        (self == Name::Mh).then_some(mh::PLACES)
    }

    /// Whether it heeds [`Flags`]. The others take them and do nothing with them, as in the kernel.
    pub fn has_flags(self) -> bool {
        matches!(self, Name::Sh | Name::Mh)
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
        let known = Name::ALL.iter().find(|known| known.as_str() == name);
        known.copied().ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

/// A scheduler name that uvs does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScheduler(pub String);

impl std::fmt::Display for UnknownScheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).collect();
        write!(f, "unknown scheduler '{}'; there are {}", self.0, names.join(" "))
    }
}

impl std::error::Error for UnknownScheduler {}

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
            now: 0,
        }
    }

    #[cfg(not(loom))]
    pub(crate) fn picks(rule: &impl Schedule, count: usize) -> Vec<usize> {
        (0..count).map(|_| rule.pick(&flow()).expect("a server")).collect()
    }

    /// Opens a connection as a worker does.
    pub(crate) fn open(rule: &impl Schedule, list: &Servers, at: usize, active: bool) {
        list[at].load.open(active);
        rule.changed(at);
    }

    /// Sets or clears a server's overload mark as a worker does.
    pub(crate) fn overload(rule: &impl Schedule, list: &Servers, at: usize, overloaded: bool) {
        list[at].load.set_overloaded(overloaded);
        rule.changed(at);
    }

    #[test]
    fn names_are_ipvsadms() {
        for name in Name::ALL {
            assert_eq!(name.as_str().parse(), Ok(*name));
            let scheduler = Scheduler::build(*name, Servers::default(), Flags::default());
            assert_eq!(scheduler.name(), *name);
            assert_eq!(scheduler.pick(&flow()), None, "{name} without servers");
        }
        let error = "RR".parse::<Name>().unwrap_err().to_string();
        assert!(error.starts_with("unknown scheduler 'RR'; there are rr wrr lc wlc"), "{error}");
    }
}
