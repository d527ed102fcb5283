//! A flood of SYNs whose senders do not exist, as fast as a core can send them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use uvs_lab::{HTTP_PORT, Host};

use super::{Lab, Wire, checksum, ipv4, mac};

/// Frames of one system call.
const BURST: usize = 64;

/// The network from which the SYNs seem to come (RFC 2544: for benchmarks, nobody's), as `ip` has
/// it and by its first address.
const SENDERS: &str = "198.18.0.0/16";
const FIRST_SENDER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

// Where things stand in a SYN's frame.
const IP: usize = 14;
const IDENTIFICATION: usize = IP + 4;
const IP_SUM: usize = IP + 10;
const ADDRESSES: usize = IP + 12;
const TCP: usize = IP + 20;
const SEQUENCE: usize = TCP + 4;
const TCP_SUM: usize = TCP + 16;

/// A flood that goes on until it is ended.
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// Starts it at the client of a lab, on the service for HTTP.
    pub fn start(lab: &Lab) -> Self {
        // What the servers answer is to have a way, and to end at the client.
        let way = format!("route add {SENDERS} via {}", lab.network.client());
        for server in 1..=lab.network.rips().len() {
            lab.network.ip(Host::Server(server), &way).unwrap();
        }
        let address = |host| {
            let file = "/sys/class/net/eth0/address";
            mac(&lab.network.run_in(host, "cat", &[file]).unwrap())
        };
        let ethernet = [&address(Host::Director)[..], &address(Host::Client), &[8, 0]].concat();
        let syn = syn(&ethernet, lab.network.vip());
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = lab.inside(Host::Client, || {
            let (wire, stop, sent) = (Wire::open("eth0"), stop.clone(), sent.clone());
            std::thread::spawn(move || send(&wire, &syn, &stop, &sent))
        });
        Self { stop, sent, thread }
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        // Relaxed: a number for itself.
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; says how many SYNs there were.
    pub fn end(self) -> u64 {
        // Relaxed: the flag stands for itself; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

fn send(wire: &Wire, syn: &[u8], stop: &AtomicBool, sent: &AtomicU64) {
    let mut frames = vec![syn.to_vec(); BURST];
    let mut randoms = randoms();
    // Relaxed: as in `end`.
    while !stop.load(Ordering::Relaxed) {
        frames.iter_mut().zip(&mut randoms).for_each(|(frame, random)| disguise(frame, random));
        sent.fetch_add(wire.send_all(&mut frames), Ordering::Relaxed);
    }
}

/// xorshift64 (Marsaglia 2003).
fn randoms() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(0x9e37_79b9_7f4a_7c15_u64), |last| {
        let next = last ^ (last << 13);
        let next = next ^ (next >> 7);
        Some(next ^ (next << 17))
    })
}

/// A SYN (RFC 9293) in a frame.
fn syn(ethernet: &[u8], vip: Ipv4Addr) -> Vec<u8> {
    let ports = [0, HTTP_PORT].map(u16::to_be_bytes).concat();
    let tcp = [&ports[..], &[0; 8], &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat();
    let mut frame = [ethernet, &ipv4(6, FIRST_SENDER, vip, &tcp)].concat();
    frame[IP_SUM..][..2].fill(0);
    disguise(&mut frame, 0);
    let ip_sum = checksum(&frame[IP..TCP]);
    let pseudo = [&frame[ADDRESSES..TCP], &[0, 6, 0, tcp.len() as u8], &frame[TCP..]].concat();
    frame[IP_SUM..][..2].copy_from_slice(&ip_sum);
    frame[TCP_SUM..][..2].copy_from_slice(&checksum(&pseudo));
    frame
}

/// Gives the SYN of [`syn`] another sender. The checksums stay right: what address and port add,
/// identification and sequence number take away (RFC 1071).
fn disguise(frame: &mut [u8], random: u64) {
    let (address, port) = (random as u16, (random >> 16) as u16 | 1024);
    let mut put = |at: usize, value: u16| frame[at..][..2].copy_from_slice(&value.to_be_bytes());
    put(ADDRESSES + 2, address);
    put(IDENTIFICATION, !address);
    put(TCP, port);
    // In TCP's sum, both count.
    let (sum, carry) = address.overflowing_add(port);
    put(SEQUENCE, !(sum + u16::from(carry)));
}
