//! How large a table may be, and what it takes.

use std::io;

use super::entry::{Entry, Wide};
use super::free::FreeList;
use super::index::Index;
use super::wheel::Wheel;
use super::{ConnId, INBOX, Table, WORKERS_MAX};

/// The largest capacity: a slot of the index has 31 bits for the entry.
pub const CAPACITY_MAX: u64 = 1 << 31;

/// Why a table cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// Capacity 0.
    #[error("a connection table of capacity 0 holds nothing; set a capacity of at least 1")]
    Zero,
    /// More than [`CAPACITY_MAX`].
    #[error("a connection table holds at most {CAPACITY_MAX} connections; {0} were asked for")]
    TooLarge(u64),
    /// More than the machine has free, were all connections IPv6's. For IPv4 alone about half
    /// would do, but nobody can say beforehand what clients come, and a table that has started
    /// shall never be the reason why the process is killed.
    #[error(
        "a connection table of {capacity} connections takes up to {} MB, and the machine and its \
         control groups leave {} MB; lower the capacity to at most {fits}, or free memory",
        need >> 20, available >> 20
    )]
    Memory {
        /// What was asked for, in connections.
        capacity: u64,
        /// Bytes that it takes.
        need: u64,
        /// Bytes that are available.
        available: u64,
        /// A capacity that fits, in connections.
        fits: u64,
    },
    /// The mapping was refused.
    #[error(
        "the connection table's memory cannot be mapped ({0}); lower the capacity or raise the \
         address space limit (ulimit -v)"
    )]
    Map(#[source] io::Error),
    /// No worker, or more than [`WORKERS_MAX`].
    #[error("a connection table serves 1 to {WORKERS_MAX} workers; {0} were asked for")]
    Workers(usize),
}

impl Table {
    pub(super) fn check(
        capacity: u64,
        workers: usize,
        available: u64,
    ) -> Result<usize, CapacityError> {
        if capacity == 0 {
            return Err(CapacityError::Zero);
        }
        if workers == 0 || workers > WORKERS_MAX {
            return Err(CapacityError::Workers(workers));
        }
        // Bounds the products below as well.
        let entries = usize::try_from(capacity).ok().filter(|_| capacity <= CAPACITY_MAX);
        let entries = entries.ok_or(CapacityError::TooLarge(capacity))?;
        let need = Self::bytes(entries, workers);
        if need > available {
            let fits = Self::fits(entries, workers, available);
            return Err(CapacityError::Memory { capacity, need, available, fits });
        }
        Ok(entries)
    }

    /// About the largest capacity below `capacity` that fits.
    pub(super) fn fits(mut capacity: usize, workers: usize, available: u64) -> u64 {
        while capacity > 0 && Self::bytes(capacity, workers) > available {
            capacity -= capacity.div_ceil(256);
        }
        capacity as u64
    }

    pub(super) fn bytes(capacity: usize, workers: usize) -> u64 {
        let owner = Wheel::bytes() + (INBOX * size_of::<(usize, ConnId)>()) as u64;
        let lines = size_of::<Entry>() + size_of::<Wide>();
        let shared = Index::bytes(capacity) + FreeList::bytes(capacity, workers);
        (capacity * lines) as u64 + shared + workers as u64 * owner
    }
}
