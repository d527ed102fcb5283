//! The two sides of the mirror: what each holds, and how it is changed.

use std::collections::BTreeMap;

use serde::Serialize;
use uvs_control::client::{Client, ClientError};
use uvs_control::plan;
use uvs_control::rules::Targets;
use uvs_control::service::Target;
use uvs_ipvs as ipvs;
use uvs_uvsadm::api::{Change, MssClamp, Service, ServiceConfig, ServiceKey, Timeouts};

use super::translate::{
    Foreign, kernel_dest, kernel_dest_key, kernel_key, kernel_service, kernel_timeouts, own_dest,
    own_service, own_timeouts,
};

/// What is mirrored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Of connections, as of `--set`.
    pub timeouts: Timeouts,
    /// Services, without timeouts of their own, and servers, the oldest first.
    pub services: Targets,
}

impl Configuration {
    /// What uvs lists, in the words that the kernel has too.
    pub fn of(timeouts: Timeouts, services: impl IntoIterator<Item = Service>) -> Self {
        let target = |service: Service| {
            let dests = service.dests.iter().rev().map(|dest| dest.config).collect();
            let service = ServiceConfig { conn_timeouts: None, mss_clamp: None, ..service.config };
            (service.key, Target { service, dests })
        };
        Self { timeouts, services: services.into_iter().map(target).collect() }
    }

    /// The changes that make it `want`, and nothing else.
    pub fn plan(&self, want: &Self) -> Vec<Change> {
        let timeouts = Change::SetTimeouts { timeouts: want.timeouts };
        let mut changes = plan::plan(&self.services, &want.services);
        changes.extend((self.timeouts != want.timeouts).then_some(timeouts));
        changes
    }
}

/// Why a side cannot be read, or was lost on the way.
#[derive(Debug, thiserror::Error)]
pub enum SideError {
    /// The kernel's IPVS.
    #[error(transparent)]
    Kernel(#[from] ipvs::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] ClientError),
    /// The kernel has what uvs has not.
    #[error(transparent)]
    Foreign(#[from] Foreign),
}

/// A change that was refused.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The change.
    #[serde(flatten)]
    pub change: Change,
    /// Why.
    pub reason: String,
}

/// What became of the changes.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Made.
    pub done: Vec<Change>,
    /// Refused.
    pub failed: Vec<Failed>,
    /// Not tried, for what came before them did not succeed.
    pub left: Vec<Change>,
}

impl Outcome {
    /// None of the changes was made, because of the one at this place.
    fn fail(&mut self, mut changes: Vec<Change>, at: usize, error: &ClientError) {
        if at < changes.len() {
            self.failed.push(Failed { change: changes.remove(at), reason: error.to_string() });
        }
        self.left.append(&mut changes);
    }
}

/// One side.
pub trait Side {
    /// What it holds.
    fn read(&mut self) -> Result<Configuration, SideError>;

    /// Makes the changes. What is refused takes what follows for the same service with it, nothing
    /// else.
    fn make(&mut self, changes: Vec<Change>) -> Outcome;
}

/// The kernel's IPVS, of the network namespace of the thread that opened it.
pub struct Kernel(ipvs::Client);

impl Kernel {
    /// Opens it.
    pub fn open() -> Result<Self, ipvs::Error> {
        ipvs::Client::open().map(Self)
    }

    fn change(&mut self, change: &Change) -> Result<(), ipvs::Error> {
        let kernel = &mut self.0;
        // No scheduler of the kernel's has such a long name.
        let service = |config| {
            kernel_service(config).map_err(|_| ipvs::Error::Refused {
                command: ipvs::wire::Command::NEW_SERVICE,
                errno: NO_SUCH_NAME,
            })
        };
        match change {
            Change::AddService { service: config } => kernel.add_service(&service(config)?),
            Change::EditService { service: config } => kernel.set_service(&service(config)?),
            Change::DelService { service } => kernel.del_service(&kernel_key(service)),
            Change::AddDest { service, dest } => {
                kernel.add_dest(&kernel_key(service), &kernel_dest(dest))
            }
            Change::EditDest { service, dest } => {
                kernel.set_dest(&kernel_key(service), &kernel_dest(dest))
            }
            Change::DelDest { service, dest } => {
                kernel.del_dest(&kernel_key(service), &kernel_dest_key(dest))
            }
            Change::SetTimeouts { timeouts } => kernel.set_timeouts(&kernel_timeouts(timeouts)),
            Change::Flush => kernel.flush(),
            Change::Zero { service } => kernel.zero(service.as_ref().map(kernel_key).as_ref()),
            Change::SetSetting { .. } => Ok(()),
        }
    }
}

