//! What is configured, and the rules by which a change is made or refused; the workers know
//! nothing of it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use uvs_engine::counters::Traffic;
use uvs_engine::snapshot::{Dest, Endpoint, Service};
use uvs_sched::{Flags, Load, Name, Scheduler, Server, ServerId, Servers};
use uvs_uvsadm::api::{
    ApiError, Change, DestConfig, ErrorCode, Method, Protocol, ServiceConfig, ServiceKey,
};

use crate::service::{DestView, Target};

/// A server and what lives as long as it does.
#[derive(Clone, Debug)]
pub(crate) struct DestEntry {
    pub(crate) id: ServerId,
    pub(crate) config: DestConfig,
    pub(crate) masqueraded: bool,
    /// The last weight that was not 0, or the one with which it was added.
    pub(crate) last_weight: u32,
    pub(crate) load: Arc<Load>,
    pub(crate) traffic: Arc<Traffic>,
}

/// A service and its servers, newest first as in the kernel.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEntry {
    pub(crate) scheduler: Name,
    /// As `-b` gave them, and as the scheduler takes them.
    pub(crate) flags: Vec<String>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) dests: Vec<DestEntry>,
    /// As the workers have it; `None` once something changed.
    pub(crate) built: Option<Arc<Service>>,
    /// The scheduler before the change, whose position the next one takes over.
    pub(crate) before: Option<Arc<Service>>,
}

/// A server that was removed while connections were left (the kernel's trash).
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) service: ServiceKey,
    pub(crate) dest: DestEntry,
    pub(crate) service_traffic: Arc<Traffic>,
}

/// What is configured, without the workers' part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired {
    /// Shared with the copy on which changes are tried, until one touches it.
    pub(crate) services: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
    pub(crate) removed: Vec<Removed>,
    /// Numbers of forgotten servers, in snapshots that a worker may still use.
    pub(crate) resting_ids: Vec<u32>,
    pub(crate) free_ids: Vec<u32>,
    pub(crate) next_id: u32,
}

/// Why a change is refused: a code, whose text depends on the change, or a sentence of its own.
pub(crate) enum Refused {
    Code(ErrorCode),
    Told(ApiError),
}

