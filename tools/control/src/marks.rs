//! `[[marks]]` of uvs.toml: which packets have which firewall mark.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde::Deserialize;
use toml::Spanned;
use uvs_engine::link::LinkId;
use uvs_engine::marks::{MAX_RULES, MarkRule, Network};
use uvs_uvsadm::api::Protocol;

use crate::config::{Wrong, line};

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarkFile {
    source: Option<Spanned<String>>,
    destination: Option<Spanned<String>>,
    protocol: Option<Spanned<String>>,
    ports: Option<Spanned<Ports>>,
    interface: Option<Spanned<String>>,
    mark: Spanned<u32>,
}

/// `80`, `"80"` or `"8000-8099"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ports {
    One(u16),
    Range(String),
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(port) => port.fmt(f),
            Self::Range(ports) => write!(f, "{ports:?}"),
        }
    }
}

/// The rules, if each makes sense, none contradicts another and they are not too many.
pub(crate) fn check(
    files: &[Spanned<MarkFile>],
    interfaces: &[String],
    text: &str,
) -> Result<Vec<MarkRule>, Wrong> {
    if let Some(first) = files.get(MAX_RULES) {
        let message =
            format!("there are {} [[marks]] rules; there may be {MAX_RULES}", files.len());
        return Err((first.span(), message));
    }
    let mut rules: Vec<MarkRule> = Vec::new();
    for file in files {
        let rule = file.get_ref().rule(interfaces)?;
        if let Some(contradiction) = contradiction(&rules, &rule) {
            let earlier = files[contradiction].span();
            let message = format!(
                "no packet comes to this mark rule: the one in line {} and those before it match \
                 all of its packets and give them another mark; remove it or put it first",
                line(text, &earlier)
            );
            return Err((file.span(), message));
        }
        rules.push(rule);
    }
    Ok(rules)
}

impl MarkFile {
    fn rule(&self, interfaces: &[String]) -> Result<MarkRule, Wrong> {
        let source = self.source.as_ref().map(|text| network("source", text)).transpose()?;
        let destination =
            self.destination.as_ref().map(|text| network("destination", text)).transpose()?;
        if let (Some(from), Some(to), Some(text)) = (source, destination, &self.destination)
            && from.address.is_v4() != to.address.is_v4()
        {
            let message = "`source` and `destination` are of different address families, so no \
                           packet matches";
            return Err((text.span(), message.into()));
        }
        if *self.mark.get_ref() == 0 {
            let message = "`mark` is 0, which is no mark; it may be 1 to 4294967295";
            return Err((self.mark.span(), message.into()));
        }
        Ok(MarkRule {
            source,
            destination,
            protocol: self.protocol.as_ref().map(number).transpose()?,
            ports: self.ports()?,
            link: self.link(interfaces)?,
            mark: *self.mark.get_ref(),
        })
    }

    fn ports(&self) -> Result<Option<RangeInclusive<u16>>, Wrong> {
        let Some(ports) = &self.ports else { return Ok(None) };
        if self.protocol.is_none() {
            let message = "`ports` needs a `protocol` that has ports: tcp, udp or sctp";
            return Err((ports.span(), message.into()));
        }
        let range = match ports.get_ref() {
            Ports::One(port) => Some(*port..=*port),
            Ports::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let ends = (first.trim().parse().ok()).zip(last.trim().parse().ok());
                ends.map(|(first, last)| first..=last).filter(|range| !range.is_empty())
            }
        };
        let wrong = || {
            let ports_are = format!("`ports` is {}", ports.get_ref());
            let message =
                format!("{ports_are}; it may be a port like 80 or a range like 8000-8099");
            (ports.span(), message)
        };
        range.map(Some).ok_or_else(wrong)
    }

    fn link(&self, interfaces: &[String]) -> Result<Option<LinkId>, Wrong> {
        let Some(name) = &self.interface else { return Ok(None) };
        match interfaces.iter().position(|interface| interface == name.get_ref()) {
            Some(at) => Ok(Some(LinkId(at as u8))),
            None => {
                let known = interfaces.join(" or ");
                let message = format!("`interface` is {:?}; it may be {known}", name.get_ref());
                Err((name.span(), message))
            }
        }
    }
}

fn network(name: &str, text: &Spanned<String>) -> Result<Network, Wrong> {
    let value = text.get_ref();
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value.as_str(), None),
    };
    let parsed = address.parse().ok().and_then(|address: IpAddr| {
        // An IPv4 address is written as one: of a mapped one nobody knows which bits are meant.
        let address = (address == address.to_canonical()).then_some(address)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
        (prefix <= bits).then(|| Network { address: address.into(), prefix })
    });
    let message =
        || format!("`{name}` is {value:?}; it may be an address or a network like 172.16.0.0/12");
    parsed.ok_or_else(|| (text.span(), message()))
}

