//! Virtual services and their real servers, as the workers see them: immutable but for the counts.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use uvs_forward::Method;
use uvs_forward::tun::Kind;
use uvs_sched::{Load, Scheduler, ServerId};

use crate::address::{Address, Mask};
use crate::clock::Ticks;
use crate::counters::Traffic;
use crate::proto::Timeouts;

/// The port of FTP, whose service gets the client's data connections as well.
pub const FTP: u16 = 21;

/// What names a server's end of a connection, or a service's: protocol, address, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// IP protocol number.
    pub protocol: u8,
    /// Address.
    pub address: Address,
    /// Port; 0 is any.
    pub port: u16,
}

/// As few numbers as can be, each of which a hasher takes in one step.
impl Hash for Endpoint {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let rest = u64::from(self.protocol) << 48 | u64::from(self.port) << 32;
        match self.address.is_v4() {
            true => state.write_u64(rest | u64::from(self.address.low32())),
            false => {
                let (high, low) = self.address.words();
                state.write_u64(rest ^ low);
                state.write_u64(high);
            }
        }
    }
}

/// The path MTU to a server, learned from ICMP errors about tunnel packets.
///
/// As the kernel's routes do, it forgets after ten minutes (`mtu_expires`).
#[derive(Debug, Default)]
pub struct PathMtu(AtomicU64);

impl PathMtu {
    const LASTS: Ticks = Ticks::from_secs(600);

    /// The path MTU, in bytes, if a smaller one than the link's was learned of late.
    #[inline]
    pub fn get(&self, now: Ticks) -> Option<u16> {
        // Relaxed: a value by itself.
        let word = self.0.load(Ordering::Relaxed);
        let (mtu, learned) = ((word >> 32) as u16, Ticks(word as u32));
        (mtu != 0 && !learned.after(Self::LASTS).is_past(now)).then_some(mtu)
    }

    /// Notes what an error said: only less is believed.
    pub fn learn(&self, mtu: u16, now: Ticks) {
        let mtu = self.get(now).map_or(mtu, |known| known.min(mtu));
        // Relaxed: a value by itself; of two at once one is learned a packet later.
        self.0.store(u64::from(mtu) << 32 | u64::from(now.0), Ordering::Relaxed);
    }
}

/// To what the segment size is lowered that TCP connections of a service announce (`--mss-clamp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MssClamp {
    /// It is left alone.
    #[default]
    Off,
    /// This many bytes.
    To(u16),
    /// What fits the links on both sides, and the tunnel.
    PathMtu,
}

/// What names a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// Protocol, virtual address and port; port 0 takes all that no other service takes.
    Endpoint(Endpoint),
    /// A firewall mark, of packets of one family.
    Mark {
        /// Not 0.
        mark: u32,
        /// Whether of IPv6 packets.
        v6: bool,
    },
}

impl ServiceKey {
    /// The port, 0 of a mark.
    pub fn port(&self) -> u16 {
        match self {
            Self::Endpoint(endpoint) => endpoint.port,
            Self::Mark { .. } => 0,
        }
    }

    /// Whether the service is that of a firewall mark.
    pub fn is_mark(&self) -> bool {
        matches!(self, Self::Mark { .. })
    }
}

/// How long, and by what, a client stays with its server (`-p`, `-M`, `--pe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Idle time of a template.
    pub timeout: Ticks,
    /// Clients that are equal under it count as one.
    pub mask: Mask,
    /// Whether each call of a client counts by itself (`--pe sip`).
    pub sip: bool,
}

/// A virtual service.
#[derive(Debug)]
pub struct Service {
    /// What names it.
    pub key: ServiceKey,
    /// Who picks the server.
    pub scheduler: Scheduler,
    /// The servers, in the order in which the scheduler numbers them.
    pub servers: Vec<Arc<Dest>>,
    /// Whether a client stays with its server.
    pub persistence: Option<Persistence>,
    /// Whether every UDP packet is scheduled by itself (`-o`).
    pub one_packet: bool,
    /// Who picks the server of flows that the full connection table has no room for.
    pub overflow: Option<Scheduler>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
}

