//! SCTP (kernel: ip_vs_proto_sctp.c).
//!
//! Every cell is what a real kernel did (tests/data/cells.txt, compared by tests/proto), the odd ones
//! too. The machine watches chunks that others exchange, so it refuses none.

use super::{Event, View};

/// Number of states.
pub const STATES: usize = 14;
/// Before the first packet.
pub const NONE: u8 = 0;
/// The first INIT was seen.
pub const INIT1: u8 = 1;
/// INIT was repeated.
pub const INIT: u8 = 2;
/// The server answered with a cookie.
pub const COOKIE_SENT: u8 = 3;
/// The client echoed it.
pub const COOKIE_REPLIED: u8 = 4;
/// The server asked by itself.
pub const COOKIE_WAIT: u8 = 5;
/// The client answered that with a cookie.
pub const COOKIE: u8 = 6;
/// The cookie was echoed, by the server or unseen.
pub const COOKIE_ECHOED: u8 = 7;
/// Data flows.
pub const ESTABLISHED: u8 = 8;
/// The server shuts down.
pub const SHUTDOWN_SENT: u8 = 9;
/// The client shuts down.
pub const SHUTDOWN_RECEIVED: u8 = 10;
/// The server agreed to a shutdown.
pub const SHUTDOWN_ACK_SENT: u8 = 11;
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

/// Timeouts in seconds. (A listing shows 3 and 60 for 4 and 61 as soon as a tick has passed.)
pub const TIMEOUTS: [u32; STATES] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];

/// DATA, or any chunk that has no event of its own.
pub const DATA_CHUNK: Event = Event(0);
/// INIT.
pub const INIT_CHUNK: Event = Event(1);
const COOKIE_ECHO_CHUNK: Event = Event(3);
const COOKIE_ACK_CHUNK: Event = Event(4);
/// ABORT.
pub const ABORT_CHUNK: Event = Event(9);
/// ABORT behind a cookie's chunk. It moves the state as ABORT does, but it may open a connection
/// (sloppy_sctp), which ABORT may not.
pub const COOKIE_ABORT: Event = Event(10);
/// No chunk at all, or less than its header: the packet moves nothing and opens nothing.
pub const NO_CHUNK: Event = Event(11);

/// Bytes of a chunk's header: type, flags, length (RFC 9260, section 3.2).
const CHUNK_HEADER: usize = 4;

