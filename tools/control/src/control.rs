//! The configuration of a running engine, shared by the API, the signals and the route follower.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uvs_engine::calls::Calls;
use uvs_engine::clock::Clock;
use uvs_engine::counters::{Counters, Totals};
use uvs_engine::fib::Fib;
use uvs_engine::link::Link;
use uvs_engine::marks::Marks;
use uvs_engine::port::steer::{SteerError, Steering};
use uvs_engine::service::ServiceKey;
use uvs_engine::snapshot::{Rules, Snapshot};
use uvs_engine::table::Table;
use uvs_uvsadm::api::{self as document, ApiError, Change, Outcome, Refused, Traffic};

use crate::config::Config;
use crate::director::Director;
use crate::host::Follower;
use crate::rules::{self, Targets};
use crate::service::ServiceView;
use crate::steered::steered;

/// What changes while the engine runs.
#[derive(Debug)]
struct Inner {
    director: Director,
    /// `None` once the engine stops: everything goes to the kernel again.
    steering: Option<Steering>,
    follower: Option<Follower>,
    /// Removed services whose connections are still steered.
    lingering: HashSet<ServiceKey>,
    /// What is steered: the snapshot's layout, and its marks.
    steered: Option<(u64, Arc<Marks>)>,
    /// Counts changes; who watches is told.
    version: watch::Sender<u64>,
}

/// See the module; clones are of the same engine.
#[derive(Clone, Debug)]
pub struct Control {
    inner: Arc<Mutex<Inner>>,
    table: Arc<Table>,
    calls: Arc<Calls>,
    clock: Clock,
    counters: Arc<[Arc<Counters>]>,
    config: Arc<Config>,
}

/// What a control is made of.
pub(crate) struct Parts {
    pub director: Director,
    pub steering: Option<Steering>,
    pub table: Arc<Table>,
    pub calls: Arc<Calls>,
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
    /// The configuration is of another version by now.
    #[error(
        "the configuration is of version {version} by now, not {expected}; read it again and \
         change that"
    )]
    Stale {
        /// The version that was to be replaced.
        expected: u64,
        /// The version that is there.
        version: u64,
    },
    /// The steering program does not follow.
    #[error(transparent)]
    Steer(#[from] SteerError),
}

fn told(refused: Vec<(usize, ApiError)>) -> Vec<Refused> {
    refused.into_iter().map(|(change, error)| Refused { change, error }).collect()
}

impl Control {
    pub(crate) fn new(parts: Parts, follower: Follower, follow: &Follow) -> Self {
        let control = Self::of(parts, Some(follower));
        follow.hand_over(&control);
        control
    }

    /// A control without ports: of workers that somebody else runs, on frames of his own.
    pub fn without_ports(
        director: Director,
        table: Arc<Table>,
        clock: Clock,
        config: Config,
    ) -> Self {
        let (calls, counters) = (Arc::default(), Arc::from([]));
        let steering = None;
        Self::of(Parts { director, steering, table, calls, clock, counters, config }, None)
    }

    fn of(parts: Parts, follower: Option<Follower>) -> Self {
        let Parts { director, steering, table, calls, clock, counters, config } = parts;
        let lingering = HashSet::new();
        let (version, _) = watch::channel(1);
        let steered = None;
        let inner = Inner { director, steering, follower, lingering, steered, version };
        let (inner, config) = (Arc::new(Mutex::new(inner)), Arc::new(config));
        Self { inner, table, calls, clock, counters, config }
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

    /// Makes all the changes, or none; says the version that they make.
    ///
    /// # Errors
    ///
    /// The first change that is refused.
    pub fn change(&self, changes: &[Change]) -> Result<u64, ChangeError> {
        let mut inner = self.lock();
        inner.change(changes)?;
        Ok(inner.version())
    }

    /// Makes those of the changes that can be made, and says which cannot.
    ///
    /// # Errors
    ///
    /// The steering program does not follow.
    pub fn change_each(&self, changes: &[Change]) -> Result<Outcome, ChangeError> {
        let mut inner = self.lock();
        let refused = inner.director.apply_each(changes);
        if refused.len() < changes.len() {
            inner.follow()?;
        }
        Ok(Outcome { version: inner.version(), changes: Vec::new(), refused: told(refused) })
    }

    /// What [`change_each`](Self::change_each) would do.
    pub fn trial(&self, changes: &[Change]) -> Outcome {
        let inner = self.lock();
        let (changes, refused) = inner.director.trial(changes);
        Outcome { version: inner.version(), changes, refused: told(refused) }
    }

    /// The whole configuration.
    pub fn document(&self) -> document::Config {
        let inner = self.lock();
        crate::document::of(&inner.director, inner.version())
    }

    /// Makes the whole configuration what `wanted` says, or nothing; with `dry_run` nothing, but
    /// says what would be done.
    ///
    /// # Errors
    ///
    /// Another version than `wanted` is of; a change that is refused.
    pub fn replace(
        &self,
        wanted: &document::Config,
        dry_run: bool,
    ) -> Result<Outcome, ChangeError> {
        let mut inner = self.lock();
        let version = inner.version();
        if let Some(expected) = wanted.version.filter(|expected| *expected != version) {
            return Err(ChangeError::Stale { expected, version });
        }
        let changes = crate::document::plan(&inner.director, wanted)
            .map_err(|error| ChangeError::Refused(0, error))?;
        if dry_run {
            let refused = told(inner.director.trial(&changes).1);
            return Ok(Outcome { version, changes, refused });
        }
        if !changes.is_empty() {
            inner.change(&changes)?;
        }
        Ok(Outcome { version: inner.version(), changes, refused: Vec::new() })
    }

    /// The version of the configuration, now and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.lock().version.subscribe()
    }

