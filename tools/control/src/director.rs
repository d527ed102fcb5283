//! The desired configuration, and its way to the workers: check, then snapshot, then publish.
//!
//! A [`Director`] holds what is configured. Changes are tried on a copy; only when all of them
//! pass is the copy kept and published, so that bad input never half-applies. Services that a
//! change does not touch keep their scheduler, counters and place.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use uvs_engine::counters::Traffic;
use uvs_engine::fib::Fib;
use uvs_engine::proto::Timeouts;
use uvs_engine::snapshot::{Dest, Endpoint, Published, Service, Snapshot};
use uvs_sched::{Flags, Load, Name, Scheduler, Server, ServerId, Servers};
use uvs_uvsadm::api::{
    ApiError, Change, DestConfig, ErrorCode, Method, Protocol, ServiceConfig, ServiceKey,
};

/// A server and what lives as long as it does.
#[derive(Clone, Debug)]
struct DestEntry {
    id: ServerId,
    config: DestConfig,
    masqueraded: bool,
    /// The last weight that was not 0, or the one with which it was added.
    last_weight: u32,
    load: Arc<Load>,
    traffic: Arc<Traffic>,
}

/// A service and its servers, newest first as in the kernel.
#[derive(Clone, Debug)]
struct ServiceEntry {
    scheduler: Name,
    /// As `-b` gave them, and as the scheduler takes them.
    flags: Vec<String>,
    traffic: Arc<Traffic>,
    dests: Vec<DestEntry>,
    /// As the workers have it; `None` once something changed.
    built: Option<Arc<Service>>,
    /// The scheduler before the change, whose position the next one takes over.
    before: Option<Arc<Service>>,
}

/// A server that was removed while connections were left (the kernel's trash).
#[derive(Clone, Debug)]
struct Removed {
    service: ServiceKey,
    dest: DestEntry,
    service_traffic: Arc<Traffic>,
}

/// What is configured, without the workers' part.
#[derive(Clone, Debug, Default)]
struct Desired {
    services: BTreeMap<ServiceKey, ServiceEntry>,
    removed: Vec<Removed>,
    free_ids: Vec<u32>,
    next_id: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Director {
    workers: usize,
    desired: Desired,
    timeouts: Timeouts,
    fib: Arc<Fib>,
    published: Arc<Published>,
}

/// A server as it is listed.
#[derive(Clone, Debug)]
pub struct DestView {
    /// As configured.
    pub config: DestConfig,
    /// Its connections.
    pub load: Arc<Load>,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
}

/// A service as it is listed.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// As configured.
    pub config: ServiceConfig,
    /// Its statistics.
    pub traffic: Arc<Traffic>,
    /// Its servers, newest first.
    pub dests: Vec<DestView>,
}

/// A service as a file of rules wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: ServiceConfig,
    /// Its servers, in the order in which they are to be added.
    pub dests: Vec<DestConfig>,
}

/// Why a change is refused: a code, whose text depends on the change, or a sentence of its own.
enum Refused {
    Code(ErrorCode),
    Told(ApiError),
}

impl Refused {
    fn told(self, change: &Change) -> ApiError {
        match self {
            Self::Code(code) => ApiError::new(code, change),
            Self::Told(error) => error,
        }
    }
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl Director {
    /// A director without services, for `workers` workers.
    pub fn new(workers: usize, fib: Fib) -> Self {
        let fib = Arc::new(fib);
        Self {
            workers,
            desired: Desired::default(),
            timeouts: Timeouts::default(),
            published: Published::new(Snapshot::empty(fib.clone())),
            fib,
        }
    }

    /// A director that no worker reads, to try changes on.
    pub fn idle() -> Self {
        Self::new(1, Fib::new(Vec::new(), &[], []))
    }

    /// Where the workers read the configuration.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Applies all the changes, in order, or none.
    ///
    /// # Errors
    ///
    /// The number of the first change that is refused, from 0, and why.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), (usize, ApiError)> {
        let mut next = self.desired.clone();
        for (number, change) in changes.iter().enumerate() {
            next.apply(change, self.workers).map_err(|refused| (number, refused.told(change)))?;
        }
        if self.published.settled() {
            next.forget_idle();
        }
        self.desired = next;
        self.publish();
        Ok(())
    }

    /// Publishes newer routes and neighbours.
    pub fn set_fib(&mut self, fib: Fib) {
        self.fib = Arc::new(fib);
        self.published.publish(self.published.current().with_fib(self.fib.clone()));
    }

