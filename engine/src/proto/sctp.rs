//! SCTP (kernel: ip_vs_proto_sctp.c; every cell from its recordings), as far as one sees it from
//! the client's packets alone.
//!
//! The table for NAT, in which both directions are seen, comes with SCTP in NAT: a CRC32c has to
//! be rewritten there.

use super::{Event, View};

/// Number of states.
pub const STATES: usize = 14;
/// Before the first packet.
pub const NONE: u8 = 0;
/// The first INIT was seen.
pub const INIT1: u8 = 1;
/// INIT was repeated.
pub const INIT: u8 = 2;
/// The cookie was echoed.
pub const COOKIE_ECHOED: u8 = 7;
/// Data flows.
pub const ESTABLISHED: u8 = 8;
/// The client shuts down.
pub const SHUTDOWN_RECEIVED: u8 = 10;
/// Refused.
pub const REJECTED: u8 = 12;
/// Over.
pub const CLOSED: u8 = 13;

/// Names as ipvsadm prints them.
pub const NAMES: [&str; STATES] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];

/// Timeouts in seconds.
pub const TIMEOUTS: [u32; STATES] = [2, 3, 60, 60, 60, 60, 60, 60, 900, 60, 60, 60, 3, 60];

/// The event of an INIT chunk.
pub const INIT_CHUNK: Event = Event(1);

/// Chunks that move a connection (RFC 9260, section 3.2).
mod chunk {
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The event of a packet: the type of its first chunk.
#[inline]
pub fn event(first_chunk: u8) -> Event {
    Event(first_chunk)
}

/// The state after `event`. What moves nothing leaves the state as it is.
#[inline]
pub fn next(_view: View, state: u8, event: Event) -> u8 {
    match (event.0, state) {
        (_, NONE) => INIT1,
        (chunk::INIT, CLOSED) => INIT1,
        (chunk::INIT, INIT1 | REJECTED) => INIT,
        (chunk::INIT_ACK, INIT1 | INIT) => COOKIE_ECHOED,
        (chunk::COOKIE_ECHO, INIT1 | INIT) => ESTABLISHED,
        (chunk::COOKIE_ACK, COOKIE_ECHOED) => ESTABLISHED,
        (chunk::SHUTDOWN, ESTABLISHED) => SHUTDOWN_RECEIVED,
        (chunk::SHUTDOWN_ACK, INIT1) => INIT,
        (chunk::SHUTDOWN_ACK, ESTABLISHED) => CLOSED,
        (chunk::SHUTDOWN_COMPLETE, INIT1 | INIT | SHUTDOWN_RECEIVED) => CLOSED,
        (chunk::ABORT, _) => CLOSED,
        (_, state) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[u8]) -> &'static str {
        let end = chunks.iter().fold(NONE, |state, c| next(View::InputOnly, state, event(*c)));
        NAMES[usize::from(end)]
    }

    #[test]
    fn the_clients_chunks_tell_the_state() {
        assert_eq!(run(&[1]), "INIT1");
        assert_eq!(run(&[1, 1]), "INIT");
        assert_eq!(run(&[1, 10]), "ESTABLISHED");
        assert_eq!(run(&[1, 10, 0, 3, 4]), "ESTABLISHED");
        assert_eq!(run(&[1, 10, 7]), "S-RECEIVED");
        assert_eq!(run(&[1, 10, 7, 14]), "CLOSED");
        assert_eq!(run(&[1, 10, 6]), "CLOSED");
        assert_eq!(run(&[1, 10, 6, 1]), "INIT1");
    }
}
