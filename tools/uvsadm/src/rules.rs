//! Files of rules in the format of ipvsadm-save: one command a line, as on a command line.

use std::fmt::Write as _;

use crate::api::{
    Change, DestConfig, Endpoint, Method, Persistence, Service, ServiceConfig, ServiceKey, Tunnel,
    TunnelKind,
};
use crate::command::Command;
use crate::error::{ParseError, RuleError};
use crate::listing::endpoint;
use crate::names::Names;
use crate::order;
use crate::parse::parse_with;

/// A change, and the line of the file that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The line's number, from 1.
    pub line: usize,
    /// What it asks for.
    pub change: Change,
}

/// Reads a file of rules to its end, so that nothing of it is done if a line is wrong. Blank lines
/// and lines that begin with `#` are skipped.
///
/// # Errors
///
/// The first line that does not parse or does something else than change the table.
pub fn parse_rules(text: &str, names: &dyn Names) -> Result<Vec<Rule>, RuleError> {
    let mut rules = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        if text.trim_start().starts_with('#') {
            continue;
        }
        match parse_line(line, text, names)? {
            None => {}
            Some(Command::Change { change, dry_run: false }) if change.is_of_table() => {
                rules.push(Rule { line, change });
            }
            Some(_) => {
                let column = tokens(text).first().map_or(1, |(column, _)| *column);
                let message =
                    "only commands that change the table (-A -E -D -C -a -e -d) can stand here";
                return Err(RuleError { line, column, message: message.to_owned() });
            }
        }
    }
    Ok(rules)
}

/// Reads one line, of number `line`, as [`read_line`] does.
///
/// # Errors
///
/// A line that does not parse.
pub fn parse_line(
    line: usize,
    text: &str,
    names: &dyn Names,
) -> Result<Option<Command>, RuleError> {
    read_line(text, names).map_err(|error| RuleError::new(line, text, &error))
}

/// Reads one line as `ipvsadm -R` does: arguments are separated by blanks, no quotes, and the word
/// `ipvsadm` is ignored. `None` for a line without arguments.
///
/// # Errors
///
/// A line that does not parse.
pub fn read_line(text: &str, names: &dyn Names) -> Result<Option<Command>, ParseError> {
    let args: Vec<String> = tokens(text).iter().map(|(_, token)| (*token).to_owned()).collect();
    match args.is_empty() {
        true => Ok(None),
        false => parse_with(&args, names).map(Some),
    }
}

impl RuleError {
    /// An error in a line of this number and text.
    pub fn new(line: usize, text: &str, error: &ParseError) -> Self {
        let tokens = tokens(text);
        let at = error.arg.and_then(|arg| tokens.get(arg)).or(tokens.first());
        let column = at.map_or(1, |(column, _)| *column);
        Self { line, column, message: error.reason().to_owned() }
    }
}

/// The arguments of a line, each with the column at which it begins, from 1 and in characters.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut column = 1;
    loop {
        let token_start = rest.trim_start();
        column += rest[..rest.len() - token_start.len()].chars().count();
        let end = token_start.find(char::is_whitespace).unwrap_or(token_start.len());
        let (token, after) = token_start.split_at(end);
        if token.is_empty() {
            return tokens;
        }
        if token != "ipvsadm" {
            tokens.push((column, token));
        }
        column += token.chars().count();
        rest = after;
    }
}

/// The table as a file of rules, to the byte as `ipvsadm -S` prints it (which leaves out
/// thresholds), but for marks from 2147483648 on, which it prints so that nobody can read them
/// again. Names may be [`Numeric`](crate::names::Numeric) for `-n`.
pub fn save(services: &[Service], names: &dyn Names) -> String {
    let mut text = String::new();
    for service in order::services(services) {
        let config = &service.config;
        service_line(&mut text, "-A", config, names);
        for dest in order::dests(&service.dests) {
            dest_line(&mut text, "-a", &config.key, &dest.config, names);
            text.push('\n');
        }
    }
    text
}

