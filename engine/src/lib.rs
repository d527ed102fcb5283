//! The packet engine: frames in, frames out.
//!
//! A [`worker`] a core takes batches of frames from its [`port`], runs the [`stage`]s over them and
//! sends them on. It finds connections in the shared [`table`], moves them on by the machines of
//! [`proto`], and reads its configuration from a [`snapshot`]. ARCHITECTURE.md has the map and the
//! invariants that the code cites as INV-n.

pub mod link;

pub mod address;

pub mod packet;
pub mod port;

pub mod batch;

pub mod stage;

pub mod table;

pub mod proto;

pub mod service;

pub mod settings;

pub mod marks;

pub mod calls;

pub mod defense;

pub mod snapshot;

pub mod publish;

pub mod fib;
pub mod fragments;

pub mod ask;

pub mod waiting;

pub mod host;

pub mod limiter;

pub mod counters;

pub mod clock;

pub mod worker;
