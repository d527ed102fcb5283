//! A command line, read from left to right as ipvsadm reads it: each value is checked where it
//! stands, what belongs together is checked in `check.rs` once all is read.

use std::net::IpAddr;

use crate::address::{host_port, ipv4, number};
use crate::api::{
    Method, MssClamp, Netmask, Persistence, Protocol, Timeouts, Tunnel, TunnelChecksum, TunnelKind,
};
use crate::args::{Args, Found};
use crate::command::Command;
use crate::error::ParseError;
use crate::grammar::{Meaning, Op, Opt};
use crate::names::{Names, System};

/// The longest timeout, in seconds: 31 days.
const MAX_TIMEOUT: u32 = 31 * 24 * 60 * 60;

/// The largest message of the sync daemon: an IPv4 packet without its IP and UDP headers.
const MAX_SYNC_LEN: u32 = 65535 - 20 - 8;

/// What ipvsadm says to a service's address that it cannot read.
const ILLEGAL_SERVICE: &str = "illegal virtual server address[:port] specified";

/// A service by address or by firewall mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Protocol, address, and port if one was given.
    Address(Protocol, IpAddr, Option<u16>),
    /// The mark, and whether it is for IPv6.
    Mark { mark: u32, ipv6: bool },
}

/// A line after reading, before what belongs together is checked. Options that have no field are
/// known by [`Line::has`] only: they have no value, or are those of the sync daemon.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) op: Op,
    /// The options that stand on the line, each with the number of its argument.
    options: Vec<(Opt, usize)>,
    pub(crate) service: Option<Service>,
    pub(crate) scheduler: String,
    pub(crate) flags: Vec<String>,
    pub(crate) dest: Option<(IpAddr, u16)>,
    pub(crate) method: Method,
    pub(crate) weight: u32,
    pub(crate) u_threshold: u32,
    pub(crate) l_threshold: u32,
    pub(crate) tunnel: Tunnel,
    /// Of `-p`, in seconds.
    pub(crate) persistent: u32,
    pub(crate) netmask: Option<Netmask>,
    pub(crate) pe: String,
    pub(crate) conn_timeouts: Timeouts,
    pub(crate) mss_clamp: Option<MssClamp>,
    /// What `--set` sets.
    pub(crate) set: Timeouts,
}

impl Line {
    fn new(op: Op) -> Self {
        Self {
            op,
            options: Vec::new(),
            service: None,
            scheduler: "wlc".to_owned(),
            flags: Vec::new(),
            dest: None,
            method: Method::Route,
            weight: 1,
            u_threshold: 0,
            l_threshold: 0,
            tunnel: Tunnel::default(),
            persistent: Persistence::DEFAULT_TIMEOUT,
            netmask: None,
            pe: String::new(),
            conn_timeouts: Timeouts::default(),
            mss_clamp: None,
            set: Timeouts::default(),
        }
    }

    /// Whether the option stands on the line.
    pub(crate) fn has(&self, option: Opt) -> bool {
        self.arg(option).is_some()
    }

    /// The number of the option's argument.
    pub(crate) fn arg(&self, option: Opt) -> Option<usize> {
        self.options.iter().find(|(found, _)| *found == option).map(|(_, arg)| *arg)
    }

    /// Whether the service is of IPv6.
    pub(crate) fn is_ipv6(&self) -> bool {
        match self.service {
            Some(Service::Address(_, address, _)) => address.is_ipv6(),
            Some(Service::Mark { ipv6, .. }) => ipv6,
            None => false,
        }
    }

    fn set(&mut self, option: Opt, arg: usize) -> Result<(), ParseError> {
        if self.has(option) {
            return Err(ParseError::usage(format!("multiple '{option}' options specified")).at(arg));
        }
        self.options.push((option, arg));
        Ok(())
    }

    fn take(&mut self, found: &Found, names: &dyn Names) -> Result<(), ParseError> {
        let value = found.value.unwrap_or_default();
        let illegal = |message: &str| ParseError::usage(message).at(found.value_arg);
        match found.word.meaning {
            Meaning::Command(_) => {
                return Err(
                    ParseError::usage(format!("invalid option `{}'", found.text)).at(found.arg)
                );
            }
            Meaning::Service(protocol) => {
                self.set(Opt::ServiceAddress, found.arg)?;
                let (address, port) = host_port(value, Some(protocol), names)
                    .ok_or_else(|| illegal(ILLEGAL_SERVICE))?;
                self.service = Some(Service::Address(protocol, address, port));
                self.forget_netmask();
            }
            Meaning::Fwmark => {
                self.set(Opt::ServiceAddress, found.arg)?;
                let mark = number(value, 1, u32::MAX)
                    .ok_or_else(|| illegal(&format!("invalid fwmark value `{value}' specified")))?;
                self.service = Some(Service::Mark { mark, ipv6: false });
            }
            Meaning::Ipv6 => match &mut self.service {
                Some(Service::Mark { ipv6, .. }) => {
                    *ipv6 = true;
                    self.forget_netmask();
                }
                // The second newline is ipvsadm's.
                _ => return Err(ParseError::usage("-6 used before -f\n").at(found.arg)),
            },
            Meaning::Method(method) => {
                self.set(Opt::ForwardingMethod, found.arg)?;
                self.method = method;
            }
            Meaning::Option(option) => {
                self.set(option, found.arg)?;
                self.value(option, found, names).map_err(|message| illegal(&message))?;
            }
            Meaning::Nothing => {}
        }
        Ok(())
    }

