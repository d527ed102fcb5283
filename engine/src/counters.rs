//! What the engine counts. Every frame received is counted once more, where it ended (INV-4):
//!
//! ```text
//! rx = tx + to_host + sum(drops) + waiting
//! ```
//!
//! `waiting` are the frames whose next hop's Ethernet address was asked for; they end as sent or
//! dropped. Frames that the engine itself makes (ICMP answers) are counted apart, in `originated`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// Declares an enum of reasons with their names and what they mean, from one list.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal $meaning:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The counter's name.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it means, in words.
            pub fn meaning(self) -> &'static str {
                match self { $($name::$variant => $meaning,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why a frame was dropped.
    DropReason {
        OtherHost "other_host" "The frame is for another Ethernet address",
        Truncated "truncated" "The frame ends inside a header, or before the length that its IP header tells",
        BadHeader "bad_header" "The IP header contradicts itself",
        BadChecksum "bad_checksum" "The IPv4 header checksum is wrong",
        NoDest "no_dest" "No server of the service can take a new connection (answered with ICMP port unreachable)",
        DestUnavailable "dest_unavailable" "The connection's server was removed",
        DropPacket "drop_packet" "Would open a connection, and the setting drop_packet takes its part",
        NoCallId "no_call_id" "A packet of a SIP service without a Call-ID that could tell its call",
        Reset "reset" "A TCP packet of no known connection (answered with a reset, setting reset_unknown)",
        TableFull "table_full" "The connection table has no room for a new connection",
        BadFragment "bad_fragment" "A fragment that no sender makes",
        FragmentOverlap "fragment_overlap" "A fragment that overlaps another, or contradicts it about where the packet ends",
        FragmentTiny "fragment_tiny" "A first fragment without its transport header",
        FragmentsTooLarge "fragments_too_large" "Fragments of more than 64 KB, or too many of one packet",
        FragmentsFull "fragments_full" "Too many packets wait for the rest of their fragments",
        SourceRoute "source_route" "Asks for a source route, which the kernel does not follow either",
        UnknownReply "unknown_reply" "A NAT server's packet of no connection (answered with ICMP port unreachable, as nat_icmp_send wishes)",
        NotForwarded "not_forwarded" "A NAT server's reply, and the host does not forward (sysctl net.ipv4.ip_forward, net.ipv6.conf.all.forwarding)",
        TtlExceeded "ttl_exceeded" "The TTL, or hop limit, is used up (answered with ICMP time exceeded)",
        Relayed "relayed" "An ICMP error about a tunnel packet, of which the client is told (answered with ICMP)",
        TooBig "too_big" "Larger than the next link carries (answered with ICMP fragmentation needed where DF is set, or packet too big)",
        NoRoute "no_route" "No route leads to the server or the client over a link of the engine",
        NeighbourQueueFull "neighbour_queue_full" "Too many frames wait for Ethernet addresses",
        NeighbourUnresolved "neighbour_unresolved" "The next hop did not tell its Ethernet address in time",
        TxFull "tx_full" "The transmit ring had no room",
        HostFull "host_full" "The way back to the host had no room",
        NoHeadroom "no_headroom" "The frame's buffer has no room for the tunnel header",
        Undecided "undecided" "No stage decided about the frame: a bug of uvs, please report it",
        Shutdown "shutdown" "The engine stopped while the frame waited for an Ethernet address",
    }
}

reasons! {
    /// Why a frame was handed to the host's own network stack.
    HostReason {
        NotIp "not_ip" "Not IP, or to many: ARP, multicast and others",
        Icmp "icmp" "ICMP or ICMPv6",
        OtherProtocol "other_protocol" "An IP protocol that is not balanced",
        NoService "no_service" "No service has this address and port, and it is no reply of a NAT server",
        NoConn "no_conn" "Belongs to no connection and does not begin one",
        LocalDest "local_dest" "The server is an address of the host itself",
    }
}

/// One worker's counters. One thread writes, any may read.
#[derive(Debug)]
pub struct Counters {
    rx: Cell,
    rx_bytes: Cell,
    tx: Cell,
    tx_bytes: Cell,
    waiting: Cell,
    merged: Cell,
    parted: Cell,
    originated: Cell,
    to_host: [Cell; HostReason::ALL.len()],
    drops: [Cell; DropReason::ALL.len()],
}

/// A number that one thread counts up and others read.
///
/// Relaxed everywhere: each is a number for itself. Load and store instead of an atomic addition,
/// because only the owner writes, and a locked instruction a frame is what it saves.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds to the number; only its one writer may.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// The number.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            rx: Cell::default(),
            rx_bytes: Cell::default(),
            tx: Cell::default(),
            tx_bytes: Cell::default(),
            waiting: Cell::default(),
            merged: Cell::default(),
            parted: Cell::default(),
            originated: Cell::default(),
            to_host: std::array::from_fn(|_| Cell::default()),
            drops: std::array::from_fn(|_| Cell::default()),
        }
    }
}

