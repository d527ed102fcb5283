//! The table as its users see it, and threads that use it at once.

use super::*;
use crate::address::Address;

pub(super) const START: Ticks = Ticks(u32::MAX - 5000);

/// A connection of client `client` to service `virt`, its other fields drawn from both.
pub(super) fn conn(client: u16, virt: u16) -> NewConn {
    NewConn {
        proto: 6,
        caddr: Address::from([10, 0, 0, 1]),
        cport: client,
        vaddr: Address::from([192, 0, 2, 1]),
        vport: virt,
        daddr: Address::from([172, 16, 0, 1]),
        dport: virt,
        dest: u32::from(client) << 16 | u32::from(virt),
        mark: u32::from(virt) << 16 | u32::from(client),
        flags: flag::MASQ | flag::NOOUTPUT,
        state: 1,
        timeout: Ticks(500),
        control: None,
        extra: None,
    }
}

/// The same connection of IPv6.
pub(super) fn v6(new: NewConn) -> NewConn {
    let wide = |v4: Address| {
        let [a, b, c, d] = v4.to_v4().unwrap().octets();
        Address::from([0x20, 1, 0xd, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, c, d])
    };
    NewConn { caddr: wide(new.caddr), vaddr: wide(new.vaddr), daddr: wide(new.daddr), ..new }
}

pub(super) fn out_key(new: &NewConn) -> OutKey {
    let NewConn { proto, caddr, cport, daddr, dport, .. } = *new;
    OutKey { proto, caddr, cport, daddr, dport }
}

pub(super) fn insert(
    owner: &mut Owner,
    new: &NewConn,
    now: Ticks,
) -> Result<Inserted, InsertError> {
    let hash = owner.table().hash_of(&new.in_key());
    owner.insert(hash, new, now)
}

fn insert_new(owner: &mut Owner, new: &NewConn, now: Ticks) -> ConnId {
    match insert(owner, new, now) {
        Ok(Inserted::New(id)) => id,
        other => panic!("{other:?}"),
    }
}

pub(super) fn find(table: &Table, new: &NewConn) -> Option<Conn> {
    let hash = table.hash_of(&new.in_key());
    table.lookup_in(hash, &new.in_key())
}

/// Removes what expires, and keeps the list.
#[derive(Default)]
pub(super) struct Gone(pub(super) Vec<Conn>);

impl OnExpiry for Gone {
    fn expired(&mut self, _: &Conn) -> Verdict {
        Verdict::Remove
    }

    fn removed(&mut self, conn: &Conn) {
        self.0.push(*conn);
    }
}

fn one(capacity: u64) -> (Arc<Table>, Owner) {
    let (table, mut owners) = Table::new(capacity, 1, START).unwrap();
    (table, owners.pop().unwrap())
}

fn two(capacity: u64) -> (Arc<Table>, Owner, Owner) {
    let (table, mut owners) = Table::new(capacity, 2, START).unwrap();
    let second = owners.pop().unwrap();
    (table, owners.pop().unwrap(), second)
}

#[test]
fn a_connection_is_found_from_both_sides_until_it_is_removed() {
    let (table, mut owner) = one(100);
    let new = conn(4000, 80);
    let id = insert_new(&mut owner, &new, START);
    assert_eq!(insert(&mut owner, &new, START), Ok(Inserted::Existing(id)));
    let hash = table.hash(new.proto, new.caddr, new.cport);
    let seen = table.lookup_in(hash, &new.in_key()).unwrap();
    assert_eq!((seen.id, seen.dest, seen.in_key()), (id, new.dest, new.in_key()));
    assert_eq!(table.lookup_out(hash, &out_key(&new)), Some(seen));
    assert_eq!(table.get(id), Some(seen));
    assert_eq!(table.iter().collect::<Vec<_>>(), [seen]);
    assert_eq!(table.count_in(id, 2), Some(0));
    assert_eq!(owner.remove(id).unwrap().in_packets, 2);
    assert_eq!((owner.remove(id), table.remove(id), table.get(id)), (None, None, None));
    assert_eq!((find(&table, &new), table.len(), table.iter().count()), (None, 0, 0));
    let again = insert_new(&mut owner, &new, START);
    assert_eq!((again.index, again.generation), (id.index, id.generation + 2));
    assert_eq!(table.count_in(id, 1), None);
}

