//! Listing the table while the workers go on.

use std::fmt;

use super::Table;
use super::conn::Conn;
use super::index::SLOTS;

/// All connections of a table, bucket by bucket; see [`Table::iter`].
///
/// It walks the index and not the entries, so that a connection that is still being inserted, and
/// may not get in, is not listed.
pub struct Iter<'a> {
    table: &'a Table,
    bucket: usize,
    slot: usize,
}

impl<'a> Iter<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, bucket: 0, slot: 0 }
    }

    /// Steps to the next slot. At a new bucket, starts to load what the one after it names.
    fn step(&mut self) {
        self.slot += 1;
        if self.slot < SLOTS {
            return;
        }
        (self.bucket, self.slot) = (self.bucket + 1, 0);
        for slot in 0..SLOTS {
            if let Some(content) = self.table.index.committed(self.bucket + 1, slot) {
                self.table.prefetch_line(content.entry());
            }
        }
    }

    /// The connection in the current slot.
    fn current(&self) -> Option<Conn> {
        let content = self.table.index.committed(self.bucket, self.slot)?;
        let words = self.table.read(content.entry())?;
        // When the entry was reused in between, its slot was cleared before: then the connection
        // just read stands elsewhere and is listed there.
        let after = self.table.index.committed(self.bucket, self.slot);
        (after == Some(content)).then(|| words.conn(content.entry()))
    }
}

impl Iterator for Iter<'_> {
    type Item = Conn;

    fn next(&mut self) -> Option<Conn> {
        while self.bucket < self.table.index.len() {
            let conn = self.current();
            self.step();
            if conn.is_some() {
                return conn;
            }
        }
        None
    }
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
