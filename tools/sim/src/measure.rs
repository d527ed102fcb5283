//! What a run comes to: how evenly servers were loaded, and how long connections took.

use serde::Serialize;

/// How unevenly loads are spread at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The largest over the mean; 1 when all are alike.
    pub max_over_mean: f64,
    /// The standard deviation over the mean; 0 when all are alike.
    pub variation: f64,
}

impl Spread {
    /// Of the loads of some servers; none when nobody has any.
    pub fn of(loads: &[f64]) -> Option<Self> {
        let count = loads.len() as f64;
        let mean = loads.iter().sum::<f64>() / count;
        if loads.is_empty() || mean <= 0.0 {
            return None;
        }
        let max = loads.iter().copied().fold(0.0, f64::max);
        let variance = loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / count;
        Some(Self { max_over_mean: max / mean, variation: variance.sqrt() / mean })
    }

    /// The mean of several.
    pub fn mean(spreads: &[Self]) -> Option<Self> {
        let count = spreads.len() as f64;
        let mean = |part: fn(&Self) -> f64| spreads.iter().map(part).sum::<f64>() / count;
        let (max_over_mean, variation) = (mean(|s| s.max_over_mean), mean(|s| s.variation));
        (!spreads.is_empty()).then_some(Self { max_over_mean, variation })
    }
}

/// Durations in seconds, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// Of durations in any order.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The least that at least this part of all do not exceed, from 0 to 1; none of none.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied()
    }

    /// Their mean; none of none.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }
}

/// The load of each server over time: active connections a worker, on average over each window.
/// At 1 as many connections are there as the workers can serve; above it some wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The end of each window, in seconds.
    pub ends: Vec<f64>,
    /// By window and server; none while a server is not in the list.
    pub loads: Vec<Vec<Option<f64>>>,
}

/// The figures of response and waiting time, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The part of the connections that had to wait, from 0 to 1.
    pub waited: f64,
    /// How long a connection waited, on average over all.
    pub wait: f64,
    /// From arrival to end, on average.
    pub mean: f64,
    /// The same: half of the connections took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// 999 of 1,000 took no longer.
    pub p999: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_spread_is_that_of_the_textbook() {
        let spread = Spread::of(&[1.0, 2.0, 6.0]).unwrap();
        assert!((spread.max_over_mean - 2.0).abs() < 1e-12);
        assert!((spread.variation - (14.0f64 / 3.0).sqrt() / 3.0).abs() < 1e-12);
        let even = Spread::of(&[0.7; 5]).unwrap();
        assert!((even.max_over_mean - 1.0).abs() < 1e-12 && even.variation < 1e-12);
        assert_eq!((Spread::of(&[0.0, 0.0]), Spread::of(&[])), (None, None));
        assert_eq!(Spread::mean(&[]), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_found_by_counting(
            times in prop::collection::vec(0u32..50, 1..200),
            part in 0.0..=1.0f64,
        ) {
            let times: Vec<f64> = times.into_iter().map(f64::from).collect();
            let found = Times::of(times.clone()).percentile(part).unwrap();
            let within = |most: f64| times.iter().filter(|time| **time <= most).count() as f64;
            let needed = part * times.len() as f64;
            prop_assert!(times.contains(&found) && within(found) >= needed);
            let below = times.iter().copied().filter(|time| *time < found).fold(-1.0, f64::max);
            prop_assert!(below < 0.0 || within(below) < needed, "{below} would do");
        }
    }
}
