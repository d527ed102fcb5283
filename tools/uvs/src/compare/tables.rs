//! The two connection tables, a line a connection.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use serde::Serialize;
use uvs_lab::{Twin, inside};
use uvs_uvsadm::api::{Conn, Endpoint};

use super::twins::Twins;
use crate::Failure;

/// Where the kernel lists its connections.
const KERNELS: &str = "/proc/thread-self/net/ip_vs_conn";

/// By how many seconds the time that is left may differ, besides those between the two readings: the
/// kernel's timers are up to two late.
const SLACK: u32 = 4;

/// What a connection is found by: protocol, client, virtual address, server.
type Key = (String, SocketAddr, SocketAddr, SocketAddr);

/// Its state, and the seconds that are left to it.
type Standing = (String, u32);

/// Both tables.
#[derive(Debug, Serialize)]
pub struct Tables {
    /// How many the kernel has.
    pub kernel: usize,
    /// How many uvs has.
    pub uvs: usize,
    /// Those that are not the same in both.
    pub differ: Vec<Differs>,
}

/// A connection that the two do not have alike.
#[derive(Debug, Serialize)]
pub struct Differs {
    /// Protocol, client, virtual address and server.
    pub connection: String,
    /// State and seconds left in the kernel, if it has it.
    pub kernel: Option<String>,
    /// The same in uvs.
    pub uvs: Option<String>,
}

/// Reads both and lays them side by side.
pub fn compare(twins: &Twins) -> Result<Tables, Failure> {
    let begun = Instant::now();
    let text = inside(&twins.pair.namespace(Twin::Kernel), || fs::read_to_string(KERNELS))??;
    let theirs: BTreeMap<Key, Standing> = text.lines().skip(1).filter_map(kernels).collect();
    let ours: BTreeMap<Key, Standing> = twins.client.connections()?.iter().map(own).collect();
    let slack = SLACK + begun.elapsed().as_secs() as u32;
    let mut keys: Vec<&Key> = theirs.keys().chain(ours.keys()).collect();
    keys.sort();
    keys.dedup();
    let differ = keys.into_iter().filter(|key| !alike(theirs.get(key), ours.get(key), slack));
    let differ = differ.map(|key| {
        let told = |standing: Option<&Standing>| standing.map(|it| format!("{} {} s", it.0, it.1));
        let (protocol, client, vip, dest) = key;
        Differs {
            connection: format!("{protocol} {client} {vip} {dest}"),
            kernel: told(theirs.get(key)),
            uvs: told(ours.get(key)),
        }
    });
    Ok(Tables { kernel: theirs.len(), uvs: ours.len(), differ: differ.collect() })
}

/// Whether the two have it alike, or one has just let go of it.
fn alike(kernel: Option<&Standing>, uvs: Option<&Standing>, slack: u32) -> bool {
    match (kernel, uvs) {
        (Some((theirs, left)), Some((ours, own))) => theirs == ours && left.abs_diff(*own) <= slack,
        (Some((_, left)), None) | (None, Some((_, left))) => *left <= slack,
        (None, None) => true,
    }
}

/// A line of the kernel's: protocol, client, virtual address and server with their ports, all in
/// hexadecimal, state, seconds left.
fn kernels(line: &str) -> Option<(Key, Standing)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let end = |at: usize| {
        let port = u16::from_str_radix(words.get(at + 1)?, 16).ok()?;
        Some(SocketAddr::new(address(words.get(at)?)?, port))
    };
    let key = ((*words.first()?).to_owned(), end(1)?, end(3)?, end(5)?);
    Some((key, ((*words.get(7)?).to_owned(), words.get(8)?.parse().ok()?)))
}

fn address(text: &str) -> Option<IpAddr> {
    match text.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        Ok(address) => Some(address.into()),
        Err(_) => u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits).into()),
    }
}

fn own(conn: &Conn) -> (Key, Standing) {
    let end = |end: &Endpoint| SocketAddr::new(end.address, end.port);
    let protocol = conn.protocol.map_or("IP".to_owned(), |protocol| protocol.to_string());
    let key = (protocol, end(&conn.client), end(&conn.vip), end(&conn.dest));
    (key, (conn.state.clone(), conn.expires))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_in_both_families() {
        let four = "TCP C6120001 0400 0A000001 03E9 0A000104 03E9 SYN_RECV         60";
        let ((protocol, client, vip, dest), standing) = kernels(four).unwrap();
        assert_eq!((protocol.as_str(), standing), ("TCP", ("SYN_RECV".to_owned(), 60)));
        assert_eq!(client, "198.18.0.1:1024".parse().unwrap());
        assert_eq!(
            (vip, dest),
            ("10.0.0.1:1001".parse().unwrap(), "10.0.1.4:1001".parse().unwrap())
        );
        let six = "UDP fd00:0009:0000:0000:0000:0000:0000:0001 0400 \
                   fd00:0000:0000:0000:0000:0000:0000:0001 0035 \
                   fd00:0002:0000:0000:0000:0000:0000:0001 0035 UDP             300";
        let ((_, client, ..), _) = kernels(six).unwrap();
        assert_eq!(client, "[fd00:9::1]:1024".parse().unwrap());
        assert_eq!(kernels("Pro FromIP"), None);
    }

    #[test]
    fn state_and_time_have_to_be_alike() {
        let standing = |state: &str, left| (state.to_owned(), left);
        let one = standing("ESTABLISHED", 900);
        assert!(alike(Some(&one), Some(&standing("ESTABLISHED", 898)), 4));
        assert!(!alike(Some(&one), Some(&standing("ESTABLISHED", 890)), 4));
        assert!(!alike(Some(&one), Some(&standing("FIN_WAIT", 900)), 4));
        assert!(!alike(Some(&one), None, 4));
        assert!(alike(None, Some(&standing("SYN_RECV", 1)), 4), "it is about to end");
    }
}
