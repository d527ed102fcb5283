//! The control plane: desired configuration -> check -> plan -> snapshot -> publish; the API.
//!
//! [`config`] reads uvs.toml and [`rules`] the file of services; the [`director`] holds what is
//! configured and publishes it to the workers; [`engine`] starts and stops them, [`control`]
//! changes them while they run; [`host`] tells what the kernel knows of links, routes and
//! neighbours; [`api`] serves uvsadm and [`client`] asks it; [`adm`] is uvsadm itself.

pub mod access;
pub mod adm;
pub mod api;
pub mod client;
pub mod config;
pub mod conns;
pub mod control;
mod desired;
pub mod director;
mod document;
pub mod engine;
mod entry;
pub mod host;
mod marks;
pub mod plan;
pub mod rules;
pub mod service;
pub mod stats;
mod steered;
