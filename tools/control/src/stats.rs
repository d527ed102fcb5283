//! Totals and rates of services and servers as IPVS shows them: both move on a tick of two seconds
//! only, and `-Z` subtracts (kernel: ip_vs_est.c; ip_vs_ctl.c, ip_vs_zero_stats).

use std::sync::Arc;

use uvs_engine::counters::{Traffic, TrafficTotal};
use uvs_uvsadm::api::{self, Rates, Stats};

/// Binary places of a connection or packet rate, and of a byte rate.
const COUNT_PLACES: u32 = 10;
const BYTE_PLACES: u32 = 5;

/// The figures of one service or server. It is fed on each tick and knows no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimator {
    /// What was counted up to the last tick.
    last: TrafficTotal,
    /// What `-Z` subtracts.
    zero: TrafficTotal,
    /// Averages, with [`COUNT_PLACES`] and [`BYTE_PLACES`].
    average: TrafficTotal,
}

impl Estimator {
    /// Two seconds have passed, and by now `total` was counted.
    pub fn tick(&mut self, total: TrafficTotal) {
        let Self { last, average, .. } = self;
        average.conns = average_of(average.conns, total.conns - last.conns, COUNT_PLACES);
        let packets = total.in_packets - last.in_packets;
        average.in_packets = average_of(average.in_packets, packets, COUNT_PLACES);
        let packets = total.out_packets - last.out_packets;
        average.out_packets = average_of(average.out_packets, packets, COUNT_PLACES);
        let bytes = total.in_bytes - last.in_bytes;
        average.in_bytes = average_of(average.in_bytes, bytes, BYTE_PLACES);
        let bytes = total.out_bytes - last.out_bytes;
        average.out_bytes = average_of(average.out_bytes, bytes, BYTE_PLACES);
        self.last = total;
    }

    /// Begins anew: what was shown up to now is subtracted from now on, and rates start from 0.
    pub fn zero(&mut self) {
        self.zero = self.last;
        self.average = TrafficTotal::default();
    }

    /// Totals as of the last tick.
    pub fn stats(&self) -> Stats {
        let Self { last, zero, .. } = self;
        Stats {
            conns: last.conns - zero.conns,
            in_pkts: last.in_packets - zero.in_packets,
            out_pkts: last.out_packets - zero.out_packets,
            in_bytes: last.in_bytes - zero.in_bytes,
            out_bytes: last.out_bytes - zero.out_bytes,
        }
    }

    /// Rates a second as of the last tick.
    pub fn rates(&self) -> Rates {
        let average = &self.average;
        Rates {
            cps: whole(average.conns, COUNT_PLACES),
            in_pps: whole(average.in_packets, COUNT_PLACES),
            out_pps: whole(average.out_packets, COUNT_PLACES),
            in_bps: whole(average.in_bytes, BYTE_PLACES),
            out_bps: whole(average.out_bytes, BYTE_PLACES),
        }
    }
}

/// The average, moved a quarter of the way towards the rate of the two seconds in which `count`
/// came; downwards it is rounded down, as an arithmetic shift does.
fn average_of(average: u64, count: u64, places: u32) -> u64 {
    let rate = count << (places - 1);
    average.wrapping_add_signed((rate.wrapping_sub(average) as i64) >> 2)
}

/// Rounded, a half down.
fn whole(average: u64, places: u32) -> u64 {
    (average + (1 << (places - 1)) - 1) >> places
}

/// A service's or server's counters, and what is shown of them.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) estimator: Estimator,
}

impl Meter {
    pub(crate) fn new(workers: usize) -> Self {
        Self { traffic: Arc::new(Traffic::new(workers)), estimator: Estimator::default() }
    }

    pub(crate) fn tick(&mut self) {
        self.estimator.tick(self.traffic.total());
    }
}

/// The sum over all services that ever were, worker by worker.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Services that may still count, removed ones included.
    live: Vec<Arc<Traffic>>,
    /// By worker, what removed services counted in the end.
    gone: Vec<TrafficTotal>,
    workers: Vec<Estimator>,
    sum: Estimator,
}

impl Ledger {
    /// The sum over no services yet, for `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            live: Vec::new(),
            gone: vec![TrafficTotal::default(); workers],
            workers: vec![Estimator::default(); workers],
            sum: Estimator::default(),
        }
    }

    /// Takes in new services' counters.
    pub(crate) fn follow(&mut self, new: impl IntoIterator<Item = Arc<Traffic>>) {
        self.live.extend(new);
    }

    pub(crate) fn tick(&mut self) {
        let (mut sums, gone) = (vec![TrafficTotal::default(); self.gone.len()], &mut self.gone);
        self.live.retain(|traffic| {
            // Whoever counts has a reference; without one the figures are final.
            let counts = Arc::strong_count(traffic) > 1;
            let shares = if counts { &mut sums } else { &mut *gone };
            (0..traffic.workers()).zip(shares).for_each(|(worker, share)| {
                add(share, &traffic.of(worker));
            });
            counts
        });
        let mut all = TrafficTotal::default();
        for ((sum, gone), worker) in sums.iter_mut().zip(&self.gone).zip(&mut self.workers) {
            add(sum, gone);
            worker.tick(*sum);
            add(&mut all, sum);
        }
        self.sum.tick(all);
    }

    pub(crate) fn zero(&mut self) {
        self.workers.iter_mut().for_each(Estimator::zero);
        self.sum.zero();
    }

    pub(crate) fn traffic(&self) -> api::Traffic {
        let workers = self.workers.iter().map(Estimator::stats).collect();
        api::Traffic { stats: self.sum.stats(), rates: self.sum.rates(), workers }
    }
}