    /// Reads an option's value; the error is ipvsadm's message.
    fn value(&mut self, option: Opt, found: &Found, names: &dyn Names) -> Result<(), String> {
        let value = found.value.unwrap_or_default();
        let within = |min, max, message: &str| number(value, min, max).ok_or(message.to_owned());
        match option {
            // An empty name is none: ipvsadm takes its default.
            Opt::Scheduler if value.is_empty() => {}
            Opt::Scheduler => value.clone_into(&mut self.scheduler),
            Opt::SchedFlags => {
                self.flags =
                    value.split(',').filter(|flag| !flag.is_empty()).map(String::from).collect();
            }
            Opt::Persistent if found.value.is_some() => self.persistent = timeout(value, 1)?,
            Opt::Netmask => self.netmask = self.netmask(value)?,
            Opt::Pe => value.clone_into(&mut self.pe),
            Opt::ConnTimeout => self.conn_timeouts = conn_timeouts(value)?,
            Opt::MssClamp => self.mss_clamp = Some(mss_clamp(value)?),
            Opt::RealServer => self.real_server(value, names)?,
            Opt::Weight => self.weight = within(0, i32::MAX as u32, "illegal weight specified")?,
            Opt::UThreshold => {
                self.u_threshold = within(0, i32::MAX as u32, "illegal u_threshold specified")?;
            }
            Opt::LThreshold => {
                self.l_threshold = within(0, i32::MAX as u32, "illegal l_threshold specified")?;
            }
            Opt::TunType => self.tunnel.kind = tunnel_kind(value)?,
            Opt::TunPort => {
                let port = within(1, 65535, "illegal tunnel port specified")?;
                self.tunnel.port = port as u16;
            }
            Opt::TunNocsum => self.tunnel.checksum = TunnelChecksum::None,
            Opt::TunCsum => self.tunnel.checksum = TunnelChecksum::Full,
            Opt::TunRemcsum => self.tunnel.checksum = TunnelChecksum::Remote,
            Opt::Syncid => drop(within(0, 255, "illegal syncid specified")?),
            Opt::SyncMaxlen => drop(within(1, MAX_SYNC_LEN, "illegal sync-maxlen specified")?),
            Opt::McastGroup => mcast_group(value)?,
            Opt::McastPort => drop(within(1, 65535, "illegal mcast-port specified")?),
            Opt::McastTtl => drop(within(1, 255, "illegal mcast-ttl specified")?),
            // The rest have no value, or one that only the kernel judges.
            _ => {}
        }
        Ok(())
    }

    /// The mask of a persistent service: it is a prefix if the service before it is of IPv6.
    fn netmask(&self, value: &str) -> Result<Option<Netmask>, String> {
        let mask = if self.is_ipv6() {
            let prefix = number(value, 1, 128).ok_or("illegal ipv6 netmask specified")?;
            Netmask::V6(prefix as u8)
        } else {
            let illegal = "illegal virtual server persistent mask specified";
            Netmask::V4(ipv4(value).ok_or(illegal)?)
        };
        Ok(mask.unless_all())
    }

    /// A mask that stands before the IPv6 service counts for nothing, as in ipvsadm.
    fn forget_netmask(&mut self) {
        if self.is_ipv6() {
            self.netmask = None;
        }
    }

    /// A server's protocol, and its port if it gives none, are those of the service before it.
    fn real_server(&mut self, value: &str, names: &dyn Names) -> Result<(), String> {
        let (protocol, service_port) = match self.service {
            Some(Service::Address(protocol, _, port)) => (Some(protocol), port),
            _ => (None, None),
        };
        let (address, port) = host_port(value, protocol, names)
            .ok_or("illegal real server address[:port] specified")?;
        self.dest = Some((address, port.or(service_port).unwrap_or(0)));
        Ok(())
    }
}

fn tunnel_kind(value: &str) -> Result<TunnelKind, String> {
    match value {
        "ipip" => Ok(TunnelKind::Ipip),
        "gue" => Ok(TunnelKind::Gue),
        "gre" => Ok(TunnelKind::Gre),
        _ => Err("illegal tunnel type specified".to_owned()),
    }
}

