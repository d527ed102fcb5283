//! The words of the command line with what they mean, for a man page and for completions.

use crate::grammar::{Value, WORDS};

/// A word of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Without its two dashes.
    pub long: &'static str,
    /// The letter after one dash.
    pub short: Option<char>,
    /// Whether it has a value, and whether it needs one.
    pub value: Option<Need>,
    /// What it means.
    pub about: &'static str,
}

/// Whether a word needs its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There has to be one.
    Required,
    /// There may be one.
    Optional,
}

/// Every word of the command line, in the grammar's order; `-l` is the short of `-L` alone.
pub fn words() -> impl Iterator<Item = Described> {
    WORDS.iter().filter(|word| word.short != Some('l')).map(|word| Described {
        long: word.long,
        short: word.short,
        value: match word.value {
            Value::No => None,
            Value::Yes => Some(Need::Required),
            Value::Optional => Some(Need::Optional),
        },
        about: ABOUT.iter().find(|(long, _)| *long == word.long).map_or("", |(_, about)| about),
    })
}

const ABOUT: [(&str, &str); 61] = [
    ("add-service", "Add a virtual service"),
    ("edit-service", "Change a virtual service's scheduler and options"),
    ("delete-service", "Remove a virtual service with its servers"),
    ("add-server", "Add a real server to a service"),
    ("edit-server", "Change a server's weight, method or thresholds"),
    ("delete-server", "Remove a real server"),
    ("clear", "Remove all services"),
    ("restore", "Read rules from standard input"),
    ("save", "Write the table as rules"),
    ("list", "List services, or connections with -c"),
    ("zero", "Begin the statistics of a service, or of all, anew"),
    ("set", "Set the timeouts tcp, tcpfin and udp in seconds; 0 leaves one as it is"),
    ("start-daemon", "Start the sync daemon (comes later)"),
    ("stop-daemon", "Stop the sync daemon (comes later)"),
    ("help", "Show ipvsadm's usage"),
    ("version", "Show the version of ipvsadm that this is compatible with"),
    ("tcp-service", "A TCP service: host[:port]"),
    ("udp-service", "A UDP service: host[:port]"),
    ("sctp-service", "An SCTP service: host[:port]"),
    ("fwmark-service", "What has this firewall mark ([[marks]] in uvs.toml)"),
    ("ipv6", "After -f: the mark's IPv6 packets"),
    ("gatewaying", "Direct routing, the default"),
    ("ipip", "A tunnel"),
    ("masquerading", "NAT; the port may differ from the service's"),
    ("persistent", "A client stays with its server, for 360 seconds if none are given"),
    (
        "scheduler",
        "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh or twos; wlc if none is given",
    ),
    ("netmask", "Clients that are equal under it count as one; a prefix for IPv6"),
    ("real-server", "The server: host[:port]; the service's port if none is given"),
    ("weight", "The server's share, 1 if none is given"),
    ("u-threshold", "No new connections from so many on"),
    ("l-threshold", "New connections again below so many"),
    ("sched-flags", "sh-fallback, sh-port, mh-fallback, mh-port, comma-separated"),
    ("pe", "A persistence engine: sip"),
    ("conn-timeout", "uvs's own: the service's timeouts tcp,tcpfin,udp in seconds"),
    (
        "mss-clamp",
        "uvs's own: lower the segment size of its TCP connections to so many bytes, or pmtu",
    ),
    ("mcast-interface", "The sync daemon's interface"),
    ("mcast-group", "The sync daemon's multicast group"),
    ("mcast-port", "The sync daemon's UDP port"),
    ("mcast-ttl", "The sync daemon's TTL"),
    ("syncid", "The sync daemon's id"),
    ("sync-maxlen", "The sync daemon's longest message"),
    ("tun-type", "The kind of tunnel: ipip, gue or gre"),
    ("tun-port", "The UDP port of a GUE tunnel"),
    ("tun-nocsum", "A tunnel without checksums"),
    ("tun-csum", "A tunnel with checksums"),
    ("tun-remcsum", "A GUE tunnel with remote checksum offload"),
    ("tun-info", "List tunnels"),
    ("numeric", "Addresses and ports as numbers"),
    ("connection", "List connections"),
    ("exact", "Whole numbers, no K, M, G, T"),
    ("ops", "Every UDP packet is scheduled by itself"),
    ("timeout", "List timeouts (tcp tcpfin udp)"),
    ("daemon", "List sync daemons"),
    ("stats", "List totals"),
    ("rate", "List what happens a second"),
    ("thresholds", "List thresholds"),
    ("persistent-conn", "List persistence templates; with -c also calls by name"),
    ("nosort", "In the engine's order, not by address"),
    ("sort", "Has no effect"),
    ("json", "uvs's own: print the listing as JSON"),
    ("dry-run", "uvs's own: print what would be added, changed and removed, and do nothing"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_described() {
        for word in words() {
            assert!(!word.about.is_empty(), "--{}", word.long);
        }
        assert_eq!(words().count(), WORDS.len() - 1);
        assert!(ABOUT.iter().all(|(long, _)| words().any(|word| word.long == *long)));
    }
}
