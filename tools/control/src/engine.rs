//! A running engine: opened, started, changed and stopped.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use uvs_engine::ask::Asks;
use uvs_engine::clock::Clock;
use uvs_engine::counters::{Counters, Totals};
use uvs_engine::fib::Fib;
use uvs_engine::limiter::ANSWERS_PER_SECOND;
use uvs_engine::link::Link;
use uvs_engine::port::open::{AnyPort, Opened, open};
use uvs_engine::port::steer::{SteerError, Steered, Steering};
use uvs_engine::port::tap::{TapError, Taps};
use uvs_engine::port::{OpenError, Port};
use uvs_engine::proto::Timeouts;
use uvs_engine::table::{CapacityError, Owner, Table};
use uvs_engine::worker::{Shared, Worker};
use uvs_uvsadm::api::{ApiError, Change};

use crate::config::Config;
use crate::director::{Director, ServiceView};
use crate::host::{Follower, HostError, links};
use crate::rules::{self, RulesError, Targets};

/// Questions for Ethernet addresses that may be under way.
const ASKS: usize = 1024;

/// Why an engine does not start; nothing is left on the host then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file of services.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Links, routes or neighbours.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The connection table.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The ports.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The way back to the host.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The steering program's tables.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// A core that the machine does not have.
    #[error("core {core} does not exist; this process may use the cores {allowed}")]
    Core {
        /// As asked for.
        core: usize,
        /// Those that exist.
        allowed: String,
    },
    /// A virtual address that nobody would send here.
    #[error(
        "the virtual address {vip} does not reach this host: it is no local address and no route \
         leads to it; `ip address add {vip}/32 dev lo` makes it local"
    )]
    Unreachable {
        /// The address.
        vip: std::net::Ipv4Addr,
    },
    /// A system resource.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// What changes while the engine runs.
#[derive(Debug)]
struct Inner {
    director: Director,
    /// `None` once the engine stops: everything goes to the kernel again.
    steering: Option<Steering>,
    follower: Option<Follower>,
}

/// The engine's configuration, shared by the API, the signals and the route follower.
#[derive(Clone, Debug)]
pub struct Control {
    inner: Arc<Mutex<Inner>>,
    table: Arc<Table>,
    clock: Clock,
    counters: Arc<[Arc<Counters>]>,
    config: Arc<Config>,
}

/// A running engine; dropped, it stops and leaves nothing behind.
#[derive(Debug)]
pub struct Engine {
    control: Control,
    report: Vec<String>,
    stop: Arc<AtomicBool>,
    /// Written to, it wakes the workers that sleep.
    wake: UnixStream,
    /// The other end, which the workers poll.
    _woken: UnixStream,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Engine {
    /// Opens the ports, starts a worker a core and applies the file of services. Everything that
    /// can be wrong with the files is found before the host is touched.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        let targets = config.services.as_deref().map(rules::read).transpose()?.unwrap_or_default();
        check_cores(&config.cores)?;
        let links = links::find(&config.interfaces)?;
        let clock = Clock::system();
        let workers = config.cores.len();
        let (table, owners) = Table::new(config.connections, workers, clock.now())?;
        let asks = Arc::new(Asks::new(ASKS).map_err(system("make a wake-up socket"))?);
        let follow = Follow::default();
        let (follower, fib) = Follower::start(links.clone(), asks.clone(), follow.publisher())?;
        check_reachable(&targets, &fib)?;
        let Opened { ports, steering, mut report } = open(&links, workers, config.mode)?;
        let port = ports.first().map_or_else(String::new, |port| port.mode().to_owned());
        report.push(format!("port: {port}"));
        let taps = Taps::open(&links)?;
        for tap in taps.iter() {
            let unset = tap.unset().iter();
            report.extend(unset.map(|it| format!("{}: could not set {it}", tap.name())));
        }

        let director = Director::new(workers, fib);
        let shared = Shared {
            published: director.published().clone(),
            asks,
            clock: clock.clone(),
            answers_per_second: Some(ANSWERS_PER_SECOND),
        };
        let crew = crew(ports, owners, &taps, &shared);
        let inner = Inner { director, steering: Some(steering), follower: None };
        let control = Control {
            inner: Arc::new(Mutex::new(inner)),
            table,
            clock,
            counters: crew.iter().map(Worker::counters).collect(),
            config: Arc::new(config),
        };
        follow.hand_over(&control);
        control.lock().follower = Some(follower);
        control.set(&targets).map_err(|error| match error {
            ChangeError::Steer(error) => StartError::Steer(error),
            ChangeError::Refused(number, error) => StartError::System {
                what: "apply the file of services",
                source: io::Error::other(format!("change {number}: {error}")),
            },
        })?;
        Self::run(control, crew, report)
    }

