//! The packet engine: frames in, frames out.
//!
//! The modules stand in the order of a frame's way; see ARCHITECTURE.md.

pub mod link;
pub mod port;
