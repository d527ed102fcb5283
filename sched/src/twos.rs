//! twos, the power of two random choices (kernel: ip_vs_twos.c).
//!
//! The rule: two servers are drawn, each by its weight: a number is drawn from 0 to the sum of
//! the weights of the available servers, both included, and the list is gone through until the
//! weights come to as much (so the first server has one part more than its weight). Of the two
//! the one with the smaller overhead (256 * active + inactive) for its weight gets the
//! connection, the first drawn if they are equal.

use std::hash::{BuildHasher, RandomState};

use crate::sync::{AtomicU64, Ordering::Relaxed};
use crate::tree::{Sum, Tree};
use crate::{Flags, Flow, Schedule, Server, Servers};

/// See the module.
#[derive(Debug)]
pub struct Twos {
    servers: Servers,
    weights: Tree<Sum>,
    draws: Draws,
}

/// The weight of a server that can be drawn.
#[inline]
fn weight(server: &Server) -> u64 {
    if server.available() { server.weight.into() } else { 0 }
}

impl Twos {
    /// The scheduler whose draws are those of `seed`, so that a simulation can be repeated.
    pub fn with_seed(servers: Servers, seed: u64) -> Self {
        let weights = Tree::of(servers.iter().map(weight));
        Self { servers, weights, draws: Draws(AtomicU64::new(seed)) }
    }

    /// The place of a server that was drawn.
    fn draw(&self, sum: u64) -> Option<usize> {
        self.weights.reach(self.draws.up_to(sum).max(1))
    }

    /// The lighter of two places.
    fn lighter(&self, first: usize, second: usize) -> usize {
        let [one, other] = [first, second].map(|at| &self.servers[at]);
        let lighter = one.load.overhead() * u64::from(other.weight)
            > other.load.overhead() * u64::from(one.weight);
        if lighter { second } else { first }
    }
}

impl Schedule for Twos {
    fn build(servers: Servers, _flags: Flags) -> Self {
        Self::with_seed(servers, RandomState::new().hash_one(()))
    }

    /// The draws go on where they stand.
    fn rebuild(&self, servers: Servers, _flags: Flags) -> Self {
        // Relaxed: any number is as good as another.
        Self::with_seed(servers, self.draws.0.load(Relaxed))
    }

    fn pick(&self, _flow: &Flow) -> Option<usize> {
        let sum = self.weights.sum();
        if sum == 0 {
            return None;
        }
        match (self.draw(sum), self.draw(sum)) {
            (Some(first), Some(second)) => Some(self.lighter(first, second)),
            // Servers went while it was drawn: any that is left.
            _ => self.servers.iter().position(Server::available),
        }
    }

    #[inline]
    fn changed(&self, place: usize) {
        if let Some(server) = self.servers.get(place) {
            self.weights.settle(place, || weight(server));
        }
    }

    fn refresh(&self) {
        (0..self.servers.len()).for_each(|place| self.changed(place));
    }
}

/// Random numbers for all cores: steps of a counter, mixed (Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators", 2014).
#[derive(Debug)]
struct Draws(AtomicU64);

