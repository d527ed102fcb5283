//! How a connection gets into the index once, although two workers may insert it at the same
//! moment (INV-2), without a lock.
//!
//! An inserter puts its slot in as *pending*, which no lookup believes, and then looks for rivals
//! with the same key. Of two inserters at least one sees the other: each writes its slot, passes
//! a SeqCst fence and reads the other's, so not both can read the slot as it was before. The
//! lower slot wins: it takes the other's pending slot away, and the other steps back. An inserter
//! that has stepped back often enough takes the lower one away as well, so that a thread that was
//! put to sleep while pending holds up nobody. One whose slot was taken away notices when it
//! commits, and starts over.

use super::conn::{ConnId, InKey, NewConn};
use super::index::{Content, Look, Spot, Wanted};
use super::sync::{fence_after_exchange, spin_loop};
use super::{InsertError, Table};

/// Attempts to get in before the insertion is given up.
const ATTEMPTS: usize = 64;

/// Attempts in which a rival with a lower slot is waited for; loom shall see it end.
const PATIENCE: usize = if cfg!(loom) { 1 } else { 16 };

/// What an inserter found when it looked for rivals.
enum Rival {
    Committed(ConnId),
    Pending,
}

impl Table {
    /// Puts the filled entry at `index` into the index, or says which connection has its key.
    pub(super) fn enter(
        &self,
        hash: u64,
        index: u32,
        new: &NewConn,
    ) -> Result<Option<ConnId>, InsertError> {
        let key = new.in_key();
        let content = Content::pending(hash, index, (new.vaddr, new.vport), (new.daddr, new.dport));
        for attempt in 0..ATTEMPTS {
            let spot = self.index.place(hash, content).ok_or(InsertError::Crowded)?;
            // Pairs with the same fence of a rival: of our slot and its, one is seen by the other.
            fence_after_exchange();
            match self.rival(hash, &key, spot, attempt >= PATIENCE) {
                None if self.index.commit(spot, content) => return Ok(None),
                Some(Rival::Committed(id)) => {
                    self.index.withdraw(hash, spot, content);
                    return Ok(Some(id));
                }
                None | Some(Rival::Pending) => self.index.withdraw(hash, spot, content),
            }
            spin_loop();
        }
        Err(InsertError::Contended)
    }

    /// A connection with the key in another slot than `own`; pending ones that must give way
    /// are killed instead.
    fn rival(&self, hash: u64, key: &InKey, own: Spot, kill_lower: bool) -> Option<Rival> {
        let wanted = Wanted::inward(hash, (key.vaddr, key.vport));
        self.index.scan(hash, wanted, |spot, content| {
            if spot.position() == own.position() {
                return Look::On;
            }
            let index = content.entry();
            let Some(words) = self.find(index, key) else { return Look::On };
            if !content.is_pending() {
                Look::Found(Rival::Committed(words.id(index)))
            } else if spot.position() < own.position() && !kill_lower {
                Look::Found(Rival::Pending)
            } else if self.index.kill(spot, content) {
                Look::On
            } else {
                Look::Again
            }
        })
    }
}
