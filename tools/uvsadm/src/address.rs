//! Numbers and addresses as ipvsadm's C library reads them.

use std::net::{IpAddr, Ipv4Addr};

use crate::api::Protocol;
use crate::names::Names;

/// A decimal number as strtol takes it (leading white space, a sign), within `min..=max`.
pub(crate) fn number(text: &str, min: u32, max: u32) -> Option<u32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = match digits.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    (!(negative && value > 0) && (min..=max).contains(&value)).then_some(value)
}

/// An IPv4 address as inet_aton takes it: one to four parts, each decimal, octal or hexadecimal,
/// the last filling what is left; anything may follow after a blank.
pub(crate) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).next()?;
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last().filter(|(_, bytes)| bytes.len() <= 3)?;
    if bytes.iter().any(|byte| *byte > 255) {
        return None;
    }
    let shift = 8 * (4 - bytes.len() as u32);
    if u64::from(*last) >= 1 << shift {
        return None;
    }
    let high = bytes.iter().zip([24, 16, 8]).fold(0, |all, (byte, shift)| all | byte << shift);
    Some(Ipv4Addr::from(high | last))
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// `host[:port]`, or `[address]:port` for IPv6; the port's name is looked up for `protocol`.
pub(crate) fn host_port(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    let host = |text: &str| {
        let address = ipv4(text).map(IpAddr::V4);
        address.or_else(|| names.host(text).filter(|_| !text.is_empty()))
    };
    if let Some(text) = text.strip_prefix('[') {
        let (inside, port) = text.split_once("]:")?;
        let port = port_number(port, protocol, names)?;
        return match inside.parse() {
            Ok(address) => Some((IpAddr::V6(address), Some(port))),
            // ipvsadm reads a host in brackets, and forgets its port.
            Err(_) => Some((host(inside)?, None)),
        };
    }
    if let Ok(address) = text.parse() {
        return Some((IpAddr::V6(address), None));
    }
    match text.split_once(':') {
        Some((name, port)) => Some((host(name)?, Some(port_number(port, protocol, names)?))),
        None => Some((host(text)?, None)),
    }
}

fn port_number(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, u32::from(u16::MAX)) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port(text, protocol?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Numeric;

    #[test]
    fn numbers_are_strtols() {
        for (text, value) in [("5", 5), (" 5", 5), ("+5", 5), ("010", 10), ("-0", 0), ("0005", 5)] {
            assert_eq!(number(text, 0, 100), Some(value), "{text:?}");
        }
        for text in ["", "5 ", "0x5", "-5", "--0", "101", "99999999999999999999", "+"] {
            assert_eq!(number(text, 0, 100), None, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_inet_atons() {
        for (text, value) in [
            ("10.2", "10.0.0.2"),
            ("010.0.0.2", "8.0.0.2"),
            ("0x0a000002", "10.0.0.2"),
            ("256", "0.0.1.0"),
            ("1.2.65535", "1.2.255.255"),
            ("1.2.3.0x4", "1.2.3.4"),
            ("10.0.0.9 junk", "10.0.0.9"),
        ] {
            assert_eq!(ipv4(text), Some(value.parse().unwrap()), "{text:?}");
        }
        for text in [
            "",
            "10.0.0.256",
            "1.2.3.4.5",
            "0x",
            "08.0.0.1",
            "1..2",
            "4294967296",
            "1.16777216",
            "1.2.65536",
            " 1.2.3.4",
            "1.2.3.4.",
            "+1.2.3.4",
            "a",
            "1.2.3.4/32",
        ] {
            assert_eq!(ipv4(text), None, "{text:?}");
        }
    }

    #[test]
    fn hosts_with_and_without_a_port() {
        let read = |text| host_port(text, Some(Protocol::Tcp), &Numeric);
        assert_eq!(read("10.0.0.1:80"), Some(([10, 0, 0, 1].into(), Some(80))));
        assert_eq!(read("10.0.0.1"), Some(([10, 0, 0, 1].into(), None)));
        assert_eq!(read("[fd00::1]:80"), Some(("fd00::1".parse().unwrap(), Some(80))));
        assert_eq!(read("fd00::1:80"), Some(("fd00::1:80".parse().unwrap(), None)));
        assert_eq!(read("[10.0.0.1]:80"), Some(([10, 0, 0, 1].into(), None)));
        for text in ["", ":", ":80", "10.0.0.1:", "10.0.0.1:65536", "[::1]", "[::1]x", "[", "[]:80"]
        {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
