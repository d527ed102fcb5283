//! Random numbers that are the same everywhere and in every version.

/// Steps of a counter, mixed (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// One sequence of those that belong to a seed.
    pub(crate) fn new(seed: u64, sequence: u64) -> Self {
        let mut random = Self(seed);
        Self(random.next() ^ sequence.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Above 0, at most 1: what a logarithm takes.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    /// Pareto's distribution; it has a mean when the shape is above 1.
    pub(crate) fn pareto(&mut self, mean: f64, shape: f64) -> f64 {
        let least = mean * (shape - 1.0) / shape;
        least / self.unit().powf(1.0 / shape)
    }
}

/// No two numbers come out alike.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The same for half a word: no two indexes are one address (Appleby, MurmurHash3's finaliser).
pub(crate) fn scatter(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..200_000).map(|_| draw()).sum::<f64>() / 200_000.0
    }

    #[test]
    fn draws_have_the_mean_that_is_asked_for() {
        let mut random = Random::new(1, 0);
        assert!((mean(|| random.unit()) - 0.5).abs() < 0.005);
        assert!((mean(|| random.exponential(3.0)) - 3.0).abs() < 0.03);
        assert!((mean(|| random.pareto(3.0, 3.0)) - 3.0).abs() < 0.06);
        let draws: Vec<f64> = (0..1_000).map(|_| random.pareto(3.0, 3.0)).collect();
        assert!(draws.iter().all(|draw| *draw >= 2.0), "never below its least");
    }

    #[test]
    fn a_seed_is_a_sequence() {
        let draw = |seed, sequence| Random::new(seed, sequence).next();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
    }
}
