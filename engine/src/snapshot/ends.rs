//! Endpoints, each with how many servers have it: one goes with the last.

use ahash::RandomState;
use hashbrown::HashMap;

use crate::service::Endpoint;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends(HashMap<Endpoint, u32, RandomState>);

impl Ends {
    /// A server has another endpoint, or none, than it had.
    pub(super) fn change(&mut self, before: Option<Endpoint>, after: Option<Endpoint>) {
        if before == after {
            return;
        }
        if let Some(end) = after {
            *self.0.entry(end).or_default() += 1;
        }
        if let Some(end) = before
            && let Some(count) = self.0.get_mut(&end)
        {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&end);
            }
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn contains(&self, end: &Endpoint) -> bool {
        self.0.contains_key(end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.keys()
    }

    /// Whether one is of any port or protocol.
    pub(super) fn wide(&self) -> bool {
        self.iter().any(|end| end.port == 0 || end.protocol == 0)
    }
}
