//! IPVS forwarding: how a frame leaves, as pure functions over bytes.
//!
//! One file a forwarding method. Each takes the frame, where its headers begin ([`Offsets`], which
//! the parse found) and the next [`Hop`], and either rewrites the frame in place or says why it
//! cannot leave ([`Refused`]) and leaves it as it was. No I/O, no allocation, no clock.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod dr;
pub mod icmp;
pub mod nat;
mod offsets;
pub mod tun;
pub mod wire;

pub use offsets::Offsets;

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
    /// NAT translates TCP and UDP only.
    #[error("the protocol is not one that NAT translates")]
    Protocol,
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