    fn run(
        control: Control,
        crew: Vec<Worker<AnyPort, Taps>>,
        report: Vec<String>,
    ) -> Result<Self, StartError> {
        let (wake, woken) = UnixStream::pair().map_err(system("make a wake-up socket"))?;
        let mut engine = Self {
            control,
            report,
            stop: Arc::default(),
            wake,
            _woken: woken,
            threads: Vec::new(),
        };
        let config = engine.control.config.clone();
        for (number, (mut worker, core)) in crew.into_iter().zip(&config.cores).enumerate() {
            let (stop, busy, core) = (engine.stop.clone(), config.busy, *core);
            let woken = Polled(engine._woken.as_raw_fd());
            let run = move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
                let ended = worker.run(&stop, &woken, busy);
                worker.stop();
                ended
            };
            let thread = std::thread::Builder::new().name(format!("uvs-worker-{number}"));
            engine.threads.push(thread.spawn(run).map_err(system("start a worker"))?);
        }
        Ok(engine)
    }

    /// Its configuration.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What was opened and why, in words.
    pub fn report(&self) -> &[String] {
        &self.report
    }

    /// Whether a worker has ended by itself, which only happens when its interface is gone.
    pub fn failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Stops the workers and waits for them.
    ///
    /// # Errors
    ///
    /// Why a worker ended by itself.
    pub fn stop(&mut self) -> io::Result<()> {
        // First no more frames come, then the workers finish those that came.
        let steering = self.control.lock().steering.take();
        drop(steering);
        // Relaxed: the flag stands for itself; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        // The end of the socket wakes every worker; it stays readable.
        let _ = self.wake.shutdown(std::net::Shutdown::Both);
        let mut ended = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(result) => ended = ended.and(result),
                Err(_) => ended = Err(io::Error::other("a worker panicked")),
            }
        }
        // The follower's thread holds the control; dropped here, the circle is broken.
        let follower = self.control.lock().follower.take();
        drop(follower);
        ended
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// A descriptor that the engine keeps open for as long as its workers run.
struct Polled(RawFd);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

fn crew(
    ports: Vec<AnyPort>,
    owners: Vec<Owner>,
    taps: &Taps,
    shared: &Shared,
) -> Vec<Worker<AnyPort, Taps>> {
    let pairs = ports.into_iter().zip(owners);
    pairs.map(|(port, owner)| Worker::new(port, taps.clone(), owner, shared)).collect()
}

fn check_cores(cores: &[usize]) -> Result<(), StartError> {
    let mut there: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    there.sort_unstable();
    match cores.iter().find(|core| !there.contains(core)) {
        None => Ok(()),
        Some(core) => {
            let allowed = there.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            Err(StartError::Core { core: *core, allowed })
        }
    }
}

/// The kernel's IPVS sees a packet to an address that is local or routed; so does uvs.
fn check_reachable(targets: &Targets, fib: &Fib) -> Result<(), StartError> {
    use uvs_engine::fib::NextHop;
    let mut vips = targets.keys().map(|key| key.address);
    match vips.find(|vip| fib.next_hop(*vip) == NextHop::NoRoute) {
        None => Ok(()),
        Some(vip) => Err(StartError::Unreachable { vip }),
    }
}

/// Carries routes from the follower's thread to a control that is made after it.
#[derive(Clone, Default)]
struct Follow(Arc<Mutex<Followed>>);

#[derive(Default)]
enum Followed {
    #[default]
    Nothing,
    /// What came before there was a control.
    Newest(Fib),
    To(Control),
}

impl Follow {
    fn publisher(&self) -> impl FnMut(Fib) + Send + 'static {
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
