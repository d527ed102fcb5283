//! The snapshot after one: where little has changed, most of it is taken over, so that a change of
//! some servers among a hundred thousand costs little more than copies of what workers index.

use std::sync::Arc;

use super::{Kinds, Snapshot, exit, replying, tunnel};
use crate::service::{Dest, Service};
use crate::snapshot::Rules;

impl Snapshot {
    /// What [`new`](Self::new) makes of the same, over the same links and routes. Services and
    /// servers that are the very same as here are not looked at.
    pub fn next(
        &self,
        list: Vec<Arc<Service>>,
        dests: Vec<Option<Arc<Dest>>>,
        rules: Rules,
    ) -> Self {
        if !self.numbers_alike(&list) || dests.len() < self.dests.len() {
            let layout = self.layout + 1;
            return Self { layout, ..Self::new(list, dests, self.fib.clone(), rules) };
        }
        let mut next = Self {
            services: self.services.clone(),
            kinds: self.kinds,
            list,
            nat_servers: self.nat_servers.clone(),
            tunnels: self.tunnels.clone(),
            dests,
            places: self.places.clone(),
            exits: self.exits.clone(),
            fib: self.fib.clone(),
            rules,
            own_timeouts: self.own_timeouts,
            layout: self.layout,
        };
        next.replace_dests(self);
        next.replace_places(self);
        next
    }

    /// Whether every service has the number that it has in `list`.
    fn numbers_alike(&self, list: &[Arc<Service>]) -> bool {
        let alike = |(old, new): (&Arc<Service>, &Arc<Service>)| {
            Arc::ptr_eq(old, new) || old.key == new.key
        };
        self.list.len() == list.len() && self.list.iter().zip(list).all(alike)
    }

    fn replace_dests(&mut self, before: &Self) {
        self.exits.resize_with(self.dests.len(), || exit(&None, &before.fib));
        let (mut lost_timeouts, mut moved) = (false, false);
        for (number, dest) in self.dests.iter().enumerate() {
            let old = before.dests.get(number).and_then(Option::as_ref);
            let new = dest.as_ref();
            if same(old, new) {
                continue;
            }
            self.exits[number] = exit(dest, &self.fib);
            let (old, new) = (old.map(|dest| &**dest), new.map(|dest| &**dest));
            self.nat_servers.change(old.and_then(replying), new.and_then(replying));
            self.tunnels.change(old.and_then(tunnel), new.and_then(tunnel));
            let own = |dest: Option<&Dest>| dest.is_some_and(|dest| dest.timeouts.is_some());
            self.own_timeouts |= own(new);
            lost_timeouts |= own(old) && !own(new);
            moved |= old.map(layout) != new.map(layout);
        }
        if lost_timeouts {
            self.own_timeouts = self.dests.iter().flatten().any(|dest| dest.timeouts.is_some());
        }
        if moved {
            self.layout += 1;
            self.kinds = Kinds { wide_nat: self.nat_servers.wide(), ..self.kinds };
        }
    }

    fn replace_places(&mut self, before: &Self) {
        self.places.resize(self.dests.len(), None);
        let pairs = || {
            let pairs = (0..).zip(before.list.iter().zip(&self.list));
            pairs.filter(|(_, (old, new))| !Arc::ptr_eq(old, new))
        };
        // All old ones first: a number may have come from one service to another.
        for (_, (old, _)) in pairs() {
            old.servers.iter().for_each(|dest| self.places[dest.id.0 as usize] = None);
        }
        for (number, (_, new)) in pairs() {
            for (place, dest) in (0..).zip(&new.servers) {
                self.places[dest.id.0 as usize] = Some((number, place));
            }
        }
    }

    /// Whether all that was made of services and servers is what would be made of them anew: for
    /// tests.
    #[doc(hidden)]
    pub fn is_whole(&self) -> bool {
        let (list, dests) = (self.list.clone(), self.dests.clone());
        let anew = Self::new(list, dests, self.fib.clone(), self.rules.clone());
        self.services == anew.services
            && self.kinds == anew.kinds
            && self.nat_servers == anew.nat_servers
            && self.tunnels == anew.tunnels
            && self.places == anew.places
            && self.exits == anew.exits
            && self.own_timeouts == anew.own_timeouts
    }
}

fn same(old: Option<&Arc<Dest>>, new: Option<&Arc<Dest>>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        _ => false,
    }
}

/// What of a server the steering and the neighbours look at.
fn layout(dest: &Dest) -> impl PartialEq {
    (dest.endpoint(), replying(dest), tunnel(dest), dest.available)
}
