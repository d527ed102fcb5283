//! A service and a server as the director keeps them, and what the workers get of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use uvs_engine::address::Mask;
use uvs_engine::clock::Ticks;
use uvs_engine::counters::Traffic;
use uvs_engine::proto::{Timeouts, tcp};
use uvs_engine::service::{self, Dest, PathMtu, Service};
use uvs_engine::snapshot::Rules;
use uvs_forward::tun::{Checksum, Kind};
use uvs_sched::{Flags, Load, Name, Scheduler, Server, ServerId, Servers};
use uvs_uvsadm::api::{
    self, DestConfig, Endpoint, Method, Netmask, Persistence, ServiceConfig, ServiceKey, Tunnel,
    TunnelChecksum, TunnelKind,
};

use crate::service::{DestView, ServiceView};
use crate::stats::Meter;

/// A server and what lives as long as it does.
#[derive(Clone, Debug)]
pub(crate) struct DestEntry {
    pub(crate) id: ServerId,
    pub(crate) config: DestConfig,
    pub(crate) masqueraded: bool,
    /// The last weight that was not 0, or the one with which it was added.
    pub(crate) last_weight: u32,
    pub(crate) path: Arc<PathMtu>,
    pub(crate) load: Arc<Load>,
    pub(crate) templates: Arc<AtomicU32>,
    pub(crate) meter: Meter,
}

/// A service and its servers, newest first as in the kernel.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEntry {
    pub(crate) config: ServiceConfig,
    pub(crate) scheduler: Name,
    pub(crate) meter: Meter,
    pub(crate) dests: Vec<DestEntry>,
    /// As the workers have it; `None` once something changed.
    pub(crate) built: Option<Arc<Service>>,
    /// The scheduler before the change, whose position the next one takes over.
    pub(crate) before: Option<Arc<Service>>,
    /// Whether its servers are others since then, so that the position moves.
    pub(crate) other_servers: bool,
}

/// A server that was removed while connections were left (the kernel's trash).
#[derive(Clone, Debug)]
pub(crate) struct Removed {
    pub(crate) service: ServiceKey,
    pub(crate) dest: DestEntry,
    pub(crate) service_traffic: Arc<Traffic>,
    pub(crate) one_packet: bool,
    pub(crate) conn_timeouts: Option<api::Timeouts>,
    pub(crate) mss_clamp: Option<api::MssClamp>,
}

/// What a server has from its service.
struct Common<'a> {
    key: &'a ServiceKey,
    available: bool,
    one_packet: bool,
    timeouts: Option<Arc<Timeouts>>,
    mss_clamp: service::MssClamp,
    traffic: &'a Arc<Traffic>,
}

impl ServiceEntry {
    /// A service without servers.
    pub(crate) fn new(config: ServiceConfig, scheduler: Name, workers: usize) -> Self {
        let meter = Meter::new(workers);
        let (dests, built, before, other_servers) = (Vec::new(), None, None, false);
        Self { config, scheduler, meter, dests, built, before, other_servers }
    }

    /// Notes that the workers' part is to be built anew, over other servers.
    pub(crate) fn change_servers(&mut self) {
        self.other_servers = true;
        self.change();
    }

    /// Notes that the workers' part is to be built anew.
    pub(crate) fn change(&mut self) {
        if let Some(built) = self.built.take() {
            self.before = Some(built);
        }
    }

    pub(crate) fn find(&self, dest: &Endpoint) -> Option<usize> {
        self.dests.iter().position(|entry| entry.config.endpoint() == *dest)
    }

    pub(crate) fn tick(&mut self) {
        self.meter.tick();
        self.dests.iter_mut().for_each(|dest| dest.meter.tick());
    }

    pub(crate) fn zero(&mut self) {
        self.meter.estimator.zero();
        self.dests.iter_mut().for_each(|dest| dest.meter.estimator.zero());
    }

    /// What is left of the service's part in a server that is removed.
    pub(crate) fn removed(&self, dest: DestEntry) -> Removed {
        Removed {
            service: self.config.key,
            dest,
            service_traffic: self.meter.traffic.clone(),
            one_packet: self.config.one_packet,
            conn_timeouts: self.config.conn_timeouts,
            mss_clamp: self.config.mss_clamp,
        }
    }

