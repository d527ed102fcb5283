//! conn_reuse_mode: in which states a packet ends the old connection.

use std::collections::HashMap;

use serde_json::Value;
use uvs_engine::proto::{
    ConnReuseMode, Event, Old, Sloppy, View, asks_for_new, next, opens, reusable, sctp, state_name,
    tcp,
};
use uvs_forward::wire::protocol;

use crate::{chunks, flags, number, read, view_of};

#[test]
fn every_state_in_every_mode() {
    let mut compared = 0;
    for line in read("tests/data/reuse.txt").lines() {
        let (key, events) = line.split_once(": ").unwrap();
        let [name, dest, mode, method] = key.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let number = number(name);
        let states = if number == protocol::TCP { tcp::STATES } else { sctp::STATES } as u8;
        let mode = ConnReuseMode(mode.parse().unwrap());
        for (word, expected) in events.split(' ').map(|event| event.split_once('=').unwrap()) {
            let event = match number {
                protocol::TCP => flags(word),
                _ => chunks(&[word.parse().unwrap()]),
            };
            for state in 0..states {
                let old = Old {
                    number,
                    state,
                    no_output: view_of(method) == View::InputOnly,
                    controlled: false,
                    nodest: dest == "nodest",
                };
                let got = asks_for_new(number, event) && reusable(&old, mode);
                let name = state_name(number, state);
                let replaced = expected == "all" || expected.split(',').any(|s| s == name);
                assert_eq!(got, replaced, "{key} {word} in {name}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 9 * 2 * (7 * tcp::STATES + 4 * sctp::STATES));
}

#[test]
fn recorded_connections_are_replaced_as_in_the_kernel() {
    let mut replaced = 0;
    for mode in [0, 1, 3] {
        for method in ["dr", "nat"] {
            let file = format!("../tools/conform/cases/state/conn_reuse_mode{mode}_{method}.json");
            let recording: Value = serde_json::from_str(&read(&file)).unwrap();
            let mut director = Director::new(mode, method);
            for step in recording["steps"].as_array().unwrap() {
                director.step(step);
            }
            replaced += director.replaced;
        }
    }
    assert!(replaced > 0);
}

/// A director of one service by rr, as far as these recordings need one.
struct Director {
    mode: ConnReuseMode,
    view: View,
    /// Servers in the order of rr, the newest first, with their weights.
    dests: Vec<(String, u64)>,
    /// The server that was picked last.
    last: Option<String>,
    /// By client: server, state.
    conns: HashMap<String, (String, u8)>,
    replaced: usize,
}

impl Director {
    fn new(mode: i32, method: &str) -> Self {
        Self {
            mode: ConnReuseMode(mode),
            view: view_of(method),
            dests: Vec::new(),
            last: None,
            conns: HashMap::new(),
            replaced: 0,
        }
    }

    fn step(&mut self, step: &Value) {
        let text = |key: &str| step[key].as_str().unwrap().to_owned();
        match step["op"].as_str().unwrap() {
            "add_service" => assert_eq!(step["sysctl"]["conn_reuse_mode"], self.mode.0),
            "add_dest" => self.dests.insert(0, (text("dest"), step["weight"].as_u64().unwrap())),
            "edit_dest" => {
                let dest = self.dests.iter_mut().find(|(dest, _)| *dest == text("dest")).unwrap();
                dest.1 = step["weight"].as_u64().unwrap();
            }
            "packet" => {
                let picked = self.packet(&text("src"), flags(&text("flags")));
                assert_eq!(picked.as_deref(), step["picked"].as_str(), "{step}");
            }
            "conns" => self.conns(step),
            "counts" => {}
            op => panic!("the step {op}"),
        }
    }

    fn packet(&mut self, client: &str, event: Event) -> Option<String> {
        let number = protocol::TCP;
        if let Some((_, state)) = self.conns.get(client) {
            let old = Old {
                number,
                state: *state,
                no_output: self.view == View::InputOnly,
                controlled: false,
                nodest: false,
            };
            if asks_for_new(number, event) && reusable(&old, self.mode) {
                self.conns.remove(client);
                self.replaced += 1;
            }
        }
        if !self.conns.contains_key(client) {
            if !opens(number, event, &Sloppy::default()) {
                return None;
            }
            let dest = self.pick();
            self.conns.insert(client.to_owned(), (dest, tcp::NONE));
        }
        let (dest, state) = self.conns.get_mut(client)?;
        *state = next(number, self.view, *state, event, false);
        Some(dest.clone())
    }

    /// The next server after the last one that has a weight.
    fn pick(&mut self) -> String {
        let last = self.dests.iter().position(|(dest, _)| Some(dest) == self.last.as_ref());
        let start = last.map_or(0, |at| at + 1);
        let mut order = self.dests.iter().cycle().skip(start).take(self.dests.len());
        let dest = order.find(|(_, weight)| *weight > 0).unwrap().0.clone();
        self.last = Some(dest.clone());
        dest
    }

    fn conns(&self, step: &Value) {
        let listed = step["list"].as_array().unwrap();
        assert_eq!(listed.len(), self.conns.len());
        for conn in listed {
            let (dest, state) = &self.conns[conn["client"].as_str().unwrap()];
            assert_eq!(conn["dest"], **dest, "{conn}");
            assert_eq!(conn["state"], state_name(protocol::TCP, *state), "{conn}");
        }
    }
}
