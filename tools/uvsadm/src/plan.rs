//! What changes would do, a line each: what `--dry-run` prints.

use std::fmt::Write as _;

use crate::api::Change;
use crate::listing::endpoint;
use crate::names::Names;
use crate::rules::{dest_line, key, service_line};

/// Which way a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Added,
    Changed,
    Removed,
}

impl Kind {
    const ALL: [(Self, &str, char, u8); 3] = [
        (Self::Added, "added", '+', 32),
        (Self::Changed, "changed", '~', 33),
        (Self::Removed, "removed", '-', 31),
    ];

    fn of(change: &Change) -> Self {
        match change {
            Change::AddService { .. } | Change::AddDest { .. } => Self::Added,
            Change::DelService { .. } | Change::DelDest { .. } | Change::Flush => Self::Removed,
            _ => Self::Changed,
        }
    }

    /// The sign before a line, and its colour on a terminal.
    fn sign(self) -> (char, u8) {
        Self::ALL.into_iter().find(|row| row.0 == self).map_or((' ', 0), |row| (row.2, row.3))
    }
}

/// The changes as command lines with `+`, `~` or `-` before them, and how many of each there are.
pub fn plan(changes: &[Change], names: &dyn Names, colour: bool) -> String {
    let mut text = String::new();
    for change in changes {
        let (sign, code) = Kind::of(change).sign();
        let line = line(change, names);
        let _ = match colour {
            true => writeln!(text, "\x1b[{code}m{sign} {line}\x1b[0m"),
            false => writeln!(text, "{sign} {line}"),
        };
    }
    let count = |kind| changes.iter().filter(|change| Kind::of(change) == kind).count();
    let counts = Kind::ALL.map(|(kind, name, ..)| format!("{} {name}", count(kind)));
    text + &counts.join(", ") + "\n"
}

/// A change as the command line that asks for it, without a name of a program.
pub fn line(change: &Change, names: &dyn Names) -> String {
    let mut text = String::new();
    match change {
        Change::AddService { service } => service_line(&mut text, "-A", service, names),
        Change::EditService { service } => service_line(&mut text, "-E", service, names),
        Change::DelService { service } => text = format!("-D {}", key(service, names)),
        Change::Flush => text.push_str("-C"),
        Change::AddDest { service, dest } | Change::EditDest { service, dest } => {
            let added = matches!(change, Change::AddDest { .. });
            dest_line(&mut text, if added { "-a" } else { "-e" }, service, dest, names);
            for (option, threshold) in [("-x", dest.u_threshold), ("-y", dest.l_threshold)] {
                if threshold != 0 {
                    let _ = write!(text, " {option} {threshold}");
                }
            }
        }
        Change::DelDest { service, dest } => {
            let server = endpoint(*dest, service.protocol(), names);
            text = format!("-d {} -r {server}", key(service, names));
        }
        Change::SetTimeouts { timeouts } => {
            text = format!("--set {} {} {}", timeouts.tcp, timeouts.tcp_fin, timeouts.udp);
        }
        Change::Zero { service: None } => text.push_str("-Z"),
        Change::Zero { service: Some(service) } => text = format!("-Z {}", key(service, names)),
        Change::SetSetting { name, value } => text = format!("{name} = {value}"),
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ServiceKey;
    use crate::names::Numeric;
    use crate::parse_rules;

    #[test]
    fn a_mark_and_a_flush_have_their_lines() {
        let mark = ServiceKey::Mark { mark: 7, ipv6: true };
        assert_eq!(line(&Change::DelService { service: mark }, &Numeric), "-D -f 7 -6");
        assert_eq!(line(&Change::Flush, &Numeric), "-C");
    }

    #[test]
    fn every_change_is_a_line_with_its_sign() {
        let rules = "\
-A -t 10.0.0.1:80 -s rr -p 5
-E -t 10.0.0.1:80 -s wlc
-D -f 7 -6
-a -t 10.0.0.1:80 -r 10.0.1.1:8080 -m -w 3 -x 9 -y 5
-e -t 10.0.0.1:80 -r 10.0.1.1:80 -i -w 1 --tun-type gre --tun-csum
-d -u [fd00::1]:53 -r 10.0.1.1:53
";
        let read = parse_rules(rules, &Numeric).unwrap();
        let changes: Vec<Change> = read.into_iter().map(|rule| rule.change).collect();
        let signed =
            rules.lines().zip("+~-+~-".chars()).map(|(line, sign)| format!("{sign} {line}\n"));
        let expected = signed.collect::<String>() + "2 added, 2 changed, 2 removed\n";
        assert_eq!(plan(&changes, &Numeric, false), expected);
        let coloured = plan(&changes[..1], &Numeric, true);
        assert!(coloured.starts_with("\x1b[32m+ -A -t 10.0.0.1:80 -s rr -p 5\x1b[0m\n1 added"));
    }
}
