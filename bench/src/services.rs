//! The configuration under test: some services with some servers each, all reachable.

use std::net::Ipv4Addr;
use std::sync::Arc;

use uvs_engine::counters::Traffic;
use uvs_engine::fib::{Fib, Route, Target};
use uvs_engine::link::{Forwards, Link, LinkId};
use uvs_engine::service::{Dest, Endpoint, Service, ServiceKey};
use uvs_engine::snapshot::{Rules, Snapshot};
use uvs_forward::Method;
use uvs_forward::wire::protocol;
use uvs_sched::{Flags, Name, Scheduler, Server, ServerId};

/// The one link.
pub const LINK: LinkId = LinkId(0);
/// Its Ethernet address, the director's.
pub const DIRECTOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The Ethernet address behind which all clients are.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The director's own address.
pub const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
/// The router towards the clients.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 253);
/// The port of all services and servers.
pub const PORT: u16 = 80;

/// Virtual services, of TCP as of UDP.
pub const SERVICES: u8 = 8;
/// Servers of each service.
pub const SERVERS: u8 = 8;

/// The address of service number `at`.
pub fn vip(at: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + at)
}

/// The address of server number `at`. All services have the same servers.
pub fn server(at: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 1 + at)
}

/// The Ethernet address of server number `at`.
pub fn server_mac(at: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, 1 + at]
}

/// One link of this name and number; clients behind a router, servers beside it.
pub fn fib(name: &str, ifindex: u32) -> Fib {
    let link = Link {
        name: name.into(),
        ifindex,
        mac: DIRECTOR_MAC,
        mtu: 1500,
        addresses: vec![DIRECTOR.into()],
        forwards: Forwards::ALL,
    };
    let servers = (0..SERVERS).map(|at| (LINK, server(at).into(), server_mac(at)));
    Fib::new(vec![link], &routes(), servers.chain([(LINK, ROUTER.into(), ROUTER_MAC)]))
}

/// The link's routes.
pub fn routes() -> [Route; 3] {
    [
        Route { network: [0; 4].into(), prefix: 0, target: Target::Gateway(LINK, ROUTER.into()) },
        Route { network: [10, 0, 1, 0].into(), prefix: 24, target: Target::Link(LINK) },
        Route { network: vip(0).into(), prefix: 24, target: Target::Local },
    ]
}

/// Round robin over [`SERVERS`] servers in each of [`SERVICES`] services of TCP and of UDP, for
/// one worker.
pub fn snapshot(method: Method, fib: Fib) -> Snapshot {
    let mut services = Vec::new();
    let mut dests = Vec::new();
    for protocol in [protocol::TCP, protocol::UDP] {
        for at in 0..SERVICES {
            let endpoint = Endpoint { protocol, address: vip(at).into(), port: PORT };
            services.push(service(endpoint, method, &mut dests));
        }
    }
    Snapshot::new(services, dests, Arc::new(fib), Rules::default())
}

fn service(endpoint: Endpoint, method: Method, dests: &mut Vec<Option<Arc<Dest>>>) -> Arc<Service> {
    let traffic = Arc::new(Traffic::new(1));
    let first = dests.len() as u32;
    let servers: Vec<Arc<Dest>> = (0..SERVERS)
        .map(|at| {
            let id = ServerId(first + u32::from(at));
            let masqueraded = method == Method::Masq;
            let at = Endpoint { address: server(at).into(), port: PORT, ..endpoint };
            Arc::new(Dest { method, masqueraded, ..Dest::new(id, at, traffic.clone()) })
        })
        .collect();
    dests.extend(servers.iter().cloned().map(Some));
    let list = servers.iter().map(|d| Server {
        id: d.id,
        address: d.address.into(),
        port: d.port,
        weight: 1,
        last_weight: 1,
        load: d.load.clone(),
    });
    let scheduler = Scheduler::build(Name::Rr, list.collect(), Flags::default());
    Arc::new(Service::new(ServiceKey::Endpoint(endpoint), scheduler, servers))
}
