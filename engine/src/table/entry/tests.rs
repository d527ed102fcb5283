use std::net::Ipv4Addr;

use super::*;
use crate::table::conn::{ConnId, InKey};

const NEW: NewConn = NewConn {
    proto: 6,
    caddr: Address::v4(Ipv4Addr::new(10, 1, 2, 3)),
    cport: 0x1234,
    vaddr: Address::v4(Ipv4Addr::new(192, 168, 4, 5)),
    vport: 0x5678,
    daddr: Address::v4(Ipv4Addr::new(172, 16, 6, 7)),
    dport: 0x9abc,
    dest: 0xdddd_dddd,
    mark: 0xeeee_eeee,
    flags: !flag::TEMPLATE,
    state: 0xab,
    timeout: Ticks(0x0102_0304),
    control: Some(ConnId { index: 0xaaaa, generation: 0xbbbc }),
    extra: None,
};

#[test]
fn every_field_comes_back() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &NEW, 0xcd, Ticks(0xf1f2_f3f4));
    entry.count_in(u32::MAX);
    assert_eq!(entry.count_in(3), u32::MAX);
    let conn = entry.read(&Wide::default()).unwrap().conn(9);
    assert_eq!(
        (conn.id, conn.proto, conn.state, conn.flags, conn.in_packets),
        (ConnId { index: 9, generation: 0 }, 6, 0xab, NEW.flags & !OWN | flag::HASHED, 2)
    );
    assert_eq!((conn.in_key(), conn.daddr), (NEW.in_key(), NEW.daddr));
    assert_eq!((conn.dport, conn.dest, conn.mark), (NEW.dport, NEW.dest, NEW.mark));
    assert_eq!((conn.owner, conn.last_seen), (0xcd, Ticks(0xf1f2_f3f4)));
    assert_eq!((conn.timeout, conn.control), (NEW.timeout, NEW.control));
}

#[test]
fn a_wide_connection_has_its_addresses_in_the_second_line() {
    let address = |last| Address::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    let new = NewConn { caddr: address(1), daddr: address(3), extra: Some([7, 8]), ..NEW };
    let (entry, second) = (Entry::default(), Wide::default());
    entry.fill(&second, &new, 0, Ticks(0));
    let conn = entry.read(&second).unwrap().conn(0);
    assert_eq!((conn.caddr, conn.vaddr, conn.daddr), (address(1), NEW.vaddr, address(3)));
    assert!(entry.find(&second, &new.in_key()).is_some());
    assert!(entry.find(&second, &conn.out_key()).is_some());
    // All of the address counts, not only what the first line has of it.
    let near = Address::from([0x20, 1, 0xd, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for caddr in [address(2), near, Address::from([0, 0, 0, 1])] {
        assert!(entry.find(&second, &InKey { caddr, ..new.in_key() }).is_none());
    }
    assert!(second.set_extra(1, 8, 9) && !second.set_extra(1, 8, 10));
    assert_eq!(second.extra(), [7, 9]);
}

#[test]
fn a_named_template_is_found_by_its_name_and_client() {
    let new = NewConn { flags: flag::TEMPLATE, extra: Some([77, 0]), ..NEW };
    let (entry, second) = (Entry::default(), Wide::default());
    entry.fill(&second, &new, 0, Ticks(0));
    assert_eq!(entry.read(&second).unwrap().conn(0).in_key(), new.in_key());
    let finds = |key: InKey| entry.find(&second, &key).is_some();
    assert!(finds(new.in_key()));
    assert!(!finds(InKey { caddr: Address::UNSPECIFIED, ..new.in_key() }));
    assert!(!finds(InKey { name: 78, ..new.in_key() }));
    assert!(!finds(InKey { name: 0, ..new.in_key() }));
    assert!(entry.retire(0) && !finds(new.in_key()), "a stale one serves nobody");
}

const TEMPLATE: NewConn = NewConn { flags: flag::TEMPLATE, ..NEW };

#[test]
fn a_template_counts_its_connections_until_it_is_gone() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &TEMPLATE, 0, Ticks(0));
    let (now, later) = (Ticks(5), Ticks(0x0200_0000));
    assert!(entry.adopt(0, now) && entry.adopt(0, now) && !entry.adopt(2, now));
    let words = entry.read(&Wide::default()).unwrap();
    assert_eq!((words.conn(0).children, words.conn(0).last_seen), (2, now));
    assert_eq!((entry.orphan(0), entry.orphan(0), entry.orphan(0)), (Some(1), Some(0), None));
    assert_eq!(entry.orphan(2), None);
    assert!(entry.adopt(0, later) && !entry.doom(&words), "adopted since the look");
    entry.orphan(0);
    assert!(entry.doom(&entry.read(&Wide::default()).unwrap()));
    assert!(!entry.adopt(0, later) && entry.read(&Wide::default()).is_none());
}

