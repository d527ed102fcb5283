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

/// Orders an exchange that was just made before the loads that follow, as a SeqCst fence does. It
/// pairs with the same call of another thread: of two, one sees the other's exchange.
///
/// On x86-64 the exchange itself, a locked instruction, has done so (Intel SDM 3A, 8.2.3.9), and
/// the fence would be an `mfence`, which costs as much as three of them; crossbeam-epoch does the
/// same.
#[inline(always)]
pub(super) fn fence_after_exchange() {
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, miri)))))]
    fence(Ordering::SeqCst);
}

/// Writes a word of a connection that is being filled, while one who comes late may still try to
/// exchange the word of the connection before it.
///
/// Relaxed: the caller publishes it. For loom it is an exchange: loom takes a plain write and the
/// exchanges of another thread for unordered, even when one of these has read the other's value,
/// so that an exchange which lost could still be seen.
#[inline(always)]
pub(super) fn supersede(word: &AtomicU64, value: u64) {
    #[cfg(not(loom))]
    word.store(value, Ordering::Relaxed);
    #[cfg(loom)]
    word.swap(value, Ordering::Relaxed);
}