impl Counters {
    /// Frames were received.
    pub fn received(&self, frames: u64, bytes: u64) {
        self.rx.add(frames);
        self.rx_bytes.add(bytes);
    }

    /// A received frame was sent on.
    #[inline]
    pub fn sent(&self, bytes: u64) {
        self.tx.add(1);
        self.tx_bytes.add(bytes);
    }

    /// A frame of the engine's own was sent.
    pub fn originated(&self) {
        self.originated.add(1);
    }

    /// A frame was handed to the host.
    pub fn to_host(&self, reason: HostReason) {
        self.to_host[reason as usize].add(1);
    }

    /// A frame was dropped.
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// A frame's bytes went on in others: a fragment's in its packet, a packet's in fragments.
    pub fn merged(&self) {
        self.merged.add(1);
    }

    /// A frame was made of a part of a packet.
    pub fn parted(&self) {
        self.parted.add(1);
    }

    /// How many frames wait for an Ethernet address now.
    pub fn waiting(&self, frames: usize) {
        self.waiting.set(frames as u64);
    }
}

/// The sum of some workers' counters at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Frames received.
    pub rx: u64,
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Received frames that were sent on.
    pub tx: u64,
    /// Their bytes as sent.
    pub tx_bytes: u64,
    /// Frames waiting for an Ethernet address.
    pub waiting: u64,
    /// Frames whose bytes went on in others.
    pub merged: u64,
    /// Frames that were made of parts of packets.
    pub parted: u64,
    /// Frames that the engine made itself.
    pub originated: u64,
    /// Frames handed to the host, by reason.
    pub to_host: Vec<(HostReason, u64)>,
    /// Frames dropped, by reason.
    pub drops: Vec<(DropReason, u64)>,
}

impl Totals {
    /// Adds up the counters of all workers.
    pub fn of<'a>(workers: impl Iterator<Item = &'a Counters> + Clone) -> Self {
        let sum = |cell: &dyn Fn(&Counters) -> u64| workers.clone().map(cell).sum();
        Self {
            rx: sum(&|c| c.rx.get()),
            rx_bytes: sum(&|c| c.rx_bytes.get()),
            tx: sum(&|c| c.tx.get()),
            tx_bytes: sum(&|c| c.tx_bytes.get()),
            waiting: sum(&|c| c.waiting.get()),
            merged: sum(&|c| c.merged.get()),
            parted: sum(&|c| c.parted.get()),
            originated: sum(&|c| c.originated.get()),
            to_host: HostReason::ALL
                .iter()
                .map(|reason| (*reason, sum(&|c| c.to_host[*reason as usize].get())))
                .collect(),
            drops: DropReason::ALL
                .iter()
                .map(|reason| (*reason, sum(&|c| c.drops[*reason as usize].get())))
                .collect(),
        }
    }

    /// Frames handed to the host, for any reason.
    pub fn host_frames(&self) -> u64 {
        self.to_host.iter().map(|(_, count)| count).sum()
    }

    /// Frames dropped, for any reason.
    pub fn dropped_frames(&self) -> u64 {
        self.drops.iter().map(|(_, count)| count).sum()
    }

    /// Frames dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.iter().find(|(r, _)| *r == reason).map_or(0, |(_, count)| *count)
    }

    /// Whether every frame received is accounted for (INV-4). True whenever no batch is under way.
    pub fn balanced(&self) -> bool {
        let gone = self.tx + self.host_frames() + self.dropped_frames() + self.merged;
        self.rx + self.parted == gone + self.waiting
    }
}

