//! Who connects, when, where to, and for how long.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use uvs_sched::Flow;

use crate::error::{Wrong, within};
use crate::random::{Random, scatter};

/// Nanoseconds of a second; simulated time is counted in nanoseconds.
pub(crate) const SECOND: f64 = 1e9;

/// Addresses that clients, or destinations, may have.
pub(crate) const MOST_ADDRESSES: u32 = 1 << 20;

/// Virtual addresses are those of 198.18.0.0/15 (RFC 2544), in their order.
pub(crate) const MOST_DESTINATIONS: u32 = 1 << 17;
const DESTINATIONS: u32 = 0xc612_0000;

/// How often each of many addresses is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// The n-th is met 1 / n^skew times as often as the first.
    Zipf,
    /// All alike.
    Uniform,
}

/// How long a connection takes at a server of speed 1 that has a free worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// Pareto's distribution: most are short, a few are very long.
    Pareto,
    /// Exponential.
    Exp,
}

/// The connections of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Workload {
    /// Connections a second, on average: a Poisson process.
    pub rate: f64,
    /// How long connections come, in seconds.
    #[serde(rename = "for")]
    pub seconds: f64,
    /// How often each client is met; the virtual addresses likewise.
    pub clients: Clients,
    /// How many clients there are.
    pub population: u32,
    /// The exponent of zipf.
    pub skew: f64,
    /// How many virtual addresses there are.
    pub destinations: u32,
    /// How lifetimes are distributed.
    pub lifetime: Lifetime,
    /// Their mean, in seconds.
    pub mean_lifetime: f64,
    /// The exponent of pareto.
    pub shape: f64,
    /// All that is drawn depends on it.
    pub seed: u64,
}

/// A connection that comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// When, in nanoseconds.
    pub at: u64,
    pub client: u32,
    pub port: u16,
    pub destination: u32,
    /// Nanoseconds of a worker of speed 1.
    pub work: f64,
}

impl Workload {
    /// Checks each number.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        within("rate", self.rate, 1e-6..=1e9)?;
        within("for", self.seconds, 1e-3..=1e7)?;
        within("population", self.population.into(), 1.0..=MOST_ADDRESSES.into())?;
        within("skew", self.skew, 0.0..=10.0)?;
        within("destinations", self.destinations.into(), 1.0..=MOST_DESTINATIONS.into())?;
        within("mean-lifetime", self.mean_lifetime, 1e-6..=1e6)?;
        within("shape", self.shape, 1.01..=100.0)?;
        Ok(())
    }

    /// The connections, in their order; each call gives the same.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = Arrival> {
        let Self { rate, seconds, lifetime, mean_lifetime, shape, seed, .. } = *self;
        let [mut times, mut whom, mut work] = [0, 1, 2].map(|part| Random::new(seed, part));
        let clients = Popularity::of(self, self.population);
        let destinations = Popularity::of(self, self.destinations);
        let mut now = 0.0;
        let next = move || {
            now += times.exponential(1.0 / rate);
            Arrival {
                at: (now * SECOND) as u64,
                client: clients.draw(&mut whom),
                port: 1024 + (whom.next() % 64_512) as u16,
                destination: destinations.draw(&mut whom),
                work: SECOND
                    * match lifetime {
                        Lifetime::Exp => work.exponential(mean_lifetime),
                        Lifetime::Pareto => work.pareto(mean_lifetime, shape),
                    },
            }
        };
        std::iter::repeat_with(next)
            .take_while(move |arrival| arrival.at as f64 <= seconds * SECOND)
    }

    /// What a scheduler sees of a connection.
    pub(crate) fn flow(&self, client: u32, port: u16, destination: u32, at: u64) -> Flow {
        Flow {
            protocol: 6,
            source: address(scatter(client ^ self.seed as u32)),
            source_port: port,
            destination: address(DESTINATIONS + destination),
            destination_port: 80,
            now: (at / 10_000_000) as u32,
        }
    }
}

