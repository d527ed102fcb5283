//! Benchmarks of uvs: what a frame costs in memory ([`rig`]), and what packet rate is reached on
//! veth against a bare loop ([`rate`]). `results/` has dated figures with their machine.

pub mod services;

pub mod conns;

pub mod table;

pub mod frames;

pub mod rig;

pub mod bars;

pub mod veth;

pub mod generator;

pub mod rate;

pub mod machine;