    /// Makes timeouts, settings and marks what `rules` say and the services what `targets` say, or
    /// nothing; says how many changes that took. Without `targets` the services stay.
    ///
    /// # Errors
    ///
    /// As [`change`](Self::change).
    pub fn set(&self, rules: Rules, targets: Option<&Targets>) -> Result<usize, ChangeError> {
        let mut inner = self.lock();
        let plan = targets.map(|targets| inner.director.plan(targets)).unwrap_or_default();
        let changes = plan.len() + differences(inner.director.rules(), &rules);
        if changes > 0 {
            inner.change_with(rules, &plan)?;
        }
        Ok(changes)
    }

    /// Reads uvs.toml again, of it the settings, timeouts and marks, and the file of services, and
    /// makes everything as they say; says how many changes that took. The rest of uvs.toml counts
    /// at the next start.
    ///
    /// # Errors
    ///
    /// One sentence; nothing was changed.
    pub fn reload(&self) -> Result<usize, String> {
        let config = match &self.config.file {
            Some(file) => &Config::read(file).map_err(|error| error.to_string())?,
            None => &*self.config,
        };
        let targets = config.services.as_deref().map(rules::read).transpose();
        let targets = targets.map_err(|error| error.to_string())?;
        self.set(config.rules(), targets.as_ref()).map_err(|error| error.to_string())
    }

    /// Two seconds have passed: statistics move on, and what is over is forgotten.
    pub fn tick(&self) {
        let mut inner = self.lock();
        inner.director.tick(self.clock.now());
        inner.let_linger();
        drop(inner);
        self.calls.forget(&self.table);
    }

    /// The services with their servers.
    pub fn services(&self) -> Vec<ServiceView> {
        self.lock().director.services()
    }

    /// What the workers use: another one whenever something was changed.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.lock().director.published().current()
    }

    /// The connection table.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The names of calls.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Timeouts, settings and marks.
    pub fn rules(&self) -> Rules {
        self.lock().director.rules().clone()
    }

    /// Totals and rates over all services that ever were, as of the last tick.
    pub fn traffic(&self) -> Traffic {
        self.lock().director.traffic()
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

/// How many settings differ, and whether timeouts and marks do.
fn differences(old: &Rules, new: &Rules) -> usize {
    let settings = old.settings.iter().zip(new.settings.iter()).filter(|(old, new)| old != new);
    settings.count()
        + usize::from(old.timeouts != new.timeouts)
        + usize::from(old.marks.rules() != new.marks.rules())
}

impl Inner {
    fn version(&self) -> u64 {
        *self.version.borrow()
    }

    fn change(&mut self, changes: &[Change]) -> Result<(), ChangeError> {
        self.change_with(self.director.rules().clone(), changes)
    }

    fn change_with(&mut self, rules: Rules, changes: &[Change]) -> Result<(), ChangeError> {
        self.director
            .apply_with(rules, changes)
            .map_err(|(number, error)| ChangeError::Refused(number, error))?;
        self.follow()
    }

    /// What was published is counted, steered, and its servers' neighbours are kept.
    fn follow(&mut self) -> Result<(), ChangeError> {
        self.version.send_modify(|version| *version += 1);
        let snapshot = self.director.published().current();
        let steered = self.steered.as_ref().is_some_and(|(layout, marks)| {
            *layout == snapshot.layout && Arc::ptr_eq(marks, &snapshot.rules.marks)
        });
        if steered && self.director.lingering() == self.lingering {
            return Ok(());
        }
        self.steer()?;
        if let Some(follower) = &self.follower {
            let servers = snapshot.services().iter().flat_map(|service| &service.servers);
            follower.keep(servers.map(|dest| dest.address).collect());
        }
        Ok(())
    }

    /// Stops to steer what was for removed services whose connections are over.
    fn let_linger(&mut self) {
        if self.director.lingering() != self.lingering
            && let Err(error) = self.steer()
        {
            tracing::warn!("{error}");
        }
    }

    fn steer(&mut self) -> Result<(), SteerError> {
        self.lingering = self.director.lingering();
        let snapshot = self.director.published().current();
        if let Some(steering) = &mut self.steering {
            steering.update(&steered(&snapshot, &self.lingering))?;
        }
        self.steered = Some((snapshot.layout, snapshot.rules.marks.clone()));
        Ok(())
    }
}
