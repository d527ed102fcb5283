//! The schedulers under real threads.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use uvs_sched::walk::Walk;
use uvs_sched::{Flags, Flow, Load, Name, Scheduler, Server, ServerId, Servers};

fn servers(weights: impl IntoIterator<Item = u32>) -> Servers {
    let server = |(number, weight): (u32, u32)| Server {
        id: ServerId(number),
        address: Ipv4Addr::from_bits(0x0a00_0000 + number).into(),
        port: 80,
        weight,
        last_weight: weight,
        load: Arc::new(Load::default()),
    };
    (1..).zip(weights).map(server).collect()
}

fn flow(n: u64) -> Flow {
    Flow {
        protocol: 6,
        source: [10, 0, 0, 1].into(),
        source_port: 1024,
        destination: Ipv4Addr::from_bits(0x0a09_0000 + n as u32 % 30).into(),
        destination_port: 80,
        now: n as u32,
    }
}

/// Once all threads are done, nothing of what they did at the same time is forgotten.
#[test]
fn a_storm_leaves_the_truth() {
    let list = servers((0..137).map(|n| 1 + n % 9));
    for name in [Name::Lc, Name::Wlc, Name::Sed, Name::Nq, Name::Fo, Name::Ovf, Name::Rr] {
        let scheduler = Scheduler::build(name, list.clone(), Flags::default());
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let (scheduler, list) = (&scheduler, &list);
                scope.spawn(move || storm(scheduler, list, seed));
            }
        });
        let mut walk = Walk::new(name, list.clone());
        if name == Name::Rr {
            // Where its cursor stands is chance; which servers it passes is not.
            let at = scheduler.pick(&flow(0)).unwrap();
            while walk.pick(&flow(0)) != Some(at) {}
        }
        for n in 0..500 {
            let picked = scheduler.pick(&flow(n));
            assert_eq!(picked, walk.pick(&flow(n)), "{name}, {n}");
            let Some(at) = picked else { continue };
            list[at].load.open(true);
            scheduler.changed(at);
        }
    }
}

fn storm(scheduler: &Scheduler, list: &Servers, seed: u64) {
    let mut conns: Vec<usize> = Vec::new();
    let mut dice = seed;
    for n in 0..30_000u64 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let roll = (dice >> 33) as usize;
        let at = match roll % 8 {
            0 => {
                let at = roll / 8 % list.len();
                list[at].load.set_overloaded(roll & 4096 == 0);
                at
            }
            1..4 if !conns.is_empty() => {
                let at = conns.swap_remove(roll / 8 % conns.len());
                list[at].load.close(true);
                at
            }
            _ => {
                let Some(at) = scheduler.pick(&flow(n)) else { continue };
                list[at].load.open(true);
                conns.push(at);
                at
            }
        };
        scheduler.changed(at);
    }
}

#[test]
fn every_scheduler_serves_many_threads() {
    for &name in Name::ALL {
        let list = servers((0..40).map(|n| n % 9));
        let scheduler = Scheduler::build(name, list.clone(), Flags { port: true, fallback: true });
        std::thread::scope(|scope| {
            for seed in 1..=3 {
                let (scheduler, list) = (&scheduler, &list);
                scope.spawn(move || storm(scheduler, list, seed));
            }
            scope.spawn(|| (0..200).for_each(|second| scheduler.tick(second * 100_000)));
            scope.spawn(|| (0..20).for_each(|_| scheduler.refresh()));
        });
        list.iter().for_each(|server| server.load.set_overloaded(false));
        scheduler.refresh();
        if name != Name::Ovf {
            let picked = scheduler.pick(&flow(1)).unwrap();
            assert!(list[picked].weight > 0, "{name}");
        }
    }
}

#[test]
fn rr_gives_equal_servers_equal_shares_whoever_picks() {
    for count in [1, 7, 64, 1000] {
        let list = servers(std::iter::repeat_n(1, count));
        let scheduler = Scheduler::build(Name::Rr, list, Flags::default());
        let picked: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        // At any number of picks: the threads meet after each round.
        for picks in [1, 3, 1_000, 7_777] {
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (scheduler, picked) = (&scheduler, &picked);
                    scope.spawn(move || {
                        for _ in 0..picks + thread {
                            let at = scheduler.pick(&flow(0)).unwrap();
                            picked[at].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            let counts = picked.iter().map(|count| count.load(Ordering::Relaxed));
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            assert!(most - least <= 1, "{count} servers: {least} to {most}");
        }
    }
}
