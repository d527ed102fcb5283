//! The table against a plain map: whatever is done, in whatever order, both say the same.

use std::collections::HashMap;

use proptest::prelude::*;

use super::tests::{START, conn, find, insert, out_key};
use super::*;

/// One step; clients and services are few, so that steps meet.
#[derive(Clone, Debug)]
enum Step {
    Insert { worker: bool, client: u16, virt: u16, timeout: u32 },
    LookUp { client: u16, virt: u16 },
    Touch { client: u16, virt: u16 },
    Transition { worker: bool, client: u16, virt: u16, state: u8, timeout: u32 },
    Remove { by: u8, client: u16, virt: u16 },
    Stale { pick: usize },
    Pass { ticks: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let timeout = || prop_oneof![0..50u32, 0..20_000u32];
    let key = || (0..12u16, 0..4u16);
    prop_oneof![
        4 => (any::<bool>(), key(), timeout()).prop_map(|(worker, (client, virt), timeout)| {
            Step::Insert { worker, client, virt, timeout }
        }),
        2 => key().prop_map(|(client, virt)| Step::LookUp { client, virt }),
        1 => key().prop_map(|(client, virt)| Step::Touch { client, virt }),
        2 => (any::<bool>(), key(), any::<u8>(), timeout()).prop_map(
            |(worker, (client, virt), state, timeout)| {
                Step::Transition { worker, client, virt, state, timeout }
            }
        ),
        2 => (0..3u8, key()).prop_map(|(by, (client, virt))| Step::Remove { by, client, virt }),
        1 => any::<usize>().prop_map(|pick| Step::Stale { pick }),
        2 => prop_oneof![0..60u32, 0..30_000u32].prop_map(|ticks| Step::Pass { ticks }),
    ]
}

/// What the map knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    id: ConnId,
    state: u8,
    expires: u64,
    timeout: u32,
}

struct Model {
    table: Arc<Table>,
    owners: Vec<Owner>,
    known: HashMap<(u16, u16), Known>,
    past: Vec<ConnId>,
    passed: u64,
}

/// Says which connections went, each at its tick.
#[derive(Default)]
struct Expired(Vec<(u16, u16)>);

impl OnExpiry for Expired {
    fn expired(&mut self, _: &Conn) -> Verdict {
        Verdict::Remove
    }

    fn removed(&mut self, conn: &Conn) {
        self.0.push((conn.cport, conn.vport));
    }
}

impl Model {
    fn new(capacity: u64) -> Self {
        let (table, owners) = Table::new(capacity, 2, START).unwrap();
        Self { table, owners, known: HashMap::new(), past: Vec::new(), passed: 0 }
    }

    fn now(&self) -> Ticks {
        START.after(Ticks(self.passed as u32))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Insert { worker, client, virt, timeout } => {
                self.insert(worker, client, virt, timeout);
            }
            Step::LookUp { client, virt } => self.look_up(client, virt),
            Step::Touch { client, virt } => {
                let now = self.now();
                if let Some(known) = self.known.get_mut(&(client, virt)) {
                    self.table.touch(known.id, now);
                    known.expires = self.passed + u64::from(known.timeout);
                }
            }
            Step::Transition { worker, client, virt, state, timeout } => {
                self.transition(worker, (client, virt), state, timeout);
            }
            Step::Remove { by, client, virt } => {
                let Some(known) = self.known.remove(&(client, virt)) else { return };
                let removed = match by {
                    2 => self.table.remove(known.id),
                    worker => self.owners[usize::from(worker)].remove(known.id),
                };
                assert_eq!(removed.unwrap().id, known.id);
                self.past.push(known.id);
            }
            Step::Stale { pick } => {
                let Some(&id) = self.past.get(pick % self.past.len().max(1)) else { return };
                self.table.touch(id, self.now());
                assert_eq!((self.table.get(id), self.owners[0].remove(id)), (None, None));
            }
            Step::Pass { ticks } => self.pass(ticks),
        }
    }

    fn insert(&mut self, worker: bool, client: u16, virt: u16, timeout: u32) {
        let new = NewConn { timeout: Ticks(timeout), ..conn(client, virt) };
        let now = self.now();
        let known = self.known.get(&(client, virt));
        match (insert(&mut self.owners[usize::from(worker)], &new, now), known) {
            (Ok(Inserted::Existing(id)), Some(known)) => assert_eq!(id, known.id),
            (Ok(Inserted::New(id)), None) => {
                let expires = self.passed + u64::from(timeout);
                self.known.insert((client, virt), Known { id, state: 1, expires, timeout });
            }
            // Entries may wait for their owner, or lie in the other worker's magazine.
            (Err(InsertError::Full), None) => assert!(self.table.capacity() < 48 + 4),
            (got, known) => panic!("{got:?} where {known:?} is known"),
        }
    }

    fn look_up(&self, client: u16, virt: u16) {
        let new = conn(client, virt);
        let seen = find(&self.table, &new);
        let known = self.known.get(&(client, virt));
        assert_eq!(seen.map(|seen| (seen.id, seen.state)), known.map(|k| (k.id, k.state)));
        let hash = self.table.hash(new.proto, new.caddr, new.cport);
        assert_eq!(self.table.lookup_out(hash, &out_key(&new)), seen);
        if let (Some(seen), Some(known)) = (seen, known) {
            assert_eq!(seen.expires(), START.after(Ticks(known.expires as u32)));
        }
    }

    fn transition(&mut self, worker: bool, key: (u16, u16), state: u8, timeout: u32) {
        let now = self.now();
        let Some(known) = self.known.get_mut(&key) else { return };
        let owner = &mut self.owners[usize::from(worker)];
        let made = owner
            .transition(known.id, now, |old| Some((State { state, ..old }, Ticks(timeout))))
            .unwrap();
        assert_eq!((made.before.state, made.after.state), (known.state, state));
        (known.state, known.timeout) = (state, timeout);
        known.expires = self.passed + u64::from(timeout);
    }

    fn pass(&mut self, ticks: u32) {
        self.passed += u64::from(ticks);
        let now = self.now();
        let due: HashMap<_, _> =
            self.known.extract_if(|_, known| known.expires <= self.passed).collect();
        let mut gone = 0;
        for owner in &mut self.owners {
            let mut expired = Expired::default();
            owner.expire(now, usize::MAX, &mut expired);
            let times: Vec<u64> = expired.0.iter().map(|key| due[key].expires).collect();
            // In order but for those that were due before the wheel's last turn already.
            let turned = self.passed - u64::from(ticks);
            assert!(times.is_sorted_by_key(|&time| time.max(turned)), "{times:?}");
            gone += times.len();
        }
        assert_eq!(gone, due.len(), "exactly those whose time was over");
        self.past.extend(due.values().map(|known| known.id));
    }

    fn check(&self) {
        assert_eq!(self.table.len(), self.known.len());
        let listed: HashMap<_, _> =
            self.table.iter().map(|conn| ((conn.cport, conn.vport), conn.id)).collect();
        let known: HashMap<_, _> = self.known.iter().map(|(key, known)| (*key, known.id)).collect();
        assert_eq!(listed, known);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_table_and_a_map_agree(
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
