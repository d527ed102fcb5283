//! ipvsadm's order of services and servers.
//!
//! It compares addresses by a difference of 32 bits that wraps, which is no order at all: 200.0.0.1
//! comes before 1.0.0.1 but after 100.0.0.1. What is printed then depends on the sort, so this is
//! the merge sort that the C library's qsort is; the standard library's may panic on it.

use std::cmp::Ordering;
use std::net::Ipv4Addr;

use crate::api::{Dest, Service};

/// Services by protocol, address and port.
pub(crate) fn services<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<&'a Service> {
    merge_sort(services.into_iter().collect(), &|a: &&Service, b: &&Service| {
        let (a, b) = (a.config.key, b.config.key);
        let protocol = a.protocol.number().cmp(&b.protocol.number());
        protocol.then_with(|| address(a.address, b.address)).then_with(|| a.port.cmp(&b.port))
    })
}

/// Servers by address and port.
pub(crate) fn dests(dests: &[Dest]) -> Vec<&Dest> {
    merge_sort(dests.iter().collect(), &|a: &&Dest, b: &&Dest| {
        let (a, b) = (a.config, b.config);
        address(a.address, b.address).then_with(|| a.port.cmp(&b.port))
    })
}

fn address(a: Ipv4Addr, b: Ipv4Addr) -> Ordering {
    u32::from(a).wrapping_sub(u32::from(b)).cast_signed().cmp(&0)
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

    /// Both lists as ipvsadm 1.31 printed them, with and without --nosort.
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
        let sorted = [
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
        let listed: Vec<std::net::SocketAddrV4> = nosort.map(|text| text.parse().unwrap()).into();
        let compare = |a: &std::net::SocketAddrV4, b: &std::net::SocketAddrV4| {
            address(*a.ip(), *b.ip()).then_with(|| a.port().cmp(&b.port()))
        };
        let found = merge_sort(listed, &compare);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), sorted);
    }
}