/// A service as a command line, with the newline.
pub(crate) fn service_line(
    text: &mut String,
    command: &str,
    config: &ServiceConfig,
    names: &dyn Names,
) {
    let _ = write!(text, "{command} {} -s {}", key(&config.key, names), config.scheduler);
    service_options(text, config);
}

/// A server as a command line, without thresholds, and without the newline.
pub(crate) fn dest_line(
    text: &mut String,
    command: &str,
    service: &ServiceKey,
    config: &DestConfig,
    names: &dyn Names,
) {
    let server = endpoint(config.endpoint(), service.protocol(), names);
    let (service, method, weight) = (key(service, names), config.method.option(), config.weight);
    let _ = write!(text, "{command} {service} -r {server} {method} -w {weight}");
    if config.method == Method::Tunnel {
        tunnel_options(text, &config.tunnel);
    }
}

/// The option that names a service.
pub(crate) fn key(key: &ServiceKey, names: &dyn Names) -> String {
    match key {
        ServiceKey::Address { protocol, address, port } => {
            let end = Endpoint { address: *address, port: *port };
            format!("{} {}", protocol.option(), endpoint(end, Some(*protocol), names))
        }
        ServiceKey::Mark { mark, ipv6 } => {
            format!("-f {mark}{}", if *ipv6 { " -6" } else { "" })
        }
    }
}

fn service_options(text: &mut String, config: &ServiceConfig) {
    if let Some(Persistence { timeout, netmask }) = config.persistence {
        let _ = write!(text, " -p {timeout}");
        if let Some(mask) = netmask {
            let _ = write!(text, " -M {mask}");
        }
    }
    if let Some(pe) = &config.pe {
        let _ = write!(text, " --pe {pe}");
    }
    if config.one_packet {
        text.push_str(" -o");
    }
    if !config.flags.is_empty() {
        let _ = write!(text, " -b {}", config.flags.join(","));
    }
    if let Some(timeouts) = config.conn_timeouts {
        let _ = write!(text, " --conn-timeout {timeouts}");
    }
    if let Some(clamp) = config.mss_clamp {
        let _ = write!(text, " --mss-clamp {clamp}");
    }
    text.push('\n');
}