    /// The services, with their servers.
    pub fn services(&self) -> Vec<ServiceView> {
        let view = |(key, entry): (&ServiceKey, &ServiceEntry)| ServiceView {
            config: entry.config(*key),
            traffic: entry.traffic.clone(),
            dests: entry.dests.iter().map(DestEntry::view).collect(),
        };
        self.desired.services.iter().map(view).collect()
    }

    /// What is configured, as a target for [`plan`](Self::plan): servers in the order in which
    /// they were added.
    pub fn targets(&self) -> BTreeMap<ServiceKey, Target> {
        let target = |(key, entry): (&ServiceKey, &ServiceEntry)| {
            let dests = entry.dests.iter().rev().map(|dest| dest.config).collect();
            (*key, Target { service: entry.config(*key), dests })
        };
        self.desired.services.iter().map(target).collect()
    }

    /// The changes that lead from what is configured to `target`, without touching what is equal.
    pub fn plan(&self, target: &BTreeMap<ServiceKey, Target>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, entry) in &self.desired.services {
            match target.get(key) {
                None => changes.push(Change::DelService { service: *key }),
                Some(target) => entry.plan(*key, target, &mut changes),
            }
        }
        for (key, target) in target {
            if !self.desired.services.contains_key(key) {
                changes.push(Change::AddService { service: target.service.clone() });
                let add = |dest: &DestConfig| Change::AddDest { service: *key, dest: *dest };
                changes.extend(target.dests.iter().map(add));
            }
        }
        changes
    }

    fn publish(&mut self) {
        let mut dests: Vec<Option<Arc<Dest>>> = vec![None; self.desired.next_id as usize];
        for (key, entry) in &mut self.desired.services {
            for dest in &entry.build(key).servers {
                dests[dest.id.0 as usize] = Some(dest.clone());
            }
        }
        for gone in &self.desired.removed {
            let dest = gone.dest.build(&gone.service, false, &gone.service_traffic);
            dests[gone.dest.id.0 as usize] = Some(Arc::new(dest));
        }
        let list = self.desired.services.values().filter_map(|entry| entry.built.clone()).collect();
        let timeouts = self.timeouts.clone();
        self.published.publish(Snapshot::new(list, dests, self.fib.clone(), timeouts));
    }
}

impl Desired {
    fn apply(&mut self, change: &Change, workers: usize) -> Result<(), Refused> {
        match change {
            Change::AddService { service } => self.add_service(service, workers),
            Change::EditService { service } => self.edit_service(service),
            Change::DelService { service } => self.del_service(service),
            Change::Flush => {
                let all: Vec<ServiceKey> = self.services.keys().copied().collect();
                all.iter().try_for_each(|key| self.del_service(key))
            }
            Change::AddDest { service, dest } => self.add_dest(service, dest, workers),
            Change::EditDest { service, dest } => self.edit_dest(service, dest),
            Change::DelDest { service, dest } => self.del_dest(service, dest.address, dest.port),
        }
    }

    fn service(&mut self, key: &ServiceKey) -> Result<&mut ServiceEntry, Refused> {
        self.services.get_mut(key).ok_or(ErrorCode::NoSuchService.into())
    }

    fn add_service(&mut self, config: &ServiceConfig, workers: usize) -> Result<(), Refused> {
        if self.services.contains_key(&config.key) {
            return Err(ErrorCode::Exists.into());
        }
        if config.key.port == 0 {
            return Err(not_supported("a service on port 0 needs persistence, which uvs"));
        }
        let entry = ServiceEntry {
            scheduler: scheduler(config)?,
            flags: config.flags.clone(),
            traffic: Arc::new(Traffic::new(workers)),
            dests: Vec::new(),
            built: None,
            before: None,
        };
        self.services.insert(config.key, entry);
        Ok(())
    }

    fn edit_service(&mut self, config: &ServiceConfig) -> Result<(), Refused> {
        let entry = self.service(&config.key)?;
        let scheduler = scheduler(config)?;
        if scheduler.most_servers().is_some_and(|most| entry.dests.len() > most) {
            return Err(ErrorCode::Invalid.into());
        }
        if entry.flags != config.flags {
            entry.flags.clone_from(&config.flags);
            entry.change();
        }
        if entry.scheduler != scheduler {
            entry.scheduler = scheduler;
            entry.change();
            entry.before = None;
        }
        Ok(())
    }