    pub(crate) fn view(&self) -> ServiceView {
        ServiceView {
            config: self.config.clone(),
            traffic: self.meter.traffic.clone(),
            stats: self.meter.estimator.stats(),
            rates: self.meter.estimator.rates(),
            dests: self.dests.iter().map(DestEntry::view).collect(),
        }
    }

    /// Makes of it what the workers get.
    pub(crate) fn build(&mut self, rules: &Rules) {
        let list: Servers = self.dests.iter().map(DestEntry::server).collect();
        let flags = scheduler_flags(&self.config.flags);
        let scheduler = match (self.before.take(), std::mem::take(&mut self.other_servers)) {
            (Some(before), true) => before.scheduler.rebuild(list.clone(), flags),
            (Some(before), false) => before.scheduler.renew(list.clone(), flags),
            (None, _) => Scheduler::build(self.scheduler, list.clone(), flags),
        };
        let key = &self.config.key;
        let common = Common {
            key,
            available: true,
            one_packet: self.config.one_packet,
            timeouts: own_timeouts(rules, self.config.conn_timeouts),
            mss_clamp: mss_clamp(self.config.mss_clamp),
            traffic: &self.meter.traffic,
        };
        let servers = self.dests.iter().map(|dest| Arc::new(dest.build(&common))).collect();
        let sip = self.config.pe.is_some();
        self.built = Some(Arc::new(Service {
            key: engine_key(key),
            scheduler,
            servers,
            persistence: self.config.persistence.map(|persistence| engine(persistence, sip)),
            one_packet: self.config.one_packet,
            overflow: self.overflow(rules, list),
            traffic: self.meter.traffic.clone(),
        }));
    }

    /// Who picks the server of flows that the full table has no room for, if that is wished and
    /// the hash has a place for every server.
    fn overflow(&self, rules: &Rules, list: Servers) -> Option<Scheduler> {
        let fits = Name::Mh.most_servers().is_none_or(|most| self.dests.len() <= most);
        let wished = rules.settings.table_full_hash != 0;
        let flags = Flags { port: true, ..Flags::default() };
        (wished && fits).then(|| Scheduler::build(Name::Mh, list, flags))
    }
}

impl DestEntry {
    /// A new server.
    pub(crate) fn new(id: ServerId, config: DestConfig, workers: usize) -> Self {
        Self {
            id,
            config,
            masqueraded: false,
            last_weight: 0,
            path: Arc::default(),
            load: Arc::default(),
            templates: Arc::default(),
            meter: Meter::new(workers),
        }
    }

    pub(crate) fn view(&self) -> DestView {
        DestView {
            config: self.config,
            load: self.load.clone(),
            templates: self.templates.clone(),
            traffic: self.meter.traffic.clone(),
            stats: self.meter.estimator.stats(),
            rates: self.meter.estimator.rates(),
        }
    }

    /// Whether connections or templates of it are left.
    pub(crate) fn used(&self) -> bool {
        // Relaxed: a number by itself.
        self.load.total() > 0 || self.templates.load(Ordering::Relaxed) > 0
    }

