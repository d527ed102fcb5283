//! A network of namespaces, real servers in it and real traffic through it, to test with.
//!
//! ```text
//!   Arms::One                              Arms::Two
//!
//!   client   director   server 1..n        client    director     server 1..n
//!    eth0      eth0        eth0             eth0     out0  in0     eth0  eth1 (Route, Tunnel)
//!     |         |           |                |        |     |       |     |
//!   ==+=========+===========+== lan        ==+========+=====|=======|=====+== outside
//!                                                         ==+=======+======== inside
//! ```
//!
//! The segments are bridges in a namespace of their own, `switch`. The client is
//! 192.168.77.2 and reaches 10.77.0.0/16, in which the VIP and the servers are, through the
//! director. With [`Method::Masq`] the servers' default route is the director; with the other two
//! they hold the VIP on `lo` and have a leg to the client's segment, so that no reply comes back
//! to the director. With [`LabOptions::ipv6`] the same hosts have IPv6 as well: the client fd77::2, the
//! VIP fd70::1, the servers fd78::1 and up. Where the kernel has no tunnel devices, [`decapsulate`]
//! stands at the servers' end of a [`Tunnel`].
//!
//! It makes the network ([`Network`]), what answers ([`Servers`]) and what asks ([`Load`]). Only
//! [`Director`] knows uvs, and from the outside: it runs the program and asks it over its socket.
//! [`uml_run`] boots a kernel that has IPVS, where the host's has not, and runs a command in it.

mod command;
mod curl;
mod decap;
mod director;
mod echo;
mod error;
mod grave;
mod guard;
mod http;
mod layout;
mod load;
mod name;
mod network;
mod nginx;
mod pair;
mod servers;
mod tally;
mod tool;
mod tunnel;
mod udp;
mod uml;
mod wire;

pub use decap::{DecapJob, decapsulate, open_tun};
pub use director::{Director, DirectorOptions};
pub use echo::{EchoJob, udp_echo};
pub use error::Error;
pub use grave::{down, remove, sweep};
pub use guard::Guard;
pub use http::{HttpJob, http_get};
pub use layout::{
    Arms, ECHO_ALT_PORT, ECHO_PORT, HTTP_ALT_PORT, HTTP_PORT, Host, LabOptions, Method,
};
pub use load::Load;
pub use name::LabName;
pub use network::{Network, ready};
pub use pair::{CLIENT_SIDE_MAC, CLIENTS_MAC, Pair, SERVER_SIDE_MAC, Twin, inside, server_mac};
pub use rustix::process::Signal;
pub use servers::{Decap, Servers, end_tunnel};
pub use tally::Tally;
pub use tool::Tool;
pub use tunnel::Tunnel;
pub use udp::{UdpJob, udp_ask};
pub use uml::{UmlJob, uml_ready, uml_run};
pub use wire::Wire;
