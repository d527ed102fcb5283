//! Models that loom runs through every interleaving and every permitted memory order.
//!
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p uvs-engine --release --lib table::loom`
//!
//! The world is small: one slot a bucket, a few entries. What loom does not see: the inboxes
//! (crossbeam's own atomics), and more than the two or three threads of each model.

use ::loom::thread;

use super::entry::{Entry, Wide};
use super::free::FreeList;
use super::*;
use crate::address::Address;

const NOW: Ticks = Ticks(1000);
const LATE: Ticks = Ticks(1000 + 100);

/// A connection all of whose fields tell `client`.
fn conn(client: u16) -> NewConn {
    NewConn {
        proto: 6,
        caddr: Address::from([10, 0, 0, 1]),
        cport: client,
        vaddr: Address::from([192, 0, 2, 1]),
        vport: 80,
        daddr: Address::from([172, 16, 0, 1]),
        dport: 80,
        dest: u32::from(client),
        mark: u32::from(client),
        flags: 0,
        state: client as u8,
        timeout: Ticks(20),
        control: None,
        extra: None,
    }
}

/// The same of IPv6, with extra words.
fn wide(client: u16) -> NewConn {
    let address =
        |end: u8| Address::from([0x20, 1, end, client as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
    let (caddr, vaddr, daddr) = (address(1), address(2), address(3));
    NewConn { caddr, vaddr, daddr, extra: Some([u64::from(client); 2]), ..conn(client) }
}

fn check(seen: &Conn, new: &NewConn) {
    assert_eq!(seen.daddr, new.daddr);
    assert_eq!((seen.in_key(), seen.dest, seen.mark), (new.in_key(), new.dest, new.mark));
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
    fn expired(&mut self, conn: &Conn) -> Verdict {
        match conn.children {
            0 => Verdict::Remove,
            _ => Verdict::Keep { timeout: Ticks(30) },
        }
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

/// One look of a reader at the table, beside the reuse of the entry of a connection: the old one's
/// name, and what takes its place. A model each: together they would have too many orders.
type Look = fn(&Table, ConnId, &NewConn);

#[test]
fn a_reader_never_mixes_two_connections_of_an_entry() {
    let looks: [Look; 4] = [
        |table, old, _| table.get(old).iter().for_each(|seen| check(seen, &conn(1))),
        // By the slot of the old one, perhaps, to the entry of the new one.
        |table, _, _| find(table, &conn(1)).iter().for_each(|seen| check(seen, &conn(1))),
        |table, _, new| find(table, new).iter().for_each(|seen| check(seen, new)),
        |table, _, _| table.iter().for_each(|seen| check(&seen, &conn(seen.cport))),
    ];
    looks.iter().for_each(|look| reuse_beside(*look, conn(1), conn(2)));
}

fn reuse_beside(look: Look, old: NewConn, new: NewConn) {
    ::loom::model(move || {
        let (table, mut owners) = Table::new(1, 1, NOW).unwrap();
        let mut owner = owners.pop().unwrap();
        let id = insert_new(&mut owner, &old);
        let reader = thread::spawn(move || look(&table, id, &new));
        assert!(owner.remove(id).is_some());
        assert_eq!(insert_new(&mut owner, &new).index, id.index);
        reader.join().unwrap();
    });
}

/// Two lines have too many words for a whole table about them: the model is the entry alone.
#[test]
fn a_reader_never_mixes_the_lines_of_two_connections() {
    for new in [wide(2), conn(2)] {
        ::loom::model(move || {
            let lines = Arc::new((Entry::default(), Wide::default()));
            lines.0.fill(&lines.1, &wide(1), 0, NOW);
            let reader = thread::spawn({
                let lines = Arc::clone(&lines);
                move || {
                    let Some(words) = lines.0.read(&lines.1) else { return };
                    let seen = words.conn(0);
                    check(&seen, &if seen.cport == 1 { wide(1) } else { new });
                }
            });
            let (entry, second) = &*lines;
            assert!(entry.leave(entry.read(second).unwrap()).is_some());
            entry.left();
            entry.release();
            entry.fill(second, &new, 0, NOW);
            reader.join().unwrap();
        });
    }
}

#[test]
fn a_touch_that_says_so_keeps_the_connection() {
    ::loom::model(|| {
        let (table, mut owners) = Table::new(1, 1, NOW).unwrap();
        let mut owner = owners.pop().unwrap();
        let id = insert_new(&mut owner, &conn(1));
        // At the very tick of its expiry.
        let end = NOW.after(conn(1).timeout);
        let toucher = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let touched = table.touch(id, end);
                assert_eq!(table.get(id).is_some(), touched);
                assert_eq!(find(&table, &conn(1)).is_some(), touched);
                touched
            }
        });
        let mut gone = Gone::default();
        owner.expire(end, usize::MAX, &mut gone);
        let touched = toucher.join().unwrap();
        assert_eq!(gone.0, usize::from(!touched));
        assert_eq!(table.get(id).map(|conn| conn.last_seen), touched.then_some(end));
        owner.expire(end.after(Ticks(60)), usize::MAX, &mut gone);
        assert_eq!((gone.0, table.len()), (1, 0));
    });
}

#[test]
fn a_template_does_not_expire_under_its_connection() {
    ::loom::model(|| {
        let (table, mut owners) = Table::new(1, 1, NOW).unwrap();
        let mut owner = owners.pop().unwrap();
        let id = insert_new(&mut owner, &NewConn { flags: flag::TEMPLATE, ..conn(1) });
        let end = NOW.after(conn(1).timeout);
        let adopter = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let adopted = table.adopt(id, end);
                assert_eq!(table.get(id).map(|conn| conn.children), adopted.then_some(1));
                adopted
            }
        });
        let mut gone = Gone::default();
        owner.expire(end, usize::MAX, &mut gone);
        let adopted = adopter.join().unwrap();
        assert_eq!(gone.0, usize::from(!adopted));
        assert_eq!(table.orphan(id), adopted.then_some(0));
        owner.expire(end.after(Ticks(100)), usize::MAX, &mut gone);
        assert_eq!((gone.0, table.len()), (1, 0));
    });
}

#[test]
fn of_two_connections_that_leave_a_template_one_is_the_last() {
    ::loom::model(|| {
        let (table, mut first, _) = two(2);
        let id = insert_new(&mut first, &NewConn { flags: flag::TEMPLATE, ..conn(1) });
        assert!(table.adopt(id, NOW));
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || (table.adopt(id, NOW), table.orphan(id))
        });
        let mine = table.orphan(id);
        let (adopted, its) = other.join().unwrap();
        assert!(adopted && [mine, its].contains(&Some(0)));
        assert_eq!(table.get(id).map(|conn| conn.children), Some(0));
    });
}

#[test]
fn who_comes_late_does_not_change_the_next_connection() {
    ::loom::model(|| {
        let (table, mut first, mut second) = two(1);
        let id = insert_new(&mut first, &NewConn { flags: flag::TEMPLATE, ..conn(1) });
        let late = thread::spawn(move || {
            table.adopt(id, LATE);
            let to = |state| Some((state, Ticks(99)));
            second.transition(id, NOW, to);
            table.touch(id, LATE);
            table.orphan(id);
        });
        assert!(first.remove(id).is_some());
        // Of the same tick and timeout, and of a template that has the late one's generation.
        let control = Some(ConnId { index: 5, generation: id.generation });
        let next = NewConn { control, ..conn(2) };
        let next_id = insert_new(&mut first, &next);
        assert_eq!(next_id.index, id.index);
        late.join().unwrap();
        let seen = first.table().get(next_id).unwrap();
        check(&seen, &next);
        assert_eq!(seen.control, control);
    });
}

#[test]
fn a_template_is_marked_and_given_a_timeout_at_once() {
    ::loom::model(|| {
        let (table, mut first, _) = two(1);
        let id = insert_new(&mut first, &NewConn { flags: flag::TEMPLATE, ..conn(0) });
        let marker = thread::spawn({
            let table = Arc::clone(&table);
            move || assert!(table.mark_state(id, 4) && table.retire(id))
        });
        first.transition(id, NOW, |state| Some((state, Ticks(7)))).unwrap();
        marker.join().unwrap();
        let seen = table.get(id).unwrap();
        assert_eq!((seen.state, seen.timeout), (4, Ticks(7)));
        assert!(seen.flags & flag::STALE != 0);
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
        let free = Arc::new(FreeList::new(3, 2).unwrap());
        let mut held = Vec::new();
        while held.len() < 3 {
            free.draw(&mut held);
        }
        held.drain(..).for_each(|entry| free.put(&[entry]));
        let other = thread::spawn({
            let free = Arc::clone(&free);
            move || {
                let mut held = Vec::new();
                free.draw(&mut held);
                held
            }
        });
        // The top goes and comes back with another one under it, while the other thread looks.
        free.draw(&mut held);
        free.draw(&mut held);
        free.put(&[held.remove(0)]);
        held.extend(other.join().unwrap());
        for _ in 0..3 {
            free.draw(&mut held);
        }
        held.sort_unstable();
        assert_eq!(held, [0, 1, 2], "each entry once");
    });
}
