//! ipvsadm's order of services and servers.
//!
//! It compares addresses by a difference of 32 bits that wraps, which is no order at all: 200.0.0.1
//! comes before 1.0.0.1 but after 100.0.0.1. What is printed then depends on the sort, so this is
//! the merge sort that the C library's qsort is; the standard library's may panic on it.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::api::{Dest, Endpoint, Protocol, Service, ServiceKey};

/// Services by mark (those of addresses have none), family, protocol, address and port.
pub(crate) fn services<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<&'a Service> {
    merge_sort(services.into_iter().collect(), &|a: &&Service, b: &&Service| {
        keys(&a.config.key, &b.config.key)
    })
}

fn keys(a: &ServiceKey, b: &ServiceKey) -> Ordering {
    let mark = |key: &ServiceKey| match key {
        ServiceKey::Mark { mark, .. } => *mark,
        ServiceKey::Address { .. } => 0,
    };
    let number = |key: &ServiceKey| key.protocol().map_or(0, Protocol::number);
    let by_family = || a.is_ipv6().cmp(&b.is_ipv6());
    wrapping(mark(a), mark(b))
        .then_with(by_family)
        .then_with(|| number(a).cmp(&number(b)))
        .then_with(|| match (a.endpoint(), b.endpoint()) {
            (Some(a), Some(b)) => endpoints(a, b),
            _ => Ordering::Equal,
        })
}

/// Servers by address and port.
pub(crate) fn dests(dests: &[Dest]) -> Vec<&Dest> {
    merge_sort(dests.iter().collect(), &|a: &&Dest, b: &&Dest| {
        endpoints(a.config.endpoint(), b.config.endpoint())
    })
}

fn endpoints(a: Endpoint, b: Endpoint) -> Ordering {
    address(a.address, b.address).then_with(|| a.port.cmp(&b.port))
}

/// An IPv4 address stands in the first word where an IPv6 one has four.
fn address(a: IpAddr, b: IpAddr) -> Ordering {
    let words = |address| match address {
        IpAddr::V4(v4) => [u32::from(v4), 0, 0, 0],
        IpAddr::V6(v6) => [96, 64, 32, 0].map(|shift| (u128::from(v6) >> shift) as u32),
    };
    let pairs = words(a).into_iter().zip(words(b));
    pairs.map(|(a, b)| wrapping(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

fn wrapping(a: u32, b: u32) -> Ordering {
    a.wrapping_sub(b).cast_signed().cmp(&0)
}

fn merge_sort<T>(mut items: Vec<T>, compare: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge_sort(items, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let side = if compare(a, b) == Ordering::Greater { &mut right } else { &mut left };
        merged.extend(side.next());
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DestConfig, ServiceConfig};

    fn end(text: &str) -> Endpoint {
        let socket: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { address: socket.ip(), port: socket.port() }
    }

    fn sorted(listed: &[&str]) -> Vec<String> {
        let compare = |a: &Endpoint, b: &Endpoint| endpoints(*a, *b);
        let found = merge_sort(listed.iter().map(|text| end(text)).collect(), &compare);
        found.iter().map(ToString::to_string).collect()
    }

    /// Lists as ipvsadm 1.31 printed them, with and without --nosort.
    #[test]
    fn wrapping_addresses_fall_as_in_ipvsadm() {
        let nosort = [
            "10.0.0.1:1",
            "10.0.0.1:40000",
            "10.0.0.1:256",
            "10.0.0.1:255",
            "180.0.0.1:80",
            "50.0.0.1:80",
            "10.0.0.1:80",
            "255.1.255.254:80",
            "128.0.0.0:80",
            "200.0.0.1:80",
            "100.0.0.1:80",
            "1.0.0.1:80",
        ];
        let expected = [
            "180.0.0.1:80",
            "200.0.0.1:80",
            "1.0.0.1:80",
            "10.0.0.1:1",
            "10.0.0.1:80",
            "10.0.0.1:255",
            "10.0.0.1:256",
            "10.0.0.1:40000",
            "50.0.0.1:80",
            "100.0.0.1:80",
            "128.0.0.0:80",
            "255.1.255.254:80",
        ];
        assert_eq!(sorted(&nosort), expected);
    }

    #[test]
    fn servers_of_both_families_mix_as_in_ipvsadm() {
        let nosort =
            ["10.0.1.1:80", "[0:0:8000::1]:80", "[7fff::1]:80", "[8000::1]:80", "[fd00::1]:80"];
        let expected =
            ["[0:0:8000::1]:80", "10.0.1.1:80", "[7fff::1]:80", "[8000::1]:80", "[fd00::1]:80"];
        assert_eq!(sorted(&nosort), expected);
        let dests = nosort.map(|text| Dest::new(DestConfig::new(end(text).address, 80)));
        let found = super::dests(&dests).into_iter().map(|dest| dest.config.endpoint().to_string());
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn marks_and_families_fall_as_in_ipvsadm() {
        let expected = [
            "FWM 4294967295",
            "TCP 10.0.0.1:80",
            "TCP [fd00::1]:80",
            "TCP [::1]:80",
            "TCP [0:0:1::]:80",
            "TCP [0:0:8000::1]:80",
            "TCP [7fff::1]:80",
            "TCP [8000::1]:80",
            "TCP [ffff::1]:80",
            "FWM 5",
            "FWM 5 IPv6",
            "FWM 2147483648",
        ];
        let mut keys = vec![
            ServiceKey::Mark { mark: u32::MAX, ipv6: false },
            ServiceKey::Mark { mark: 1 << 31, ipv6: false },
            ServiceKey::Mark { mark: 5, ipv6: true },
            ServiceKey::Mark { mark: 5, ipv6: false },
        ];
        for text in ["[ffff::1]:80", "[7fff::1]:80", "[0:0:8000::1]:80", "[0:0:1::]:80"] {
            keys.insert(0, ServiceKey::new(Protocol::Tcp, end(text).address, 80));
        }
        for text in ["[fd00::1]:80", "[::1]:80", "[8000::1]:80", "10.0.0.1:80"] {
            keys.insert(0, ServiceKey::new(Protocol::Tcp, end(text).address, 80));
        }
        // Compared as they come in the output: an order that wraps has no other truth.
        let list: Vec<_> =
            keys.iter().map(|key| Service::new(ServiceConfig::new(*key, "rr"))).collect();
        let found: Vec<String> = services(&list).iter().map(|s| s.config.key.to_string()).collect();
        for text in expected {
            assert!(found.iter().any(|found| found == text), "{text}");
        }
        let key = |text: &str| *keys.iter().find(|key| key.to_string() == text).unwrap();
        for pair in expected.windows(2) {
            let order = super::keys(&key(pair[0]), &key(pair[1]));
            assert_eq!(order, Ordering::Less, "{pair:?}");
        }
    }
}
