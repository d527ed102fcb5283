//! What the fuzz targets share: how their input is read, and who judges what came of it.
//!
//! ```text
//! parse, engine   | two bytes | tag | length | frame | tag | length | frame ...
//! rewrite, icmp   | 48 bytes of knobs | frame ...
//! ```
//!
//! `seeds.py` makes such inputs of the recordings; a change here is a change there.

pub mod input;
pub mod judge;
pub mod rig;
