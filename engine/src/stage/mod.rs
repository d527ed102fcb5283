//! The stages of a frame's way, in its order. Each is one loop over the batch.
//!
//! ```text
//! receive -> parse -> classify -> lookup -> schedule -> state -> forward -> transmit
//! ```
//!
//! Only `receive` and `transmit` touch the port. A stage decides about a frame by its
//! [`Verdict`](crate::batch::Verdict); later stages leave decided frames alone.

pub mod receive;

pub mod parse;

pub mod classify;

pub mod lookup;

pub mod schedule;

pub mod state;

pub mod forward;

pub mod transmit;
