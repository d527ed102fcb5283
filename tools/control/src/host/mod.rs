//! What the host's kernel knows, told by rtnetlink: interfaces, routes, neighbours.
//!
//! [`links::find`] looks interfaces up once, at start. [`Follower`] keeps up with routes and
//! neighbours and hands out a fresh [`Fib`](uvs_engine::fib::Fib) whenever they change; it also
//! asks the kernel for neighbours that the workers miss.

mod error;
mod follow;
mod kernel;
pub mod links;
mod notices;
mod resolve;
mod tables;

pub use error::HostError;
pub use follow::Follower;

#[cfg(test)]
mod namespace;
