//! ipvsadm's grammar and ipvsadm's text.
//!
//! What goes in is an argument vector or a file of rules, what comes out is a [`Command`] or a
//! sentence about what is wrong; the listings go the other way, from the engine's answers in
//! [`api`] to the very text that ipvsadm 1.31 prints. The only input or output here is name
//! resolution, in [`names`].
//!
//! The whole of ipvsadm's grammar is read and checked as ipvsadm does it; what uvs cannot do yet
//! (the sync daemon) is refused after that, in one place (`command.rs`), with an error that says
//! so.

#![forbid(unsafe_code)]

mod address;
pub mod api;
mod args;
mod check;
mod command;
mod error;
mod grammar;
mod help;
pub mod listing;
pub mod names;
mod order;
mod parse;
pub mod plan;
pub mod proc;
pub mod rules;
mod words;

pub use command::{Command, Form, List};
pub use error::{ParseError, RuleError};
pub use help::{help, own_help, version};
pub use parse::{parse, parse_with};
pub use rules::{Rule, parse_line, parse_rules, read_line, save};
pub use words::{Described, Need, words};
