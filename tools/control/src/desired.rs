//! What is configured, and the rules by which a change is made or refused; the workers know
//! nothing of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use uvs_engine::clock::TICKS_PER_SECOND;
use uvs_engine::counters::Traffic;
use uvs_engine::settings::SettingError;
use uvs_engine::snapshot::Rules;
use uvs_sched::{Name, ServerId};
use uvs_uvsadm::api::{
    ApiError, Change, DestConfig, Endpoint, ErrorCode, Method, MssClamp, Netmask, Persistence,
    Protocol, ServiceConfig, ServiceKey, Target, Timeouts, TunnelKind,
};

use crate::entry::{DestEntry, Removed, ServiceEntry, set_timeouts};

/// The longest timeout, in seconds (ip_vs_ctl.c, ip_vs_set_timeout: as many as the kernel's
/// ticks hold; ours are as long as those of a kernel of 100 Hz).
pub(crate) const MAX_TIMEOUT: u32 = i32::MAX as u32 / TICKS_PER_SECOND;

/// What is configured, without the workers' part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired {
    /// Shared with the copy on which changes are tried, until one touches it.
    pub(crate) services: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
    pub(crate) removed: Vec<Removed>,
    pub(crate) rules: Rules,
    /// Counters of services that are new since the director last looked.
    pub(crate) new_traffic: Vec<Arc<Traffic>>,
    /// Whether the sum over all services begins anew.
    pub(crate) zeroed: bool,
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

impl From<SettingError> for Refused {
    fn from(error: SettingError) -> Self {
        let code = match error {
            SettingError::Unknown(_) => ErrorCode::Invalid,
            SettingError::Range { .. } => ErrorCode::Range,
        };
        Self::Told(ApiError { code, message: error.to_string() })
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
            Change::DelDest { service, dest } => self.del_dest(service, dest),
            Change::SetTimeouts { timeouts } => self.set_timeouts(timeouts),
            Change::Zero { service: Some(key) } => {
                self.service(key)?.zero();
                Ok(())
            }
            Change::Zero { service: None } => {
                self.each_service(ServiceEntry::zero);
                self.zeroed = true;
                Ok(())
            }
            Change::SetSetting { name, value } => {
                let mut rules = self.rules.clone();
                rules.settings.set(name, *value)?;
                self.set_rules(rules);
                Ok(())
            }
        }
    }

    /// Applies those of the changes that can be; says which cannot be, and why.
    pub(crate) fn apply_each(
        &mut self,
        changes: &[Change],
        workers: usize,
    ) -> Vec<(usize, ApiError)> {
        let mut refused = Vec::new();
        for (number, change) in changes.iter().enumerate() {
            if let Err(reason) = self.apply(change, workers) {
                refused.push((number, reason.told(change)));
            }
        }
        refused
    }

    /// The services as a plan's target: servers in the order in which they were added.
    pub(crate) fn targets(&self) -> BTreeMap<ServiceKey, Target> {
        let target = |(key, entry): (&ServiceKey, &Arc<ServiceEntry>)| {
            let dests = entry.dests.iter().rev().map(|dest| dest.config).collect();
            (*key, Target { service: entry.config.clone(), dests })
        };
        self.services.iter().map(target).collect()
    }

    fn service(&mut self, key: &ServiceKey) -> Result<&mut ServiceEntry, Refused> {
        let entry = self.services.get_mut(key).ok_or(ErrorCode::NoSuchService)?;
        Ok(Arc::make_mut(entry))
    }

    pub(crate) fn each_service(&mut self, mut of: impl FnMut(&mut ServiceEntry)) {
        self.services.values_mut().for_each(|entry| of(Arc::make_mut(entry)));
    }

    fn add_service(&mut self, config: &ServiceConfig, workers: usize) -> Result<(), Refused> {
        if self.services.contains_key(&config.key) {
            return Err(ErrorCode::Exists.into());
        }
        let (config, scheduler) = checked_service(config)?;
        let entry = ServiceEntry::new(config, scheduler, workers);
        self.new_traffic.push(entry.meter.traffic.clone());
        self.services.insert(entry.config.key, Arc::new(entry));
        Ok(())
    }

    fn edit_service(&mut self, config: &ServiceConfig) -> Result<(), Refused> {
        let entry = self.service(&config.key)?;
        let (config, scheduler) = checked_service(config)?;
        if scheduler.most_servers().is_some_and(|most| entry.dests.len() > most) {
            return Err(ErrorCode::Invalid.into());
        }
        if entry.config != config {
            entry.config = config;
            entry.change();
        }
        if entry.scheduler != scheduler {
            entry.scheduler = scheduler;
            entry.before = None;
        }
        Ok(())
    }

    fn del_service(&mut self, key: &ServiceKey) -> Result<(), Refused> {
        let entry = self.services.remove(key).ok_or(ErrorCode::NoSuchService)?;
        let mut entry = Arc::unwrap_or_clone(entry);
        let dests = std::mem::take(&mut entry.dests);
        self.removed.extend(dests.into_iter().map(|dest| entry.removed(dest)));
        Ok(())
    }

    fn add_dest(
        &mut self,
        key: &ServiceKey,
        config: &DestConfig,
        workers: usize,
    ) -> Result<(), Refused> {
        let entry = self.service(key)?;
        check_dest(key, config)?;
        if entry.find(&config.endpoint()).is_some() {
            return Err(ErrorCode::Exists.into());
        }
        if entry.scheduler.most_servers().is_some_and(|most| entry.dests.len() >= most) {
            return Err(ErrorCode::Invalid.into());
        }
        let mut dest = match self.revive(key, config) {
            Some(dest) => dest,
            None => DestEntry::new(self.new_id(), *config, workers),
        };
        dest.set(*config);
        dest.last_weight = config.weight;
        let entry = self.service(key)?;
        entry.dests.insert(0, dest);
        entry.change_servers();
        Ok(())
    }

    fn edit_dest(&mut self, key: &ServiceKey, config: &DestConfig) -> Result<(), Refused> {
        let entry = self.service(key)?;
        check_dest(key, config)?;
        let at = entry.find(&config.endpoint()).ok_or(ErrorCode::NoSuchDest)?;
        entry.dests[at].set(*config);
        entry.change_servers();
        Ok(())
    }

    fn del_dest(&mut self, key: &ServiceKey, dest: &Endpoint) -> Result<(), Refused> {
        let entry = self.service(key)?;
        let at = entry.find(dest).ok_or(ErrorCode::NoSuchDest)?;
        let dest = entry.dests.remove(at);
        entry.change_servers();
        let removed = entry.removed(dest);
        self.removed.push(removed);
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

    fn set_timeouts(&mut self, wanted: &Timeouts) -> Result<(), Refused> {
        check_timeouts(wanted)?;
        let mut rules = self.rules.clone();
        set_timeouts(&mut rules.timeouts, wanted);
        self.set_rules(rules);
        Ok(())
    }

    /// Takes over timeouts, settings and marks; services that they touch are built anew.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        let before = std::mem::replace(&mut self.rules, rules);
        let timeouts = before.timeouts != self.rules.timeouts;
        let (old, new) = (&before.settings, &self.rules.settings);
        if !timeouts && old == new {
            return;
        }
        let overflow = old.table_full_hash != new.table_full_hash;
        for entry in self.services.values_mut() {
            let expiration = old.expiration(entry.scheduler) != new.expiration(entry.scheduler);
            let own_timeouts = timeouts && entry.config.conn_timeouts.is_some();
            if overflow || expiration || own_timeouts {
                Arc::make_mut(entry).change();
            }
        }
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
            let used = gone.dest.used();
            if !used {
                resting_ids.push(gone.dest.id.0);
            }
            used
        });
    }
}