fn tunnel_options(text: &mut String, tunnel: &Tunnel) {
    let Tunnel { kind, port, checksum } = tunnel;
    let _ = write!(text, " --tun-type {kind}");
    let _ = match kind {
        TunnelKind::Ipip => Ok(()),
        TunnelKind::Gue => write!(text, " --tun-port {port} {checksum}"),
        TunnelKind::Gre => write!(text, " {checksum}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Dest;
    use crate::names::Numeric;

    fn rules(text: &str) -> Result<Vec<Rule>, String> {
        parse_rules(text, &Numeric).map_err(|error| error.to_string())
    }

    /// The table that `rules` make, in the order of the file.
    fn table(rules: &[Rule]) -> Vec<Service> {
        let mut table: Vec<Service> = Vec::new();
        for rule in rules {
            match &rule.change {
                Change::AddService { service } => table.push(Service::new(service.clone())),
                Change::AddDest { service, dest } => {
                    let found = table.iter_mut().find(|found| found.config.key == *service);
                    found.unwrap().dests.push(Dest::new(*dest));
                }
                other => panic!("{other:?}"),
            }
        }
        table
    }

    const SAVED: &str = "\
-A -t 9.0.0.9:8 -s nq
-A -t 10.0.0.1:80 -s wlc
-a -t 10.0.0.1:80 -r 10.0.0.1:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m -w 100
-a -t 10.0.0.1:80 -r 10.0.1.3:80 -i -w 0 --tun-type ipip
-a -t 10.0.0.1:80 -r 10.0.1.4:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.0.0.1:80 -r 10.0.1.5:80 -i -w 1 --tun-type gre --tun-nocsum
-a -t 10.0.0.1:80 -r 10.0.1.6:80 -i -w 1 --tun-type gue --tun-port 6081 --tun-remcsum
-A -t 10.0.0.1:443 -s sh -p 300 -M 255.255.255.0 -b sh-fallback,sh-port
-A -t 10.0.0.2:0 -s rr -p 50 --conn-timeout 30,0,5 --mss-clamp 1400
-a -t 10.0.0.2:0 -r 10.0.1.1:0 -g -w 1
-A -u 10.0.0.1:53 -s rr -o
-a -u 10.0.0.1:53 -r 10.0.1.1:53 -m -w 1
-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip -o
-A --sctp-service 10.0.0.1:99 -s lc
-a --sctp-service 10.0.0.1:99 -r 10.0.1.1:99 -g -w 1
-A -t [fd00::1]:80 -s wrr -p 360 -M 64
-a -t [fd00::1]:80 -r [fd00:2::1]:80 -g -w 3
-a -t [fd00::1]:80 -r [fd00:2::2]:8080 -m -w 1
-A -f 7 -s mh -b mh-fallback,mh-port --mss-clamp pmtu
-a -f 7 -r 10.0.1.59:99 -g -w 1
-A -f 8 -6 -s wrr -p 360
-a -f 8 -6 -r [fd00:2::1]:0 -g -w 1
";

    #[test]
    fn what_ipvsadm_saved_is_read_and_saved_the_same() {
        let rules = rules(SAVED).unwrap();
        assert_eq!((rules.len(), rules[8].line), (23, 9));
        assert_eq!(save(&table(&rules), &Numeric), SAVED);
    }

    #[test]
    fn comments_blank_lines_and_the_programs_name_are_skipped() {
        let text = "# web\n\n  \t\nipvsadm -A -t 10.0.0.1:80\r\n   # x\n\t-C";
        let lines: Vec<_> = rules(text).unwrap().iter().map(|rule| rule.line).collect();
        assert_eq!(lines, [4, 6]);
    }

    #[test]
    fn an_error_names_line_column_and_fault() {
        for (text, expected) in [
            (
                "-C\n-A -t 10.0.0.1",
                "line 2, column 4: Zero port specified for non-persistent service",
            ),
            (
                "  ipvsadm -a -t 10.0.0.1:80 -r x",
                "line 1, column 32: illegal real server address[:port] specified",
            ),
            ("-X foo", "line 1, column 1: '-X' stands where a command like -A or -a has to be"),
            ("-Q foo", "line 1, column 1: -Q: unknown option"),
            ("foo", "line 1, column 1: there is no command like -A or -a"),
            ("-A -t 10.0.0.1:80 # x", "line 1, column 19: unexpected argument #"),
            ("-A -t 10.0.0.1:80 -p 0", "line 1, column 22: invalid timeout value `0' specified"),
            (
                "-A -t 10.0.0.1:80 --conn-timeout 5,6",
                "line 1, column 34: conn-timeout is `5,6'; it has to be three values: tcp,tcpfin,udp",
            ),
            (
                "-A -t 10.0.0.1:80 --mss-clamp 87",
                "line 1, column 31: mss-clamp is `87'; it has to be pmtu, or 88 to 65495 bytes",
            ),
            (
                "--start-daemon master",
                "line 1, column 1: the 'start-daemon' command is not supported by uvs yet: the sync daemon comes later",
            ),
            ("-A -t", "line 1, column 4: -t: missing argument"),
            (
                "--set 1 2 3",
                "line 1, column 1: only commands that change the table (-A -E -D -C -a -e -d) can stand here",
            ),
            (
                "-C\n -L -n",
                "line 2, column 2: only commands that change the table (-A -E -D -C -a -e -d) can stand here",
            ),
        ] {
            assert_eq!(rules(text).unwrap_err(), expected);
        }
    }
}