/// The event of a packet, whose chunks these bytes are: what follows the common header, without
/// what Ethernet padded.
///
/// The first chunk tells; only behind COOKIE ECHO and COOKIE ACK is the second one looked at, and
/// only for ABORT.
#[inline]
pub fn event(chunks: &[u8]) -> Event {
    let Some(&[kind, _, high, low]) = chunks.first_chunk::<CHUNK_HEADER>() else {
        return NO_CHUNK;
    };
    let first = event_of(kind);
    if first != COOKIE_ECHO_CHUNK && first != COOKIE_ACK_CHUNK {
        return first;
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    match second(chunks, length).map(event_of) {
        Some(ABORT_CHUNK) => COOKIE_ABORT,
        _ => first,
    }
}

/// The type of the chunk behind a first one of `length` bytes, which are filled up to words.
#[inline]
fn second(chunks: &[u8], length: usize) -> Option<u8> {
    let rest = chunks.get(length.next_multiple_of(4)..)?;
    (length >= CHUNK_HEADER && rest.len() >= CHUNK_HEADER).then(|| rest[0])
}

/// The event of a chunk's type (RFC 9260, section 3.2), and its row in the tables.
#[inline]
fn event_of(kind: u8) -> Event {
    match kind {
        1 => INIT_CHUNK,
        2 => Event(2),
        10 => COOKIE_ECHO_CHUNK,
        11 => COOKIE_ACK_CHUNK,
        7 => Event(5),
        8 => Event(6),
        14 => Event(7),
        9 => Event(8),
        6 => ABORT_CHUNK,
        _ => DATA_CHUNK,
    }
}

type Row = [u8; STATES];
type Table = [Row; 10];

// Short names for the tables: a row an event, a column a state, in the order of the numbers above.
// NO is NONE, to which nothing leads back.
const I1: u8 = INIT1;
const IN: u8 = INIT;
const CS: u8 = COOKIE_SENT;
const CR: u8 = COOKIE_REPLIED;
const CW: u8 = COOKIE_WAIT;
const CK: u8 = COOKIE;
const CE: u8 = COOKIE_ECHOED;
const ES: u8 = ESTABLISHED;
const SS: u8 = SHUTDOWN_SENT;
const SR: u8 = SHUTDOWN_RECEIVED;
const SA: u8 = SHUTDOWN_ACK_SENT;
const RJ: u8 = REJECTED;
const CL: u8 = CLOSED;

const INPUT: Table = [
    //NO  I1  IN  CS  CR  CW  CK  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // DATA
    [I1, IN, IN, CS, CR, CW, CK, CE, ES, SS, SR, SA, IN, IN], // INIT
    [CW, CW, CW, CS, CR, CK, CK, CE, ES, SS, SR, SA, RJ, CL], // INIT ACK
    [CR, IN, IN, CR, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // COOKIE ECHO
    [ES, I1, IN, CS, CR, CW, CK, ES, ES, SS, SR, SA, RJ, CL], // COOKIE ACK
    [SR, I1, IN, CS, CR, CW, CK, CE, SR, SS, SR, SA, RJ, CL], // SHUTDOWN
    [CL, IN, IN, CS, CR, CW, CK, CE, ES, CL, SR, CL, RJ, CL], // SHUTDOWN ACK
    [CL, CL, CL, CS, CR, CW, CK, CE, ES, SS, SR, CL, RJ, CL], // SHUTDOWN COMPLETE
    [CL, I1, IN, CS, CR, CW, CK, CL, ES, SS, SR, SA, RJ, CL], // ERROR
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
];

const OUTPUT: Table = [
    //NO  I1  IN  CS  CR  CW  CK  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // DATA
    [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW], // INIT
    [CS, CS, CS, CS, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // INIT ACK
    [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL], // COOKIE ECHO
    [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL], // COOKIE ACK
    [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL], // SHUTDOWN
    [SA, SA, SA, SA, SA, CW, CK, CE, ES, SA, SA, SA, RJ, CL], // SHUTDOWN ACK
    [CL, I1, IN, CS, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // SHUTDOWN COMPLETE
    [CL, CL, CL, CL, CL, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // ERROR
    [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
];

const INPUT_ONLY: Table = [
    //NO  I1  IN  CS  CR  CW  CK  CE  ES  SS  SR  SA  RJ  CL
    [ES, I1, IN, CS, CR, ES, CK, CE, ES, SS, SR, SA, RJ, CL], // DATA
    [I1, IN, IN, IN, IN, IN, CK, CE, ES, SS, SR, SA, IN, IN], // INIT
    [CE, CE, CE, CE, CE, CE, CK, CE, ES, SS, SR, SA, RJ, CL], // INIT ACK
    [ES, ES, ES, ES, ES, ES, CK, CE, ES, SS, SR, SA, RJ, CL], // COOKIE ECHO
    [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL], // COOKIE ACK
    [SR, I1, IN, CS, CR, CW, CK, CE, SR, SS, SR, SA, RJ, CL], // SHUTDOWN
    [CL, IN, IN, CS, CR, CW, CK, CE, CL, CL, SR, CL, RJ, CL], // SHUTDOWN ACK
    [CL, CL, CL, CL, CL, CW, CK, CE, ES, SS, CL, CL, RJ, CL], // SHUTDOWN COMPLETE
    [CL, I1, IN, CS, CR, CW, CK, CE, ES, SS, SR, SA, RJ, CL], // ERROR
    [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // ABORT
];

/// By [`View`].
static TABLES: [Table; 3] = [INPUT, OUTPUT, INPUT_ONLY];

/// The state after `event`, as the packets of one `view` tell it.
#[inline]
pub fn next(view: View, state: u8, event: Event) -> u8 {
    if event == NO_CHUNK {
        return state.min(CLOSED);
    }
    let row = &TABLES[view as usize][usize::from(event.0).min(9)];
    row.get(usize::from(state)).copied().unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [u8; 4] = [0, 3, 0, 4];
    const ABORT: [u8; 4] = [6, 0, 0, 4];
    const COOKIE_ECHO: [u8; 8] = [10, 0, 0, 5, 1, 0, 0, 0];
    const COOKIE_ACK: [u8; 4] = [11, 0, 0, 4];

    #[test]
    fn the_first_chunk_tells_what_a_packet_does() {
        let first = |kind: u8| event(&[kind, 0, 0, 4]);
        assert_eq!([0, 1, 6, 2].map(first), [DATA_CHUNK, INIT_CHUNK, ABORT_CHUNK, Event(2)]);
        for kind in [3, 4, 5, 12, 13].into_iter().chain(15..=u8::MAX) {
            assert_eq!(first(kind), DATA_CHUNK, "chunk type {kind}");
        }
        assert_eq!(event(&[DATA, ABORT].concat()), DATA_CHUNK);
        assert_eq!(event(&[ABORT, DATA].concat()), ABORT_CHUNK);
    }

    #[test]
    fn an_abort_behind_a_cookie_counts() {
        let with = |chunks: &[&[u8]]| event(&chunks.concat());
        assert_eq!(with(&[&COOKIE_ECHO, &ABORT]), COOKIE_ABORT);
        assert_eq!(with(&[&COOKIE_ACK, &ABORT]), COOKIE_ABORT);
        assert_eq!(with(&[&COOKIE_ECHO, &[6, 0, 0, 0]]), COOKIE_ABORT);
        assert_eq!(with(&[&COOKIE_ECHO, &DATA, &ABORT]), COOKIE_ECHO_CHUNK);
        assert_eq!(with(&[&COOKIE_ECHO, &ABORT[..3]]), COOKIE_ECHO_CHUNK);
    }

    #[test]
    fn a_lie_about_a_chunks_length_is_not_followed() {
        for length in [0, 3, 9, 0xffff_u16] {
            let [high, low] = length.to_be_bytes();
            let chunks = [[10, 0, high, low], ABORT].concat();
            assert_eq!(event(&chunks), COOKIE_ECHO_CHUNK, "length {length}");
        }
        assert_eq!(event(&ABORT[..3]), NO_CHUNK);
        assert_eq!(event(&[]), NO_CHUNK);
    }

    #[test]
    fn a_packet_without_a_chunk_moves_nothing() {
        for state in 0..STATES as u8 {
            assert_eq!(next(View::InputOnly, state, NO_CHUNK), state);
        }
        assert!(usize::from(next(View::Input, u8::MAX, NO_CHUNK)) < STATES);
    }
}
