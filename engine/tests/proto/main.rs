//! The state machines against what the kernel did; data/README.md says how it was asked.

mod cells;
mod reuse;
mod sequences;

use uvs_engine::proto::{Event, View, sctp, state_name, tcp};
use uvs_forward::wire::protocol;

fn read(file: &str) -> String {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// IP's number of a protocol.
fn number(name: &str) -> u8 {
    match name {
        "tcp" => protocol::TCP,
        "udp" => protocol::UDP,
        "sctp" => protocol::SCTP,
        _ => panic!("the protocol {name}"),
    }
}

/// The number of a state.
fn state(number: u8, name: &str) -> u8 {
    let found = (0..=u8::MAX).find(|state| state_name(number, *state) == name);
    found.unwrap_or_else(|| panic!("the state {name}"))
}

/// What table serves a client's packets, by the word for the method.
fn view_of(method: &str) -> View {
    match method {
        "nat" => View::Input,
        "dr" | "tun" => View::InputOnly,
        _ => panic!("the method {method}"),
    }
}

/// TCP's event of flags by letter.
fn flags(letters: &str) -> Event {
    let bit = |letter| 1 << "FSRPAUEC".find(letter).unwrap_or_else(|| panic!("{letters}"));
    tcp::event(letters.chars().filter(|c| *c != '-').map(bit).sum())
}

/// SCTP's event of a packet with chunks of these types.
fn chunks(types: &[u8]) -> Event {
    sctp::event(&types.iter().flat_map(|kind| [*kind, 0, 0, 4]).collect::<Vec<_>>())
}
