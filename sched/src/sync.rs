//! The atomics of this crate: std's, or loom's when a model is checked (`--cfg loom`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// Stands between a SeqCst write and the SeqCst reads that must not come before it.
///
/// SeqCst accesses have one order over all threads, so std needs nothing here. loom takes a
/// SeqCst access for AcqRel; its models get the order from a fence.
#[inline]
pub(crate) fn in_order() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