fn number(name: &Spanned<String>) -> Result<u8, Wrong> {
    let known = Protocol::ALL.into_iter().find(|protocol| protocol.name() == name.get_ref());
    known.map(Protocol::number).ok_or_else(|| {
        let message = format!("`protocol` is {:?}; it may be tcp, udp or sctp", name.get_ref());
        (name.span(), message)
    })
}

/// What a rule matches, as ranges of what it looks at: family, source, destination, protocol,
/// port, link.
type Matches = [(u128, u128); 6];

/// How many pieces a rule may fall into; with more, nobody says that it contradicts.
const MOST_PIECES: usize = 4096;

/// The number of the rule with which those before it, in `rules`, leave no packet to `rule`, if
/// one of them gives another mark.
fn contradiction(rules: &[MarkRule], rule: &MarkRule) -> Option<usize> {
    let mut left = vec![matches(rule)];
    let mut other = None;
    for (number, earlier) in rules.iter().enumerate() {
        let taken = matches(earlier);
        let rest: Vec<Matches> = left.iter().flat_map(|piece| without(*piece, &taken)).collect();
        if earlier.mark != rule.mark && rest != left {
            other = Some(number);
        }
        left = rest;
        if left.is_empty() {
            return other;
        }
        if left.len() > MOST_PIECES {
            return None;
        }
    }
    None
}

fn matches(rule: &MarkRule) -> Matches {
    let all = (0, u128::MAX);
    let family = rule.source.as_ref().or(rule.destination.as_ref());
    let (family, any) = match family.map(|network| network.address.is_v4()) {
        None => ((0, 1), all),
        Some(true) => ((0, 0), (0, u32::MAX.into())),
        Some(false) => ((1, 1), all),
    };
    let network = |network: &Option<Network>| network.as_ref().map_or(any, addresses);
    let one = |number: u128| (number, number);
    [
        family,
        network(&rule.source),
        network(&rule.destination),
        rule.protocol.map_or(all, |protocol| one(protocol.into())),
        rule.ports.as_ref().map_or(all, |ports| ((*ports.start()).into(), (*ports.end()).into())),
        rule.link.map_or(all, |link| one(link.0.into())),
    ]
}