impl Draws {
    /// One of the numbers from 0 to `most`, all alike but for less than 1 in 2^32.
    #[inline]
    fn up_to(&self, most: u64) -> u64 {
        // Relaxed: each core gets a number of its own, whatever the order.
        let mut x = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        ((u128::from(x) * (u128::from(most) + 1)) >> 64) as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::server::tests::servers;
    use crate::tests::{flow, open, overload, picks};

    /// How often each server is to be picked, by the rule itself: over all pairs of draws.
    fn expected(list: &Servers) -> Vec<f64> {
        let drawn = |at: usize| {
            let first = list.iter().position(Server::available) == Some(at);
            (weight(&list[at]) + u64::from(first)) as f64
        };
        let all: f64 = (0..list.len()).map(drawn).sum();
        let mut expected = vec![0.0; list.len()];
        for one in 0..list.len() {
            for other in 0..list.len() {
                let [a, b] = [one, other].map(|at| &list[at]);
                let (a_cost, b_cost) = (
                    a.load.overhead() * u64::from(b.weight),
                    b.load.overhead() * u64::from(a.weight),
                );
                let picked = if a_cost > b_cost { other } else { one };
                expected[picked] += drawn(one) / all * drawn(other) / all;
            }
        }
        expected
    }

    /// Pearson's chi-square of many picks, and its degrees of freedom.
    fn chi_square(twos: &Twos, list: &Servers) -> (f64, usize) {
        const PICKS: usize = 20_000;
        let mut picked = vec![0usize; list.len()];
        (0..PICKS).for_each(|_| picked[twos.pick(&flow()).unwrap()] += 1);
        let expected = expected(list).into_iter().map(|share| share * PICKS as f64);
        let (mut sum, mut freedom) = (0.0, 0);
        for (picked, expected) in picked.into_iter().zip(expected) {
            if expected == 0.0 {
                assert_eq!(picked, 0);
                continue;
            }
            sum += (picked as f64 - expected).powi(2) / expected;
            freedom += 1;
        }
        (sum, freedom - 1)
    }

    /// The seeds stand still, so these always come out the same: no chance makes them fail.
    fn fits(list: &Servers, loads: &[u32]) {
        for seed in 0..5 {
            let twos = Twos::with_seed(list.clone(), seed << 40);
            // What 1 in 1,000 exceeds, by Wilson and Hilferty's approximation.
            let (sum, freedom) = chi_square(&twos, list);
            let part = 2.0 / (9.0 * freedom as f64);
            let bound = freedom as f64 * (1.0 - part + 3.09 * part.sqrt()).powi(3);
            assert!(sum < bound, "seed {seed}, {loads:?}: {sum} of {bound}");
        }
    }

    fn loaded(weights: &[u32], loads: &[u32]) -> Servers {
        let list = servers(weights);
        for (server, load) in list.iter().zip(loads) {
            (0..*load).for_each(|_| _ = server.load.open(false));
        }
        list
    }

    #[test]
    fn picks_fall_as_the_rule_says() {
        for loads in [[0; 7], [5, 1, 4, 2, 8, 3, 7], [1, 2, 3, 1, 5, 6, 7], [9, 9, 0, 0, 9, 9, 0]] {
            fits(&loaded(&[1, 2, 3, 0, 5, 6, 7], &loads), &loads);
            fits(&loaded(&[1; 7], &loads), &loads);
        }
        fits(&servers(&[3; 40]), &[]);
    }

    #[test]
    fn another_rule_would_be_noticed() {
        let list = loaded(&[1, 2, 3], &[3, 2, 1]);
        let twos = Twos::with_seed(list, 1);
        let (sum, _) = chi_square(&twos, &loaded(&[1, 2, 3], &[1, 2, 3]));
        assert!(sum > 200.0, "{sum}");
    }

    #[test]
    fn a_seed_is_a_sequence_which_a_rebuild_goes_on_with() {
        let list = servers(&[1; 50]);
        let twos = Twos::with_seed(list.clone(), 1);
        let whole = picks(&Twos::with_seed(list.clone(), 1), 40);
        let begun = picks(&twos, 20);
        let rest = picks(&twos.rebuild(list.clone(), Flags::default()), 20);
        assert_eq!([begun, rest].concat(), whole);
        assert_ne!(picks(&Twos::with_seed(list, 2), 40), whole);
    }

    #[test]
    fn only_available_servers_are_drawn() {
        let list = servers(&[0, 4, 4]);
        let twos = Twos::build(list.clone(), Flags::default());
        overload(&twos, &list, 1, true);
        assert!((0..100).all(|_| twos.pick(&flow()) == Some(2)));
        overload(&twos, &list, 2, true);
        assert_eq!(twos.pick(&flow()), None);
        overload(&twos, &list, 1, false);
        open(&twos, &list, 1, true);
        assert_eq!(twos.pick(&flow()), Some(1));
    }
}