/// The service as it is kept, and its scheduler, in the order of the kernel's checks
/// (ip_vs_ctl.c, ip_vs_add_service).
fn checked_service(config: &ServiceConfig) -> Result<(ServiceConfig, Name), Refused> {
    if config.flags.iter().any(|flag| !FLAGS.contains(&flag.as_str())) {
        return Err(ErrorCode::Invalid.into());
    }
    let scheduler = config.scheduler.parse().map_err(|_| ErrorCode::NoSuchScheduler)?;
    if config.pe.as_deref().is_some_and(|pe| pe != "sip") {
        return Err(ErrorCode::NoSuchScheduler.into());
    }
    if matches!(config.key, ServiceKey::Mark { mark: 0, .. }) {
        return Err(ErrorCode::Invalid.into());
    }
    let mut config = config.clone();
    if let Some(Persistence { timeout, netmask }) = &mut config.persistence {
        let fits = match netmask {
            None => true,
            Some(Netmask::V4(_)) => !config.key.is_ipv6(),
            Some(Netmask::V6(prefix)) => config.key.is_ipv6() && (1..=128).contains(prefix),
        };
        if !fits || !(1..=MAX_TIMEOUT).contains(timeout) {
            return Err(ErrorCode::Invalid.into());
        }
        *netmask = netmask.and_then(Netmask::unless_all);
    }
    config.conn_timeouts = config.conn_timeouts.filter(|own| *own != Timeouts::default());
    config.conn_timeouts.iter().try_for_each(check_timeouts)?;
    let right = match config.mss_clamp {
        None => true,
        Some(_) if config.key.protocol().is_some_and(|it| it != Protocol::Tcp) => false,
        Some(MssClamp::Bytes(bytes)) => MssClamp::RANGE.contains(&bytes),
        Some(MssClamp::Pmtu) => true,
    };
    if !right {
        return Err(ErrorCode::Invalid.into());
    }
    Ok((config, scheduler))
}

/// What ipvsadm's `-b` knows.
const FLAGS: [&str; 7] =
    ["flag-1", "flag-2", "flag-3", "sh-fallback", "sh-port", "mh-fallback", "mh-port"];

fn check_timeouts(timeouts: &Timeouts) -> Result<(), Refused> {
    let Timeouts { tcp, tcp_fin, udp } = *timeouts;
    match [tcp, tcp_fin, udp].into_iter().all(|timeout| timeout <= MAX_TIMEOUT) {
        true => Ok(()),
        false => Err(ErrorCode::Invalid.into()),
    }
}

/// Whether a server can be one of the service (ip_vs_ctl.c, ip_vs_add_dest, ip_vs_new_dest).
fn check_dest(key: &ServiceKey, config: &DestConfig) -> Result<(), Refused> {
    let mixed = config.address.is_ipv6() != key.is_ipv6();
    if mixed && config.method != Method::Tunnel {
        return Err(ErrorCode::Invalid.into());
    }
    if config.weight > i32::MAX as u32 || config.l_threshold > config.u_threshold {
        return Err(ErrorCode::Range.into());
    }
    // Whatever the method. What else a tunnel has and does not use, the kernel takes.
    if config.tunnel.kind == TunnelKind::Gue && config.tunnel.port == 0 {
        return Err(ErrorCode::Invalid.into());
    }
    if !is_unicast(config.address) {
        return Err(ErrorCode::Invalid.into());
    }
    Ok(())
}

/// Whether packets for the address have one receiver, by the address alone.
fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_unicast_link_local()),
    }
}
