//! ICMP and ICMPv6: the errors that the director sends, and those that pass through it.
//!
//! * [`dest_unreachable`], [`frag_needed`], [`time_exceeded`], [`parameter_problem`] tell a sender
//!   why its frame went nowhere (RFC 792, RFC 1191, RFC 4443).
//! * [`Related::of`] finds the connection that somebody else's error is about; [`to_server`] and
//!   [`to_client`] translate such an error both outside and inside. Direct routing and tunnels pass it on as they pass any
//!   packet.
//! * [`TunnelError::of`] finds what an error about one of our own tunnel packets says of the
//!   packet inside, and [`TunnelError::relay`] tells that packet's sender.

mod answer;
mod nat;
mod related;
mod tunnel;

pub use answer::{
    CitedTtl, Offender, Sender, dest_unreachable, frag_needed, parameter_problem, port_unreachable,
    time_exceeded,
};
pub use nat::{to_client, to_server};
pub use related::{Related, is_intact};
pub use tunnel::{Relay, TunnelError, Via, gre_path, told_mtu};

use crate::wire::{ethernet, ipv6};

/// The longest ICMP packet that we send, IPv4 header included: more might not reach the sender
/// (RFC 1812, 4.3.2.3).
pub const MAX_PACKET: usize = 576;

/// As [`MAX_PACKET`], for ICMPv6 (RFC 4443, 2.4).
pub const MAX_PACKET_V6: usize = ipv6::MIN_MTU as usize;

/// Bytes that any frame built here fits in.
pub const MAX_FRAME: usize = ethernet::MAX_HEADER_LEN + MAX_PACKET_V6;

/// Codes of ICMP's "destination unreachable".
pub mod code {
    /// Nobody listens on the port: IPVS's answer when a service has no usable server.
    pub const PORT: u8 = 3;
    /// The packet is too large for the next link, and may not be fragmented.
    pub const FRAG_NEEDED: u8 = 4;
}

/// Codes of ICMPv6's "destination unreachable".
pub mod code6 {
    /// As [`code::PORT`](super::code::PORT).
    pub const PORT: u8 = 4;
}