/// Connections, packets and bytes of a service or a server, as `ipvsadm -L --stats` shows them:
/// one cell a worker, so that no two cores write the same cache line.
#[derive(Debug)]
pub struct Traffic(Box<[CachePadded<TrafficCell>]>);

#[derive(Debug, Default)]
struct TrafficCell {
    conns: Cell,
    in_packets: Cell,
    out_packets: Cell,
    in_bytes: Cell,
    out_bytes: Cell,
}

impl Traffic {
    /// Counters for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::default()).collect())
    }

    /// For how many workers it counts.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// A connection was opened.
    pub fn opened(&self, worker: usize) {
        self.0[worker].conns.add(1);
    }

    /// A packet of the client, `bytes` from its IP header on.
    #[inline]
    pub fn incoming(&self, worker: usize, bytes: u64) {
        let cell = &self.0[worker];
        cell.in_packets.add(1);
        cell.in_bytes.add(bytes);
    }

    /// A packet of the server.
    #[inline]
    pub fn outgoing(&self, worker: usize, bytes: u64) {
        let cell = &self.0[worker];
        cell.out_packets.add(1);
        cell.out_bytes.add(bytes);
    }

    /// What all workers counted.
    pub fn total(&self) -> TrafficTotal {
        Self::sum(&self.0)
    }

    /// What one worker counted.
    pub fn of(&self, worker: usize) -> TrafficTotal {
        Self::sum(&self.0[worker..=worker])
    }

    fn sum(cells: &[CachePadded<TrafficCell>]) -> TrafficTotal {
        let sum = |cell: fn(&TrafficCell) -> u64| cells.iter().map(|c| cell(c)).sum();
        TrafficTotal {
            conns: sum(|c| c.conns.get()),
            in_packets: sum(|c| c.in_packets.get()),
            out_packets: sum(|c| c.out_packets.get()),
            in_bytes: sum(|c| c.in_bytes.get()),
            out_bytes: sum(|c| c.out_bytes.get()),
        }
    }
}

/// See [`Traffic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficTotal {
    /// Connections opened.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers (NAT only; others pass elsewhere).
    pub out_packets: u64,
    /// Bytes from clients, from the IP header on.
    pub in_bytes: u64,
    /// Bytes from servers.
    pub out_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_workers() {
        let (one, two) = (Counters::default(), Counters::default());
        one.received(3, 300);
        one.sent(100);
        one.to_host(HostReason::Icmp);
        two.received(2, 128);
        two.dropped(DropReason::NoDest);
        let workers = [&one, &two];
        let total = Totals::of(workers.into_iter());
        assert_eq!((total.rx, total.tx, total.host_frames()), (5, 1, 1));
        assert_eq!(total.dropped(DropReason::NoDest), 1);
        assert!(!total.balanced(), "one frame of each worker is under way");
        one.waiting(1);
        two.dropped(DropReason::TxFull);
        assert!(Totals::of(workers.into_iter()).balanced());
    }

    #[test]
    fn names_are_not_given_twice() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.as_str()).collect();
        names.extend(HostReason::ALL.iter().map(|r| r.as_str()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn traffic_is_summed_over_workers() {
        let traffic = Traffic::new(2);
        traffic.opened(0);
        traffic.incoming(0, 60);
        traffic.incoming(1, 40);
        traffic.outgoing(1, 1500);
        let total = traffic.total();
        assert_eq!((total.conns, total.in_packets, total.in_bytes), (1, 2, 100));
        assert_eq!((total.out_packets, total.out_bytes), (1, 1500));
    }
}
