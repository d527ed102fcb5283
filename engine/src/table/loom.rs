//! Models that loom runs through every interleaving and every permitted memory order.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p uvs-engine --release --lib table::loom`
//!
//! The world is small: one slot a bucket, a few entries. What loom does not see: the inboxes
//! (crossbeam's own atomics), and more than the two or three threads of each model.

use ::loom::thread;

use super::free::FreeList;
use super::*;

const NOW: Ticks = Ticks(1000);
const LATE: Ticks = Ticks(1000 + 100);

/// A connection all of whose fields tell `client`.
fn conn(client: u16) -> NewConn {
    NewConn {
        proto: 6,
        caddr: Ipv4Addr::new(10, 0, 0, 1),
        cport: client,
        vaddr: Ipv4Addr::new(192, 0, 2, 1),
        vport: 80,
        daddr: Ipv4Addr::new(172, 16, 0, 1),
        dport: 80,
        dest: u32::from(client),
        service: u32::from(client),
        flags: 0,
        state: client as u8,
        timeout: Ticks(20),
    }
}

fn check(seen: &Conn, new: &NewConn) {
    assert_eq!((seen.in_key(), seen.dest, seen.service), (new.in_key(), new.dest, new.service));
    assert_eq!((seen.state, seen.last_seen, seen.timeout), (new.state, NOW, new.timeout));
}

fn insert(owner: &mut Owner, new: &NewConn) -> Result<Inserted, InsertError> {
    let hash = owner.table().hash_of(&new.in_key());
    owner.insert(hash, new, NOW)
}

fn insert_new(owner: &mut Owner, new: &NewConn) -> ConnId {
    match insert(owner, new) {
        Ok(Inserted::New(id)) => id,
        other => panic!("{other:?}"),
    }
}

fn find(table: &Table, new: &NewConn) -> Option<Conn> {
    table.lookup_in(table.hash_of(&new.in_key()), &new.in_key())
}

fn two(capacity: u64) -> (Arc<Table>, Owner, Owner) {
    let (table, mut owners) = Table::new(capacity, 2, NOW).unwrap();
    let second = owners.pop().unwrap();
    (table, owners.pop().unwrap(), second)
}

/// A client whose home is the same bucket as that of `client`.
fn neighbour(table: &Table, client: u16) -> u16 {
    let home = |client| table.index.home(table.hash_of(&conn(client).in_key()));
    (client + 1..).find(|&other| home(other) == home(client)).unwrap()
}

#[derive(Default)]
struct Gone(usize);

impl OnExpiry for Gone {
    fn expired(&mut self, _: &Conn) -> Verdict {
        Verdict::Remove
    }

    fn removed(&mut self, _: &Conn) {
        self.0 += 1;
    }
}

/// One of the two is New, the other names the same connection, and it is there once.
fn made_once(table: &Table, new: &NewConn, results: [Result<Inserted, InsertError>; 2]) {
    use Inserted::{Existing, New};
    let ((Ok(Existing(id)), Ok(New(same))) | (Ok(New(id)), Ok(Existing(same)))) =
        (results[0], results[1])
    else {
        panic!("{results:?}");
    };
    assert_eq!(id, same);
    assert_eq!(find(table, new).unwrap().id, id);
    assert_eq!(table.iter().filter(|conn| conn.in_key() == new.in_key()).count(), 1);
}

#[test]
fn two_inserters_of_a_key_make_one_connection() {
    ::loom::model(|| {
        let (table, mut first, mut second) = two(2);
        let other = thread::spawn(move || insert(&mut second, &conn(1)));
        let mine = insert(&mut first, &conn(1));
        made_once(&table, &conn(1), [mine, other.join().unwrap()]);
    });
}

#[test]
fn a_slot_that_falls_free_near_home_does_not_make_two() {
    ::loom::model(|| {
        let (table, mut first, mut second) = two(3);
        let old = insert_new(&mut first, &conn(neighbour(&table, 1)));
        let other = thread::spawn(move || insert(&mut second, &conn(1)));
        assert!(first.remove(old).is_some());
        let mine = insert(&mut first, &conn(1));
        made_once(&table, &conn(1), [mine, other.join().unwrap()]);
    });
}

#[test]
fn a_lookup_sees_a_whole_connection_or_none() {
    ::loom::model(|| {
        let (table, mut first, _) = two(2);
        let reader = thread::spawn(move || {
            let new = conn(1);
            let seen = find(&table, &new);
            seen.iter().for_each(|seen| check(seen, &new));
            let hash = table.hash(new.proto, new.caddr, new.cport);
            table.lookup_out(hash, &out_key(&new)).iter().for_each(|seen| check(seen, &new));
        });
        let id = insert_new(&mut first, &conn(1));
        assert_eq!(first.remove(id).unwrap().id, id);
        assert_eq!(find(first.table(), &conn(1)), None);
        reader.join().unwrap();
    });
}