/// A network's first and last address.
fn addresses(network: &Network) -> (u128, u128) {
    let (bits, width) = match network.address.to_ip() {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host = 1u128.checked_shl(width - u32::from(network.prefix)).map_or(u128::MAX, |n| n - 1);
    (bits & !host, bits | host)
}

/// What is left of a piece when another is cut out of it.
fn without(mut piece: Matches, taken: &Matches) -> Vec<Matches> {
    let apart = |(a, b): (&(u128, u128), &(u128, u128))| a.1 < b.0 || b.1 < a.0;
    if piece.iter().zip(taken).any(apart) {
        return vec![piece];
    }
    let mut left = Vec::new();
    for at in 0..piece.len() {
        let ((first, last), (from, to)) = (piece[at], taken[at]);
        if first < from {
            let mut below = piece;
            below[at] = (first, from - 1);
            left.push(below);
        }
        if to < last {
            let mut above = piece;
            above[at] = (to + 1, last);
            left.push(above);
        }
        piece[at] = (first.max(from), last.min(to));
    }
    left
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use uvs_engine::marks::MarkRule;

    fn rules(marks: &str) -> Result<Vec<MarkRule>, String> {
        let text = format!("outside = \"eth0\"\ninside = \"eth1\"\n{marks}");
        let config = Config::parse(&text, "uvs.toml").map_err(|error| error.to_string())?;
        Ok(config.marks)
    }

    fn wrong(marks: &str) -> String {
        rules(marks).unwrap_err()
    }

    #[test]
    fn a_rule_says_what_it_matches() {
        let text = r#"
[[marks]]
source = "172.16.0.0/12"
destination = "10.0.0.1"
protocol = "tcp"
ports = "8000-8099"
interface = "eth1"
mark = 7
[[marks]]
destination = "fd00::/64"
mark = 8
[[marks]]
destination = "10.0.0.2"
protocol = "udp"
ports = 53
mark = 9
"#;
        let rules = rules(text).unwrap();
        assert_eq!(rules.len(), 3);
        let first = &rules[0];
        assert_eq!((first.protocol, first.ports.clone()), (Some(6), Some(8000..=8099)));
        assert_eq!(first.source.map(|network| network.prefix), Some(12));
        assert_eq!((first.link.map(|link| link.0), first.mark), (Some(1), 7));
        assert_eq!((rules[1].protocol, rules[1].ports.clone()), (None, None));
        assert_eq!(rules[2].ports, Some(53..=53));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named_with_what_is_allowed() {
        for (line, expected) in [
            (
                "destination = \"10.0.0.0/33\"",
                "line 5: `destination` is \"10.0.0.0/33\"; it may be an",
            ),
            (
                "source = \"10.0.0.0/255.0.255.0\"",
                "line 5: `source` is \"10.0.0.0/255.0.255.0\"; it",
            ),
            ("source = \"x\"", "line 5: `source` is \"x\"; it may be an address or a network like"),
            ("source = \"::1\"\ndestination = \"10.0.0.1\"", "line 6: `source` and `destination`"),
            ("source = \"::ffff:10.0.0.0/104\"", "line 5: `source` is \"::ffff:10.0.0.0/104\"; it"),
            ("ports = 80", "line 5: `ports` needs a `protocol` that has ports: tcp, udp or sctp"),
            ("protocol = \"icmp\"", "line 5: `protocol` is \"icmp\"; it may be tcp, udp or sctp"),
            ("protocol = \"tcp\"\nports = \"9-8\"", "line 6: `ports` is \"9-8\"; it may be a port"),
            (
                "protocol = \"tcp\"\nports = \"http\"",
                "line 6: `ports` is \"http\"; it may be a port",
            ),
            ("interface = \"eth2\"", "line 5: `interface` is \"eth2\"; it may be eth0 or eth1"),
            ("colour = 1", "line 5: unknown field `colour`, expected one of `source`"),
        ] {
            let error = wrong(&format!("[[marks]]\nmark = 1\n{line}\n"));
            assert!(error.contains(expected), "{error}");
        }
        assert!(wrong("[[marks]]\nmark = 0\n").contains("line 4: `mark` is 0, which is no mark"));
        assert!(wrong("[[marks]]\nsource = \"::1\"\n").contains("line 3: missing field `mark`"));
    }

    #[test]
    fn there_may_be_1024_rules() {
        let of = |count: u32| -> String {
            let rule =
                |n| format!("[[marks]]\nmark = 1\nsource = \"10.0.{}.{}\"\n", n / 256, n % 256);
            (0..count).map(rule).collect()
        };
        assert_eq!(rules(&of(1024)).unwrap().len(), 1024);
        // Two lines before the first one, three a rule.
        let expected = "uvs.toml, line 3075: there are 1025 [[marks]] rules; there may be 1024";
        assert_eq!(wrong(&of(1025)), expected);
    }

    #[test]
    fn rules_may_overlap_but_not_contradict() {
        let rule = |rest: &str, mark: u32| format!("[[marks]]\n{rest}\nmark = {mark}\n");
        let tcp = |ports: &str, mark| {
            rule(
                &format!("protocol = \"tcp\"\nports = {ports:?}\ndestination = \"10.0.0.1\""),
                mark,
            )
        };
        let same = tcp("80", 1) + &tcp("80", 2);
        let error = wrong(&same);
        assert!(error.contains("line 8: no packet comes to this mark rule"), "{error}");
        assert!(error.contains("the one in line 3 and"), "{error}");
        // A narrow rule behind a wide one, and one that two others cover together.
        let net = |net: &str| format!("destination = \"{net}\"");
        assert!(rules(&(rule(&net("10.0.0.0/8"), 1) + &rule(&net("10.1.0.0/16"), 2))).is_err());
        assert!(rules(&(tcp("80-85", 1) + &tcp("86-90", 2) + &tcp("82-88", 3))).is_err());
        assert!(rules(&(rule(&net("0.0.0.0/0"), 1) + &rule("source = \"10.0.0.1\"", 2))).is_err());
        // The other way round each has packets of its own.
        assert!(rules(&(rule(&net("10.1.0.0/16"), 2) + &rule(&net("10.0.0.0/8"), 1))).is_ok());
        assert!(rules(&(tcp("80-85", 1) + &tcp("87-90", 2) + &tcp("82-88", 3))).is_ok());
        assert!(rules(&(rule(&net("::/0"), 1) + &rule(&net("10.0.0.1"), 2))).is_ok());
        // The same mark twice says nothing wrong.
        assert!(rules(&(tcp("80", 1) + &tcp("80", 1))).is_ok());
    }
}
