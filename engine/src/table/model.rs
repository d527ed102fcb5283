//! The table against plain maps: whatever is done, in whatever order, both say the same.

use std::collections::HashMap;

use proptest::prelude::*;

use super::tests::{START, conn, out_key, v6};
use super::*;
use crate::address::Address;

/// What a connection is found by; few, so that steps meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    kind: Kind,
    client: u16,
    virt: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    V4,
    V6,
    Template,
    /// A template of IPv6 clients.
    WideTemplate,
    /// A template that has a name, and so two lines.
    NamedTemplate,
}

impl Name {
    fn new_conn(self, timeout: u32) -> NewConn {
        let Self { kind, client, virt } = self;
        let plain = NewConn { timeout: Ticks(timeout), ..conn(client, virt) };
        let template = NewConn { flags: flag::TEMPLATE, cport: 0, ..plain };
        // A template has no port; its client is told by the address.
        let caddr = Address::from([10, 0, 1, client as u8]);
        match kind {
            Kind::V4 => plain,
            Kind::V6 => v6(plain),
            Kind::Template => NewConn { caddr, ..template },
            Kind::WideTemplate => v6(NewConn { caddr, ..template }),
            Kind::NamedTemplate => NewConn { extra: Some([1 + u64::from(client), 7]), ..template },
        }
    }

    fn key(self) -> InKey {
        self.new_conn(0).in_key()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { worker: usize, name: Name, timeout: u32, parent: usize },
    LookUp { name: Name, hint: u32 },
    Touch { name: Name },
    Transition { worker: usize, name: Name, state: u8, timeout: u32 },
    Mark { name: Name, bits: u8 },
    Retire { name: Name },
    Extra { name: Name, to: u64 },
    Remove { by: usize, pick: usize },
    Stale { pick: usize },
    Pass { ticks: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let timeout = || prop_oneof![0..50u32, 0..20_000u32];
    let kind = prop_oneof![
        4 => Just(Kind::V4),
        3 => Just(Kind::V6),
        1 => Just(Kind::Template),
        1 => Just(Kind::WideTemplate),
        1 => Just(Kind::NamedTemplate),
    ];
    let name =
        (kind, 0..8u16, 0..4u16).prop_map(|(kind, client, virt)| Name { kind, client, virt });
    prop_oneof![
        6 => (0..2usize, name.clone(), timeout(), any::<usize>()).prop_map(
            |(worker, name, timeout, parent)| Step::Insert { worker, name, timeout, parent }
        ),
        3 => (name.clone(), 0..40u32).prop_map(|(name, hint)| Step::LookUp { name, hint }),
        1 => name.clone().prop_map(|name| Step::Touch { name }),
        2 => (0..2usize, name.clone(), any::<u8>(), timeout()).prop_map(
            |(worker, name, state, timeout)| Step::Transition { worker, name, state, timeout }
        ),
        1 => (name.clone(), any::<u8>()).prop_map(|(name, bits)| Step::Mark { name, bits }),
        1 => name.clone().prop_map(|name| Step::Retire { name }),
        1 => (name, any::<u64>()).prop_map(|(name, to)| Step::Extra { name, to }),
        2 => (0..3usize, any::<usize>()).prop_map(|(by, pick)| Step::Remove { by, pick }),
        1 => any::<usize>().prop_map(|pick| Step::Stale { pick }),
        2 => prop_oneof![0..60u32, 0..30_000u32].prop_map(|ticks| Step::Pass { ticks }),
    ]
}

/// What the maps know of a connection.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: Name,
    state: u8,
    expires: u64,
    timeout: u32,
    control: Option<ConnId>,
    children: u32,
    extra: Option<[u64; 2]>,
}

/// All that lives, and what of it is found by its name.
#[derive(Default)]
struct Maps {
    live: HashMap<ConnId, Known>,
    found: HashMap<Name, ConnId>,
    past: Vec<ConnId>,
}

impl Maps {
    fn by_name(&mut self, name: Name) -> Option<(ConnId, &mut Known)> {
        let id = *self.found.get(&name)?;
        Some((id, self.live.get_mut(&id).unwrap()))
    }

    /// What is gone also leaves its template.
    fn forget(&mut self, id: ConnId, table: &Table) {
        let gone = self.live.remove(&id).unwrap();
        self.found.retain(|_, found| *found != id);
        self.past.push(id);
        let Some(control) = gone.control else { return };
        let left = self.live.get_mut(&control).map(|template| {
            template.children -= 1;
            template.children
        });
        assert_eq!(table.orphan(control), left);
    }
}

/// Ends what the maps say is over, and only that.
struct Expiry<'a> {
    maps: &'a mut Maps,
    table: &'a Table,
    passed: u64,
    /// Where the wheel stood before.
    turned: u64,
    /// When the last one was looked at.
    last: u64,
}

