//! IPVS forwarding: how a frame leaves, as pure functions over bytes.
//!
//! Each function takes the frame, where its headers begin ([`Offsets`], which the parse found) and
//! what the connection says, and either rewrites the frame in place or says why it cannot
//! ([`Refused`]) and leaves it as it was. No I/O, no allocation, no clock, no unsafe code; no bytes
//! make any of them panic. IPv4 and IPv6 are one code where the rule is one: an address is an array
//! of octets, and its type says which rules hold ([`Address`]).
//!
//! # In the order of a frame's way
//!
//! **Parse.** [`Offsets::of`] finds the headers, or says what the kernel's receive path would drop a
//! frame for ([`wire::Malformed`]). Then, by what it found:
//!
//! * a header with options: [`options::fill`], as early as the kernel;
//! * [`Offsets::fragment`]: [`reassembly::Piece::of`] and [`reassembly::Assembly::add`]; the whole
//!   packet begins anew at the parse, and keeps what [`reassembly::Reassembled`] and
//!   [`Assembly::pieces`](reassembly::Assembly::pieces) say of the fragments;
//! * ICMP or ICMPv6: [`icmp::Related::of`] gives the tuple of the connection that the error is
//!   about, the way that the error goes; else [`icmp::TunnelError::of`], for an error to one of the
//!   director's own addresses; else it is for the host. Once its connection is found,
//!   [`icmp::is_intact`];
//! * anything else: [`Tuple::of`], which says [`Refused::Protocol`] of what has no connections.
//!
//! **Forward.** First whether the time to live is used up, then [`mtu::to_server`] or
//! [`mtu::to_client`], then one of these:
//!
//! | method | from the client | from the server | an error about it |
//! |---|---|---|---|
//! | [`Method::Route`], bypass of a cache | [`dr::forward`] | | [`dr::forward`] |
//! | [`Method::Masq`] | [`nat::to_server`] | [`nat::to_client`] | [`icmp::to_server`], [`icmp::to_client`] |
//! | [`Method::Tunnel`] | [`tun::ipip`], [`tun::gre`], [`tun::gue`] | | the same; [`icmp::TunnelError::relay`] |
//! | [`Method::Local`] | nothing, or [`nat::to_local`] | | |
//!
//! What a sender on this machine left open is looked after around it: a checksum, [`Unfinished`];
//! segments in one frame, [`gso::Segmenter`]. With `--mss-clamp` a SYN passes through
//! [`mss::clamp`].
//!
//! **Transmit.** What is [`Fit::Split`](mtu::Fit::Split) goes through a
//! [`fragment::Splitter`]. What is refused is answered from [`icmp`]: [`icmp::time_exceeded`] for
//! [`Refused::Ttl`], [`icmp::frag_needed`] for [`Fit::TooBig`](mtu::Fit::TooBig),
//! [`icmp::port_unreachable`] without a server, [`icmp::parameter_problem`] for
//! [`Refused::Option`].
//!
//! `tests/replay/director.rs` is this order in code; it does with all recorded frames what the
//! kernel did.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod dr;
mod family;
pub mod fragment;
pub mod ftp;
pub mod gso;
pub mod icmp;
pub mod mss;
pub mod mtu;
pub mod nat;
mod offsets;
pub mod options;
pub mod reassembly;
pub mod segment;
pub mod tun;
mod tuple;
mod unfinished;
pub mod wire;

pub use family::{Address, End, Family, Fields};
pub use offsets::Offsets;
pub use tuple::Tuple;
pub use unfinished::Unfinished;

use std::fmt;

/// A forwarding method, by the number that the kernel gives it in a connection's flags
/// (`IP_VS_CONN_F_*` of `linux/ip_vs.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// NAT: the server's address and port are put in place of the virtual ones.
    Masq = 0,
    /// The server is the director itself.
    Local = 1,
    /// The packet goes to the server whole, inside another one.
    Tunnel = 2,
    /// Direct routing: the packet goes to the server's MAC address as it is.
    Route = 3,
}

impl Method {
    /// The bits of a connection's flags that hold its method (`IP_VS_CONN_F_FWD_MASK`).
    pub const MASK: u32 = 7;

    /// The method in a connection's or server's flags; `None` for one that uvs does not have
    /// (bypass of a cache).
    pub const fn from_flags(flags: u32) -> Option<Self> {
        match flags & Self::MASK {
            0 => Some(Self::Masq),
            1 => Some(Self::Local),
            2 => Some(Self::Tunnel),
            3 => Some(Self::Route),
            _ => None,
        }
    }

    /// The word that `ipvsadm -L` prints.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Masq => "Masq",
            Self::Local => "Local",
            Self::Tunnel => "Tunnel",
            Self::Route => "Route",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The Ethernet addresses with which a frame goes to its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Of the interface on which it leaves.
    pub src: [u8; 6],
    /// Of the server, or of the router before it.
    pub dst: [u8; 6],
}

/// Why a frame cannot leave. The frame is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The time to live is used up: [`icmp::time_exceeded`] is the answer.
    #[error("the time to live is used up")]
    Ttl,
    /// The frame ends before what its offsets and lengths promise.
    #[error("the frame is shorter than its headers say")]
    Truncated,
    /// Not TCP, UDP, SCTP, AH or ESP: IPVS has no connections of others.
    #[error("the protocol is not one that has connections")]
    Protocol,
    /// A part of a packet, where the whole is needed.
    #[error("the frame holds a fragment only")]
    Fragment,
    /// The ICMP message is not an error that IPVS follows to a connection.
    #[error("the ICMP message is not an error about a connection")]
    NoError,
    /// An IPv4 source route, which the kernel does not follow by default.
    #[error("the packet asks for a source route")]
    SourceRoute,
    /// An IPv4 option makes no sense; this is the byte of the header to point at.
    #[error("byte {0} of the IPv4 header makes no sense")]
    Option(u8),
    /// IPv4 where IPv6 is meant, or the other way.
    #[error("the frame is of the other IP family")]
    Family,
    /// With the tunnel's header the packet would be longer than 65535 bytes.
    #[error("the packet is too long for a tunnel")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_the_kernels_numbers_and_ipvsadms_words() {
        let words = ["Masq", "Local", "Tunnel", "Route"];
        for (number, word) in (0u32..).zip(words) {
            let method = Method::from_flags(0x100 | number).unwrap();
            assert_eq!(method as u32, number);
            assert_eq!(method.to_string(), word);
        }
        assert_eq!(Method::from_flags(4), None);
        assert_eq!(format!("{:<7}|", Method::Masq), "Masq   |");
    }
}
