//! The configuration of a running engine, shared by the API, the signals and the route follower.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uvs_engine::clock::Clock;
use uvs_engine::counters::{Counters, Totals};
use uvs_engine::fib::Fib;
use uvs_engine::link::Link;
use uvs_engine::port::steer::{SteerError, Steered, Steering};
use uvs_engine::proto::Timeouts;
use uvs_engine::table::Table;
use uvs_uvsadm::api::{ApiError, Change};

use crate::config::Config;
use crate::director::Director;
use crate::host::Follower;
use crate::rules::{self, Targets};
use crate::service::ServiceView;

/// What changes while the engine runs.
#[derive(Debug)]
struct Inner {
    director: Director,
    /// `None` once the engine stops: everything goes to the kernel again.
    steering: Option<Steering>,
    follower: Option<Follower>,
}

/// See the module; clones are of the same engine.
#[derive(Clone, Debug)]
pub struct Control {
    inner: Arc<Mutex<Inner>>,
    table: Arc<Table>,
    clock: Clock,
    counters: Arc<[Arc<Counters>]>,
    config: Arc<Config>,
}

/// What a control is made of.
pub(crate) struct Parts {
    pub director: Director,
    pub steering: Steering,
    pub table: Arc<Table>,
    pub clock: Clock,
    pub counters: Arc<[Arc<Counters>]>,
    pub config: Config,
}

/// Carries routes from the follower's thread to a control that is made after it.
#[derive(Clone, Default)]
pub(crate) struct Follow(Arc<Mutex<Followed>>);

#[derive(Default)]
enum Followed {
    #[default]
    Nothing,
    /// What came before there was a control.
    Newest(Fib),
    To(Control),
}

impl Follow {
    /// What the follower calls with each newer table.
    pub(crate) fn publisher(&self) -> impl FnMut(Fib) + Send + 'static {
        let this = self.clone();
        move |fib| match &mut *lock(&this.0) {
            Followed::To(control) => control.lock().director.set_fib(fib),
            newest => *newest = Followed::Newest(fib),
        }
    }

    fn hand_over(&self, control: &Control) {
        let before = std::mem::replace(&mut *lock(&self.0), Followed::To(control.clone()));
        if let Followed::Newest(fib) = before {
            control.lock().director.set_fib(fib);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The number of the change, from 0, and why it is refused.
    #[error("{1}")]
    Refused(usize, ApiError),
    /// The steering program does not follow.
    #[error(transparent)]
    Steer(#[from] SteerError),
}

impl Control {
    pub(crate) fn new(parts: Parts, follower: Follower, follow: &Follow) -> Self {
        let Parts { director, steering, table, clock, counters, config } = parts;
        let inner = Inner { director, steering: Some(steering), follower: Some(follower) };
        let control = Self {
            inner: Arc::new(Mutex::new(inner)),
            table,
            clock,
            counters,
            config: Arc::new(config),
        };
        follow.hand_over(&control);
        control
    }

    /// Gives everything to the kernel again and stops following its routes. The follower's thread
    /// holds this control; without it the circle is broken.
    pub(crate) fn let_go(&self) {
        let mut inner = self.lock();
        let (steering, follower) = (inner.steering.take(), inner.follower.take());
        // Unlocked first: the thread that is waited for may be about to publish.
        drop(inner);
        drop((steering, follower));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Makes all the changes, or none.
    ///
    /// # Errors
    ///
    /// The first change that is refused.
    pub fn change(&self, changes: &[Change]) -> Result<(), ChangeError> {
        self.lock().change(changes)
    }

    /// Makes the configuration what `targets` say; says how many changes that took.
    ///
    /// # Errors
    ///
    /// As [`change`](Self::change).
    pub fn set(&self, targets: &Targets) -> Result<usize, ChangeError> {
        let mut inner = self.lock();
        let plan = inner.director.plan(targets);
        inner.change(&plan)?;
        Ok(plan.len())
    }

    /// Reads the file of services again and applies the difference; says how many changes that
    /// took.
    ///
    /// # Errors
    ///
    /// One sentence; nothing was changed.
    pub fn reload(&self) -> Result<usize, String> {
        let Some(path) = &self.config.services else {
            return Err("uvs.toml names no file of `services` to read again".into());
        };
        let targets = rules::read(path).map_err(|error| error.to_string())?;
        self.set(&targets).map_err(|error| error.to_string())
    }

    /// The services with their servers.
    pub fn services(&self) -> Vec<ServiceView> {
        self.lock().director.services()
    }

    /// The connection table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The timeouts of connection states.
    pub fn timeouts(&self) -> Timeouts {
        self.lock().director.published().current().timeouts.clone()
    }

    /// What the workers counted.
    pub fn totals(&self) -> Totals {
        Totals::of(self.counters.iter().map(|counters| &**counters))
    }

    /// What each worker counted, worker 0 first.
    pub fn worker_totals(&self) -> Vec<Totals> {
        self.counters.iter().map(|counters| Totals::of(std::iter::once(&**counters))).collect()
    }

    /// The links.
    pub fn links(&self) -> Vec<Link> {
        self.lock().director.published().current().fib.links().to_vec()
    }

    /// uvs.toml.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Inner {
    fn change(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        self.director
            .apply(changes)
            .map_err(|(number, error)| ChangeError::Refused(number, error))?;
        let steered = self.steered();
        if let Some(steering) = &mut self.steering {
            steering.update(&steered)?;
        }
        if let Some(follower) = &self.follower {
            let views = self.director.services();
            let dests = views.iter().flat_map(|service| &service.dests);
            follower.keep(dests.map(|dest| dest.config.address).collect());
        }
        Ok(())
    }

    /// What the steering program has to send to the workers.
    fn steered(&self) -> Steered {
        let snapshot = self.director.published().current();
        Steered {
            services: snapshot.services().iter().map(|service| service.endpoint).collect(),
            servers: snapshot.nat_servers().copied().collect(),
        }
    }
}
