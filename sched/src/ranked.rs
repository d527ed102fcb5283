//! A list in which each server has a rank that does not depend on the others: rr, wrr, fo, ovf.

use std::marker::PhantomData;

use crate::tree::{Fold, Min, Tree};
use crate::{Server, Servers};

/// The rank of a server.
pub(crate) trait Rank {
    /// The lower the better; none for a server that is not to be had.
    fn key(server: &Server) -> Option<u64>;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ranked<R> {
    pub(crate) servers: Servers,
    pub(crate) tree: Tree<Min>,
    rank: PhantomData<R>,
}

/// A key by which the highest weight is the best.
#[inline]
pub(crate) fn by_weight(weight: u32) -> u64 {
    (!weight).into()
}

#[inline]
fn number<R: Rank>(server: &Server) -> u64 {
    R::key(server).map_or(Min::NONE, Min::number)
}

impl<R: Rank> Ranked<R> {
    pub(crate) fn of(servers: Servers) -> Self {
        let tree = Tree::of(servers.iter().map(number::<R>));
        Self { servers, tree, rank: PhantomData }
    }

    #[inline]
    pub(crate) fn changed(&self, place: usize) {
        if let Some(server) = self.servers.get(place) {
            self.tree.settle(place, || number::<R>(server));
        }
    }

    pub(crate) fn refresh(&self) {
        (0..self.servers.len()).for_each(|place| self.changed(place));
    }
}
