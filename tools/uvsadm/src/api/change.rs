//! Changes, and why one is refused.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::{DestConfig, Endpoint, ServiceConfig, ServiceKey, Timeouts};

/// One change of what is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// `-A`: a new service without servers.
    AddService {
        /// The service.
        service: ServiceConfig,
    },
    /// `-E`: another scheduler for a service.
    EditService {
        /// The service as it shall be.
        service: ServiceConfig,
    },
    /// `-D`: a service goes, with its servers.
    DelService {
        /// Which.
        service: ServiceKey,
    },
    /// `-C`: all services go.
    Flush,
    /// `-a`: a new server.
    AddDest {
        /// Of which service.
        service: ServiceKey,
        /// The server.
        dest: DestConfig,
    },
    /// `-e`: another weight, method or threshold for a server.
    EditDest {
        /// Of which service.
        service: ServiceKey,
        /// The server as it shall be.
        dest: DestConfig,
    },
    /// `-d`: a server goes.
    DelDest {
        /// Of which service.
        service: ServiceKey,
        /// Which.
        dest: Endpoint,
    },
    /// `--set`: other timeouts of connections that have none of their service's.
    SetTimeouts {
        /// In seconds; 0 leaves one as it is.
        timeouts: Timeouts,
    },
    /// `-Z`: statistics begin anew.
    Zero {
        /// Of which service and its servers; of all if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceKey>,
    },
    /// `uvs set`: another value of a setting.
    SetSetting {
        /// The sysctl's name.
        name: String,
        /// The value, in the setting's range.
        value: i64,
    },
}

impl Change {
    /// Whether it changes services or servers, and so can stand in a file of rules.
    pub fn is_of_table(&self) -> bool {
        !matches!(self, Self::SetTimeouts { .. } | Self::Zero { .. } | Self::SetSetting { .. })
    }
}

/// Why the engine refused a change, by the errno that the kernel has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// ESRCH: the service does not exist.
    NoSuchService,
    /// ENOENT: the service has no such server.
    NoSuchDest,
    /// ENOENT: there is no scheduler of that name.
    NoSuchScheduler,
    /// EEXIST: the service or the server exists.
    Exists,
    /// ERANGE: a weight or a threshold does not fit.
    Range,
    /// EINVAL: an address that cannot be served, among others.
    Invalid,
    /// EAFNOSUPPORT: the address family does not fit.
    Family,
    /// ENOMEM: no memory for it.
    NoMemory,
    /// EPERM: not allowed.
    Denied,
    /// The kernel's IPVS can do it, uvs cannot yet.
    NotSupported,
}

impl ErrorCode {
    /// What ipvsadm prints for it when it answers `change`.
    pub fn text(self, change: &Change) -> &'static str {
        let of_dest = matches!(
            change,
            Change::AddDest { .. } | Change::EditDest { .. } | Change::DelDest { .. }
        );
        match self {
            Self::NoSuchService if of_dest => "Service not defined",
            Self::NoSuchService => NO_SUCH_SERVICE,
            Self::NoSuchDest => "No such destination",
            Self::NoSuchScheduler => "Scheduler or persistence engine not found",
            Self::Exists if of_dest => "Destination already exists",
            Self::Exists => "Service already exists",
            Self::Range => "Numerical result out of range",
            // The two spaces are ipvsadm's.
            Self::Invalid => {
                "Invalid operation.  Possibly wrong module version, address not unicast, ..."
            }
            Self::Family => "Operation not supported with specified address family",
            Self::NoMemory => "Memory allocation problem",
            Self::Denied => "Permission denied (you must be root)",
            Self::NotSupported => "Operation not supported",
        }
    }
}

/// What ipvsadm prints when it is asked to list a service that does not exist (exit code 1).
pub const NO_SUCH_SERVICE: &str = "No such service";

/// A change that the engine refused; `uvsadm` prints it and exits with [`ApiError::EXIT`].
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize, ToSchema)]
#[error("{message}")]
pub struct ApiError {
    /// The reason.
    pub code: ErrorCode,
    /// The sentence for the user.
    pub message: String,
}

impl ApiError {
    /// ipvsadm's exit code for everything that the kernel refuses.
    pub const EXIT: u8 = 255;

    /// The error that ipvsadm would print for `code` in answer to `change`.
    pub fn new(code: ErrorCode, change: &Change) -> Self {
        Self { code, message: code.text(change).to_owned() }
    }

    /// Something that IPVS does and uvs does not yet; `message` says what.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::NotSupported, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::api::{Netmask, Persistence, Protocol};

    const KEY: ServiceKey = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        port: 80,
    };

    #[test]
    fn the_json_of_a_change_is_as_documented() {
        let mut service = ServiceConfig::new(KEY, "rr");
        let json = |change: &Change| {
            let json = serde_json::to_string(change).unwrap();
            assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), *change);
            json
        };
        let key = r#"{"protocol":"tcp","address":"10.0.0.1","port":80}"#;
        assert_eq!(
            json(&Change::AddService { service: service.clone() }),
            format!(r#"{{"change":"add-service","service":{{"key":{key},"scheduler":"rr"}}}}"#)
        );
        let netmask = Some(Netmask::V4([255, 255, 255, 0].into()));
        service.persistence = Some(Persistence { timeout: 300, netmask });
        service.one_packet = true;
        service.conn_timeouts = Some(Timeouts { tcp: 30, tcp_fin: 0, udp: 5 });
        assert_eq!(
            json(&Change::EditService { service }),
            format!(
                r#"{{"change":"edit-service","service":{{"key":{key},"scheduler":"rr","persistence":{{"timeout":300,"netmask":"255.255.255.0"}},"one_packet":true,"conn_timeouts":{{"tcp":30,"tcp_fin":0,"udp":5}}}}}}"#
            )
        );
        assert_eq!(json(&Change::Flush), r#"{"change":"flush"}"#);
        assert_eq!(json(&Change::Zero { service: None }), r#"{"change":"zero"}"#);
        let setting = Change::SetSetting { name: "sloppy_tcp".into(), value: 1 };
        assert_eq!(json(&setting), r#"{"change":"set-setting","name":"sloppy_tcp","value":1}"#);
    }

    #[test]
    fn an_error_is_worded_by_what_was_asked() {
        let dest = DestConfig::new([10, 0, 1, 1], 80).endpoint();
        let dest = Change::DelDest { service: KEY, dest };
        let service = Change::DelService { service: KEY };
        let text = |code, change| ApiError::new(code, change).to_string();
        assert_eq!(text(ErrorCode::NoSuchService, &service), "No such service");
        assert_eq!(text(ErrorCode::NoSuchService, &dest), "Service not defined");
        assert_eq!(text(ErrorCode::Exists, &service), "Service already exists");
        assert_eq!(text(ErrorCode::Exists, &dest), "Destination already exists");
    }
}