/// uvs's own `tcp,tcpfin,udp`, where 0 is no timeout of its own.
fn conn_timeouts(value: &str) -> Result<Timeouts, String> {
    let wrong = || format!("conn-timeout is `{value}'; it has to be three values: tcp,tcpfin,udp");
    let values: Vec<&str> = value.split(',').collect();
    let [tcp, tcp_fin, udp] = values[..] else { return Err(wrong()) };
    Ok(Timeouts { tcp: timeout(tcp, 0)?, tcp_fin: timeout(tcp_fin, 0)?, udp: timeout(udp, 0)? })
}

/// uvs's own `pmtu`, or bytes.
fn mss_clamp(value: &str) -> Result<MssClamp, String> {
    let (least, most) = (MssClamp::RANGE.start(), MssClamp::RANGE.end());
    let wrong = || format!("mss-clamp is `{value}'; it has to be pmtu, or {least} to {most} bytes");
    match value {
        "pmtu" => Ok(MssClamp::Pmtu),
        _ => {
            let bytes = number(value, (*least).into(), (*most).into()).ok_or_else(wrong)?;
            Ok(MssClamp::Bytes(bytes as u16))
        }
    }
}

/// The address of a multicast group.
fn mcast_group(value: &str) -> Result<(), String> {
    let family = if value.contains(':') { "IPv6" } else { "IPv4" };
    match value.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Ok(()),
        _ => Err(format!("invalid {family} mcast-group `{value}'")),
    }
}

/// A timeout in seconds.
fn timeout(value: &str, min: u32) -> Result<u32, String> {
    number(value, min, MAX_TIMEOUT).ok_or(format!("invalid timeout value `{value}' specified"))
}

/// Reads a command line, the program's name not included, with the system's names.
///
/// # Errors
///
/// What ipvsadm refuses, in its words, and what uvs cannot do yet.
pub fn parse(args: &[String]) -> Result<Command, ParseError> {
    parse_with(args, &System::load())
}

/// Reads a command line with the names given.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with(args: &[String], names: &dyn Names) -> Result<Command, ParseError> {
    if args.is_empty() {
        return Command::new(&Line::new(Op::List));
    }
    let mut words = Args::new(args);
    let (op, state) = first_command(&mut words)?;
    if matches!(op, Op::Help | Op::Version) {
        return Command::new(&Line::new(op));
    }
    daemon_state(op, state)?;
    let mut line = Line::new(op);
    while let Some(found) = words.next_word() {
        line.take(&found?, names)?;
    }
    line.set = rest(op, &words.rest)?;
    line.check()?;
    Command::new(&line)
}

/// The first option has to be a command that can be read, or ipvsadm points to its help.
fn first_command<'a>(words: &mut Args<'a>) -> Result<(Op, Option<&'a str>), ParseError> {
    match words.next_word() {
        Some(Ok(Found { word, value, text, arg, .. })) => match word.meaning {
            Meaning::Command(op) => Ok((op, value)),
            _ => {
                let reason = format!("'{text}' stands where a command like -A or -a has to be");
                Err(ParseError::no_command(Some(arg), reason))
            }
        },
        Some(Err(error)) => Err(ParseError::no_command(error.arg, error.message)),
        None => {
            let arg = words.rest.first().map(|(arg, _)| *arg);
            Err(ParseError::no_command(arg, "there is no command like -A or -a".to_owned()))
        }
    }
}

fn daemon_state(op: Op, state: Option<&str>) -> Result<(), ParseError> {
    let message = match op {
        Op::StartDaemon => "illegal start-daemon parameter specified",
        Op::StopDaemon => "illegal start_daemon specified",
        _ => return Ok(()),
    };
    match state {
        Some("master" | "backup") => Ok(()),
        _ => Err(ParseError::usage(message).at(0)),
    }
}

/// Arguments that are no options: three timeouts for `--set`, none otherwise.
fn rest(op: Op, rest: &[(usize, &str)]) -> Result<Timeouts, ParseError> {
    let wanted = if op == Op::Set { 3 } else { 0 };
    let Some((timeouts, more)) = rest.split_at_checked(wanted) else {
        return Err(ParseError::usage("--set option requires 3 timeout values"));
    };
    let mut set = [0; 3];
    for (value, (arg, text)) in set.iter_mut().zip(timeouts) {
        *value = timeout(text, 0).map_err(|message| ParseError::usage(message).at(*arg))?;
    }
    match more.first() {
        Some((arg, text)) => Err(ParseError::usage(format!("unexpected argument {text}")).at(*arg)),
        None => Ok(Timeouts { tcp: set[0], tcp_fin: set[1], udp: set[2] }),
    }
}