/// A real server of one service.
#[derive(Debug)]
pub struct Dest {
    /// Which server; connections remember this.
    pub id: ServerId,
    /// The service's protocol; 0 of a firewall mark's, which takes all.
    pub protocol: u8,
    /// The server's address.
    pub address: Address,
    /// The server's port; 0 keeps the port that the packet is for. DR and TUN leave it anyway.
    pub port: u16,
    /// Its share; 0 takes no new connections.
    pub weight: u32,
    /// How packets get there. Connections keep the method with which they were opened.
    pub method: Method,
    /// What its tunnel puts around packets, if its method is tunnelling.
    pub tunnel: Kind,
    /// What is known of the way to it.
    pub path: Arc<PathMtu>,
    /// Whether replies of it may need translation: its method is NAT, or was while connections
    /// were opened that are still there.
    pub masqueraded: bool,
    /// Connections at which it counts as overloaded; 0 is never.
    pub upper_threshold: u32,
    /// Connections below which it no longer does; 0 is three quarters of the upper one.
    pub lower_threshold: u32,
    /// False once it was removed while connections are left: their packets are dropped.
    pub available: bool,
    /// Whether its service schedules every UDP packet by itself.
    pub one_packet: bool,
    /// Whether its service is FTP's.
    pub ftp: bool,
    /// Its service's limit to the segment size.
    pub mss_clamp: MssClamp,
    /// Its service's own timeouts.
    pub timeouts: Option<Arc<Timeouts>>,
    /// Its connections.
    pub load: Arc<Load>,
    /// Its persistence templates.
    pub templates: Arc<AtomicU32>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
    /// Those of its service, which outlive it.
    pub service_traffic: Arc<Traffic>,
}

impl Service {
    /// A plain service: no persistence, nothing but what a scheduler needs.
    pub fn new(key: ServiceKey, scheduler: Scheduler, servers: Vec<Arc<Dest>>) -> Self {
        let workers = servers.first().map_or(1, |dest| dest.traffic.workers());
        let own = || Arc::new(Traffic::new(workers));
        let traffic = servers.first().map_or_else(own, |dest| dest.service_traffic.clone());
        Self {
            key,
            scheduler,
            servers,
            persistence: None,
            one_packet: false,
            overflow: None,
            traffic,
        }
    }
}

impl Dest {
    /// A server of weight 1 without limits, in direct routing.
    pub fn new(id: ServerId, at: Endpoint, service_traffic: Arc<Traffic>) -> Self {
        Self {
            id,
            protocol: at.protocol,
            address: at.address,
            port: at.port,
            weight: 1,
            method: Method::Route,
            tunnel: Kind::default(),
            path: Arc::default(),
            masqueraded: false,
            upper_threshold: 0,
            lower_threshold: 0,
            available: true,
            one_packet: false,
            ftp: false,
            mss_clamp: MssClamp::Off,
            timeouts: None,
            load: Arc::default(),
            templates: Arc::default(),
            traffic: Arc::new(Traffic::new(service_traffic.workers())),
            service_traffic,
        }
    }

    /// The server's end of its connections.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { protocol: self.protocol, address: self.address, port: self.port }
    }

    /// Counts a new connection in, inactive as in the kernel (ip_vs_conn.c, ip_vs_bind_dest).
    pub fn bind(&self) {
        let conns = self.load.open(false);
        self.limit(conns);
    }

    /// Counts a new template in, which is no load but may still find the limit reached.
    pub fn bind_template(&self) {
        // Relaxed: a number by itself.
        self.templates.fetch_add(1, Ordering::Relaxed);
        self.limit(self.load.total());
    }

    /// Counts a connection out (ip_vs_conn.c, ip_vs_unbind_dest).
    pub fn unbind(&self, active: bool) {
        let conns = self.load.close(active);
        self.relieve(conns);
    }

    /// Counts a template out.
    pub fn unbind_template(&self) {
        // Relaxed: a number by itself.
        self.templates.fetch_sub(1, Ordering::Relaxed);
        self.relieve(self.load.total());
    }

    fn limit(&self, conns: u32) {
        if self.upper_threshold != 0 && conns >= self.upper_threshold {
            self.load.set_overloaded(true);
        }
    }

    fn relieve(&self, conns: u32) {
        let conns = u64::from(conns);
        let (upper, lower) = (u64::from(self.upper_threshold), u64::from(self.lower_threshold));
        let relieved = match (lower, upper) {
            (0, 0) => true,
            (0, upper) => conns * 4 < upper * 3,
            (lower, _) => conns < lower,
        };
        if relieved {
            self.load.set_overloaded(false);
        }
    }
}
