//! What the balancer does when its memory runs short or it is told to be strict: drop_entry,
//! drop_packet and secure_tcp (kernel: ip_vs_ctl.c, update_defense_level; ip_vs_conn.c).
//!
//! Memory is the room that the connection table has left, in pages of 4 KB: it never grows, so
//! the machine's own memory tells nothing. A [`Defense`] is what all workers read; worker 0 has
//! the [`Guard`], which looks once a second and scans the table.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use uvs_forward::wire::protocol;
use uvs_sched::ServerId;

use crate::clock::{TICKS_PER_SECOND, Ticks};
use crate::proto::{sctp, tcp};
use crate::settings::Settings;
use crate::stage::Context;
use crate::table::{Conn, Table};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The threshold is at most this part of the table, so that a small one is not always short.
const THRESHOLD_PART: u64 = 16;

/// The part of the table that drop_entry scans a second.
const SCAN_PART: u64 = 32;

/// drop_entry leaves a connection alone that had a packet within this time.
const RECENT: Ticks = Ticks::from_secs(60);

/// Packets up to which drop_entry may take an established connection.
pub const FEW_PACKETS: u32 = 8;

/// Above this many buckets a turn, a scan would hold up the frames.
pub(crate) const SCAN_BUDGET: u64 = 256;

/// What is in force now; all Relaxed, for each value stands for itself.
#[derive(Debug, Default)]
pub struct Defense {
    /// Every how many-th packet that would open a connection is dropped; 0 is none.
    drop_rate: AtomicU32,
    drop_counter: AtomicI64,
    drop_entry: AtomicBool,
    secure_tcp: AtomicBool,
    /// Until when flows without a connection may be ones that the table had no room for; in the
    /// upper half whether there were any.
    overflow: AtomicU64,
}

/// How long a flow that the full table had no room for is remembered to be possible: as long as
/// an established connection lives without a packet.
const OVERFLOW: Ticks = Ticks::from_secs(900);

/// Whether a defence with this setting is on while memory is short or not.
fn on(setting: u32, short: bool) -> bool {
    match setting {
        0 => false,
        3 => true,
        _ => short,
    }
}

impl Defense {
    /// Sets what is in force, by the settings and the pages that are `free` of `all`.
    pub fn update(&self, settings: &Settings, free: u64, all: u64) {
        let threshold = u64::from(settings.amemthresh).min(all / THRESHOLD_PART);
        let short = free < threshold;
        self.drop_entry.store(on(settings.drop_entry, short), Ordering::Relaxed);
        self.secure_tcp.store(on(settings.secure_tcp, short), Ordering::Relaxed);
        let rate = match settings.drop_packet {
            3 => settings.am_droprate,
            1 | 2 if short => (threshold / (threshold - free)) as u32,
            _ => 0,
        };
        if settings.drop_packet != 3 && rate != 0 {
            self.drop_counter.store(rate.into(), Ordering::Relaxed);
        }
        self.drop_rate.store(rate, Ordering::Relaxed);
    }

    /// Whether this packet, which would open a connection, is to be dropped.
    #[inline]
    pub fn drops(&self) -> bool {
        let rate = self.drop_rate.load(Ordering::Relaxed);
        if rate == 0 {
            return false;
        }
        let next = |left: i64| Some(if left > 1 { left - 1 } else { rate.into() });
        let before = self.drop_counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.is_ok_and(|left| left <= 1)
    }

    /// Whether the stricter TCP tables serve.
    #[inline]
    pub fn secure_tcp(&self) -> bool {
        self.secure_tcp.load(Ordering::Relaxed)
    }

    /// Notes that the table had no room for a flow.
    pub fn overflow(&self, now: Ticks) {
        self.overflow.store(1 << 32 | u64::from(now.after(OVERFLOW).0), Ordering::Relaxed);
    }

    /// Whether a flow without a connection may be one that the table had no room for.
    pub fn overflows(&self, now: Ticks) -> bool {
        let until = self.overflow.load(Ordering::Relaxed);
        until != 0 && !Ticks(until as u32).is_past(now)
    }

    /// Whether connections are dropped.
    pub fn drop_entry(&self) -> bool {
        self.drop_entry.load(Ordering::Relaxed)
    }
}

/// Looks after the defences, once a second; see the module.
#[derive(Debug)]
pub struct Guard {
    /// When to look next; at once at first.
    next: Option<Ticks>,
    /// Buckets of this second's scan that are left.
    buckets: u64,
    /// How many established connections with this many packets are spared before one goes.
    spare: [u8; FEW_PACKETS as usize + 1],
    random: u64,
}

