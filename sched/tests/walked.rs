//! The schedulers against the kernel's plain walk over the list: the same picks, whatever changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use uvs_sched::walk::Walk;
use uvs_sched::{Flags, Flow, Load, Name, Scheduler, Server, ServerId, Servers};

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// A service, its connections, and both of those that pick.
struct Service {
    name: Name,
    dice: Dice,
    weights: Weights,
    list: Vec<Server>,
    made: u32,
    conns: Vec<(ServerId, Arc<Load>, bool)>,
    scheduler: Scheduler,
    walk: Walk,
}

/// Which weights servers have.
#[derive(Clone, Copy, Debug)]
enum Weights {
    Equal,
    Small,
    Medium,
    Large,
    /// Beyond what ipvsadm's users would think of, but within what it takes.
    Huge,
}

impl Weights {
    fn roll(self, dice: &mut Dice) -> u32 {
        if dice.roll(10) == 0 {
            return 0;
        }
        match self {
            Self::Equal => 1,
            Self::Small => 1 + dice.roll(9) as u32,
            Self::Medium => 1 + dice.roll(300) as u32,
            Self::Large => 1 + dice.roll(65_535) as u32,
            Self::Huge => 1 + dice.roll(i32::MAX as u64) as u32,
        }
    }
}

impl Service {
    fn new(name: Name, seed: u64, count: usize, weights: Weights) -> Self {
        let empty = Servers::default;
        let mut service = Self {
            name,
            dice: Dice(seed | 1),
            weights,
            list: Vec::new(),
            made: 0,
            conns: Vec::new(),
            scheduler: Scheduler::build(name, empty(), Flags::default()),
            walk: Walk::new(name, empty()),
        };
        (0..count).for_each(|_| service.add());
        service.rebuild();
        service
    }

    fn any(&mut self) -> Option<usize> {
        let count = self.list.len() as u64;
        (count > 0).then(|| self.dice.roll(count) as usize)
    }

    fn add(&mut self) {
        self.made += 1;
        let weight = self.weights.roll(&mut self.dice);
        let server = Server {
            id: ServerId(self.made),
            address: Ipv4Addr::from_bits(0x0a00_0000 + self.made).into(),
            port: 80,
            weight,
            last_weight: weight,
            load: Arc::default(),
        };
        self.list.insert(0, server);
    }

    fn rebuild(&mut self) {
        let list: Servers = self.list.iter().cloned().collect();
        self.scheduler = self.scheduler.rebuild(list.clone(), Flags::default());
        self.walk.rebuild(list);
        self.scheduler.refresh();
    }

    fn changed(&self, id: ServerId) {
        if let Some(place) = self.list.iter().position(|server| server.id == id) {
            self.scheduler.changed(place);
        }
    }

    fn close(&mut self) {
        if !self.conns.is_empty() {
            let at = self.dice.roll(self.conns.len() as u64) as usize;
            let (id, load, active) = self.conns.swap_remove(at);
            load.close(active);
            self.changed(id);
        }
    }

    fn turn(&mut self) {
        if !self.conns.is_empty() {
            let at = self.dice.roll(self.conns.len() as u64) as usize;
            let (id, load, active) = &mut self.conns[at];
            *active = !*active;
            load.turn(*active);
            let id = *id;
            self.changed(id);
        }
    }

    fn overload(&mut self) {
        if let Some(at) = self.any() {
            let overloaded = self.list[at].load.overloaded();
            self.list[at].load.set_overloaded(!overloaded);
            self.scheduler.changed(at);
        }
    }

    fn reweigh(&mut self) {
        if let Some(at) = self.any() {
            self.list[at].weight = self.weights.roll(&mut self.dice);
            self.rebuild();
        }
    }

    fn remove(&mut self) {
        if let Some(at) = self.any() {
            self.list.remove(at);
            self.rebuild();
        }
    }

    fn flow(&mut self) -> Flow {
        let n = self.dice.roll(20) as u32;
        let six = |low: u128| IpAddr::from(Ipv6Addr::from_bits((0xfd00 << 112) | low));
        let destination = match n % 2 {
            0 => IpAddr::from(Ipv4Addr::from_bits(0x0a09_0000 + n)),
            _ => six(n.into()),
        };
        Flow {
            protocol: 6,
            source: six(1),
            source_port: 1024,
            destination,
            destination_port: 80,
            now: 0,
        }
    }

    fn pick(&mut self) -> Result<(), TestCaseError> {
        // Without a server wrr's cursor has a rule of its own; see its tests.
        if self.name == Name::Wrr && !self.list.iter().any(Server::available) {
            return Ok(());
        }
        let flow = self.flow();
        let picked = self.scheduler.pick(&flow);
        prop_assert_eq!(picked, self.walk.pick(&flow));
        if let Some(at) = picked {
            let active = self.dice.roll(3) > 0;
            self.list[at].load.open(active);
            self.scheduler.changed(at);
            self.conns.push((self.list[at].id, self.list[at].load.clone(), active));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), TestCaseError> {
        match self.dice.roll(400) {
            0 => self.remove(),
            1..=2 => self.reweigh(),
            3 => {
                self.add();
                self.rebuild();
            }
            4..=15 => self.overload(),
            16..=160 => self.close(),
            161..=220 => self.turn(),
            _ => return self.pick(),
        }
        Ok(())
    }
}

fn weights() -> impl Strategy<Value = Weights> {
    use Weights::{Equal, Huge, Large, Medium, Small};
    prop_oneof![Just(Equal), Just(Small), Just(Medium), Just(Large), Just(Huge)]
}

/// Each case is ten thousand steps of each scheduler; what failed is told by its seed.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn picks_are_the_walks(seed: u64, count in 1usize..150, weights in weights()) {
        for name in Name::ALL.iter().copied().filter(|name| Walk::knows(*name)) {
            let weights = match (name, weights) {
                // The plain walk goes through every weight there is between two servers'.
                (Name::Wrr, Weights::Large | Weights::Huge) => Weights::Medium,
                _ => weights,
            };
            let mut service = Service::new(name, seed, count, weights);
            for step in 0..10_000 {
                let place = |error| TestCaseError::fail(format!("{name}, step {step}: {error}"));
                service.step().map_err(place)?;
            }
        }
    }
}
