//! What a command line asks for.

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
    Change {
        /// The change.
        change: Change,
        /// `--dry-run`: only say what it would do.
        dry_run: bool,
    },
    /// `-R`: a file of rules on standard input.
    Restore {
        /// `--dry-run`: only say what they would do.
        dry_run: bool,
    },
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
    /// `--json`: not as text.
    pub json: bool,
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
    /// Sync daemons (`--daemon`).
    Daemon,
}

impl Command {
    /// The command of a line that is as ipvsadm wants it.
    pub(crate) fn new(line: &Line) -> Result<Self, ParseError> {
        let dry_run = line.has(Opt::DryRun);
        Ok(match line.op {
            Op::Restore => Self::Restore { dry_run },
            Op::Save => Self::Save { numeric: line.has(Opt::Numeric) },
            Op::List => Self::List(list(line)?),
            Op::Help => Self::Help,
            Op::Version => Self::Version,
            _ => Self::Change { change: change(line)?, dry_run },
        })
    }
}

/// The change that a line asks for; what of ipvsadm's uvs does not do is known here alone.
fn change(line: &Line) -> Result<Change, ParseError> {
    Ok(match line.op {
        Op::AddService => Change::AddService { service: service(line)? },
        Op::EditService => Change::EditService { service: service(line)? },
        Op::DeleteService => Change::DelService { service: needed_key(line)? },
        Op::Clear => Change::Flush,
        Op::AddServer => Change::AddDest { service: needed_key(line)?, dest: dest(line)? },
        Op::EditServer => Change::EditDest { service: needed_key(line)?, dest: dest(line)? },
        Op::DeleteServer => Change::DelDest { service: needed_key(line)?, dest: endpoint(line)? },
        Op::Zero => Change::Zero { service: key(line) },
        Op::Set => Change::SetTimeouts { timeouts: line.set },
        Op::StartDaemon | Op::StopDaemon => {
            let command = format_args!("the '{}' command", line.op);
            return Err(ParseError::unsupported(command, "the sync daemon comes later").at(0));
        }
        Op::Restore | Op::Save | Op::List | Op::Help | Op::Version => {
            return Err(ParseError::not_here(line.op));
        }
    })
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

fn key(line: &Line) -> Option<ServiceKey> {
    line.service.map(|service| match service {
        Service::Address(protocol, address, port) => {
            ServiceKey::Address { protocol, address, port: port.unwrap_or(0) }
        }
        Service::Mark { mark, ipv6 } => ServiceKey::Mark { mark, ipv6 },
    })
}

fn needed_key(line: &Line) -> Result<ServiceKey, ParseError> {
    // The check has seen that it is there.
    key(line).ok_or_else(|| ParseError::not_here(line.op))
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
        mss_clamp: line.mss_clamp,
        conn_timeouts: (line.conn_timeouts != Timeouts::default()).then_some(line.conn_timeouts),
    })
}

fn endpoint(line: &Line) -> Result<Endpoint, ParseError> {
    let (address, port) = line.dest.ok_or_else(|| ParseError::not_here(line.op))?;
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
        (Opt::Daemon, Form::Daemon),
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
        json: line.has(Opt::Json),
    })
}