impl Refused {
    pub(crate) fn told(self, change: &Change) -> ApiError {
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

impl Desired {
    pub(crate) fn apply(&mut self, change: &Change, workers: usize) -> Result<(), Refused> {
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

    pub(crate) fn service(&mut self, key: &ServiceKey) -> Result<&mut ServiceEntry, Refused> {
        let entry = self.services.get_mut(key).ok_or(ErrorCode::NoSuchService)?;
        Ok(Arc::make_mut(entry))
    }

    pub(crate) fn add_service(
        &mut self,
        config: &ServiceConfig,
        workers: usize,
    ) -> Result<(), Refused> {
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
        self.services.insert(config.key, Arc::new(entry));
        Ok(())
    }

    pub(crate) fn edit_service(&mut self, config: &ServiceConfig) -> Result<(), Refused> {
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

    pub(crate) fn del_service(&mut self, key: &ServiceKey) -> Result<(), Refused> {
        let entry = self.services.remove(key).ok_or(ErrorCode::NoSuchService)?;
        let entry = Arc::unwrap_or_clone(entry);
        let service_traffic = entry.traffic;
        self.removed.extend(entry.dests.into_iter().map(|dest| Removed {
            service: *key,
            dest,
            service_traffic: service_traffic.clone(),
        }));
        Ok(())
    }

    pub(crate) fn add_dest(
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

    pub(crate) fn edit_dest(
        &mut self,
        key: &ServiceKey,
        config: &DestConfig,
    ) -> Result<(), Refused> {
        let entry = self.service(key)?;
        let config = checked(key, config)?;
        let at = entry.find(config.address, config.port).ok_or(ErrorCode::NoSuchDest)?;
        entry.dests[at].set(config);
        entry.change();
        Ok(())
    }

    pub(crate) fn del_dest(
        &mut self,
        key: &ServiceKey,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<(), Refused> {
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
    pub(crate) fn revive(&mut self, key: &ServiceKey, config: &DestConfig) -> Option<DestEntry> {
        let at = self.removed.iter().position(|gone| {
            gone.service == *key && gone.dest.config.endpoint() == config.endpoint()
        })?;
        Some(self.removed.swap_remove(at).dest)
    }

    pub(crate) fn new_id(&mut self) -> ServerId {
        ServerId(self.free_ids.pop().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id - 1
        }))
    }

    /// Forgets removed servers without connections. Only while every worker uses the newest
    /// snapshot and before it is changed: then none of them can give such a server a connection.
    ///
    /// A number is given away again one round later, when no worker knows it any more. So the
    /// snapshots that are in use at one time never mean different servers by it.
    pub(crate) fn forget_idle(&mut self) {
        let Self { removed, resting_ids, free_ids, .. } = self;
        free_ids.append(resting_ids);
        removed.retain(|gone| {
            let used = gone.dest.load.total() > 0;
            if !used {
                resting_ids.push(gone.dest.id.0);
            }
            used
        });
    }
}

impl ServiceEntry {
    /// Notes that the list of servers changed.
    pub(crate) fn change(&mut self) {
        if let Some(built) = self.built.take() {
            self.before = Some(built);
        }
    }

    pub(crate) fn config(&self, key: ServiceKey) -> ServiceConfig {
        ServiceConfig { key, scheduler: self.scheduler.to_string(), flags: self.flags.clone() }
    }

    pub(crate) fn find(&self, address: Ipv4Addr, port: u16) -> Option<usize> {
        self.dests.iter().position(|d| d.config.address == address && d.config.port == port)
    }

    /// Makes of it what the workers get.
    pub(crate) fn build(&mut self, key: &ServiceKey) {
        let list: Servers = self.dests.iter().map(DestEntry::server).collect();
        let flags = scheduler_flags(&self.flags);
        let scheduler = match self.before.take() {
            Some(before) => before.scheduler.rebuild(list, flags),
            None => Scheduler::build(self.scheduler, list, flags),
        };
        let dest = |dest: &DestEntry| Arc::new(dest.build(key, true, &self.traffic));
        let servers = self.dests.iter().map(dest).collect();
        let (endpoint, traffic) = (endpoint(key), self.traffic.clone());
        self.built = Some(Arc::new(Service { endpoint, scheduler, servers, traffic }));
    }

    pub(crate) fn plan(&self, key: ServiceKey, target: &Target, changes: &mut Vec<Change>) {
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
    pub(crate) fn view(&self) -> DestView {
        DestView { config: self.config, load: self.load.clone(), traffic: self.traffic.clone() }
    }

    pub(crate) fn server(&self) -> Server {
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
    pub(crate) fn set(&mut self, config: DestConfig) {
        let upper = config.u_threshold;
        if upper == 0 || upper > self.config.u_threshold {
            self.load.set_overloaded(false);
        }
        let used = self.load.total() > 0;
        self.masqueraded = config.method == Method::Masq || self.masqueraded && used;
        if config.weight != 0 {
            self.last_weight = config.weight;
        }
        self.config = config;
    }

    pub(crate) fn build(
        &self,
        service: &ServiceKey,
        available: bool,
        service_traffic: &Arc<Traffic>,
    ) -> Dest {
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
pub(crate) fn with_port(key: &ServiceKey, config: &DestConfig) -> DestConfig {
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
    if config.flags.iter().any(|flag| !FLAGS.contains(&flag.as_str())) {
        return Err(ErrorCode::Invalid.into());
    }
    config.scheduler.parse().map_err(|_| ErrorCode::NoSuchScheduler.into())
}

/// What ipvsadm's `-b` knows.
const FLAGS: [&str; 7] =
    ["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port"];

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

pub(crate) fn endpoint(key: &ServiceKey) -> Endpoint {
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
