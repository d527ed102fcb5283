//! How the workers come to the newest [`Snapshot`] without ever waiting for who makes it (INV-6).
//!
//! A worker looks once a batch whether there is a newer one. It never frees a snapshot: the
//! publisher keeps a reference until the workers have let go, and drops it on its own thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use crate::snapshot::Snapshot;

/// The place where the newest snapshot is found.
#[derive(Debug)]
pub struct Published {
    version: AtomicU64,
    current: Mutex<Arc<Snapshot>>,
    /// Snapshots that a worker may still be using; see [`Published::publish`].
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

impl Published {
    /// Publishes a first snapshot.
    pub fn new(first: Snapshot) -> Arc<Self> {
        Arc::new(Self {
            version: AtomicU64::new(1),
            current: Mutex::new(Arc::new(first)),
            retired: Mutex::new(Vec::new()),
        })
    }

    /// Makes `next` the newest snapshot and frees those that no worker uses any more.
    pub fn publish(&self, next: Snapshot) {
        let next = Arc::new(next);
        let old = std::mem::replace(&mut *lock(&self.current), next);
        // Release: pairs with the Acquire in `Reader::refresh`; who sees the new number finds at
        // least this snapshot in `current`.
        self.version.fetch_add(1, Ordering::Release);
        lock(&self.retired).push(old);
        self.settled();
    }

    /// Whether every worker uses the newest snapshot. Frees the older ones that none uses.
    pub fn settled(&self) -> bool {
        let mut retired = lock(&self.retired);
        retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        retired.is_empty()
    }

    /// The newest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        lock(&self.current).clone()
    }

    /// A worker's way to the newest snapshot.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let snapshot = self.current();
        Reader { published: self.clone(), version: 0, snapshot }
    }
}

/// Locks; a panic of another holder leaves the value whole, for it is only ever replaced.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A worker's view of the newest snapshot.
#[derive(Debug)]
pub struct Reader {
    published: Arc<Published>,
    version: u64,
    snapshot: Arc<Snapshot>,
}

impl Reader {
    /// Looks for a newer snapshot, once a batch; true when there was one.
    ///
    /// Never waits: while the publisher holds the lock the old snapshot serves one batch more.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        // Acquire: pairs with the Release in `Published::publish`.
        let version = self.published.version.load(Ordering::Acquire);
        if version == self.version {
            return false;
        }
        let newest = match self.published.current.try_lock() {
            Ok(current) => current.clone(),
            Err(TryLockError::Poisoned(current)) => current.into_inner().clone(),
            Err(TryLockError::WouldBlock) => return false,
        };
        // The publisher still holds the old one in `retired`, so that this never frees it.
        self.snapshot = newest;
        self.version = version;
        true
    }

    /// The snapshot that serves.
    #[inline]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}
