//! The kernel's IPVS over generic netlink: what ipvsadm speaks.
//!
//! - [`wire`]: the codec. Every command and attribute of the family has a type; what this crate
//!   does not know is kept, and everything is written back as it was read.
//! - [`Client`]: a blocking client over the kernel's socket, or any [`Transport`].
//! - [`Service`], [`Dest`], [`Daemon`], [`Timeouts`] and so on: plain values, apart from the wire,
//!   that compare and hash. What is configured and what was counted are apart too:
//!   [`ListedService`], [`ListedDest`].
//!
//! ```no_run
//! let mut ipvs = uvs_ipvs::Client::open()?;
//! for listed in ipvs.services()? {
//!     println!("{}", listed.service.key);
//!     for listed in ipvs.dests(&listed.service.key)? {
//!         println!("  -> {}", listed.dest.key);
//!     }
//! }
//! # Ok::<(), uvs_ipvs::Error>(())
//! ```
//!
//! Names and numbers are those of include/uapi/linux/ip_vs.h. Numbers that the kernel takes without
//! a check (protocols, forwarding methods, tunnel types, flags) are kept as numbers; the known ones
//! are constants.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod address;
mod answer;
mod client;
mod config;
mod daemon;
mod dest;
mod error;
mod name;
mod request;
mod service;
mod stats;
mod transport;
pub mod wire;

pub use address::{AddressFamily, Protocol};
pub use client::Client;
pub use config::{Info, Timeouts};
pub use daemon::{Daemon, DaemonState};
pub use dest::{
    Connections, Dest, DestKey, ForwardMethod, ListedDest, Tunnel, TunnelFlags, TunnelType,
};
pub use error::{Error, ValueError};
pub use name::{Name, NameError};
pub use service::{ListedService, Netmask, Service, ServiceFlags, ServiceKey};
pub use stats::Stats;
pub use transport::{NetlinkSocket, Transport};
