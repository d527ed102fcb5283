//! What a command line asks for, and what of ipvsadm uvs does not do yet.

use crate::api::{
    Change, DestConfig, Endpoint, Method, Persistence, ServiceConfig, ServiceKey, Timeouts, Tunnel,
};
use crate::error::ParseError;
use crate::grammar::{Op, Opt};
use crate::parse::{Line, Service};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `-A -E -D -C -a -e -d -Z --set`: a change of what is configured.
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
    /// Their servers' persistence templates (`--persistent-conn`).
    PersistentConn,
    /// Their servers' tunnels (`--tun-info`).
    TunInfo,
    /// Connections (`-c`).
    Connections,
    /// Connections with what a persistence engine knows them by (`-c --persistent-conn`).
    ConnectionsWithPe,
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
            Op::Zero => Self::Change(Change::Zero { service: key(line) }),
            Op::Set => Self::Change(Change::SetTimeouts { timeouts: line.set }),
            Op::Restore => Self::Restore,
            Op::Save => Self::Save { numeric: line.has(Opt::Numeric) },
            Op::List => Self::List(list(line)?),
            Op::Help => Self::Help,
            Op::Version => Self::Version,
            Op::StartDaemon | Op::StopDaemon => return Err(unsupported_op(line.op)),
        })
    }
}

fn unsupported_op(op: Op) -> ParseError {
    ParseError::unsupported(format_args!("the '{op}' command"))
}

/// The one place that knows what of ipvsadm's grammar uvs does not do.
fn refuse_unsupported(line: &Line) -> Result<(), ParseError> {
    if matches!(line.op, Op::StartDaemon | Op::StopDaemon) {
        return Err(unsupported_op(line.op));
    }
    let options = [Opt::Daemon, Opt::Syncid];
    if let Some(option) = options.into_iter().find(|option| line.has(*option)) {
        return Err(unsupported(line, option, format_args!("the '{option}' option")));
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
    line.service.map(|service| match service {
        Service::Address(protocol, address, port) => {
            ServiceKey::Address { protocol, address, port: port.unwrap_or(0) }
        }
        Service::Mark { mark, ipv6 } => ServiceKey::Mark { mark, ipv6 },
    })
}

fn needed_key(line: &Line) -> Result<ServiceKey, ParseError> {
    key(line).ok_or_else(|| unsupported(line, Opt::ServiceAddress, "such a service"))
}

fn service(line: &Line) -> Result<ServiceConfig, ParseError> {
    let persistence = Persistence { timeout: line.persistent, netmask: line.netmask };
    Ok(ServiceConfig {
        key: needed_key(line)?,
        scheduler: line.scheduler.clone(),
        flags: flags(&line.scheduler, &line.flags),
        persistence: line.has(Opt::Persistent).then_some(persistence),
        pe: (!line.pe.is_empty()).then(|| line.pe.clone()),
        one_packet: line.has(Opt::Ops),
        conn_timeouts: (line.conn_timeouts != Timeouts::default()).then_some(line.conn_timeouts),
    })
}

fn endpoint(line: &Line) -> Result<Endpoint, ParseError> {
    let (address, port) =
        line.dest.ok_or_else(|| unsupported(line, Opt::RealServer, "such a server"))?;
    Ok(Endpoint { address, port })
}

/// Without NAT a server's port is the service's, whatever the line says; a mark has none.
fn dest(line: &Line) -> Result<DestConfig, ParseError> {
    let Endpoint { address, port } = endpoint(line)?;
    let method = line.method;
    let tunnel = if method == Method::Tunnel { line.tunnel } else { Tunnel::default() };
    Ok(DestConfig {
        address,
        port: match needed_key(line)?.endpoint() {
            Some(service) if method != Method::Masq => service.port,
            _ => port,
        },
        weight: line.weight,
        method,
        u_threshold: line.u_threshold,
        l_threshold: line.l_threshold,
        tunnel,
    })
}

fn list(line: &Line) -> Result<List, ParseError> {
    // Of several forms ipvsadm takes the first of these.
    let connections = match line.has(Opt::PersistentConn) {
        true => Form::ConnectionsWithPe,
        false => Form::Connections,
    };
    let forms = [
        (Opt::Connection, connections),
        (Opt::Timeout, Form::Timeouts),
        (Opt::Stats, Form::Stats),
        (Opt::Rate, Form::Rate),
        (Opt::Thresholds, Form::Thresholds),
        (Opt::PersistentConn, Form::PersistentConn),
        (Opt::TunInfo, Form::TunInfo),
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
