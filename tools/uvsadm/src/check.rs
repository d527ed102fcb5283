//! What belongs together on a command line, in the order in which ipvsadm checks it.

use std::fmt;

use crate::api::{Method, Protocol, TunnelKind};
use crate::error::ParseError;
use crate::grammar::{Op, Opt, Rules};
use crate::parse::{Line, Service};

impl Line {
    /// Checks a line that was read to its end.
    pub(crate) fn check(&self) -> Result<(), ParseError> {
        self.check_flags()?;
        self.check_options()?;
        match self.op {
            Op::AddService | Op::EditService => self.check_service(),
            Op::AddServer | Op::EditServer => self.check_server(),
            Op::List => self.check_list(),
            _ => Ok(()),
        }
    }

    /// A flag has to be known and to fit the scheduler.
    fn check_flags(&self) -> Result<(), ParseError> {
        for flag in &self.flags {
            let fits = match flag.as_str() {
                "flag-1" | "flag-2" | "flag-3" => true,
                "sh-fallback" | "sh-port" => self.scheduler == "sh",
                "mh-fallback" | "mh-port" => self.scheduler == "mh",
                _ => {
                    return Err(
                        self.wrong(Opt::SchedFlags, format!("invalid scheduler flag `{flag}'"))
                    );
                }
            };
            if !fits {
                let message = format!("incompatible scheduler flag `{flag}'");
                return Err(self.wrong(Opt::SchedFlags, message));
            }
        }
        Ok(())
    }

    /// The command's options.
    fn check_options(&self) -> Result<(), ParseError> {
        let op = self.op;
        self.check_set(&Opt::ALL, &op.rules(), format_args!("'{op}' command"))
    }

    /// What is needed is there, what is not taken is not, and of those that exclude each other
    /// there is one at most; `place` is what they go with.
    fn check_set(
        &self,
        options: &[Opt],
        rules: &Rules,
        place: fmt::Arguments,
    ) -> Result<(), ParseError> {
        let mut chosen: Option<Opt> = None;
        for &option in options {
            let required = rules.required.contains(&option);
            if !self.has(option) {
                if required {
                    return Err(ParseError::usage(format!(
                        "You need to supply the '{option}' option for the {place}"
                    )));
                }
            } else if rules.exclusive.contains(&option) {
                if let Some(other) = chosen.replace(option) {
                    let what = format!("The option '{option}' conflicts with the '{other}' option");
                    return Err(self.wrong(option, format!("{what} in the {place}")));
                }
            } else if !required && !rules.allowed.contains(&option) {
                return Err(
                    self.wrong(option, format!("Illegal '{option}' option with the {place}"))
                );
            }
        }
        Ok(())
    }

    fn check_service(&self) -> Result<(), ParseError> {
        let Some(Service::Address(protocol, _, port)) = self.service else { return Ok(()) };
        if port.unwrap_or(0) == 0 && !self.has(Opt::Persistent) {
            let message = "Zero port specified for non-persistent service";
            return Err(self.wrong(Opt::ServiceAddress, message));
        }
        if self.has(Opt::Ops) && protocol != Protocol::Udp {
            let message = "One-Packet Scheduling is only for UDP virtual services";
            return Err(self.wrong(Opt::Ops, message));
        }
        if self.has(Opt::MssClamp) && protocol != Protocol::Tcp {
            let message = "MSS clamping is only for TCP virtual services";
            return Err(self.wrong(Opt::MssClamp, message));
        }
        Ok(())
    }

    fn check_server(&self) -> Result<(), ParseError> {
        let mixed = self.dest.is_some_and(|(address, _)| address.is_ipv6() != self.is_ipv6());
        if mixed && self.method != Method::Tunnel {
            let message = "Different address family is allowed only for tunneling servers";
            return Err(self.wrong(Opt::RealServer, message));
        }
        self.check_tunnel()
    }

    /// Options of a tunnel go with `-i` only, and each type takes its own.
    fn check_tunnel(&self) -> Result<(), ParseError> {
        if self.method != Method::Tunnel {
            let tunnel = Opt::TunType..=Opt::TunRemcsum;
            let mut options = Opt::ALL.into_iter().filter(|option| tunnel.contains(option));
            return match options.find(|option| self.has(*option)) {
                Some(option) => {
                    Err(self.wrong(option, "Tunnel options conflict with forward method"))
                }
                None => Ok(()),
            };
        }
        let kind = self.tunnel.kind;
        let (required, allowed, exclusive): (&[Opt], &[Opt], &[Opt]) = match kind {
            TunnelKind::Gue => {
                (&[Opt::TunPort], &[], &[Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum])
            }
            TunnelKind::Gre => (&[], &[], &[Opt::TunNocsum, Opt::TunCsum]),
            TunnelKind::Ipip => (&[], &[], &[]),
        };
        let details = [Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum];
        self.check_set(
            &details,
            &Rules { required, allowed, exclusive },
            format_args!("'{kind}' tunnel type"),
        )
    }

    /// Connections, timeouts and daemons have no other forms; connections are listed with those of
    /// persistence too.
    fn check_list(&self) -> Result<(), ParseError> {
        use Opt::{Connection, Daemon, PersistentConn, Rate, Stats, Thresholds, Timeout};
        let any = |options: &[Opt]| options.iter().copied().find(|option| self.has(*option));
        let form = any(&[Stats, Rate, Thresholds]);
        let clash = if any(&[Timeout, Daemon]).is_some() {
            form.or(any(&[PersistentConn]))
        } else {
            form.filter(|_| self.has(Connection))
        };
        match clash {
            Some(option) => Err(self.wrong(option, "options conflicts in the list command")),
            None => Ok(()),
        }
    }

    /// A message about an option that stands on the line.
    fn wrong(&self, option: Opt, message: impl Into<String>) -> ParseError {
        ParseError::usage(message).at(self.arg(option))
    }
}
