//! The schedulers as the kernel has them: a walk over the whole list for each pick.
//!
//! The judge of the others, in tests and benches: of their picks, and of what they save.

use std::net::IpAddr;

use crate::{Flow, Name, Server, Servers};

/// One walk after another.
#[derive(Debug)]
pub struct Walk {
    name: Name,
    servers: Servers,
    /// rr and wrr: the place behind the last pick.
    next: usize,
    /// wrr: the current weight.
    weight: u32,
    /// lblc and lblcr: the servers of each virtual address, newest first.
    caches: Vec<(IpAddr, Vec<Server>)>,
}

impl Walk {
    /// Whether there is a walk for this scheduler.
    pub fn knows(name: Name) -> bool {
        use Name::{Fo, Lblc, Lblcr, Lc, Nq, Ovf, Rr, Sed, Wlc, Wrr};
        matches!(name, Rr | Wrr | Lc | Wlc | Sed | Nq | Fo | Ovf | Lblc | Lblcr)
    }

    /// The walk over `servers`, as after the service was added.
    pub fn new(name: Name, servers: Servers) -> Self {
        let weight = top(&servers);
        Self { name, servers, next: 0, weight, caches: Vec::new() }
    }

    /// The list changed.
    pub fn rebuild(&mut self, servers: Servers) {
        let had_their_turn = self.servers[..self.next].iter().rev();
        let survivor = { had_their_turn }.find_map(|server| servers.position(server.id));
        self.next = match self.name {
            Name::Wrr => 0,
            _ => survivor.map_or(0, |at| at + 1),
        };
        let (step, top) = (servers.gcd(), top(&servers));
        self.weight = match self.weight {
            0 => top,
            old if old > top => top,
            old if step > 1 => old / step * step + 1,
            old => old,
        };
        self.servers = servers;
    }

    /// The server for a new connection. wrr: while there is an available one.
    pub fn pick(&mut self, flow: &Flow) -> Option<usize> {
        match self.name {
            Name::Rr => self.round(),
            Name::Wrr => self.weighted_round(),
            Name::Lc => least(&self.servers, |s| (s.load.overhead(), 1)),
            Name::Wlc => least(&self.servers, overhead),
            Name::Sed => least(&self.servers, delay),
            Name::Nq => {
                let idle = |s: &Server| s.available() && s.load.active() == 0;
                self.servers.iter().position(idle).or_else(|| least(&self.servers, delay))
            }
            Name::Fo => heaviest(&self.servers, |_| true),
            Name::Ovf => heaviest(&self.servers, |s| s.load.active() <= s.weight),
            Name::Lblc => self.one_of_address(flow.destination),
            Name::Lblcr => self.some_of_address(flow.destination),
            _ => None,
        }
    }

    fn round(&mut self) -> Option<usize> {
        let (head, tail) = self.servers.split_at(self.next);
        let in_tail = tail.iter().position(Server::available).map(|at| self.next + at);
        let at = in_tail.or_else(|| head.iter().position(Server::available))?;
        self.next = at + 1;
        Some(at)
    }

    fn weighted_round(&mut self) -> Option<usize> {
        if !self.servers.iter().any(Server::available) {
            return None;
        }
        loop {
            if self.next == self.servers.len() {
                let step = self.servers.gcd();
                let lower = self.weight > step;
                self.next = 0;
                self.weight = if lower { self.weight - step } else { top(&self.servers) };
            }
            let at = self.next;
            self.next += 1;
            if self.servers[at].weight >= self.weight && self.servers[at].available() {
                return Some(at);
            }
        }
    }

    fn one_of_address(&mut self, address: IpAddr) -> Option<usize> {
        let cached = self.caches.iter().position(|(of, _)| *of == address);
        if let Some(cached) = cached {
            let at = self.servers.position(self.caches[cached].1[0].id);
            let usable = |at: &usize| self.servers[*at].weight > 0 && !self.overloaded(*at);
            if let Some(at) = at.filter(usable) {
                return Some(at);
            }
        }
        let at = least(&self.servers, overhead)?;
        let servers = vec![self.servers[at].clone()];
        match cached {
            Some(cached) => self.caches[cached].1 = servers,
            None => self.caches.push((address, servers)),
        }
        Some(at)
    }

    fn some_of_address(&mut self, address: IpAddr) -> Option<usize> {
        let cached = self.caches.iter().position(|(of, _)| *of == address);
        if let Some(cached) = cached {
            let present = self.caches[cached].1.iter();
            let present = present.filter_map(|server| self.servers.position(server.id));
            let present: Vec<usize> = present.collect();
            let members: Vec<Server> = present.iter().map(|at| self.servers[*at].clone()).collect();
            let at = least(&members, overhead).map(|member| present[member]);
            if let Some(at) = at.filter(|at| !self.overloaded(*at)) {
                return Some(at);
            }
        }
        let at = least(&self.servers, overhead)?;
        let server = self.servers[at].clone();
        match cached.map(|cached| &mut self.caches[cached].1) {
            Some(set) if set.iter().any(|member| member.id == server.id) => {}
            Some(set) => set.insert(0, server),
            None => self.caches.push((address, vec![server])),
        }
        Some(at)
    }

    fn overloaded(&self, at: usize) -> bool {
        let server = &self.servers[at];
        server.load.active() > server.weight
            && self.servers.iter().any(|s| s.load.active() * 2 < s.weight)
    }
}

/// Where wrr's current weight starts.
fn top(servers: &Servers) -> u32 {
    (servers.max_weight() + 1).saturating_sub(servers.gcd())
}

fn overhead(server: &Server) -> (u64, u64) {
    (server.load.overhead(), server.weight.into())
}

fn delay(server: &Server) -> (u64, u64) {
    (u64::from(server.load.active()) + 1, server.weight.into())
}

/// The available server with the smallest fraction; of equals the first. Fractions are compared
/// by cross-multiplication in 64 bits, so that nothing is rounded.
pub(crate) fn least(servers: &[Server], fraction: impl Fn(&Server) -> (u64, u64)) -> Option<usize> {
    least_of(servers.iter().enumerate(), fraction)
}

/// The same of some servers of a list and their places.
pub(crate) fn least_of<'a>(
    servers: impl Iterator<Item = (usize, &'a Server)>,
    fraction: impl Fn(&Server) -> (u64, u64),
) -> Option<usize> {
    let mut least: Option<(usize, u64, u64)> = None;
    for (at, server) in servers.filter(|(_, server)| server.available()) {
        let (over, under) = fraction(server);
        if least.is_none_or(|(_, o, u)| o * under > over * u) {
            least = Some((at, over, under));
        }
    }
    least.map(|(at, ..)| at)
}

/// The available server of these with the highest weight; of equals the first.
fn heaviest(servers: &[Server], of: impl Fn(&Server) -> bool) -> Option<usize> {
    let mut heaviest: Option<(usize, u32)> = None;
    for (at, server) in servers.iter().enumerate() {
        let heavier = heaviest.is_none_or(|(_, weight)| server.weight > weight);
        if heavier && server.available() && of(server) {
            heaviest = Some((at, server.weight));
        }
    }
    heaviest.map(|(at, _)| at)
}