/// ENOENT, the kernel's answer to the name of a scheduler that it does not know.
const NO_SUCH_NAME: i32 = 2;

impl Side for Kernel {
    fn read(&mut self) -> Result<Configuration, SideError> {
        let mut services = Targets::new();
        for listed in self.0.services()? {
            let key = listed.service.key;
            let service = own_service(&listed.service)?;
            let dests = self.0.dests(&key)?;
            let dests = dests.iter().rev().map(|listed| own_dest(&key, &listed.dest));
            let dests = dests.collect::<Result<_, _>>()?;
            services.insert(service.key, Target { service, dests });
        }
        Ok(Configuration { timeouts: own_timeouts(&self.0.timeouts()?), services })
    }

    fn make(&mut self, changes: Vec<Change>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut lost = None;
        let mut broken = false;
        for change in changes {
            if broken || lost.is_some() && lost == key(&change) {
                outcome.left.push(change);
                continue;
            }
            match self.change(&change) {
                Ok(()) => outcome.done.push(change),
                Err(error) => {
                    lost = key(&change);
                    broken = !matches!(error, ipvs::Error::Refused { .. });
                    outcome.failed.push(Failed { change, reason: error.to_string() });
                }
            }
        }
        outcome
    }
}

/// A running engine.
pub struct Engine {
    client: Client,
    /// The services' timeouts and limits of uvs's own, which the kernel does not know and must not
    /// take away.
    own: BTreeMap<ServiceKey, (Option<Timeouts>, Option<MssClamp>)>,
}

impl Engine {
    /// The engine that answers there.
    pub fn new(client: Client) -> Self {
        Self { client, own: BTreeMap::new() }
    }

    fn kept(&self, mut change: Change) -> Change {
        if let Change::EditService { service } = &mut change {
            (service.conn_timeouts, service.mss_clamp) =
                self.own.get(&service.key).copied().unwrap_or_default();
        }
        change
    }

    /// Makes changes that belong together: all, or none.
    fn make_one(&self, mut changes: Vec<Change>, outcome: &mut Outcome) {
        match self.client.change(&changes) {
            Ok(_) => outcome.done.append(&mut changes),
            Err(error) => {
                let at = match &error {
                    ClientError::Refused(refused) => refused.change,
                    _ => 0,
                };
                outcome.fail(changes, at, &error);
            }
        }
    }
}

impl Side for Engine {
    fn read(&mut self) -> Result<Configuration, SideError> {
        let (settings, services) = (self.client.settings()?, self.client.services()?);
        let own = |service: &Service| {
            let config = &service.config;
            (config.key, (config.conn_timeouts, config.mss_clamp))
        };
        self.own = services.iter().map(own).collect();
        Ok(Configuration::of(settings.timeouts, services))
    }

    fn make(&mut self, changes: Vec<Change>) -> Outcome {
        let mut outcome = Outcome::default();
        let changes: Vec<_> = changes.into_iter().map(|change| self.kept(change)).collect();
        if changes.is_empty() {
            return outcome;
        }
        match self.client.change(&changes) {
            Ok(_) => outcome.done = changes,
            // One of them stands in the way of all: each service by itself.
            Err(ClientError::Refused(_)) => {
                let together = changes.chunk_by(|one, next| key(one) == key(next));
                together.for_each(|group| self.make_one(group.to_vec(), &mut outcome));
            }
            Err(error) => outcome.fail(changes, 0, &error),
        }
        outcome
    }
}

/// The service that a change is about.
fn key(change: &Change) -> Option<ServiceKey> {
    match change {
        Change::AddService { service } | Change::EditService { service } => Some(service.key),
        Change::DelService { service }
        | Change::AddDest { service, .. }
        | Change::EditDest { service, .. }
        | Change::DelDest { service, .. } => Some(*service),
        _ => None,
    }
}
