//! A running engine: opened, started and stopped.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use uvs_engine::ask::Asks;
use uvs_engine::clock::Clock;
use uvs_engine::fib::Fib;
use uvs_engine::limiter::ANSWERS_PER_SECOND;
use uvs_engine::port::open::{AnyPort, Opened, open};
use uvs_engine::port::tap::{TapError, Taps};
use uvs_engine::port::{OpenError, Port};
use uvs_engine::table::{CapacityError, Owner, Table};
use uvs_engine::worker::{Shared, Worker};

use crate::config::Config;
use crate::control::{ChangeError, Control, Follow, Parts};
use crate::director::Director;
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
    #[error("{place}{source}")]
    Capacity {
        /// Where the file says how large it is to be, with a colon.
        place: String,
        /// What is wrong.
        source: CapacityError,
    },
    /// The ports.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The way back to the host.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The services cannot be applied.
    #[error(transparent)]
    Change(#[from] ChangeError),
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
         leads to it; `ip address add {vip}/{} dev lo` makes it local",
        if vip.is_ipv4() { 32 } else { 128 }
    )]
    Unreachable {
        /// The address.
        vip: IpAddr,
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
    /// Ticks every two seconds, until its channel is closed.
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

/// How often statistics move on.
const TICK: Duration = Duration::from_secs(2);

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
        let (table, owners) = table(&config, workers, &clock)?;
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
            answers_per_second: Some(ANSWERS_PER_SECOND),
            ..Shared::new(director.published().clone(), asks, clock.clone())
        };
        let crew = crew(ports, owners, &taps, &shared);
        let rules = config.rules();
        let parts = Parts {
            director,
            steering: Some(steering),
            table,
            calls: shared.calls,
            clock,
            counters: crew.iter().map(Worker::counters).collect(),
            config,
        };
        let control = Control::new(parts, follower, &follow);
        control.set(rules, Some(&targets)).inspect_err(|_| control.let_go())?;
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
            ticker: None,
        };
        engine.ticker = Some(ticker(engine.control.clone()).map_err(system("start a thread"))?);
        let (cores, busy) = (engine.control.config().cores.clone(), engine.control.config().busy);
        for (number, (mut worker, core)) in crew.into_iter().zip(cores).enumerate() {
            let stop = engine.stop.clone();
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
        if let Some((ticks, thread)) = self.ticker.take() {
            drop(ticks);
            let _ = thread.join();
        }
        // First no more frames come, then the workers finish those that came.
        self.control.let_go();
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

/// The connection table, if the machine and the limits of this process have room for it.
fn table(
    config: &Config,
    workers: usize,
    clock: &Clock,
) -> Result<(Arc<Table>, Vec<Owner>), StartError> {
    Table::new(config.connections, workers, clock.now()).map_err(|source| {
        let place = config.connections_at.as_ref().map_or(String::new(), |at| format!("{at}: "));
        StartError::Capacity { place, source }
    })
}

/// A thread that ticks until the sender is dropped.
fn ticker(control: Control) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (sender, stopped) = mpsc::channel();
    let run = move || {
        let mut next = Instant::now() + TICK;
        let left = |next: Instant| next.saturating_duration_since(Instant::now());
        while stopped.recv_timeout(left(next)) == Err(RecvTimeoutError::Timeout) {
            control.tick();
            next += TICK;
        }
    };
    let thread = std::thread::Builder::new().name("uvs-ticks".into()).spawn(run)?;
    Ok((sender, thread))
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
    let mut vips = targets.keys().filter_map(|key| key.endpoint().map(|end| end.address));
    match vips.find(|vip| fib.next_hop((*vip).into()) == NextHop::NoRoute) {
        None => Ok(()),
        Some(vip) => Err(StartError::Unreachable { vip }),
    }
}