    fn server(&self) -> Server {
        Server {
            id: self.id,
            address: self.config.address,
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

    fn build(&self, common: &Common) -> Dest {
        Dest {
            id: self.id,
            protocol: common.key.protocol().map_or(0, api::Protocol::number),
            address: self.config.address.into(),
            port: self.config.port,
            weight: self.config.weight,
            method: method(self.config.method),
            tunnel: tunnel(&self.config.tunnel),
            path: self.path.clone(),
            masqueraded: self.masqueraded,
            upper_threshold: self.config.u_threshold,
            lower_threshold: self.config.l_threshold,
            available: common.available,
            one_packet: common.one_packet,
            ftp: engine_key(common.key).port() == service::FTP,
            mss_clamp: common.mss_clamp,
            timeouts: common.timeouts.clone(),
            load: self.load.clone(),
            templates: self.templates.clone(),
            traffic: self.meter.traffic.clone(),
            service_traffic: common.traffic.clone(),
        }
    }
}

impl Removed {
    /// Makes of it what the workers get.
    pub(crate) fn build(&self, rules: &Rules) -> Dest {
        self.dest.build(&Common {
            key: &self.service,
            available: false,
            one_packet: self.one_packet,
            timeouts: own_timeouts(rules, self.conn_timeouts),
            mss_clamp: mss_clamp(self.mss_clamp),
            traffic: &self.service_traffic,
        })
    }
}

/// Sets those of the timeouts that are not 0; others stay.
pub(crate) fn set_timeouts(timeouts: &mut Timeouts, wanted: &api::Timeouts) {
    let set = |place: &mut Ticks, seconds: u32| {
        if seconds != 0 {
            *place = Ticks::from_secs(seconds);
        }
    };
    set(&mut timeouts.tcp[usize::from(tcp::ESTABLISHED)], wanted.tcp);
    set(&mut timeouts.tcp[usize::from(tcp::FIN_WAIT)], wanted.tcp_fin);
    set(&mut timeouts.udp, wanted.udp);
}

fn own_timeouts(rules: &Rules, own: Option<api::Timeouts>) -> Option<Arc<Timeouts>> {
    let mut timeouts = rules.timeouts.clone();
    set_timeouts(&mut timeouts, &own?);
    Some(Arc::new(timeouts))
}

fn mss_clamp(own: Option<api::MssClamp>) -> service::MssClamp {
    match own {
        None => service::MssClamp::Off,
        Some(api::MssClamp::Bytes(bytes)) => service::MssClamp::To(bytes),
        Some(api::MssClamp::Pmtu) => service::MssClamp::PathMtu,
    }
}

fn engine(persistence: Persistence, sip: bool) -> service::Persistence {
    service::Persistence {
        timeout: Ticks::from_secs(persistence.timeout),
        mask: match persistence.netmask {
            None => Mask::ALL,
            Some(Netmask::V4(mask)) => Mask::v4(mask),
            Some(Netmask::V6(prefix)) => Mask::v6(prefix),
        },
        sip,
    }
}

/// The flags by their names or their numbers; flag-3 means nothing to any scheduler.
fn scheduler_flags(names: &[String]) -> Flags {
    let has = |known: [&str; 3]| names.iter().any(|name| known.contains(&name.as_str()));
    Flags {
        port: has(["sh-port", "mh-port", "flag-2"]),
        fallback: has(["sh-fallback", "mh-fallback", "flag-1"]),
    }
}

/// What names the service in the engine.
pub(crate) fn engine_key(key: &ServiceKey) -> service::ServiceKey {
    match *key {
        ServiceKey::Address { protocol, address, port } => {
            service::ServiceKey::Endpoint(service::Endpoint {
                protocol: protocol.number(),
                address: address.into(),
                port,
            })
        }
        ServiceKey::Mark { mark, ipv6 } => service::ServiceKey::Mark { mark, v6: ipv6 },
    }
}

fn tunnel(tunnel: &Tunnel) -> Kind {
    match tunnel.kind {
        TunnelKind::Ipip => Kind::Ipip,
        // Remote checksum offload is GUE's alone; asked for with GRE, it is none.
        TunnelKind::Gre => Kind::Gre { checksum: tunnel.checksum == TunnelChecksum::Full },
        TunnelKind::Gue => Kind::Gue {
            port: tunnel.port,
            checksum: match tunnel.checksum {
                TunnelChecksum::None => Checksum::None,
                TunnelChecksum::Full => Checksum::Whole,
                TunnelChecksum::Remote => Checksum::Remote,
            },
        },
    }
}

fn method(method: Method) -> uvs_forward::Method {
    match method {
        Method::Masq => uvs_forward::Method::Masq,
        Method::Tunnel => uvs_forward::Method::Tunnel,
        Method::Route => uvs_forward::Method::Route,
        Method::Local => uvs_forward::Method::Local,
    }
}
