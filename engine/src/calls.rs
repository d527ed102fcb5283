//! The names of calls that persistence templates go by (`--pe sip`), for listings.
//!
//! The table finds such a template by a hash of its name; the name itself is noted here. A worker
//! never waits for it: while somebody reads, a name may be missed.

use std::sync::{Mutex, PoisonError, TryLockError};

use ahash::RandomState;
use hashbrown::HashMap;

use crate::table::{ConnId, Table};

/// The longest name (ip_vs.h, IP_VS_PEDATA_MAXLEN).
pub const NAME_MAX: usize = 255;

/// Names that are kept; further ones are not listed.
const CAPACITY: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub struct Calls(Mutex<HashMap<ConnId, Name, RandomState>>);

#[derive(Clone, Debug)]
struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Calls {
    /// Notes the name of a template; what is longer than [`NAME_MAX`] is cut.
    pub fn note(&self, template: ConnId, name: &[u8]) {
        let mut names = match self.0.try_lock() {
            Ok(names) => names,
            Err(TryLockError::Poisoned(names)) => names.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if names.len() < CAPACITY {
            // The first name makes room for all, so that no later one waits for memory.
            let room = CAPACITY - names.len();
            names.reserve(room);
            let len = name.len().min(NAME_MAX);
            let mut bytes = [0; NAME_MAX];
            bytes[..len].copy_from_slice(&name[..len]);
            names.insert(template, Name { bytes, len: len as u8 });
        }
    }

    /// The name of a template.
    pub fn name(&self, template: ConnId) -> Option<Vec<u8>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&template).map(|name| name.bytes[..name.len.into()].to_vec())
    }

    /// Forgets the names of templates that are gone; from time to time, off the workers.
    pub fn forget(&self, table: &Table) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|template, _| table.get(*template).is_some());
    }
}
