//! Fragments back into a packet: which parts are there, where each goes, and which are refused.
//!
//! An [`Assembly`] is the bookkeeping of one packet; the bytes are copied at once into a buffer
//! that the caller keeps beside it, so that the frames go back to where they came from. How many
//! packets are assembled at a time, how large their buffers are and for how long a packet waits (30
//! seconds in IPv4, 60 in IPv6) is the caller's business: so are the memory and the time bounded.
//!
//! ```text
//! buffer | link and IP header, up to HEAD bytes | payload, each part at its offset ...
//!          ...................^ begins where the first fragment's header just fits
//! ```
//!
//! The rules are the kernel's (`ip_frag_queue`, `nf_ct_frag6_queue`): a part that is there already
//! is ignored, one that overlaps another ends the assembly. One more is ours: a first fragment that
//! does not hold its transport header is refused, as nobody honest sends one (RFC 1858, RFC 8200
//! 4.5).

mod assembly;
mod piece;

pub use assembly::Assembly;
pub use piece::{Key, Piece};

/// Fragments of one packet at most: a packet of 64 KB in parts of 576 bytes has 118.
pub const MAX_PIECES: usize = 128;

/// Bytes that are kept in front of the payload, for Ethernet and IP header with all options or
/// unfragmentable extensions.
pub const HEAD: usize = 256;

/// A payload at most: with the largest header it is a packet of 65535 bytes.
const MAX_PAYLOAD: u32 = 65535;

/// Why a fragment is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentRefused {
    /// The frame holds no fragment, or ends inside it.
    #[error("the frame is no fragment or is cut off")]
    Truncated,
    /// It carries nothing, or not the last part and no multiple of 8 bytes (RFC 8200, 4.5).
    #[error("the fragment's length is not one that a fragment can have")]
    Length,
    /// It would make a packet of more than 65535 bytes, or of more than the buffer holds.
    #[error("the packet would be too large")]
    Oversize,
    /// The first fragment does not hold the transport header.
    #[error("the first fragment does not hold the transport header")]
    TinyFirst,
    /// It overlaps another, or contradicts it about where the packet ends.
    #[error("the fragment overlaps another")]
    Overlap,
    /// It is one more than [`MAX_PIECES`].
    #[error("the packet has too many fragments")]
    TooMany,
    /// Its ECN bits cannot be of the same packet (RFC 3168, 5.3).
    #[error("the fragments' ECN bits contradict each other")]
    Ecn,
}

/// How far an assembly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Parts are missing.
    Waiting,
    /// The packet is whole.
    Complete(Reassembled),
}

/// A whole packet in the assembly's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reassembled {
    /// Where the frame begins in the buffer; there is so much headroom in front of it.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The largest fragment, in bytes from its IP header on: for
    /// [`Size::largest`](crate::mtu::Size::largest).
    pub largest: u16,
}

#[cfg(test)]
mod tests;
