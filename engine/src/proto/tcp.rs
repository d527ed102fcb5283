//! TCP (kernel: ip_vs_proto_tcp.c).
//!
//! Every cell is what a real kernel did (tests/data/cells.txt, compared by tests/proto).
//!
//! The machine watches packets that others exchange, so it follows flags and never refuses a
//! packet. Of several flags the first of RST, SYN, FIN, ACK decides; a packet with none of them
//! closes. A SYN beside a RST moves no state, but it still ends a connection that is over.

use super::{Event, View};

/// Number of states.
pub const STATES: usize = 11;
/// Before the first packet.
pub const NONE: u8 = 0;
/// Data flows.
pub const ESTABLISHED: u8 = 1;
/// The server side opened.
pub const SYN_SENT: u8 = 2;
/// The client asked.
pub const SYN_RECV: u8 = 3;
/// One side closed.
pub const FIN_WAIT: u8 = 4;
/// Both sides closed.
pub const TIME_WAIT: u8 = 5;
/// Reset.
pub const CLOSE: u8 = 6;
/// The client closed, the server not yet.
pub const CLOSE_WAIT: u8 = 7;
/// Both closed, the last ACK is missing.
pub const LAST_ACK: u8 = 8;
/// Listening.
pub const LISTEN: u8 = 9;
/// SYN answered, or under secure_tcp only seen.
pub const SYNACK: u8 = 10;

/// Names as ipvsadm prints them.
pub const NAMES: [&str; STATES] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
];

/// Timeouts in seconds. secure_tcp changes none.
pub const TIMEOUTS: [u32; STATES] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120];

/// RST set.
pub const RST: Event = Event(0);
/// SYN set, RST not.
pub const SYN: Event = Event(1);
/// FIN set, neither RST nor SYN.
pub const FIN: Event = Event(2);
/// ACK alone of the four.
pub const ACK: Event = Event(3);
/// None of the four.
pub const BARE: Event = Event(4);
/// RST and SYN set.
pub const RST_SYN: Event = Event(5);

/// The event of the flags byte of a TCP header (RFC 9293).
#[inline]
pub fn event(flags: u8) -> Event {
    const FLAGS: [(u8, Event); 5] =
        [(0x06, RST_SYN), (0x04, RST), (0x02, SYN), (0x01, FIN), (0x10, ACK)];
    FLAGS.iter().find(|(bits, _)| flags & bits == *bits).map_or(BARE, |(_, event)| *event)
}

/// Whether the state counts as active.
#[inline]
pub fn active(state: u8) -> bool {
    matches!(state, ESTABLISHED | SYN_SENT | SYN_RECV | SYNACK)
}

type Row = [u8; STATES];
type Table = [Row; 5];

// Short names for the tables: a row an event, a column a state, in the order of the numbers above.
// NO is NONE, to which nothing leads back.
const ES: u8 = ESTABLISHED;
const SS: u8 = SYN_SENT;
const SR: u8 = SYN_RECV;
const FW: u8 = FIN_WAIT;
const TW: u8 = TIME_WAIT;
const CL: u8 = CLOSE;
const CW: u8 = CLOSE_WAIT;
const LA: u8 = LAST_ACK;
const LI: u8 = LISTEN;
const SA: u8 = SYNACK;

const INPUT: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // RST
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // SYN
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // FIN
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

const OUTPUT: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL], // RST
    [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR], // SYN
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW], // FIN
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

const INPUT_ONLY: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // RST
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // SYN
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW], // FIN
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

// With secure_tcp a SYN alone counts for less: what it opens in DR is SYNACK, which a RST closes.

const SECURE_INPUT: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // RST
    [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA], // SYN
    [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA], // FIN
    [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

const SECURE_OUTPUT: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL], // RST
    [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA], // SYN
    [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW], // FIN
    [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

const SECURE_INPUT_ONLY: Table = [
    //NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // RST
    [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA], // SYN
    [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW], // FIN
    [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // ACK
    [CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // none
];

/// By secure_tcp off and on, then by [`View`].
static TABLES: [[Table; 3]; 2] =
    [[INPUT, OUTPUT, INPUT_ONLY], [SECURE_INPUT, SECURE_OUTPUT, SECURE_INPUT_ONLY]];

/// The state after `event`, as the packets of one `view` tell it; `secure`: under secure_tcp.
#[inline]
pub fn next(view: View, state: u8, event: Event, secure: bool) -> u8 {
    let table = &TABLES[usize::from(secure)][view as usize];
    let event = if event == RST_SYN { RST } else { event };
    let row = &table[usize::from(event.0).min(4)];
    row.get(usize::from(state)).copied().unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: &[(View, Event)]) -> &'static str {
        let end = steps.iter().fold(NONE, |state, (view, event)| next(*view, state, *event, false));
        NAMES[usize::from(end)]
    }

    #[test]
    fn the_first_flag_in_order_decides() {
        assert_eq!(event(0x02 | 0x10), SYN);
        assert_eq!(event(0x04 | 0x10), RST);
        assert_eq!(event(0x02 | 0x04), RST_SYN);
        assert_eq!(event(0x01 | 0x10), FIN);
        assert_eq!(event(0x08 | 0x20), BARE);
    }

    #[test]
    fn a_connection_seen_from_one_side() {
        let only = |events: &[Event]| {
            run(&events.iter().map(|event| (View::InputOnly, *event)).collect::<Vec<_>>())
        };
        assert_eq!(only(&[SYN]), "SYN_RECV");
        assert_eq!(only(&[SYN, RST]), "SYN_RECV");
        assert_eq!(only(&[SYN, ACK]), "ESTABLISHED");
        assert_eq!(only(&[SYN, FIN]), "TIME_WAIT");
        assert_eq!(only(&[SYN, ACK, FIN]), "FIN_WAIT");
        assert_eq!(only(&[SYN, ACK, RST]), "CLOSE");
        assert_eq!(only(&[SYN, BARE]), "CLOSE");
    }

    #[test]
    fn a_connection_seen_from_both_sides() {
        use View::{Input, Output};
        let open = [(Input, SYN), (Output, SYN), (Input, ACK)];
        let then = |more: &[(View, Event)]| run(&[&open, more].concat());
        assert_eq!(then(&[]), "ESTABLISHED");
        assert_eq!(then(&[(Input, FIN)]), "CLOSE_WAIT");
        assert_eq!(then(&[(Input, FIN), (Output, FIN)]), "TIME_WAIT");
        assert_eq!(then(&[(Output, FIN)]), "FIN_WAIT");
        assert_eq!(then(&[(Output, FIN), (Input, FIN)]), "TIME_WAIT");
        assert_eq!(run(&[(Input, SYN), (Output, RST)]), "CLOSE");
    }
}
