//! What a command line asks for, and what of ipvsadm uvs does not do yet.

use std::net::IpAddr;

use crate::api::{Change, DestConfig, Endpoint, Method, ServiceConfig, ServiceKey};
use crate::error::ParseError;
use crate::grammar::{Op, Opt};
use crate::parse::{Line, Service};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A -E -D -C -a -e -d`: a change of the table.
    Change(Change),
    /// `-R`: a file of rules on standard input.
    Restore,
    /// `-S`: the table as a file of rules.
    Save {
        /// `-n`: no names.
        numeric: bool,
    },
    /// `-L`.
    List(List),
    /// `-h`.
    Help,
    /// `-v`.
    Version,
}

/// What to list, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// What.
    pub form: Form,
    /// Only this service.
    pub service: Option<ServiceKey>,
    /// `-n`: no names.
    pub numeric: bool,
    /// `--exact`: no K, M, G, T.
    pub exact: bool,
    /// In order of address; `--nosort` is in the engine's order.
    pub sorted: bool,
}

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Services and servers.
    Services,
    /// Their totals (`--stats`).
    Stats,
    /// Their rates (`--rate`).
    Rate,
    /// Their thresholds (`--thresholds`).
    Thresholds,
    /// Connections (`-c`).
    Connections,
    /// Timeouts (`--timeout`).
    Timeouts,
}

impl Command {
    /// The command of a line that is as ipvsadm wants it.
    pub(crate) fn new(line: &Line) -> Result<Self, ParseError> {
        refuse_unsupported(line)?;
        Ok(match line.op {
            Op::AddService => Self::Change(Change::AddService { service: service(line)? }),
            Op::EditService => Self::Change(Change::EditService { service: service(line)? }),
            Op::DeleteService => Self::Change(Change::DelService { service: needed_key(line)? }),
            Op::Clear => Self::Change(Change::Flush),
            Op::AddServer => {
                let (service, dest) = (needed_key(line)?, dest(line)?);
                Self::Change(Change::AddDest { service, dest })
            }
            Op::EditServer => {
                let (service, dest) = (needed_key(line)?, dest(line)?);
                Self::Change(Change::EditDest { service, dest })
            }
            Op::DeleteServer => {
                let (service, dest) = (needed_key(line)?, endpoint(line)?);
                Self::Change(Change::DelDest { service, dest })
            }
            Op::Restore => Self::Restore,
            Op::Save => Self::Save { numeric: line.has(Opt::Numeric) },
            Op::List => Self::List(list(line)?),
            Op::Help => Self::Help,
            Op::Version => Self::Version,
            Op::Zero | Op::Set | Op::StartDaemon | Op::StopDaemon => {
                return Err(unsupported_op(line.op));
            }
        })
    }
}

fn unsupported_op(op: Op) -> ParseError {
    ParseError::unsupported(format_args!("the '{op}' command"))
}

/// The one place that knows what of ipvsadm's grammar uvs does not do.
fn refuse_unsupported(line: &Line) -> Result<(), ParseError> {
    if matches!(line.op, Op::Zero | Op::Set | Op::StartDaemon | Op::StopDaemon) {
        return Err(unsupported_op(line.op));
    }
    let options = [
        Opt::Persistent,
        Opt::Netmask,
        Opt::Ops,
        Opt::Pe,
        Opt::Daemon,
        Opt::PersistentConn,
        Opt::TunInfo,
        Opt::Syncid,
    ];
    if let Some(option) = options.into_iter().find(|option| line.has(*option)) {
        return Err(unsupported(line, option, format_args!("the '{option}' option")));
    }
    if line.tun_type != "ipip" {
        let what = format_args!("the '{}' tunnel type", line.tun_type);
        return Err(unsupported(line, Opt::TunType, what));
    }
    if matches!(line.service, Some(Service::Mark { .. })) {
        return Err(unsupported(line, Opt::ServiceAddress, "a service by firewall mark"));
    }
    if line.is_ipv6() {
        return Err(unsupported(line, Opt::ServiceAddress, "IPv6"));
    }
    if line.dest.is_some_and(|(address, _)| address.is_ipv6()) {
        return Err(unsupported(line, Opt::RealServer, "IPv6"));
    }
    Ok(())
}

/// A scheduler's flags as ipvsadm prints them: each once, in the order of their bits, by the
/// names that they have with this scheduler.
fn flags(scheduler: &str, given: &[String]) -> Vec<String> {
    const KNOWN: [[&str; 3]; 3] = [
        ["flag-1", "sh-fallback", "mh-fallback"],
        ["flag-2", "sh-port", "mh-port"],
        ["flag-3", "flag-3", "flag-3"],
    ];
    let column = match scheduler {
        "sh" => 1,
        "mh" => 2,
        _ => 0,
    };
    let set = |names: &&[&str; 3]| given.iter().any(|flag| names.contains(&flag.as_str()));
    KNOWN.iter().filter(set).map(|names| names[column].to_owned()).collect()
}

fn unsupported(line: &Line, option: Opt, what: impl std::fmt::Display) -> ParseError {
    ParseError::unsupported(what).at(line.arg(option))
}

fn key(line: &Line) -> Option<ServiceKey> {
    match line.service {
        Some(Service::Address(protocol, IpAddr::V4(address), port)) => {
            Some(ServiceKey { protocol, address, port: port.unwrap_or(0) })
        }
        _ => None,
    }
}

fn needed_key(line: &Line) -> Result<ServiceKey, ParseError> {
    key(line).ok_or_else(|| unsupported(line, Opt::ServiceAddress, "such a service"))
}

fn service(line: &Line) -> Result<ServiceConfig, ParseError> {
    let (scheduler, flags) = (line.scheduler.clone(), flags(&line.scheduler, &line.flags));
    Ok(ServiceConfig { key: needed_key(line)?, scheduler, flags })
}

fn endpoint(line: &Line) -> Result<Endpoint, ParseError> {
    match line.dest {
        Some((IpAddr::V4(address), port)) => Ok(Endpoint { address, port }),
        _ => Err(unsupported(line, Opt::RealServer, "such a server")),
    }
}

/// Without NAT a server's port is the service's, whatever the line says.
fn dest(line: &Line) -> Result<DestConfig, ParseError> {
    let Endpoint { address, port } = endpoint(line)?;
    let method = line.method;
    Ok(DestConfig {
        address,
        port: if method == Method::Masq { port } else { needed_key(line)?.port },
        weight: line.weight,
        method,
        u_threshold: line.u_threshold,
        l_threshold: line.l_threshold,
    })
}

fn list(line: &Line) -> Result<List, ParseError> {
    // Of several forms ipvsadm takes the first of these.
    let forms = [
        (Opt::Connection, Form::Connections),
        (Opt::Timeout, Form::Timeouts),
        (Opt::Stats, Form::Stats),
        (Opt::Rate, Form::Rate),
        (Opt::Thresholds, Form::Thresholds),
    ];
    let form = forms.into_iter().find(|(option, _)| line.has(*option));
    Ok(List {
        form: form.map_or(Form::Services, |(_, form)| form),
        service: key(line),
        numeric: line.has(Opt::Numeric),
        exact: line.has(Opt::Exact),
        sorted: !line.has(Opt::Nosort),
    })
}