    fn del_service(&mut self, key: &ServiceKey) -> Result<(), Refused> {
        let entry = self.services.remove(key).ok_or(ErrorCode::NoSuchService)?;
        let service_traffic = entry.traffic;
        self.removed.extend(entry.dests.into_iter().map(|dest| Removed {
            service: *key,
            dest,
            service_traffic: service_traffic.clone(),
        }));
        Ok(())
    }

    fn add_dest(
        &mut self,
        key: &ServiceKey,
        config: &DestConfig,
        workers: usize,
    ) -> Result<(), Refused> {
        let entry = self.service(key)?;
        let config = checked(key, config)?;
        if entry.find(config.address, config.port).is_some() {
            return Err(ErrorCode::Exists.into());
        }
        if entry.scheduler.most_servers().is_some_and(|most| entry.dests.len() >= most) {
            return Err(ErrorCode::Invalid.into());
        }
        let mut dest = match self.revive(key, &config) {
            Some(dest) => dest,
            None => DestEntry {
                id: self.new_id(),
                config,
                masqueraded: false,
                last_weight: 0,
                load: Arc::default(),
                traffic: Arc::new(Traffic::new(workers)),
            },
        };
        dest.set(config);
        dest.last_weight = config.weight;
        let entry = self.service(key)?;
        entry.dests.insert(0, dest);
        entry.change();
        Ok(())
    }

    fn edit_dest(&mut self, key: &ServiceKey, config: &DestConfig) -> Result<(), Refused> {
        let entry = self.service(key)?;
        let config = checked(key, config)?;
        let at = entry.find(config.address, config.port).ok_or(ErrorCode::NoSuchDest)?;
        entry.dests[at].set(config);
        entry.change();
        Ok(())
    }

    fn del_dest(&mut self, key: &ServiceKey, address: Ipv4Addr, port: u16) -> Result<(), Refused> {
        let entry = self.service(key)?;
        let port = if port == 0 { key.port } else { port };
        let at = entry.find(address, port).ok_or(ErrorCode::NoSuchDest)?;
        let dest = entry.dests.remove(at);
        entry.change();
        let service_traffic = entry.traffic.clone();
        self.removed.push(Removed { service: *key, dest, service_traffic });
        Ok(())
    }

    /// A removed server that comes back gets its connections and counters back.
    fn revive(&mut self, key: &ServiceKey, config: &DestConfig) -> Option<DestEntry> {
        let at = self.removed.iter().position(|gone| {
            gone.service == *key && gone.dest.config.endpoint() == config.endpoint()
        })?;
        Some(self.removed.swap_remove(at).dest)
    }

    fn new_id(&mut self) -> ServerId {
        ServerId(self.free_ids.pop().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id - 1
        }))
    }

    /// Forgets removed servers without connections. Only while no worker uses an older snapshot,
    /// in which such a server might still get one: its number is given away again.
    fn forget_idle(&mut self) {
        let Self { removed, free_ids, .. } = self;
        removed.retain(|gone| {
            let used = gone.dest.load.active() + gone.dest.load.inactive() > 0;
            if !used {
                free_ids.push(gone.dest.id.0);
            }
            used
        });
    }
}

impl ServiceEntry {
    /// Notes that the list of servers changed.
    fn change(&mut self) {
        if let Some(built) = self.built.take() {
            self.before = Some(built);
        }
    }

    fn config(&self, key: ServiceKey) -> ServiceConfig {
        ServiceConfig { key, scheduler: self.scheduler.to_string(), flags: self.flags.clone() }
    }

    fn find(&self, address: Ipv4Addr, port: u16) -> Option<usize> {
        self.dests.iter().position(|d| d.config.address == address && d.config.port == port)
    }

    /// As the workers get it; the same as before when nothing changed.
    fn build(&mut self, key: &ServiceKey) -> &Arc<Service> {
        let Self { scheduler, flags, traffic, dests, built, before } = self;
        built.get_or_insert_with(|| {
            let list: Servers = dests.iter().map(DestEntry::server).collect();
            let flags = scheduler_flags(flags);
            let scheduler = match before.take() {
                Some(before) => before.scheduler.rebuild(list, flags),
                None => Scheduler::build(*scheduler, list, flags),
            };
            let dest = |dest: &DestEntry| Arc::new(dest.build(key, true, traffic));
            let servers = dests.iter().map(dest).collect();
            let endpoint = endpoint(key);
            Arc::new(Service { endpoint, scheduler, servers, traffic: traffic.clone() })
        })
    }