fn address(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

/// Draws one of many.
enum Popularity {
    Uniform(u32),
    /// The sums of the shares up to each.
    Zipf(Vec<f64>),
}

impl Popularity {
    fn of(workload: &Workload, count: u32) -> Self {
        match workload.clients {
            Clients::Uniform => Self::Uniform(count),
            Clients::Zipf => {
                let share = |n: u32| f64::from(n).powf(-workload.skew);
                let sums = (1..=count).scan(0.0, |sum, n| {
                    *sum += share(n);
                    Some(*sum)
                });
                Self::Zipf(sums.collect())
            }
        }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Self::Uniform(count) => (((random.next() >> 32) * u64::from(*count)) >> 32) as u32,
            Self::Zipf(sums) => {
                let reach = random.unit() * sums.last().copied().unwrap_or(0.0);
                sums.partition_point(|sum| *sum < reach) as u32
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn workload() -> Workload {
        Workload {
            rate: 100.0,
            seconds: 100.0,
            clients: Clients::Uniform,
            population: 1_000,
            skew: 1.0,
            destinations: 1,
            lifetime: Lifetime::Exp,
            mean_lifetime: 0.5,
            shape: 1.5,
            seed: 1,
        }
    }

    /// Pearson's chi-square of how often each of `count` was drawn.
    fn chi_square(clients: Clients, skew: f64, share: impl Fn(usize) -> f64) -> f64 {
        const DRAWS: usize = 100_000;
        let popularity = Popularity::of(&Workload { clients, skew, ..workload() }, 40);
        let mut random = Random::new(7, 1);
        let mut drawn = [0usize; 40];
        (0..DRAWS).for_each(|_| drawn[popularity.draw(&mut random) as usize] += 1);
        let all: f64 = (0..40).map(&share).sum();
        let part = |(n, drawn): (usize, &usize)| {
            let expected = share(n) / all * DRAWS as f64;
            (*drawn as f64 - expected).powi(2) / expected
        };
        drawn.iter().enumerate().map(part).sum()
    }

    /// What 1 in 1,000 exceeds with 39 degrees of freedom. The seed stands still.
    const BOUND: f64 = 72.1;

    #[test]
    fn clients_come_as_often_as_their_law_says() {
        let zipf = |skew: f64| move |n: usize| (n as f64 + 1.0).powf(-skew);
        for skew in [0.5, 1.0, 1.3] {
            let sum = chi_square(Clients::Zipf, skew, zipf(skew));
            assert!(sum < BOUND, "zipf {skew}: {sum}");
        }
        let sum = chi_square(Clients::Uniform, 1.0, |_| 1.0);
        assert!(sum < BOUND, "uniform: {sum}");
        let other = chi_square(Clients::Zipf, 1.0, zipf(1.1));
        assert!(other > 2.0 * BOUND, "another law would be noticed: {other}");
    }

    #[test]
    fn connections_come_in_order_and_as_often_as_told() {
        let workload = workload();
        let arrivals: Vec<Arrival> = workload.arrivals().collect();
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
        // Ten standard deviations of a Poisson process.
        assert!((arrivals.len() as f64 - 10_000.0).abs() < 1_000.0, "{}", arrivals.len());
        assert_eq!(arrivals, workload.arrivals().collect::<Vec<_>>(), "the same again");
        let work: f64 = arrivals.iter().map(|arrival| arrival.work).sum();
        let mean = work / arrivals.len() as f64 / SECOND;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
        let other: Vec<Arrival> = Workload { seed: 2, ..workload }.arrivals().collect();
        assert_ne!(arrivals, other);
    }

    #[test]
    fn clients_have_addresses_of_their_own() {
        let workload = workload();
        let sources: std::collections::HashSet<_> =
            (0..10_000).map(|client| workload.flow(client, 0, 0, 0).source).collect();
        assert_eq!(sources.len(), 10_000);
    }
}
