//! Models that loom runs through every interleaving and every permitted memory order.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p uvs-sched --release --lib loom`
//!
//! The world is small: blocks of two, homes of one slot, a pool of three nodes. What loom does not
//! see: more than the two threads of a model (three with the one that checks), and the one order
//! of SeqCst accesses, in the place of which it gets fences (`sync.rs`).

use std::sync::Arc;

use ::loom::thread;

use crate::cache::Cache;
use crate::lblc::One;
use crate::server::tests::servers;
use crate::set::{Pool, Set};
use crate::tests::{flow, open, overload};
use crate::{Flags, Lblc, Rr, Schedule, Servers, Twos, Wlc, Wrr, walk};

/// Runs both on threads of their own, to their ends.
fn both(one: impl Fn() + Send + Sync + 'static, other: impl Fn() + Send + Sync + 'static) {
    let threads = [thread::spawn(one), thread::spawn(other)];
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What two threads do to loads, each told to wlc; then the pick is the walk's.
fn wlc_is_right_after(
    weights: &'static [u32],
    one: impl Fn(&Wlc, &Servers) + Copy + Send + Sync + 'static,
    other: impl Fn(&Wlc, &Servers) + Copy + Send + Sync + 'static,
) {
    ::loom::model(move || {
        let list = servers(weights);
        let wlc = Arc::new(Wlc::build(list.clone(), Flags::default()));
        let (its, others) = ((wlc.clone(), list.clone()), (wlc.clone(), list.clone()));
        both(move || one(&its.0, &its.1), move || other(&others.0, &others.1));
        let least = walk::least(&list, |s| (s.load.overhead(), s.weight.into()));
        assert_eq!(wlc.pick(&flow()), least);
    });
}

#[test]
fn neighbours_change_at_once() {
    wlc_is_right_after(
        &[1, 1, 1],
        |wlc, list| open(wlc, list, 0, true),
        |wlc, list| open(wlc, list, 1, true),
    );
}

#[test]
fn one_server_changes_twice_at_once() {
    wlc_is_right_after(
        &[1, 1, 1],
        |wlc, list| open(wlc, list, 0, true),
        |wlc, list| {
            list[0].load.close(true);
            wlc.changed(0);
        },
    );
}

#[test]
fn a_server_goes_there_and_back_while_another_changes_it() {
    wlc_is_right_after(
        &[1, 1],
        |wlc, list| {
            overload(wlc, list, 0, true);
            overload(wlc, list, 0, false);
        },
        |wlc, list| open(wlc, list, 0, false),
    );
}

#[test]
fn changes_meet_further_up() {
    wlc_is_right_after(
        &[1, 1, 1, 1, 1],
        |wlc, list| open(wlc, list, 0, true),
        |wlc, list| open(wlc, list, 2, true),
    );
}

#[test]
fn a_load_sinks_beside_one_that_rises() {
    ::loom::model(|| {
        let list = servers(&[1, 1, 1]);
        list[1].load.open(true);
        list[2].load.open(true);
        let wlc = Arc::new(Wlc::build(list.clone(), Flags::default()));
        let (its, others) = ((wlc.clone(), list.clone()), (wlc.clone(), list.clone()));
        both(
            move || open(&*its.0, &its.1, 0, true),
            move || {
                others.1[1].load.close(true);
                others.0.changed(1);
            },
        );
        assert_eq!(wlc.pick(&flow()), Some(1));
    });
}

#[test]
fn a_pick_beside_a_change_finds_a_server() {
    ::loom::model(|| {
        let list = servers(&[1, 1, 1]);
        let wlc = Arc::new(Wlc::build(list.clone(), Flags::default()));
        let (its, others) = ((wlc.clone(), list.clone()), wlc.clone());
        both(
            move || overload(&*its.0, &its.1, 0, true),
            move || assert!(others.pick(&flow()).is_some()),
        );
        assert_eq!(wlc.pick(&flow()), Some(1));
    });
}

#[test]
fn a_refresh_beside_changes_leaves_nothing_old() {
    ::loom::model(|| {
        let list = servers(&[1, 1]);
        let wlc = Arc::new(Wlc::build(list.clone(), Flags::default()));
        // Told to the scheduler before this one.
        list[0].load.open(true);
        let (its, others) = (wlc.clone(), (wlc.clone(), list.clone()));
        both(move || its.refresh(), move || open(&*others.0, &others.1, 1, false));
        assert_eq!(wlc.pick(&flow()), Some(1));
    });
}

#[test]
fn sums_are_right_after_changes_at_once() {
    ::loom::model(|| {
        let list = servers(&[1, 1, 1]);
        let twos = Arc::new(Twos::build(list.clone(), Flags::default()));
        let (its, others) = ((twos.clone(), list.clone()), (twos.clone(), list.clone()));
        both(
            move || overload(&*its.0, &its.1, 0, true),
            move || overload(&*others.0, &others.1, 1, true),
        );
        assert_eq!(twos.pick(&flow()), Some(2));
    });
}

#[test]
fn the_cursor_of_rr_is_one() {
    ::loom::model(|| {
        let rr = Arc::new(Rr::build(servers(&[1, 1, 1]), Flags::default()));
        let picks = [rr.clone(), rr.clone()].map(|rr| thread::spawn(move || rr.pick(&flow())));
        let mut picks = picks.map(|pick| pick.join().unwrap());
        picks.sort();
        assert_eq!(picks, [Some(0), Some(1)]);
        assert_eq!(rr.pick(&flow()), Some(2));
    });
}

#[test]
fn the_cursor_of_wrr_is_one() {
    ::loom::model(|| {
        let wrr = Arc::new(Wrr::build(servers(&[2, 1]), Flags::default()));
        let picks = [wrr.clone(), wrr.clone()].map(|wrr| thread::spawn(move || wrr.pick(&flow())));
        let picks = picks.map(|pick| pick.join().unwrap());
        assert_eq!(picks, [Some(0), Some(0)]);
        assert_eq!(wrr.pick(&flow()), Some(1));
    });
}

#[test]
fn an_address_that_two_insert_has_one_entry() {
    ::loom::model(|| {
        let cache = Arc::new(Cache::<One>::new());
        let key = cache.key(flow().destination);
        let insert = |cache: Arc<Cache<One>>| move || assert!(cache.insert(key, 1).is_some());
        both(insert(cache.clone()), insert(cache.clone()));
        assert_eq!(cache.len(), 1);
    });
}

#[test]
fn an_address_that_two_ask_for_has_one_server_then() {
    ::loom::model(|| {
        let list = servers(&[5]);
        let lblc = Arc::new(Lblc::build(list, Flags::default()));
        let (its, others) = (lblc.clone(), lblc.clone());
        both(
            move || assert_eq!(its.pick(&flow()), Some(0)),
            move || assert_eq!(others.pick(&flow()), Some(0)),
        );
        assert_eq!(lblc.pick(&flow()), Some(0));
    });
}

/// The members of a set that nobody changes.
fn members(set: &Set, pool: &Pool) -> Vec<u32> {
    set.look(pool, |members| members.collect()).unwrap().1
}

fn insert(set: &Set, pool: &Pool, number: u32) {
    let look = set.look(pool, |mut members| members.any(|member| member == number));
    if let Some((seen, false)) = look {
        set.insert(pool, seen, number, 1);
    }
}

#[test]
fn a_set_has_what_a_claim_gave_it() {
    ::loom::model(|| {
        let both_of = Arc::new((Set::default(), Pool::default()));
        let (its, others) = (both_of.clone(), both_of.clone());
        both(move || insert(&its.0, &its.1, 7), move || insert(&others.0, &others.1, 8));
        let (set, pool) = &*both_of;
        let members = members(set, pool);
        assert!([&[7][..], &[8], &[7, 8], &[8, 7]].contains(&&members[..]), "{members:?}");
        assert_eq!(pool.servers().count(), members.len());
    });
}

#[test]
fn a_look_sees_the_nodes_of_its_state() {
    ::loom::model(|| {
        let world = Arc::new((Set::default(), Pool::default()));
        insert(&world.0, &world.1, 6);
        let (changing, looking) = (world.clone(), world.clone());
        both(
            move || insert(&changing.0, &changing.1, 7),
            move || {
                let look = looking.0.look(&looking.1, |members| members.collect::<Vec<_>>());
                if let Some((_, members)) = look {
                    assert!(members == [6] || members == [7, 6], "{members:?}");
                }
            },
        );
    });
}

#[test]
fn a_look_never_mixes_two_sets() {
    ::loom::model(|| {
        // One set gives a node back, and the other takes it.
        let world = Arc::new((Set::default(), Set::default(), Pool::default()));
        (6..9).for_each(|number| insert(&world.0, &world.2, number));
        let (changing, looking) = (world.clone(), world.clone());
        both(
            move || {
                let (one, other, pool) = &*changing;
                if let Some((seen, ())) = one.look(pool, |_| ()) {
                    one.remove(pool, seen, 8, 2);
                }
                insert(other, pool, 5);
            },
            move || {
                let (one, _, pool) = &*looking;
                if let Some((_, members)) = one.look(pool, |members| members.collect::<Vec<_>>()) {
                    assert!(members == [8, 7, 6] || members == [7, 6], "{members:?}");
                }
            },
        );
        assert_eq!(members(&world.1, &world.2), [5]);
    });
}
