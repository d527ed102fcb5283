//! Every cell of every table, every timeout, and every first packet.

use std::collections::HashSet;

use proptest::prelude::*;
use uvs_engine::clock::Ticks;
use uvs_engine::proto::{
    self, Event, Sloppy, Timeouts, View, ah_esp, next, opens, sctp, state_name, tcp, udp,
};
use uvs_forward::wire::protocol;

use crate::{chunks, flags, number, read, state};

/// The lines of cells.txt: words before the colon, words behind it.
fn lines() -> Vec<(Vec<String>, Vec<String>)> {
    let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let text = read("tests/data/cells.txt");
    let line = |line: &str| line.split_once(": ").map(|(key, value)| (split(key), split(value)));
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
}

/// A line's key, as a pattern takes it.
fn words(key: &[String]) -> Vec<&str> {
    key.iter().map(String::as_str).collect()
}

/// The number of the protocol, and whether secure_tcp is on.
fn machine(word: &str) -> (u8, bool) {
    match word.strip_suffix("-secure") {
        Some(name) => (number(name), true),
        None => (number(word), false),
    }
}

fn event(number: u8, word: &str) -> Event {
    match number {
        protocol::TCP => flags(word),
        _ => chunks(&word.split('+').map(|kind| kind.parse().unwrap()).collect::<Vec<_>>()),
    }
}

#[test]
fn states_have_the_kernels_numbers_and_names() {
    for (key, names) in lines() {
        let [name, "states"] = words(&key)[..] else { continue };
        let known = |at| state_name(number(name), at).to_owned();
        let states = names.len() as u8;
        assert_eq!((0..states).map(known).collect::<Vec<_>>(), names);
        assert_eq!(known(states), "ERR!");
    }
}

#[test]
fn every_cell_is_the_kernels() {
    let mut visited = HashSet::new();
    for (key, after) in lines() {
        let [machine_name, view_name, word] = words(&key)[..] else { continue };
        let view = match view_name {
            "input" => View::Input,
            "output" => View::Output,
            "input-only" => View::InputOnly,
            _ => panic!("the view {view_name}"),
        };
        let (number, secure) = machine(machine_name);
        let event = event(number, word);
        for (before, expected) in (0..).zip(&after) {
            let got = state_name(number, next(number, view, before, event, secure));
            assert_eq!(got, expected, "{key:?} in {}", state_name(number, before));
            visited.insert((number, secure, view as u8, event.0, before));
        }
    }
    // Views, events (RST and SYN together are one of their own), states.
    let tcp_cells = 2 * 3 * 6 * tcp::STATES;
    let sctp_cells = 3 * 10 * sctp::STATES;
    assert_eq!(visited.len(), tcp_cells + sctp_cells);
}

#[test]
fn every_timeout_is_the_kernels() {
    let timeouts = Timeouts::default();
    let mut compared = 0;
    for (key, seconds) in lines() {
        let [name, "timeouts"] = words(&key)[..] else { continue };
        for (state, seconds) in (0..).zip(&seconds) {
            let expected = Ticks::from_secs(seconds.parse().unwrap());
            assert_eq!(timeouts.of(number(name), state), expected, "{name} {state}");
            compared += 1;
        }
    }
    assert_eq!(compared, tcp::STATES + sctp::STATES + 1);
}

#[test]
fn what_opens_a_connection_and_in_which_state() {
    let mut compared = 0;
    for (key, opened) in lines() {
        let [machine_name, "first", strictness, word] = words(&key)[..] else { continue };
        let (number, secure) = machine(machine_name);
        let on = strictness == "sloppy";
        // Each setting is for its own protocol.
        let is_tcp = number == protocol::TCP;
        let sloppy = Sloppy { tcp: on == is_tcp, sctp: on != is_tcp };
        let event = event(number, word);
        for (view, expected) in [View::InputOnly, View::Input].into_iter().zip(&opened) {
            let got = match opens(number, event, &sloppy) {
                true => state_name(number, next(number, view, 0, event, secure)),
                false => "none",
            };
            assert_eq!(got, expected, "{key:?} {view:?}");
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * (4 * 16 + 2 * 20));
}

#[test]
fn ah_and_esp_open_nothing_and_move_nothing() {
    for number in [ah_esp::AH, ah_esp::ESP] {
        assert_eq!(ah_esp::carrier(number), protocol::UDP);
        assert_eq!(Timeouts::default().of(number, udp::NORMAL), Ticks::from_secs(udp::TIMEOUT));
        assert_eq!(state_name(number, 0), "ERR!");
        for event in (0..=u8::MAX).map(Event) {
            assert!(!opens(number, event, &Sloppy { tcp: true, sctp: true }));
            assert!(!proto::asks_for_new(number, event));
            assert_eq!(next(number, View::Output, udp::NORMAL, event, true), udp::NORMAL);
        }
    }
    assert_eq!([protocol::TCP, protocol::UDP].map(ah_esp::carrier), [6, 17]);
    assert_eq!(state(protocol::UDP, "UDP"), udp::NORMAL);
}

proptest! {
    /// Whatever is written into a table entry or comes as an event, what follows is a state.
    #[test]
    fn any_event_in_any_state_gives_a_state(
        number: u8, view in 0..3_usize, state: u8, event: u8, secure: bool
    ) {
        let view = [View::Input, View::Output, View::InputOnly][view];
        for number in [number, protocol::TCP, protocol::SCTP, protocol::UDP] {
            let after = next(number, view, state, Event(event), secure);
            let states = match number {
                protocol::TCP => tcp::STATES,
                protocol::SCTP => sctp::STATES,
                _ => 1,
            };
            prop_assert!(usize::from(after) < states);
            prop_assert_ne!(Timeouts::default().of(number, after), Ticks(0));
        }
    }

    /// Any bytes are chunks of some kind, and lead to a state.
    #[test]
    fn any_chunks_are_an_event(bytes: Vec<u8>, state in 0..sctp::STATES as u8) {
        let event = sctp::event(&bytes);
        prop_assert_eq!(event == sctp::NO_CHUNK, bytes.len() < 4);
        prop_assert_eq!(event == sctp::INIT_CHUNK, bytes.len() >= 4 && bytes[0] == 1);
        prop_assert!(usize::from(sctp::next(View::Input, state, event)) < sctp::STATES);
    }
}
