//! The atomics of the table: std's, or loom's when a model is checked (`--cfg loom`).
//!
//! loom does not see the inboxes (crossbeam's queue); nothing relies on them for ordering. It
//! takes a SeqCst access for AcqRel, so the table uses a SeqCst *fence* where it needs one.

#[cfg(not(loom))]
pub(super) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};

#[cfg(loom)]
pub(super) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU64, Ordering, fence},
};