fn out_key(new: &NewConn) -> OutKey {
    let NewConn { proto, caddr, cport, daddr, dport, .. } = *new;
    OutKey { proto, caddr, cport, daddr, dport }
}

#[test]
fn a_connection_that_stays_is_found_whatever_happens_beside_it() {
    ::loom::model(|| {
        let (table, mut first, _) = two(3);
        let near = insert_new(&mut first, &conn(neighbour(&table, 1)));
        let stays = insert_new(&mut first, &conn(1));
        let reader = thread::spawn(move || {
            assert_eq!(find(&table, &conn(1)).map(|conn| conn.id), Some(stays));
        });
        assert!(first.remove(near).is_some());
        insert_new(&mut first, &conn(9));
        reader.join().unwrap();
    });
}

#[test]
fn a_reader_never_mixes_two_connections_of_an_entry() {
    ::loom::model(|| {
        let (table, mut owners) = Table::new(1, 1, NOW).unwrap();
        let mut owner = owners.pop().unwrap();
        let old = insert_new(&mut owner, &conn(1));
        let reader = thread::spawn(move || {
            table.get(old).iter().for_each(|seen| check(seen, &conn(1)));
            // By the slot of the old one, perhaps, to the entry of the new one.
            find(&table, &conn(1)).iter().for_each(|seen| check(seen, &conn(1)));
            find(&table, &conn(2)).iter().for_each(|seen| check(seen, &conn(2)));
            table.iter().for_each(|seen| check(&seen, &conn(seen.cport)));
        });
        assert!(owner.remove(old).is_some());
        let new = insert_new(&mut owner, &conn(2));
        assert_eq!(new.index, old.index);
        reader.join().unwrap();
    });
}

#[test]
fn expiry_and_removal_end_a_connection_once() {
    ::loom::model(|| {
        let (table, mut owners) = Table::new(1, 1, NOW).unwrap();
        let mut owner = owners.pop().unwrap();
        let id = insert_new(&mut owner, &conn(1));
        let remover = thread::spawn({
            let table = Arc::clone(&table);
            move || usize::from(table.remove(id).is_some())
        });
        let mut gone = Gone::default();
        owner.expire(LATE, usize::MAX, &mut gone);
        assert_eq!(remover.join().unwrap() + gone.0, 1);
        // The entry comes back to its owner exactly once.
        owner.expire(LATE.after(Ticks(40)), usize::MAX, &mut gone);
        insert_new(&mut owner, &conn(2));
        assert_eq!(insert(&mut owner, &conn(3)), Err(InsertError::Full));
    });
}

#[test]
fn a_key_that_another_thread_removes_can_be_inserted_anew() {
    ::loom::model(|| {
        let (table, mut first, mut second) = two(2);
        let old = insert_new(&mut first, &conn(1));
        let remover = thread::spawn(move || first.remove(old).is_some());
        let made = insert(&mut second, &conn(1)).unwrap();
        assert!(remover.join().unwrap());
        let seen = find(&table, &conn(1)).map(|conn| conn.id);
        match made {
            Inserted::New(id) => assert_eq!(seen, Some(id)),
            Inserted::Existing(id) => assert_eq!((id, seen), (old, None)),
        }
    });
}

#[test]
fn of_two_transitions_the_last_ones_timeout_stays() {
    ::loom::model(|| {
        let (table, mut first, mut second) = two(1);
        let id = insert_new(&mut first, &conn(1));
        // Each adds one to the state; the timeout belongs to the state.
        let add = |old: State| {
            let state = old.state + 1;
            Some((State { state, ..old }, Ticks(40 + u32::from(state))))
        };
        let other = thread::spawn(move || second.transition(id, NOW, add).unwrap());
        let mine = first.transition(id, NOW, add).unwrap();
        let other = other.join().unwrap();
        assert_eq!(mine.before.state.min(other.before.state), 1);
        assert_eq!(mine.after.state.max(other.after.state), 3);
        let seen = table.get(id).unwrap();
        assert_eq!((seen.state, seen.timeout), (3, Ticks(43)));
    });
}

#[test]
fn the_free_list_gives_an_entry_to_one() {
    ::loom::model(|| {
        let entries: Arc<Vec<Entry>> = Arc::new((0..3).map(|_| Entry::default()).collect());
        let free = Arc::new(FreeList::new(3));
        free.push(&entries, 0..3);
        let other = thread::spawn({
            let (free, entries) = (Arc::clone(&free), Arc::clone(&entries));
            move || {
                let mut held = Vec::new();
                free.pop(&entries, 1, &mut held);
                held
            }
        });
        // The top goes and comes back with another one under it, while the other thread walks.
        let mut held = Vec::new();
        free.pop(&entries, 1, &mut held);
        free.pop(&entries, 1, &mut held);
        free.push(&entries, held.drain(..1));
        held.extend(other.join().unwrap());
        while free.pop(&entries, 2, &mut held) {}
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2], "each entry once");
    });
}