impl Guard {
    /// A guard whose scans start where `seed` says.
    pub fn new(seed: u64) -> Self {
        Self { next: None, buckets: 0, spare: [0; FEW_PACKETS as usize + 1], random: seed | 1 }
    }

    /// Looks when a second is over, and scans up to `budget` buckets of what is left to scan.
    pub fn turn(&mut self, context: &mut Context<'_>, budget: u64) {
        let now = context.now;
        if self.next.is_none_or(|next| next.is_past(now)) {
            self.next = Some(now.after(Ticks(TICKS_PER_SECOND)));
            self.look(context);
        }
        for _ in 0..self.buckets.min(budget) {
            self.buckets -= 1;
            let bucket = self.draw();
            let table = context.owner.table().clone();
            for conn in table.sample(bucket) {
                if self.takes(&conn, context) {
                    context.end(&conn);
                }
            }
        }
    }

    fn look(&mut self, context: &Context<'_>) {
        let table: &Table = context.owner.table();
        let (len, capacity) = (table.len() as u64, table.capacity() as u64);
        let pages = |conns: u64| conns * (table.memory() / capacity) / PAGE;
        let settings = &context.snapshot.rules.settings;
        context.defense.update(settings, pages(capacity.saturating_sub(len)), pages(capacity));
        let scan = context.defense.drop_entry();
        self.buckets = if scan { table.buckets().div_ceil(SCAN_PART) } else { 0 };
    }

    /// Whether drop_entry takes this connection.
    fn takes(&mut self, conn: &Conn, context: &Context<'_>) -> bool {
        if conn.is_template() {
            let dest = context.snapshot.dest(ServerId(conn.dest));
            let one_packet = dest.is_some_and(|dest| dest.one_packet);
            return conn.children == 0 && one_packet && self.chance(conn, context.now);
        }
        match (conn.proto, conn.state) {
            (protocol::TCP, tcp::SYN_RECV | tcp::SYNACK) => true,
            (protocol::TCP, tcp::ESTABLISHED) => self.chance(conn, context.now),
            (protocol::TCP, _) => false,
            (protocol::SCTP, sctp::INIT1 | sctp::INIT) => true,
            (protocol::SCTP, sctp::ESTABLISHED) => self.chance(conn, context.now),
            (protocol::SCTP, _) => false,
            _ => self.chance(conn, context.now),
        }
    }

    /// One in as many as the connection had packets, and none that was busy lately.
    fn chance(&mut self, conn: &Conn, now: Ticks) -> bool {
        if now.since(conn.last_seen).0 < RECENT.0 || !(1..=FEW_PACKETS).contains(&conn.in_packets) {
            return false;
        }
        let spare = &mut self.spare[conn.in_packets as usize];
        if *spare > 1 {
            *spare -= 1;
            return false;
        }
        *spare = conn.in_packets as u8;
        true
    }

    /// A number without a pattern that matters (xorshift64, Marsaglia 2003).
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_packet_is_dropped() {
        let defense = Defense::default();
        assert!((0..9).all(|_| !defense.drops()));
        let settings = Settings { drop_packet: 3, am_droprate: 5, ..Settings::default() };
        defense.update(&settings, 100, 100);
        let dropped: Vec<bool> = (0..11).map(|_| defense.drops()).collect();
        assert_eq!(dropped.iter().filter(|dropped| **dropped).count(), 3);
        let first = dropped.iter().position(|dropped| *dropped).unwrap();
        assert!(dropped[first + 5] && !dropped[first + 4]);
    }

    #[test]
    fn automatic_defences_start_when_the_table_runs_short() {
        let defense = Defense::default();
        let settings =
            Settings { drop_packet: 1, drop_entry: 1, secure_tcp: 2, ..Settings::default() };
        defense.update(&settings, 2000, 100_000);
        assert!(!defense.secure_tcp() && !defense.drop_entry() && !defense.drops());
        defense.update(&settings, 512, 100_000);
        assert!(defense.secure_tcp() && defense.drop_entry());
        assert_eq!((0..100).filter(|_| defense.drops()).count(), 50, "1024 / (1024 - 512)");
        defense.update(&settings, 900, 1600);
        assert!(!defense.drop_entry(), "a small table is short at a sixteenth");
    }
}
