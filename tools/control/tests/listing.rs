//! The connection table is listed while a worker goes on, in little memory however large it is.

mod engine;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use engine::Engine;
use uvs_engine::clock::Ticks;
use uvs_engine::table::{NewConn, Owner, Table};

/// Some 20 MB as text.
const CONNS: u32 = 120_000;

/// What a listing may take, in both programs together: some pieces of it.
const MEMORY: u64 = 6 << 20;

/// How many connections the worker opens and ends while the reader rests: longer than the whole
/// listing takes.
const REST: u64 = 1_000_000;

fn conn(number: u32, port: u16) -> NewConn {
    NewConn {
        proto: 6,
        caddr: std::net::Ipv4Addr::from(0xac10_0000 + number).into(),
        cport: port,
        vaddr: [10, 0, 0, 1].into(),
        vport: 80,
        daddr: [10, 0, 1, 1].into(),
        dport: 80,
        dest: 0,
        mark: 0,
        flags: 0,
        state: 1,
        timeout: Ticks::from_secs(900),
        control: None,
        extra: None,
    }
}

fn insert(owner: &mut Owner, new: &NewConn) -> uvs_engine::table::Inserted {
    let hash = owner.table().hash_of(&new.in_key());
    owner.insert(hash, new, Ticks(0)).unwrap()
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Opens and ends connections as a worker does, and counts them, until told to stop.
fn work(owner: &mut Owner, stop: &AtomicBool, done: &AtomicU64) {
    // Relaxed: numbers by themselves.
    while !stop.load(Ordering::Relaxed) {
        let uvs_engine::table::Inserted::New(id) = insert(owner, &conn(0, 9)) else {
            panic!("nobody else opens it");
        };
        owner.remove(id);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_large_table_is_listed_in_little_memory_while_a_worker_goes_on() {
    let (table, mut owners) = Table::new(u64::from(CONNS) + 64, 1, Ticks(0)).unwrap();
    let mut owner = owners.remove(0);
    for number in 0..CONNS {
        insert(&mut owner, &conn(number, 1000));
    }
    let client = Engine::over(&table, "listing").client;
    // Once before, so that what is taken once and for all is not counted.
    client.each_connection(|_| ControlFlow::Break(())).unwrap();

    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = resident();
    let (mut listed, mut most, mut progress) = (0u32, 0, Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(|| work(&mut owner, &stop, &done));
        let each = |conn: uvs_uvsadm::api::Conn| {
            listed += u32::from(conn.client.port == 1000);
            if listed == 1 {
                // Who reads slowly must not make the engine store what it has to tell.
                let begun = done.load(Ordering::Relaxed);
                while done.load(Ordering::Relaxed) < begun + REST {
                    std::thread::yield_now();
                }
            }
            if listed.is_multiple_of(1000) {
                most = most.max(resident());
            }
            if listed.is_multiple_of(CONNS / 10) {
                progress.push(done.load(Ordering::Relaxed));
            }
            ControlFlow::Continue(())
        };
        let ended = client.each_connection(each);
        stop.store(true, Ordering::Relaxed);
        ended.unwrap();
    });
    assert_eq!(listed, CONNS, "each that lives all the while is listed, once");
    let taken = most.saturating_sub(before);
    assert!(taken < MEMORY, "{taken} bytes");
    let went_on = progress.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(went_on >= 8, "the worker stood still: {progress:?}");
    breaking_off_does_no_harm();
}

fn breaking_off_does_no_harm() {
    let (table, mut owners) = Table::new(20_000, 1, Ticks(0)).unwrap();
    for number in 0..10_000 {
        insert(&mut owners[0], &conn(number, 1000));
    }
    let client = Engine::over(&table, "broken-off").client;
    for _ in 0..20 {
        let mut seen = 0;
        let first_ten = |_| {
            seen += 1;
            if seen < 10 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        client.each_connection(first_ten).unwrap();
        assert_eq!(seen, 10);
    }
    assert_eq!(client.connections().unwrap().len(), 10_000);
}
