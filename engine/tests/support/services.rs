//! Services and servers by hand: what the control plane would build.

use std::net::Ipv4Addr;
use std::sync::Arc;

use uvs_engine::counters::Traffic;
use uvs_engine::fib::{Fib, Route, Target};
use uvs_engine::link::{Forwards, Link};
use uvs_engine::service::{Dest, Endpoint, MssClamp, Persistence, Service, ServiceKey};
use uvs_engine::snapshot::{Rules, Snapshot};
use uvs_forward::Method;
use uvs_sched::{Flags, Load, Name, Scheduler, Server, ServerId};

use super::{CLIENT_SIDE, SERVER_SIDE};

/// The director's Ethernet addresses, by link.
pub const DIRECTOR_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xc1], [2, 0, 0, 0, 0, 0xe1]];
/// The Ethernet address behind which all clients are.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc0];
/// The router towards the clients.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
/// The director's own address on the servers' side.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);

/// Counters have a cell for each of this many workers.
const WORKERS: usize = 4;

/// Everything that a snapshot is made of. Change it and publish again.
#[derive(Clone)]
pub struct Config {
    pub virtuals: Vec<Virtual>,
    /// Servers whose Ethernet address is not known, by number.
    pub unresolved: Vec<u8>,
    /// Largest IP packet of the clients' and the servers' link.
    pub mtus: [u16; 2],
    /// What the director's host forwards.
    pub forwards: Forwards,
    /// Timeouts, settings, marks.
    pub rules: Rules,
}

/// A virtual service.
#[derive(Clone)]
pub struct Virtual {
    pub endpoint: Endpoint,
    pub scheduler: Name,
    pub persistence: Option<Persistence>,
    pub mss_clamp: MssClamp,
    pub reals: Vec<Real>,
    pub traffic: Arc<Traffic>,
}

/// A real server of a service: number n is 10.0.1.n.
#[derive(Clone)]
pub struct Real {
    pub number: u8,
    pub port: u16,
    pub method: Method,
    pub weight: u32,
    pub upper: u32,
    pub lower: u32,
    /// False: removed from its service.
    pub available: bool,
    pub load: Arc<Load>,
    pub traffic: Arc<Traffic>,
}

impl Real {
    pub fn new(number: u8, method: Method) -> Self {
        Self {
            number,
            port: if method == Method::Masq { 8080 } else { 80 },
            method,
            weight: 1,
            upper: 0,
            lower: 0,
            available: true,
            load: Arc::default(),
            traffic: Arc::new(Traffic::new(WORKERS)),
        }
    }

    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1, self.number)
    }
}

/// The Ethernet address of a real server.
pub fn server_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, number]
}

impl Virtual {
    /// 10.0.0.`last`:80, round robin.
    pub fn new(protocol: u8, last: u8, reals: Vec<Real>) -> Self {
        let endpoint = Endpoint { protocol, address: [10, 0, 0, last].into(), port: 80 };
        let traffic = Arc::new(Traffic::new(WORKERS));
        Self {
            endpoint,
            scheduler: Name::Rr,
            persistence: None,
            mss_clamp: MssClamp::Off,
            reals,
            traffic,
        }
    }
}

impl Config {
    pub fn new(virtuals: Vec<Virtual>) -> Self {
        Self {
            virtuals,
            unresolved: Vec::new(),
            mtus: [1500; 2],
            forwards: Forwards::ALL,
            rules: Rules::default(),
        }
    }

    /// One service over one server.
    pub fn one(protocol: u8, method: Method) -> Self {
        Self::new(vec![Virtual::new(protocol, 1, vec![Real::new(1, method)])])
    }

    /// The first service's first server.
    pub fn first(&mut self) -> &mut Real {
        &mut self.virtuals[0].reals[0]
    }

    /// All servers with their numbers in the snapshot.
    pub fn reals(&self) -> impl Iterator<Item = (u32, &Real)> {
        (0..).zip(self.virtuals.iter().flat_map(|service| &service.reals))
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut dests = Vec::new();
        let hash = self.rules.settings.table_full_hash != 0;
        let build = |v| {
            let mut service = service(v, &mut dests);
            service.overflow = hash.then(|| overflow(v));
            Arc::new(service)
        };
        let services = self.virtuals.iter().map(build).collect();
        Snapshot::new(services, dests, Arc::new(self.fib()), self.rules.clone())
    }

    fn fib(&self) -> Fib {
        let link = |name: &str, at: usize, address: Ipv4Addr| Link {
            name: name.into(),
            ifindex: 1 + at as u32,
            mac: DIRECTOR_MACS[at],
            mtu: self.mtus[at],
            addresses: vec![address.into()],
            forwards: self.forwards,
        };
        let links = vec![link("c1", 0, Ipv4Addr::new(192, 168, 1, 254)), link("r1", 1, DIRECTOR)];
        let route =
            |network: [u8; 4], prefix, target| Route { network: network.into(), prefix, target };
        let routes = [
            route([192, 168, 1, 0], 24, Target::Link(CLIENT_SIDE)),
            route([172, 16, 0, 0], 12, Target::Gateway(CLIENT_SIDE, ROUTER.into())),
            route([10, 0, 1, 0], 24, Target::Link(SERVER_SIDE)),
            route(DIRECTOR.octets(), 32, Target::Local),
            // The virtual addresses.
            route([10, 0, 0, 0], 24, Target::Local),
        ];
        let known = (1..=250).filter(|number| !self.unresolved.contains(number));
        let servers = known.map(|n| (SERVER_SIDE, [10, 0, 1, n].into(), server_mac(n)));
        Fib::new(links, &routes, servers.chain([(CLIENT_SIDE, ROUTER.into(), ROUTER_MAC)]))
    }
}

/// Who picks when the table is full.
fn overflow(virt: &Virtual) -> Scheduler {
    let mut dests = Vec::new();
    let flags = Flags { port: true, fallback: false };
    let servers = service(virt, &mut dests).servers;
    let server = |dest: &Arc<Dest>| Server {
        id: dest.id,
        address: dest.address.into(),
        port: dest.port,
        weight: dest.weight,
        last_weight: dest.weight,
        load: dest.load.clone(),
    };
    Scheduler::build(Name::Mh, servers.iter().map(server).collect(), flags)
}

fn service(virt: &Virtual, dests: &mut Vec<Option<Arc<Dest>>>) -> Service {
    let (mut servers, mut list) = (Vec::new(), Vec::new());
    for real in &virt.reals {
        let id = ServerId(dests.len() as u32);
        let at = Endpoint {
            protocol: virt.endpoint.protocol,
            address: real.address().into(),
            port: real.port,
        };
        let dest = Arc::new(Dest {
            method: real.method,
            masqueraded: real.method == Method::Masq,
            weight: real.weight,
            upper_threshold: real.upper,
            lower_threshold: real.lower,
            available: real.available,
            mss_clamp: virt.mss_clamp,
            load: real.load.clone(),
            traffic: real.traffic.clone(),
            ..Dest::new(id, at, virt.traffic.clone())
        });
        if real.available {
            let (address, port) = (real.address().into(), real.port);
            let (weight, load) = (real.weight, real.load.clone());
            list.push(Server { id, address, port, weight, last_weight: weight, load });
            servers.push(dest.clone());
        }
        dests.push(Some(dest));
    }
    let scheduler = Scheduler::build(virt.scheduler, list.into_iter().collect(), Flags::default());
    let (key, traffic) = (ServiceKey::Endpoint(virt.endpoint), virt.traffic.clone());
    let persistence = virt.persistence;
    Service { traffic, persistence, ..Service::new(key, scheduler, servers) }
}