fn add(sum: &mut TrafficTotal, part: &TrafficTotal) {
    sum.conns += part.conns;
    sum.in_packets += part.in_packets;
    sum.out_packets += part.out_packets;
    sum.in_bytes += part.in_bytes;
    sum.out_bytes += part.out_bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(conns: u64, in_packets: u64, in_bytes: u64) -> TrafficTotal {
        TrafficTotal { conns, in_packets, in_bytes, ..TrafficTotal::default() }
    }

    /// 200 packets of 100 bytes a second, then nothing, by hand: each step is a quarter of what is
    /// missing.
    #[test]
    fn rates_go_a_quarter_of_the_way_at_each_tick() {
        let mut estimator = Estimator::default();
        let mut shown = Vec::new();
        for tick in 1..=4 {
            estimator.tick(total(400 * tick, 400 * tick, 40_000 * tick));
            let Rates { cps, in_pps, in_bps, .. } = estimator.rates();
            shown.push((cps, in_pps, in_bps));
        }
        let expected = [(50, 50, 5000), (87, 87, 8750), (116, 116, 11_562), (137, 137, 13_672)];
        assert_eq!(shown, expected);
        estimator.tick(total(1600, 1600, 160_000));
        assert_eq!(estimator.rates().cps, 103);
        for _ in 0..100 {
            estimator.tick(total(1600, 1600, 160_000));
        }
        assert_eq!(estimator.rates(), Rates::default(), "they come to rest at 0");
    }

    /// As recorded: one packet of 40 bytes in two seconds shows as 5 bytes a second, no packet.
    #[test]
    fn one_packet_shows_in_bytes_first() {
        let mut estimator = Estimator::default();
        estimator.tick(total(0, 1, 40));
        let Rates { in_pps, in_bps, .. } = estimator.rates();
        assert_eq!((in_pps, in_bps), (0, 5));
    }

    /// The recorded series of a client that sends 400 packets in two seconds, four times. When its
    /// ticks fell nobody knows, so the first figure is taken as given.
    #[test]
    fn the_recorded_series_has_this_shape() {
        let series = [41.0f64, 83.0, 114.0, 137.0];
        for pair in series.windows(2) {
            let mut estimator = Estimator::default();
            estimator.average.conns = (pair[0] * 1024.0) as u64;
            // What it sent in those seconds, by the kernel's own next figure.
            let sent = (2.0 * (pair[0] + 4.0 * (pair[1] - pair[0]))).round() as u64;
            assert!((400..=420).contains(&sent), "{sent}");
            estimator.tick(total(sent, 0, 0));
            assert_eq!(estimator.rates().cps, pair[1] as u64);
        }
    }

    #[test]
    fn zero_subtracts_what_was_shown() {
        let mut estimator = Estimator::default();
        estimator.tick(total(4, 8, 320));
        assert_eq!(estimator.stats().in_bytes, 320);
        estimator.zero();
        assert_eq!((estimator.stats(), estimator.rates()), Default::default());
        estimator.tick(total(4, 9, 360));
        assert_eq!((estimator.stats().in_pkts, estimator.stats().in_bytes), (1, 40));
    }

    #[test]
    fn the_sum_outlives_its_services() {
        let mut ledger = Ledger::new(2);
        let (one, two) = (Arc::new(Traffic::new(2)), Arc::new(Traffic::new(2)));
        ledger.follow([one.clone(), two.clone()]);
        one.incoming(0, 100);
        two.incoming(1, 50);
        drop(one);
        ledger.tick();
        assert_eq!(ledger.live.len(), 1);
        two.incoming(1, 50);
        assert_eq!(ledger.traffic().stats.in_bytes, 150, "until the next tick");
        ledger.tick();
        let api::Traffic { stats, workers, .. } = ledger.traffic();
        assert_eq!((stats.in_bytes, stats.in_pkts), (200, 3));
        let shares: Vec<_> = workers.iter().map(|share| share.in_bytes).collect();
        assert_eq!(shares, [100, 100]);
        ledger.zero();
        assert_eq!(ledger.traffic().workers, [Stats::default(); 2]);
    }
}