#[test]
fn a_template_and_a_connection_with_the_same_ends_are_two() {
    let (table, mut owner) = one(100);
    let plain = NewConn { cport: 0, ..conn(0, 80) };
    let template = NewConn { flags: flag::TEMPLATE, ..plain };
    let first = insert_new(&mut owner, &template, START);
    assert_eq!(find(&table, &plain), None);
    let second = insert_new(&mut owner, &plain, START);
    assert_eq!(find(&table, &template).unwrap().id, first);
    assert_eq!(find(&table, &plain).unwrap().id, second);
    let hash = table.hash(plain.proto, plain.caddr, 0);
    assert_eq!(table.lookup_out(hash, &out_key(&plain)).unwrap().id, second);
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn capacity_is_filled_to_the_last_entry_and_not_beyond() {
    let (table, mut owner) = one(1000);
    for client in 0..1000 {
        insert_new(&mut owner, &conn(client, 80), START);
    }
    assert_eq!(insert(&mut owner, &conn(1000, 80), START), Err(InsertError::Full));
    assert_eq!(table.len(), 1000);
    for client in 0..1000 {
        let id = find(&table, &conn(client, 80)).unwrap().id;
        assert!(owner.remove(id).is_some());
        insert_new(&mut owner, &conn(client, 81), START);
    }
    assert_eq!(table.iter().count(), 1000);
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn one_client_port_may_have_hundreds_of_connections_and_no_more() {
    let (table, mut owner) = one(10_000);
    let made = (1..1000).take_while(|&virt| insert(&mut owner, &conn(1, virt), START).is_ok());
    assert_eq!(made.count(), 512);
    assert_eq!(insert(&mut owner, &conn(1, 999), START), Err(InsertError::Crowded));
    assert_eq!(table.len(), 512);
    assert!((1..=512).all(|virt| find(&table, &conn(1, virt)).is_some()));
    assert!(insert(&mut owner, &conn(2, 1), START).is_ok(), "its neighbours are not shut out");
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn expiry_is_exact_in_order_and_far_ahead() {
    let (table, mut owner) = one(1000);
    for client in 0..200 {
        let timeout = Ticks(u32::from(client) * 100);
        insert_new(&mut owner, &NewConn { timeout, ..conn(client, 80) }, START);
    }
    let mut gone = Gone::default();
    owner.expire(START.after(Ticks(4999)), usize::MAX, &mut gone);
    assert_eq!(gone.0.len(), 50);
    owner.expire(START.after(Ticks(5000)), usize::MAX, &mut gone);
    assert_eq!(gone.0.len(), 51, "a connection is gone at its very tick");
    owner.expire(START.after(Ticks::from_secs(86_400)), usize::MAX, &mut gone);
    let clients: Vec<u16> = gone.0.iter().map(|conn| conn.cport).collect();
    assert_eq!(clients, (0..200).collect::<Vec<_>>());
    assert!(table.is_empty() && table.iter().next().is_none());
}

#[test]
fn a_touch_puts_expiry_off() {
    let (table, mut owner) = one(10);
    let id = insert_new(&mut owner, &conn(1, 80), START);
    table.touch(id, START.after(Ticks(300)));
    let mut gone = Gone::default();
    owner.expire(START.after(Ticks(799)), usize::MAX, &mut gone);
    assert!(gone.0.is_empty());
    owner.expire(START.after(Ticks(800)), usize::MAX, &mut gone);
    assert_eq!(gone.0.len(), 1);
}

#[test]
fn expiry_works_in_portions() {
    let (table, mut owner) = one(1000);
    for client in 0..500 {
        insert_new(&mut owner, &conn(client, 80), START);
    }
    let mut gone = Gone::default();
    let late = START.after(Ticks(600));
    while owner.expire(late, 16, &mut gone) >= 16 {
        assert!(gone.0.len() % 8 == 0 && gone.0.len() + table.len() == 500);
    }
    assert_eq!(gone.0.len(), 500);
}

#[test]
fn what_the_engine_keeps_comes_again() {
    struct Twice(Vec<Conn>, u32);
    impl OnExpiry for Twice {
        fn expired(&mut self, _: &Conn) -> Verdict {
            self.1 += 1;
            if self.1 < 3 { Verdict::Keep { timeout: Ticks(70) } } else { Verdict::Remove }
        }
        fn removed(&mut self, conn: &Conn) {
            self.0.push(*conn);
        }
    }
    let (_, mut owner) = one(10);
    insert_new(&mut owner, &conn(1, 80), START);
    let mut on = Twice(Vec::new(), 0);
    owner.expire(START.after(Ticks(639)), usize::MAX, &mut on);
    assert_eq!((on.1, on.0.len()), (2, 0));
    owner.expire(START.after(Ticks(640)), usize::MAX, &mut on);
    assert_eq!((on.1, on.0[0].expires()), (3, START.after(Ticks(640))));
}

#[test]
fn a_shorter_timeout_counts_at_once_from_any_worker() {
    let (table, mut first, mut second) = two(100);
    let long = NewConn { timeout: Ticks::from_secs(900), ..conn(1, 80) };
    let mine = insert_new(&mut first, &long, START);
    let other = insert_new(&mut first, &NewConn { cport: 2, ..long }, START);
    let close = |_| Some((State { state: 9, flags: flag::INACTIVE }, Ticks(10)));
    let made = first.transition(mine, START, close).unwrap();
    assert_eq!((made.before.state, made.after.state), (1, 9));
    assert_eq!(made.after.flags, flag::INACTIVE | flag::HASHED);
    assert!(second.transition(other, START, close).is_some());
    let mut gone = Gone::default();
    first.expire(START.after(Ticks(10)), usize::MAX, &mut gone);
    assert_eq!((gone.0.len(), table.len()), (2, 0));
    assert_eq!(first.transition(mine, START, close), None);
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn an_entry_that_another_worker_emptied_goes_back_to_its_owner() {
    let (table, mut first, mut second) = two(64);
    let mut gone = Gone::default();
    for round in 0..10_u16 {
        let mut ids = Vec::new();
        while let Ok(Inserted::New(id)) = insert(&mut first, &conn(ids.len() as u16, round), START)
        {
            ids.push(id);
        }
        assert!(ids.len() >= 64 - 4, "no entry is lost: {} in round {round}", ids.len());
        for (at, id) in ids.into_iter().enumerate() {
            let removed = if at % 2 == 0 { second.remove(id) } else { table.remove(id) };
            assert_eq!(removed.unwrap().id, id);
            let anew = conn(at as u16, round);
            assert_eq!(find(&table, &anew), None);
        }
        first.expire(START, usize::MAX, &mut gone);
    }
    assert!(gone.0.is_empty() && table.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn a_full_inbox_only_delays() {
    const COUNT: u16 = 6000;
    let (table, mut first, mut second) = two(10_000);
    let ids: Vec<ConnId> =
        (0..COUNT).map(|client| insert_new(&mut first, &conn(client, 80), START)).collect();
    assert!(ids.into_iter().all(|id| second.remove(id).is_some()));
    assert!(table.inboxes[0].is_full());
    let mut gone = Gone::default();
    first.expire(START.after(Ticks::from_secs(60)), usize::MAX, &mut gone);
    assert_eq!(gone.0.len(), 0);
    for entry in &table.entries[..usize::from(COUNT)] {
        assert_eq!(entry.life(), (2, entry::Life::Free));
    }
}

#[test]
fn capacities_that_cannot_be_are_refused_in_words() {
    let text = |result: Result<usize, CapacityError>| result.unwrap_err().to_string();
    assert!(text(Table::check(0, 1, u64::MAX)).contains("at least 1"));
    assert!(text(Table::check(CAPACITY_MAX + 1, 1, u64::MAX)).contains("2147483649"));
    assert!(text(Table::check(u64::MAX, 1, u64::MAX)).contains("at most"));
    assert!(text(Table::check(1, 0, u64::MAX)).contains("workers"));
    assert!(text(Table::check(1, 257, u64::MAX)).contains("257"));
    assert!(Table::check(CAPACITY_MAX, 256, u64::MAX).is_ok());
    let Err(CapacityError::Memory { fits, available, .. }) = Table::check(1 << 30, 2, 1 << 30)
    else {
        panic!("1 GB does not hold 2^30 connections");
    };
    assert!(Table::check(fits, 2, available).is_ok());
    assert!(Table::check(fits + fits / 100, 2, available).is_err());
}

#[test]
#[cfg_attr(miri, ignore = "too large for Miri")]
fn memory_is_what_the_design_says() {
    let (table, _) = one(1_000_000);
    let lines = (size_of::<Entry>() + size_of::<Wide>()) as u64;
    // Lines come as they are used; the rest is there for all that the table can hold.
    let rest = (table.memory() - 1_000_000 * lines) as f64 / 800_000.0;
    assert!(64.0 + rest <= 88.0, "{rest} bytes beside the line of a v4 connection, at 80 %");
    assert!(128.0 + rest <= 160.0, "{rest} bytes beside the lines of a v6 connection, at 80 %");
}

#[test]
fn an_inserter_that_sleeps_holds_up_nobody() {
    let (table, mut first, _) = two(100);
    let new = conn(1, 80);
    let hash = table.hash_of(&new.in_key());
    // What a thread leaves that is put to sleep between its pending slot and its commit.
    table.entries[99].fill(&table.wide[99], &new, 1, START);
    let ends = ((new.vaddr, new.vport), (new.daddr, new.dport));
    let content = index::Content::pending(hash, 99, ends.0, ends.1);
    let spot = table.index.place(hash, content).unwrap();
    assert_eq!(find(&table, &new), None);
    let id = insert_new(&mut first, &new, START);
    assert!(!table.index.commit(spot, content), "the sleeper starts over");
    table.index.withdraw(hash, spot, content);
    assert_eq!(table.enter(hash, 99, &new), Ok(Some(id)));
    assert_eq!(table.iter().count(), 1);
}

/// Rounds of the thread tests; Miri is slow.
const ROUNDS: u16 = if cfg!(miri) { 2 } else { 40 };

#[test]
fn threads_insert_each_connection_once() {
    const KEYS: u16 = if cfg!(miri) { 8 } else { 500 };
    for round in 0..ROUNDS {
        // Tight: all keys share few buckets, many share one client port.
        let (table, owners) = Table::new(u64::from(4 * KEYS), 4, START).unwrap();
        let barrier = std::sync::Barrier::new(4);
        let run = |mut owner: Owner| {
            barrier.wait();
            let made = |key| insert(&mut owner, &conn(key / 16, key % 16), START).unwrap();
            (0..KEYS).map(made).collect::<Vec<_>>()
        };
        let all: Vec<Vec<Inserted>> = std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> =
                owners.into_iter().map(|owner| scope.spawn(move || run(owner))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for key in 0..usize::from(KEYS) {
            let mut new = 0;
            let ids = all.iter().map(|made| match made[key] {
                Inserted::New(id) => {
                    new += 1;
                    id
                }
                Inserted::Existing(id) => id,
            });
            let ids: std::collections::HashSet<ConnId> = ids.collect();
            assert_eq!((ids.len(), new), (1, 1), "key {key} in round {round}");
        }
        assert_eq!((table.len(), table.iter().count()), (usize::from(KEYS), usize::from(KEYS)));
    }
}

/// A small generator of random numbers, the same in every run (Marsaglia's xorshift).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn threads_insert_find_remove_and_expire_at_once() {
    const STEPS: u32 = if cfg!(miri) { 40 } else { 300_000 };
    let (table, owners) = Table::new(200, 3, START).unwrap();
    let run = |mut owner: Owner| {
        let mut seed = 77 + u64::from(owner.worker());
        let (mut made, mut ended, mut gone) = (0, 0, Gone::default());
        for step in 0..STEPS {
            let draw = random(&mut seed);
            let key = conn((draw >> 8) as u16 % 16, (draw >> 16) as u16 % 8);
            let now = START.after(Ticks(step / 64));
            match draw % 8 {
                0..3 => {
                    let timeout = Ticks((draw >> 32) as u32 % 20);
                    let new = NewConn { timeout, ..key };
                    made +=
                        usize::from(matches!(insert(&mut owner, &new, now), Ok(Inserted::New(_))));
                }
                3..6 => {
                    let Some(seen) = find(owner.table(), &key) else { continue };
                    assert_eq!((seen.in_key(), seen.dest), (key.in_key(), key.dest));
                    owner.table().touch(seen.id, now);
                    owner.transition(seen.id, now, |state| Some((state, Ticks(step % 20))));
                    if draw % 8 == 5 {
                        ended += usize::from(owner.remove(seen.id).is_some());
                    }
                }
                6 => {
                    let seen = owner.table().lookup_out(
                        owner.table().hash(key.proto, key.caddr, key.cport),
                        &out_key(&key),
                    );
                    assert!(seen.is_none_or(|seen| seen.mark == key.mark));
                }
                _ => {
                    owner.expire(now, 8, &mut gone);
                }
            }
        }
        (owner, made, ended + gone.0.len())
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = owners.into_iter().map(|owner| scope.spawn(|| run(owner))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made: usize = done.iter().map(|(_, made, _)| made).sum();
    let ended: usize = done.iter().map(|(_, _, ended)| ended).sum();
    assert_eq!(table.len(), made - ended);
    assert_eq!(table.iter().count(), made - ended);
    let mut gone = Gone::default();
    for (mut owner, ..) in done {
        owner.expire(START.after(Ticks::from_secs(3600)), usize::MAX, &mut gone);
    }
    assert_eq!((gone.0.len(), table.len()), (made - ended, 0));
    assert!(table.entries.iter().all(|entry| entry.life().1 == entry::Life::Free));
}
