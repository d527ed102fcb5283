//! What lblc and lblcr share: wlc over the list, and who is too busy for its addresses.

use std::collections::HashSet;

use crate::least::Least;
use crate::ranked::{Rank, Ranked};
use crate::roster::Roster;
use crate::wlc::Overhead;
use crate::{Server, Servers};

/// See the module.
#[derive(Debug)]
pub(crate) struct Local {
    servers: Servers,
    least: Least<Overhead>,
    idle: Ranked<HalfIdle>,
    pub(crate) roster: Roster,
}

/// Those with fewer active connections than half their weight, whether available or not.
#[derive(Debug)]
struct HalfIdle;

impl Rank for HalfIdle {
    #[inline]
    fn key(server: &Server) -> Option<u64> {
        let active = u64::from(server.load.active());
        (active * 2 < server.weight.into()).then_some(0)
    }
}

impl Local {
    pub(crate) fn of(servers: Servers) -> Self {
        let roster = Roster::of(&servers);
        Self::with(servers, roster)
    }

    /// Over a changed list, while the servers with these numbers are remembered.
    pub(crate) fn after(&self, servers: Servers, remembered: &HashSet<u32>) -> Self {
        let roster = self.roster.after(&servers, |number| remembered.contains(&number));
        Self::with(servers, roster)
    }

    fn with(servers: Servers, roster: Roster) -> Self {
        let (least, idle) = (Least::of(servers.clone()), Ranked::of(servers.clone()));
        Self { servers, least, idle, roster }
    }

    /// As wlc picks.
    #[inline]
    pub(crate) fn least(&self) -> Option<usize> {
        self.least.pick()
    }

    #[inline]
    pub(crate) fn has_weight(&self, at: usize) -> bool {
        self.servers[at].weight > 0
    }

    /// Whether a server has more active connections than its weight while another has fewer than
    /// half of its own.
    #[inline]
    pub(crate) fn too_busy(&self, at: usize) -> bool {
        let server = &self.servers[at];
        server.load.active() > server.weight && self.idle.tree.least_key().is_some()
    }

    #[inline]
    pub(crate) fn changed(&self, place: usize) {
        self.least.changed(place);
        self.idle.changed(place);
    }

    pub(crate) fn refresh(&self) {
        self.least.refresh();
        self.idle.refresh();
    }
}
