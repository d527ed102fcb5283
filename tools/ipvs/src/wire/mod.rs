//! The codec: IPVS's messages as typed lists, in the order of the wire.
//!
//! Whatever can be read is written back byte for byte: what this crate does not know, and a known
//! attribute whose value is not of its kind, stays in its place as `Other`. The plain values of the
//! crate's root are made of these lists, and say by the kernel's name which attribute is missing or
//! malformed.
//!
//! Names and numbers are those of include/uapi/linux/ip_vs.h.

pub(crate) mod attribute;
mod command;
mod daemon;
mod datagram;
mod dest;
mod error;
mod family;
mod info;
mod message;
mod service;
mod stats;
mod value;

pub use command::{Command, CommandAttribute};
pub use daemon::DaemonAttribute;
pub use datagram::{Content, Packet, emit, parse};
pub use dest::DestAttribute;
pub use error::ParseError;
pub use family::{FamilyAttribute, FamilyMessage};
pub use info::InfoAttribute;
pub use message::{Attributes, FAMILY_NAME, FAMILY_VERSION, Message};
pub use service::ServiceAttribute;
pub use stats::{Stats64Attribute, StatsAttribute};
pub use value::{MaskedFlags, Nested, Port};