const KEEP: u32 = 6000;

impl OnExpiry for Expiry<'_> {
    fn expired(&mut self, conn: &Conn) -> Verdict {
        let known = self.maps.live.get_mut(&conn.id).unwrap();
        assert!(known.expires <= self.passed, "{known:?} at {}", self.passed);
        assert_eq!(conn.children, known.children);
        // In order but for those that were due before the wheel's last turn already.
        let at = known.expires.max(self.turned);
        assert!(at >= self.last, "{known:?} after {}", self.last);
        self.last = at;
        if known.children == 0 {
            return Verdict::Remove;
        }
        known.timeout = KEEP;
        known.expires = self.last + u64::from(KEEP);
        Verdict::Keep { timeout: Ticks(KEEP) }
    }

    fn removed(&mut self, conn: &Conn) {
        self.maps.forget(conn.id, self.table);
    }
}

struct Model {
    table: Arc<Table>,
    owners: Vec<Owner>,
    maps: Maps,
    passed: u64,
    turned: u64,
}

impl Model {
    fn new(capacity: u64) -> Self {
        let (table, owners) = Table::new(capacity, 2, START).unwrap();
        Self { table, owners, maps: Maps::default(), passed: 0, turned: 0 }
    }

    fn now(&self) -> Ticks {
        START.after(Ticks(self.passed as u32))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Insert { worker, name, timeout, parent } => {
                self.insert(worker, name, timeout, parent);
            }
            Step::LookUp { name, hint } => self.look_up(name, hint),
            Step::Touch { name } => {
                let (now, passed) = (self.now(), self.passed);
                let Some((id, known)) = self.maps.by_name(name) else { return };
                assert!(self.table.touch(id, now));
                known.expires = passed + u64::from(known.timeout);
            }
            Step::Transition { worker, name, state, timeout } => {
                self.transition(worker, name, state, timeout);
            }
            Step::Mark { name, bits } => {
                let Some((id, known)) = self.maps.by_name(name) else { return };
                let template = known.name.new_conn(0).flags & flag::TEMPLATE != 0;
                assert_eq!(self.table.mark_state(id, bits), template);
                known.state |= if template { bits } else { 0 };
            }
            Step::Retire { name } => {
                let Some((id, known)) = self.maps.by_name(name) else { return };
                let template = known.name.new_conn(0).flags & flag::TEMPLATE != 0;
                assert_eq!(self.table.retire(id), template);
                if template {
                    self.maps.found.remove(&name);
                }
            }
            Step::Extra { name, to } => {
                let Some((id, known)) = self.maps.by_name(name) else { return };
                let Some(extra) = &mut known.extra else { return };
                assert!(!self.table.set_extra(id, 1, extra[1] ^ 1, to));
                assert!(self.table.set_extra(id, 1, extra[1], to));
                extra[1] = to;
            }
            Step::Remove { by, pick } => self.remove(by, pick),
            Step::Stale { pick } => self.stale(pick),
            Step::Pass { ticks } => self.pass(ticks),
        }
    }

    fn insert(&mut self, worker: usize, name: Name, timeout: u32, parent: usize) {
        let (now, passed) = (self.now(), self.passed);
        let plain = name.new_conn(timeout);
        let control = match plain.flags & flag::TEMPLATE {
            0 => self.parent(parent),
            _ => None,
        };
        let new = NewConn { control, ..plain };
        if let Some(id) = control {
            assert!(self.table.adopt(id, now));
            let template = self.maps.live.get_mut(&id).unwrap();
            template.expires = passed + u64::from(template.timeout);
        }
        let hash = self.table.hash_of(&new.in_key());
        let made = self.owners[worker].insert(hash, &new, now);
        let known = self.maps.by_name(name).map(|(id, _)| id);
        match (made, known) {
            (Ok(Inserted::Existing(id)), Some(known)) => assert_eq!(id, known),
            (Ok(Inserted::New(id)), None) => {
                let expires = passed + u64::from(timeout);
                let wide = matches!(name.kind, Kind::V6 | Kind::WideTemplate);
                let extra = new.extra.or(wide.then_some([0, 0]));
                let state = new.state;
                let known = Known { name, state, expires, timeout, control, children: 0, extra };
                self.maps.live.insert(id, known);
                self.maps.found.insert(name, id);
                if let Some(id) = control {
                    self.maps.live.get_mut(&id).unwrap().children += 1;
                }
                return;
            }
            // Entries may wait for their owner, or lie in the other worker's magazine.
            (Err(InsertError::Full), None) => assert!(self.table.capacity() < 400),
            (got, known) => panic!("{got:?} where {known:?} is known"),
        }
        if let Some(id) = control {
            assert_eq!(self.table.orphan(id), Some(self.maps.live[&id].children));
        }
    }

    /// Some template that is found, or none.
    fn parent(&self, pick: usize) -> Option<ConnId> {
        let templates =
            self.maps.found.iter().filter(|(name, _)| name.new_conn(0).flags & flag::TEMPLATE != 0);
        let mut ids: Vec<ConnId> = templates.map(|(_, id)| *id).collect();
        ids.sort_unstable_by_key(|id| id.index);
        ids.get(pick % 4).copied()
    }

    fn look_up(&mut self, name: Name, hint: u32) {
        let key = name.key();
        let hash = self.table.hash_of(&key);
        let seen = self.table.lookup_in(hash, &key);
        for hint in [self.table.prefetch_in(hash, &key), Hint(hint), Hint::NONE] {
            assert_eq!(self.table.lookup_in_at(hint, hash, &key), seen);
        }
        let known = self.maps.by_name(name).map(|(id, known)| (id, *known));
        let Some((id, known)) = known else { return assert_eq!(seen, None) };
        let seen = seen.unwrap();
        assert_eq!((seen.id, seen.state, seen.in_key()), (id, known.state, key));
        assert_eq!((seen.control, seen.children), (known.control, known.children));
        assert_eq!(seen.expires(), START.after(Ticks(known.expires as u32)));
        assert_eq!(self.table.extra(id), known.extra);
        if !key.template {
            let out = out_key(&name.new_conn(0));
            assert_eq!(self.table.lookup_out(hash, &out), Some(seen));
            let hint = self.table.prefetch_out(hash, &out);
            assert_eq!(self.table.lookup_out_at(hint, hash, &out), Some(seen));
        }
    }

    fn transition(&mut self, worker: usize, name: Name, state: u8, timeout: u32) {
        let (now, passed) = (self.now(), self.passed);
        let Some((id, known)) = self.maps.by_name(name) else { return };
        let made = self.owners[worker]
            .transition(id, now, |old| Some((State { state, ..old }, Ticks(timeout))))
            .unwrap();
        assert_eq!((made.before.state, made.after.state), (known.state, state));
        (known.state, known.timeout) = (state, timeout);
        known.expires = passed + u64::from(timeout);
    }

    fn remove(&mut self, by: usize, pick: usize) {
        let mut ids: Vec<ConnId> = self.maps.live.keys().copied().collect();
        ids.sort_unstable_by_key(|id| id.index);
        let Some(&id) = ids.get(pick % ids.len().max(1)) else { return };
        let removed = match by {
            2 => self.table.remove(id),
            worker => self.owners[worker].remove(id),
        };
        assert_eq!(removed.unwrap().id, id);
        self.maps.forget(id, &self.table);
    }

    fn stale(&mut self, pick: usize) {
        let now = self.now();
        let Some(&id) = self.maps.past.get(pick % self.maps.past.len().max(1)) else { return };
        assert!(!self.table.touch(id, now) && !self.table.adopt(id, now));
        assert!(!self.table.retire(id) && !self.table.mark_state(id, 1));
        assert!(!self.table.set_extra(id, 0, 0, 1) && self.table.extra(id).is_none());
        assert_eq!((self.table.orphan(id), self.table.count_in(id, 1)), (None, None));
        assert_eq!((self.table.get(id), self.owners[0].remove(id)), (None, None));
    }

    fn pass(&mut self, ticks: u32) {
        self.passed += u64::from(ticks);
        let (now, passed) = (self.now(), self.passed);
        for owner in &mut self.owners {
            let (maps, table, turned) = (&mut self.maps, &*self.table, self.turned);
            let mut expiry = Expiry { maps, table, passed, turned, last: turned };
            owner.expire(now, usize::MAX, &mut expiry);
        }
        self.turned = passed;
        let late = self.maps.live.values().find(|known| known.expires <= passed);
        assert!(late.is_none(), "{late:?} at {passed}");
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.maps.live.len());
        let listed: HashMap<_, _> =
            self.table.iter().map(|conn| (conn.id, conn.in_key())).collect();
        let known = self.maps.live.iter().map(|(id, known)| (*id, known.name.key()));
        assert_eq!(listed, known.collect());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_table_and_maps_agree(
        capacity in prop_oneof![1..30u64, 40..2000u64],
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut model = Model::new(capacity);
        for step in steps {
            model.apply(step);
            model.check();
        }
    }
}
