//! Follows the kernel's routes and neighbours in a thread of its own.
//!
//! Neighbours come one by one as the kernel tells them. Routes are read anew as a whole after any
//! change: the kernel drops the routes of an interface that goes down without a word, and
//! replaces and appends in ways that only a fresh list shows for certain.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage as Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uvs_engine::address::Address;
use uvs_engine::ask::Asks;
use uvs_engine::fib::Fib;
use uvs_engine::link::{Link, LinkId};

use super::HostError;
use super::kernel::Kernel;
use super::notices::Notices;
use super::resolve::Resolver;
use super::tables::Tables;

/// How long the thread sleeps at most, and how often a neighbour may be asked for.
const TICK: Duration = Duration::from_secs(1);

/// How often the neighbours of real servers are looked at, so that none that went stale vanishes.
const KEEP: Duration = Duration::from_secs(15);

/// Reading routes takes this share of the thread's time at most, whatever a routing daemon does:
/// one part in so many.
const SHARE: u32 = 5;

/// A thread that follows the kernel's routes and neighbours until this is dropped.
#[derive(Debug)]
pub struct Follower {
    /// Addresses to keep a fresh neighbour for; `None` when nothing changed since the last look.
    kept: Arc<Mutex<Option<Vec<Address>>>>,
    /// A byte wakes the thread, the end stops it.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Reads all there is over `links` and starts to follow it; returns the first table.
    ///
    /// `publish` is called in the thread `uvs-routes` with each newer one, once for a burst of
    /// changes. What workers put into `asks` is asked of the kernel, once a second per neighbour.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell, or the thread cannot be started.
    pub fn start(
        links: Vec<Link>,
        asks: Arc<Asks>,
        publish: impl FnMut(Fib) + Send + 'static,
    ) -> Result<(Self, Fib), HostError> {
        let (wake, woken) = UnixStream::pair().map_err(HostError::Thread)?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(HostError::Thread)?;
        }
        let kept = Arc::new(Mutex::new(None));
        let mut watch = Watch::open(links, asks, kept.clone())?;
        watch.read_all()?;
        let first = watch.tables.fib();
        let thread = std::thread::Builder::new()
            .name("uvs-routes".into())
            .spawn(move || watch.run(&woken, publish))
            .map_err(HostError::Thread)?;
        Ok((Self { kept, wake: Some(wake), thread: Some(thread) }, first))
    }

    /// From now on keeps the neighbours fresh over which these addresses, the real servers, are
    /// reached: they are resolved before the first packet needs them and do not age away.
    pub fn keep(&self, servers: Vec<Address>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(servers);
        if let Some(mut wake) = self.wake.as_ref() {
            // A full socket wakes as well.
            let _ = wake.write(&[1]);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.wake.take());
        let thread = self.thread.take();
        // What `publish` holds may be the last to hold this; a thread cannot wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = thread.filter(other) {
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Watch {
    notices: Notices,
    kernel: Kernel,
    tables: Tables,
    asks: Arc<Asks>,
    resolver: Resolver,
    kept: Arc<Mutex<Option<Vec<Address>>>>,
    servers: Vec<Address>,
    /// What has to be read anew.
    stale: Stale,
    /// Routes are not read again before this.
    rest: Instant,
    /// When the next [`TICK`] is.
    tick: Instant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stale {
    links: bool,
    routes: bool,
    neighbours: bool,
}

impl Stale {
    const ALL: Self = Self { links: true, routes: true, neighbours: true };

    fn any(self) -> bool {
        self != Self::default()
    }
}

impl Watch {
    fn open(
        links: Vec<Link>,
        asks: Arc<Asks>,
        kept: Arc<Mutex<Option<Vec<Address>>>>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            // Before anything is read, so that no change falls between.
            notices: Notices::open()?,
            kernel: Kernel::open()?,
            tables: Tables::new(links),
            asks,
            resolver: Resolver::default(),
            kept,
            servers: Vec::new(),
            stale: Stale::ALL,
            rest: Instant::now(),
            tick: Instant::now() + TICK,
        })
    }

    fn run(mut self, woken: &UnixStream, mut publish: impl FnMut(Fib)) {
        let mut kept = Instant::now();
        while self.sleep(woken) {
            let now = Instant::now();
            if now >= self.tick {
                self.tick = now + TICK;
                self.asks.forget();
                self.resolver.forget(now);
            }
            if self.news(now) {
                let tables = &self.tables;
                self.resolver.forget_answered(|link, neighbour| tables.is_fresh(link, neighbour));
                self.asks.forget();
                publish(tables.fib());
            }
            self.answer(now);
            let new = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
            if new.is_some() || now.duration_since(kept) >= KEEP {
                kept = now;
                self.servers = new.unwrap_or(std::mem::take(&mut self.servers));
                self.keep(now);
            }
        }
    }

    /// Sleeps until there is something to do; false when it is to stop.
    fn sleep(&self, woken: &UnixStream) -> bool {
        let until = if self.stale.any() { self.tick.min(self.rest) } else { self.tick };
        let limit = until.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos() as _ };
        let notices = self.notices.as_fd();
        let (asks, wake) = (self.asks.as_fd(), woken.as_fd());
        let mut fds = [&notices, &asks, &wake].map(|fd| PollFd::new(fd, PollFlags::IN));
        if let Err(error) = poll(&mut fds, Some(&limit))
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "cannot wait for the kernel's routes");
            std::thread::sleep(TICK);
        }
        let mut bytes = [0; 16];
        loop {
            match (&mut &*woken).read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    /// Takes all notifications that wait; true when the workers need a newer table.
    fn news(&mut self, now: Instant) -> bool {
        let mut changed = false;
        let (tables, stale) = (&mut self.tables, &mut self.stale);
        let drained = self.notices.drain(|message| match message {
            Message::NewNeighbour(message) => changed |= tables.note_neighbour(&message, false),
            Message::DelNeighbour(message) => changed |= tables.note_neighbour(&message, true),
            Message::NewRoute(_) | Message::DelRoute(_) => stale.routes = true,
            Message::NewAddress(_)
            | Message::DelAddress(_)
            | Message::NewLink(_)
            | Message::DelLink(_) => (stale.links, stale.routes) = (true, true),
            _ => {}
        });
        match drained {
            Ok(true) => {}
            Ok(false) => *stale = Stale::ALL,
            Err(error) => {
                tracing::error!(%error, "cannot read the kernel's notifications");
                *stale = Stale::ALL;
            }
        }
        if self.stale.any() && now >= self.rest {
            changed |= self.read_all().unwrap_or_else(|error| {
                tracing::error!(%error, "next hops may be out of date");
                false
            });
            let end = Instant::now();
            let pause = end.duration_since(now) * SHARE;
            self.rest = end + if self.stale.any() { TICK } else { pause };
        }
        changed
    }

    /// Reads anew what is stale; true when it changed.
    fn read_all(&mut self) -> Result<bool, HostError> {
        let mut changed = false;
        if self.stale.links {
            changed |= self.tables.set_links(&self.kernel.links()?, &self.kernel.addresses()?);
            self.stale.links = false;
        }
        if self.stale.routes {
            changed |= self.tables.set_routes(&self.kernel.routes()?);
            self.stale.routes = false;
        }
        if self.stale.neighbours {
            changed |= self.tables.set_neighbours(&self.kernel.neighbours()?);
            self.stale.neighbours = false;
        }
        Ok(changed)
    }

    /// Asks the kernel for what the workers asked for.
    fn answer(&mut self, now: Instant) {
        self.asks.hush();
        while let Some((link, neighbour)) = self.asks.take() {
            self.resolve(link, neighbour, now);
        }
    }

    /// Asks for the servers' neighbours that the kernel does not know or has not heard of lately.
    fn keep(&mut self, now: Instant) {
        for at in 0..self.servers.len() {
            if let Some((link, neighbour)) = self.tables.way(self.servers[at])
                && !self.tables.is_fresh(link, neighbour)
            {
                self.resolve(link, neighbour, now);
            }
        }
    }

    fn resolve(&mut self, link: LinkId, neighbour: Address, now: Instant) {
        if let Some(ifindex) = self.tables.links().get(usize::from(link.0)).map(|l| l.ifindex) {
            self.resolver.ask(&mut self.kernel, (link, ifindex), neighbour, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc::{Receiver, channel};

    use uvs_engine::fib::NextHop;

    use super::super::links;
    use super::super::namespace::{Peer, in_namespace, run};
    use super::*;

    const SERVER: Address = Address::v4(Ipv4Addr::new(10, 9, 0, 2));
    const FAR: Address = Address::v4(Ipv4Addr::new(10, 200, 0, 1));

    /// The newest table until `good` likes one.
    fn until(tables: &Receiver<Fib>, good: impl Fn(&Fib) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let fib = tables.recv_timeout(left).expect("a table that shows the change");
            if good(&fib) {
                return;
            }
        }
    }

    fn followed() -> (Peer, Follower, Fib, Arc<Asks>, Receiver<Fib>) {
        let peer = Peer::new("uvs0", "10.9.0.1/24", "10.9.0.2/24");
        let links = links::find(&["uvs0".into()]).unwrap();
        assert_eq!(links[0].addresses, [Ipv4Addr::new(10, 9, 0, 1)]);
        let asks = Arc::new(Asks::new(16).unwrap());
        let (send, receive) = channel();
        let publish = move |fib| drop(send.send(fib));
        let (follower, first) = Follower::start(links, asks.clone(), publish).unwrap();
        (peer, follower, first, asks, receive)
    }

    #[test]
    fn changes_in_the_kernel_reach_the_table() {
        if !in_namespace("host::follow::tests::changes_in_the_kernel_reach_the_table") {
            return;
        }
        let (_peer, follower, first, _, tables) = followed();
        assert_eq!(first.next_hop(SERVER), NextHop::Unresolved(LinkId(0), SERVER));
        assert_eq!(first.next_hop(Ipv4Addr::new(10, 9, 0, 1).into()), NextHop::Local);
        assert_eq!(first.next_hop(FAR), NextHop::NoRoute);

        run("ip route add 10.200.0.0/16 via 10.9.0.2");
        until(&tables, |fib| fib.next_hop(FAR) == NextHop::Unresolved(LinkId(0), SERVER));
        run("ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:07 dev uvs0");
        let is_seven = |hop: NextHop| matches!(hop, NextHop::Ready(_, hop) if hop.dst[5] == 7);
        until(&tables, |fib| is_seven(fib.next_hop(FAR)) && is_seven(fib.next_hop(SERVER)));
        run("ip route replace blackhole 10.200.0.0/16");
        until(&tables, |fib| fib.next_hop(FAR) == NextHop::NoRoute);
        run("ip neigh del 10.9.0.2 dev uvs0");
        until(&tables, |fib| matches!(fib.next_hop(SERVER), NextHop::Unresolved(..)));
        run("ip address add 10.9.7.7/32 dev lo");
        until(&tables, |fib| fib.next_hop(Ipv4Addr::new(10, 9, 7, 7).into()) == NextHop::Local);
        run("ip link set uvs0 mtu 1400");
        until(&tables, |fib| fib.links()[0].mtu == 1400);
        // The kernel does not tell of the routes that this takes away.
        run("ip link set uvs0 down");
        until(&tables, |fib| fib.next_hop(SERVER) == NextHop::NoRoute);
        run("ip link del uvs0");
        std::thread::sleep(Duration::from_millis(50));
        run("ip route add 10.201.0.0/16 dev lo");
        drop(follower);
        assert!(tables.try_iter().all(|fib| fib.links().len() == 1), "and lives on without it");
    }

    #[test]
    fn a_neighbour_that_is_asked_for_gets_resolved() {
        if !in_namespace("host::follow::tests::a_neighbour_that_is_asked_for_gets_resolved") {
            return;
        }
        let (peer, _follower, first, asks, tables) = followed();
        assert_eq!(first.next_hop(SERVER), NextHop::Unresolved(LinkId(0), SERVER));
        assert!(asks.ask(LinkId(0), SERVER));
        let mac = peer.mac();
        let ready =
            |fib: &Fib| matches!(fib.next_hop(SERVER), NextHop::Ready(_, h) if h.dst == mac);
        until(&tables, ready);

        // One that is lost right after its answer is asked for again at once.
        let start = Instant::now();
        run("ip neigh flush dev uvs0 nud all");
        until(&tables, |fib| !ready(fib));
        assert!(asks.ask(LinkId(0), SERVER));
        until(&tables, ready);
        assert!(start.elapsed() < TICK, "{:?}", start.elapsed());
    }

    #[test]
    fn a_kept_server_is_resolved_unasked() {
        if !in_namespace("host::follow::tests::a_kept_server_is_resolved_unasked") {
            return;
        }
        let (_peer, follower, _, _, tables) = followed();
        run("ip route add 10.200.0.0/16 via 10.9.0.2");
        until(&tables, |fib| matches!(fib.next_hop(FAR), NextHop::Unresolved(..)));
        follower.keep(vec![FAR]);
        until(&tables, |fib| matches!(fib.next_hop(FAR), NextHop::Ready(..)));
    }

    #[test]
    fn a_flood_of_changes_is_not_lost() {
        if !in_namespace("host::follow::tests::a_flood_of_changes_is_not_lost") {
            return;
        }
        let (_peer, _follower, _, _, tables) = followed();
        let lines: String =
            (0..20_000)
                .map(|n| {
                    format!(
                        "neigh replace 10.9.0.{} lladdr 02:00:00:00:{:02x}:{:02x} dev uvs0\n",
                        n % 200 + 10,
                        n >> 8 & 0xff,
                        n & 0xff
                    )
                })
                .chain((0..2000).map(|n| {
                    format!("route add 10.{}.{}.0/24 via 10.9.0.2\n", 64 + (n >> 8), n & 255)
                }))
                .collect();
        super::super::namespace::batch(&lines);
        let last = Ipv4Addr::new(10, 64 + (1999 >> 8) as u8, (1999 & 255) as u8, 1);
        until(&tables, |fib| {
            let mac = fib.resolve(LinkId(0), [10, 9, 0, 209].into()).map(|hop| hop.dst);
            matches!(fib.next_hop(last.into()), NextHop::Unresolved(..))
                && mac == Some([2, 0, 0, 0, 0x4e, 0x1f])
        });
    }
}