    fn plan(&self, key: ServiceKey, target: &Target, changes: &mut Vec<Change>) {
        if self.config(key) != target.service {
            changes.push(Change::EditService { service: target.service.clone() });
        }
        let wanted: Vec<DestConfig> = target.dests.iter().map(|d| with_port(&key, d)).collect();
        // Added and changed first: at no moment is the service without a server that it keeps.
        for dest in &wanted {
            match self.find(dest.address, dest.port) {
                None => changes.push(Change::AddDest { service: key, dest: *dest }),
                Some(at) if self.dests[at].config != *dest => {
                    changes.push(Change::EditDest { service: key, dest: *dest });
                }
                Some(_) => {}
            }
        }
        for entry in &self.dests {
            let dest = entry.config.endpoint();
            if !wanted.iter().any(|wanted| wanted.endpoint() == dest) {
                changes.push(Change::DelDest { service: key, dest });
            }
        }
    }
}

impl DestEntry {
    fn view(&self) -> DestView {
        DestView {
            config: self.config,
            load: self.load.clone(),
            traffic: self.traffic.clone(),
        }
    }

    fn server(&self) -> Server {
        Server {
            id: self.id,
            address: self.config.address.into(),
            port: self.config.port,
            weight: self.config.weight,
            last_weight: self.last_weight,
            load: self.load.clone(),
        }
    }

    /// Takes over what is asked for. A raised or lifted upper threshold ends an overload
    /// (ip_vs_ctl.c, __ip_vs_update_dest).
    fn set(&mut self, config: DestConfig) {
        let upper = config.u_threshold;
        if upper == 0 || upper > self.config.u_threshold {
            self.load.set_overloaded(false);
        }
        let used = self.load.active() + self.load.inactive() > 0;
        self.masqueraded = config.method == Method::Masq || self.masqueraded && used;
        if config.weight != 0 {
            self.last_weight = config.weight;
        }
        self.config = config;
    }

    fn build(&self, service: &ServiceKey, available: bool, service_traffic: &Arc<Traffic>) -> Dest {
        Dest {
            id: self.id,
            protocol: service.protocol.number(),
            address: self.config.address,
            port: self.config.port,
            method: method(self.config.method),
            masqueraded: self.masqueraded,
            upper_threshold: self.config.u_threshold,
            lower_threshold: self.config.l_threshold,
            available,
            load: self.load.clone(),
            traffic: self.traffic.clone(),
            service_traffic: service_traffic.clone(),
        }
    }
}

/// The server as it is kept, with its port filled in.
fn with_port(key: &ServiceKey, config: &DestConfig) -> DestConfig {
    let port = if config.port == 0 { key.port } else { config.port };
    DestConfig { port, ..*config }
}

fn checked(key: &ServiceKey, config: &DestConfig) -> Result<DestConfig, Refused> {
    if config.weight > i32::MAX as u32 || config.l_threshold > config.u_threshold {
        return Err(ErrorCode::Range.into());
    }
    if config.method == Method::Masq && key.protocol == Protocol::Sctp {
        return Err(not_supported("NAT of SCTP, which uvs"));
    }
    Ok(with_port(key, config))
}

fn scheduler(config: &ServiceConfig) -> Result<Name, Refused> {
    config.scheduler.parse().map_err(|_| ErrorCode::NoSuchScheduler.into())
}

/// The flags by their names or their numbers; flag-3 means nothing to any scheduler.
fn scheduler_flags(names: &[String]) -> Flags {
    let has = |known: [&str; 3]| names.iter().any(|name| known.contains(&name.as_str()));
    Flags {
        port: has(["sh-port", "mh-port", "flag-2"]),
        fallback: has(["sh-fallback", "mh-fallback", "flag-1"]),
    }
}

fn not_supported(what: &str) -> Refused {
    Refused::Told(ApiError::not_supported(format!("{what} does not support yet")))
}

fn endpoint(key: &ServiceKey) -> Endpoint {
    Endpoint { protocol: key.protocol.number(), address: key.address, port: key.port }
}

fn method(method: Method) -> uvs_forward::Method {
    match method {
        Method::Masq => uvs_forward::Method::Masq,
        Method::Tunnel => uvs_forward::Method::Tunnel,
        Method::Route => uvs_forward::Method::Route,
        Method::Local => uvs_forward::Method::Local,
    }
}
