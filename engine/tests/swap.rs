//! A newer configuration while workers run (INV-6): they never wait for it and never free one.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use uvs_engine::snapshot::Snapshot;
use uvs_forward::Method;
use uvs_forward::wire::{protocol, tcp::flag as tcp_flag};

use support::{Config, Lab, Real, Virtual, request, syn};

/// Keeps an eye on the newest snapshot without keeping it.
fn watch(lab: &Lab) -> Weak<Snapshot> {
    Arc::downgrade(&lab.published.current())
}

#[test]
fn the_publisher_frees_what_no_worker_uses() {
    let mut lab = Lab::with(Config::one(protocol::TCP, Method::Route), 2, 64);
    let first = watch(&lab);
    lab.publish();
    assert!(!lab.published.settled() && first.strong_count() > 0, "both workers use it");
    let second = watch(&lab);
    lab.workers[0].turn();
    lab.publish();
    assert!(first.strong_count() > 0, "worker 1 still uses the first");
    assert!(second.strong_count() > 0, "and worker 0 the second");
    lab.run();
    assert_eq!((first.strong_count(), second.strong_count()), (1, 1), "no worker frees one");
    assert!(lab.published.settled());
    assert_eq!((first.strong_count(), second.strong_count()), (0, 0));
}

#[test]
fn a_snapshot_that_no_worker_ever_used_is_freed_at_once() {
    let lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    lab.publish();
    let skipped = watch(&lab);
    lab.publish();
    assert_eq!(skipped.strong_count(), 0);
}

/// Traffic on two cores while weights, servers and neighbours change: nothing is lost, no
/// connection moves to another server, and at the end all old snapshots are gone.
#[test]
fn workers_run_while_the_configuration_changes() {
    const FLOWS: u16 = 200;
    const CHANGES: usize = 300;
    let reals = (1..=4).map(|n| Real::new(n, Method::Route)).collect();
    let config = Config::new(vec![Virtual::new(protocol::TCP, 1, reals)]);
    let mut lab = Lab::with(config, 2, 4096);
    let published = lab.published.clone();
    let config = lab.config.clone();
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let weaks = thread::scope(|scope| {
        for (worker, engine) in lab.workers.iter_mut().enumerate() {
            let (done, rounds) = (&done, &rounds);
            scope.spawn(move || {
                let mut servers = vec![None; usize::from(FLOWS)];
                while !done.load(Ordering::Relaxed) {
                    for n in 0..FLOWS {
                        let n = 2 * n + worker as u16;
                        let flags = if servers[usize::from(n / 2)].is_none() {
                            tcp_flag::SYN
                        } else {
                            tcp_flag::ACK
                        };
                        let packet = request(protocol::TCP, flags, n, 1);
                        assert!(engine.port().inject(packet.link, &packet.bytes()));
                        engine.turn();
                        let sent = engine.port().collect(|_, frame| frame[5]);
                        let server = sent.expect("every packet is forwarded");
                        assert_eq!(*servers[usize::from(n / 2)].get_or_insert(server), server);
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut config = config;
        let mut weaks = Vec::new();
        for change in 0..CHANGES {
            // Of four servers one at a time takes nothing new; none is ever removed.
            for (at, real) in config.virtuals[0].reals.iter_mut().enumerate() {
                real.weight = u32::from(change % 4 != at);
            }
            weaks.push(Arc::downgrade(&published.current()));
            published.publish(config.snapshot());
            thread::yield_now();
        }
        while rounds.load(Ordering::Relaxed) < 6 {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        weaks
    });
    lab.run();
    assert!(lab.published.settled());
    assert!(weaks.iter().all(|weak| weak.strong_count() == 0));
    assert_eq!(lab.table.len(), 2 * usize::from(FLOWS));
    lab.check();
}

/// A worker that dies after its engine's control plane takes the last snapshot with it, and that
/// is all right.
#[test]
fn the_last_worker_outlives_the_publisher() {
    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Route));
    let weak = watch(&lab);
    let mut engine = lab.workers.remove(0);
    drop(lab);
    engine.port().inject(syn(0).link, &syn(0).bytes());
    assert_eq!(engine.turn(), 1);
    drop(engine);
    assert_eq!(weak.strong_count(), 0);
}
