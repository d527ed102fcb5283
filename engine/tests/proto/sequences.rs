//! Every recorded sequence of packets, at the machine's level: the state and the timeout after it,
//! and whether its last packet belonged to a connection.

use std::collections::HashSet;

use serde_json::Value;
use uvs_engine::clock::Ticks;
use uvs_engine::proto::{
    self, ConnReuseMode, ConnTimeout, Event, Old, Sloppy, Timeouts, View, state_name,
};
use uvs_forward::wire::protocol;

use crate::{chunks, flags, number, read, view_of};

/// Seconds that may have passed in the kernel between a packet and the look at its connection.
const DELAY: u32 = 3;

const CASES: &str = "../tools/conform/cases/state";

const RECORDINGS: [&str; 12] = [
    "sctp_dr",
    "tcp_dr",
    "tcp_dr_oddfirst",
    "tcp_nat",
    "tcp_tun",
    "udp_dr",
    "sctp_dr_anyfirst",
    "sctp_dr_anyfirst_sloppy",
    "sctp_nat",
    "tcp_dr_securetcp3",
    "tcp_nat_set_timeouts",
    "udp_dr_set_timeouts",
];

#[test]
fn every_sequence_ends_as_in_the_kernel() {
    let mut sequences = 0;
    for name in RECORDINGS {
        let recording: Value =
            serde_json::from_str(&read(&format!("{CASES}/{name}.json"))).unwrap();
        let machine = Machine::new(&recording);
        for (sequence, expected) in recording["sequences"].as_object().unwrap() {
            compare(&machine, sequence, expected);
            sequences += 1;
        }
        counts(&machine, &recording);
    }
    assert_eq!(sequences, 9_065);
}

/// How the director was set up.
struct Machine {
    number: u8,
    view: View,
    timeouts: Timeouts,
    sloppy: Sloppy,
    secure: bool,
}

impl Machine {
    fn new(recording: &Value) -> Self {
        let sysctl = recording["sysctl"].as_object().unwrap();
        assert!(sysctl.keys().all(|key| ["sloppy_sctp", "secure_tcp"].contains(&key.as_str())));
        let mut timeouts = Timeouts::default();
        for line in recording["pre"].as_array().unwrap() {
            let three = line.as_str().unwrap().strip_prefix("--set ").unwrap().split(' ');
            let three: Vec<u32> = three.map(|number| number.parse().unwrap()).collect();
            timeouts.set(ConnTimeout::new(three[0], three[1], three[2]).unwrap());
        }
        Self {
            number: number(recording["proto"].as_str().unwrap()),
            view: view_of(recording["method"].as_str().unwrap()),
            timeouts,
            sloppy: Sloppy { tcp: false, sctp: sysctl.contains_key("sloppy_sctp") },
            secure: sysctl.contains_key("secure_tcp"),
        }
    }

    /// The state after a whole sequence, or none without a connection.
    fn run(&self, sequence: &str) -> Option<u8> {
        sequence.split(' ').fold(None, |conn, packet| self.packet(conn, packet))
    }

    fn packet(&self, conn: Option<u8>, packet: &str) -> Option<u8> {
        let (from, what) = packet.split_once(':').unwrap();
        let event = self.event(what);
        if from == "s" {
            return conn.map(|state| self.next(View::Output, state, event));
        }
        match conn.filter(|state| !self.replaced(*state, event)) {
            Some(state) => Some(self.next(self.view, state, event)),
            None => proto::opens(self.number, event, &self.sloppy)
                .then(|| self.next(self.view, 0, event)),
        }
    }

    fn replaced(&self, state: u8, event: Event) -> bool {
        let old = Old {
            number: self.number,
            state,
            no_output: self.view == View::InputOnly,
            controlled: false,
            nodest: false,
        };
        proto::asks_for_new(self.number, event) && proto::reusable(&old, ConnReuseMode::default())
    }

    fn next(&self, view: View, state: u8, event: Event) -> u8 {
        proto::next(self.number, view, state, event, self.secure)
    }

    fn event(&self, what: &str) -> Event {
        match self.number {
            protocol::TCP => flags(what),
            protocol::SCTP => chunks(&[chunk(what)]),
            _ => Event(0),
        }
    }
}

/// The type of a chunk (RFC 9260, section 3.2).
fn chunk(name: &str) -> u8 {
    match name {
        "DATA" => 0,
        "INIT" => 1,
        "INIT_ACK" => 2,
        "ABORT" => 6,
        "SHUTDOWN" => 7,
        "SHUTDOWN_ACK" => 8,
        "ERROR" => 9,
        "COOKIE_ECHO" => 10,
        "COOKIE_ACK" => 11,
        "SHUTDOWN_COMPLETE" => 14,
        _ => panic!("the chunk {name}"),
    }
}

fn compare(machine: &Machine, sequence: &str, expected: &Value) {
    let got = machine.run(sequence);
    let name = got.map(|state| state_name(machine.number, state));
    assert_eq!(name, expected[0].as_str(), "{sequence}");
    let left = expected[1].as_u64().map(|seconds| seconds as u32);
    assert_eq!(left.is_some(), got.is_some(), "{sequence}");
    if let (Some(left), Some(state)) = (left, got) {
        let of_state = machine.timeouts.of(machine.number, state);
        let range = Ticks::from_secs(left)..=Ticks::from_secs(left + DELAY);
        assert!((range.start().0..=range.end().0).contains(&of_state.0), "{sequence}: {of_state}");
    }
    let side = match sequence.rsplit(' ').next().unwrap().starts_with("c:") {
        true => "r",
        false => "c",
    };
    // Without a connection a client's packet meets the host, which answers some of them itself.
    assert_eq!(expected[2] == side, got.is_some(), "{sequence}: it went to {}", expected[2]);
}

/// Active and inactive connections at the end. Every beginning of a sequence is in the recording as
/// well; the connections are of the longest.
fn counts(machine: &Machine, recording: &Value) {
    let sequences = recording["sequences"].as_object().unwrap();
    let beginnings: HashSet<&str> = sequences
        .keys()
        .filter_map(|s| s.rsplit_once(' '))
        .map(|(beginning, _)| beginning)
        .collect();
    let whole = sequences.keys().filter(|sequence| !beginnings.contains(sequence.as_str()));
    let ends = whole.filter_map(|sequence| machine.run(sequence));
    let (active, inactive): (Vec<u8>, Vec<u8>) =
        ends.partition(|state| proto::active(machine.number, *state));
    let services = recording["counts_after"].as_object().unwrap();
    let dests = services.values().next().unwrap().as_object().unwrap();
    let expected = dests.values().next().unwrap();
    let got = [1, active.len(), inactive.len()];
    assert_eq!(*expected, Value::from(got.to_vec()), "{}", recording["name"]);
}
