//! The first of the servers that bear least for their weight: lc, wlc, sed and nq, lblc and
//! lblcr.
//!
//! The kernel walks the list and compares fractions, over / under, by cross-multiplication. Here
//! each is one key of a [`Tree`]: floor(over * 2^scale / under), where 2^scale is at least the
//! square of the largest `under`. That is exact. Two fractions that differ are at least 1 /
//! (under * under') apart, so their keys differ by at least one; equal fractions have equal
//! keys, and the tree gives the first. Weights that are above 2^16 even when divided by their
//! gcd leave no room for this: such a list is walked.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::tree::{Fold, Min, Tree};
use crate::{Load, Server, Servers, walk};

/// The largest `under` that keys are made with: they have 29 bits then for what a server bears.
const MOST_UNDER: u32 = 1 << 16;

/// What a server bears, as the fraction that a scheduler compares.
pub(crate) trait Burden {
    /// From its connections; at most 32 bits.
    fn over(load: &Load) -> u64;

    /// From its weight, which is not 0.
    fn under(weight: u32) -> u32;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Least<B> {
    servers: Servers,
    shares: Box<[Share]>,
    scale: u32,
    /// None when the weights are too large.
    tree: Option<Tree<Min>>,
    burden: PhantomData<B>,
}

/// What is needed of a server to make its number, side by side in memory.
#[derive(Debug)]
struct Share {
    load: Arc<Load>,
    /// 2^64 / `under`, by which a division is a multiplication.
    inverse: u64,
    /// 0 when the server has no weight.
    under: u32,
}

impl Share {
    fn of<B: Burden>(server: &Server, gcd: u32) -> Self {
        let under = if server.weight == 0 { 0 } else { B::under(server.weight / gcd) };
        let inverse = u64::MAX.checked_div(under.into()).unwrap_or(0);
        Self { load: server.load.clone(), inverse, under }
    }

    #[inline]
    fn number<B: Burden>(&self, scale: u32) -> u64 {
        if self.under == 0 || self.load.overloaded() {
            return Min::NONE;
        }
        let most = (1 << (Min::KEY_BITS - scale)) - 1;
        let over = B::over(&self.load).min(most) << scale;
        // The product falls short of the quotient by one at most.
        let quotient = ((u128::from(over) * u128::from(self.inverse)) >> 64) as u64;
        let rest = over - quotient * u64::from(self.under);
        Min::number(quotient + u64::from(rest >= self.under.into()))
    }
}

impl<B: Burden> Least<B> {
    pub(crate) fn of(servers: Servers) -> Self {
        let gcd = servers.gcd();
        let shares: Box<[Share]> = servers.iter().map(|s| Share::of::<B>(s, gcd)).collect();
        let under = shares.iter().map(|share| share.under).max().unwrap_or(0);
        let scale = u64::from(under).pow(2).max(1).next_power_of_two().trailing_zeros();
        let tree = || Tree::of(shares.iter().map(|share| share.number::<B>(scale)));
        let tree = (under <= MOST_UNDER).then(tree);
        Self { servers, shares, scale, tree, burden: PhantomData }
    }

    #[inline]
    pub(crate) fn pick(&self) -> Option<usize> {
        match &self.tree {
            Some(tree) => tree.least(),
            None => walk::least(&self.servers, fraction::<B>),
        }
    }

    #[inline]
    pub(crate) fn changed(&self, place: usize) {
        if let (Some(tree), Some(share)) = (&self.tree, self.shares.get(place)) {
            tree.settle(place, || share.number::<B>(self.scale));
        }
    }

    pub(crate) fn refresh(&self) {
        (0..self.shares.len()).for_each(|place| self.changed(place));
    }
}

/// The fraction of an available server.
fn fraction<B: Burden>(server: &Server) -> (u64, u64) {
    (B::over(&server.load), B::under(server.weight).into())
}