#[test]
fn a_connection_is_never_taken_for_a_template() {
    let entry = Entry::default();
    // Its template has the generation that an adopter of the entry may look for.
    let child = NewConn { control: Some(ConnId { index: 7, generation: 0 }), ..NEW };
    for new in [child, NewConn { control: None, ..NEW }] {
        entry.fill(&Wide::default(), &NewConn { flags: 0, ..new }, 0, Ticks(0));
        let generation = entry.life().0;
        assert!(!entry.adopt(generation, Ticks(0)) && !entry.adopt(0, Ticks(0)));
        assert_eq!((entry.orphan(generation), entry.orphan(0)), (None, None));
        assert_eq!(entry.read(&Wide::default()).unwrap().conn(0).control, new.control);
        entry.release();
    }
}

#[test]
fn a_touch_and_the_end_of_the_time_exclude_each_other() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &NEW, 0, Ticks(0));
    let words = entry.read(&Wide::default()).unwrap();
    assert!(entry.touch(0, Ticks(9)) && !entry.doom(&words));
    assert!(entry.touch(0, Ticks(8)), "seen later than that already");
    let words = entry.read(&Wide::default()).unwrap();
    assert_eq!(words.conn(0).last_seen, Ticks(9));
    assert!(entry.doom(&words) && !entry.touch(0, Ticks(10)) && !entry.touch(0, Ticks(9)));
    let keep = |state| Some((state, Ticks(1)));
    assert!(entry.read(&Wide::default()).is_none());
    assert_eq!(entry.transition(0, Ticks(10), keep), None);
    assert!(entry.leave(words).is_some());
}

#[test]
fn a_mark_does_not_cost_a_transition_its_timeout() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &TEMPLATE, 0, Ticks(0));
    let control = entry.words[CONTROL].load(Ordering::Relaxed);
    assert!(entry.mark_state(0, 1) && entry.retire(0));
    entry.set_time(control, Ticks(3), Ticks(4));
    assert_eq!(entry.expires(), Ticks(7));
    let made = entry.transition(0, Ticks(3), |_| Some((State { state: 0, flags: 0 }, Ticks(5))));
    assert_eq!(made.unwrap().after.flags, flag::TEMPLATE | flag::HASHED | flag::STALE);
    assert!(!entry.mark_state(2, 1));
}

#[test]
fn a_life_goes_round_and_each_has_its_generation() {
    let entry = Entry::default();
    assert_eq!(entry.life(), (0, Life::Free));
    assert_eq!(entry.fill(&Wide::default(), &NEW, 0, Ticks(0)), 0);
    assert_eq!(entry.life(), (0, Life::Live));
    let words = || entry.read(&Wide::default());
    let (first, second) = (words().unwrap(), words().unwrap());
    assert!(entry.leave(first).is_some() && entry.leave(second).is_none());
    assert_eq!(entry.life(), (1, Life::Leaving));
    assert!(entry.read(&Wide::default()).is_none());
    entry.left();
    assert_eq!(entry.life(), (1, Life::Left));
    entry.release();
    assert_eq!(entry.life(), (2, Life::Free));
    assert_eq!(entry.fill(&Wide::default(), &NEW, 0, Ticks(0)), 2);
    entry.release();
    assert_eq!(entry.life(), (4, Life::Free), "a filled entry may be given back unused");
}

#[test]
fn a_key_matches_its_own_kind_only() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
    let second = Wide::default();
    let finds = |key: InKey| entry.find(&second, &key).is_some();
    let template = InKey { template: true, ..NEW.in_key() };
    assert!(finds(template) && !finds(NEW.in_key()));
    assert!(!finds(InKey { proto: 17, ..template }));
    assert!(!finds(InKey { caddr: NEW.vaddr, ..template }));
    assert!(!finds(InKey { vaddr: NEW.caddr, ..template }));
    assert!(!finds(InKey { vport: 1, ..template }));
    let out = entry.read(&second).unwrap().conn(0).out_key();
    assert!(entry.find(&second, &out).is_none(), "a reply finds no template");
}

#[test]
fn a_transition_keeps_what_the_table_owns_and_sets_the_time() {
    let entry = Entry::default();
    entry.fill(&Wide::default(), &NewConn { flags: flag::TEMPLATE, ..NEW }, 0, Ticks(0));
    let made = entry.transition(0, Ticks(50), |_| Some((State { state: 3, flags: 0 }, Ticks(9))));
    assert_eq!(made.unwrap().after.flags, flag::TEMPLATE | flag::HASHED);
    let conn = entry.read(&Wide::default()).unwrap().conn(0);
    assert_eq!((conn.state, conn.expires(), conn.proto), (3, Ticks(59), 6));
    assert_eq!(entry.transition(0, Ticks(60), |_| None), None);
    assert_eq!(entry.transition(2, Ticks(60), |s| Some((s, Ticks(1)))), None);
    entry.touch(2, Ticks(70));
    assert_eq!(entry.expires(), Ticks(59), "another generation's touch does nothing");
    entry.touch(0, Ticks(70));
    assert_eq!(entry.expires(), Ticks(79));
}
