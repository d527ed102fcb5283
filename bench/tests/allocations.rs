//! INV-5: once warm, no frame makes the engine allocate or free memory, whatever becomes of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Arc;

use uvs_bench::frames::Kind;
use uvs_bench::rig::{Case, Engine, Rig};
use uvs_engine::clock::Ticks;
use uvs_engine::counters::DropReason;
use uvs_forward::Method;
use uvs_sched::{Flags, Flow, Load, Name, Scheduler, Server, ServerId, Servers};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    // Constant and without a destructor, so that to count allocates nothing itself.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: hands every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count();
        // SAFETY: the memory came from `System`, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Calls to the allocator while the engine takes its turn.
fn calls(engine: &mut Engine) -> u64 {
    let before = CALLS.get();
    engine.turn();
    CALLS.get() - before
}

/// Turns a case is watched for, after as many to get warm.
const TURNS: usize = 200;

fn assert_none(what: &str, rig: &mut Rig) {
    for _ in 0..TURNS {
        rig.turn(Engine::turn);
    }
    let made: u64 = (0..TURNS).map(|_| rig.turn(calls)).sum();
    assert_eq!(made, 0, "{what}: {made} calls to the allocator in {TURNS} batches");
}

const METHODS: [Method; 3] = [Method::Route, Method::Masq, Method::Tunnel];

#[test]
fn frames_of_open_connections() {
    for kind in [Kind::Udp, Kind::Ack] {
        for method in METHODS {
            let mut rig = Rig::established(Case::to_server(method, kind), 5000);
            assert_none(&format!("{kind:?} by {method}"), &mut rig);
            rig.check();
        }
        let mut rig = Rig::established(Case::to_client(kind), 5000);
        assert_none(&format!("{kind:?}, replies"), &mut rig);
        rig.check();
    }
}

#[test]
fn frames_that_open_connections() {
    for kind in [Kind::Udp, Kind::Syn] {
        for method in METHODS {
            // Rounds end in between, so that entries, buckets and timers are used anew.
            let mut rig = Rig::opening(method, kind, 6400);
            assert_none(&format!("{kind:?} that opens by {method}"), &mut rig);
            rig.check();
        }
    }
}

#[test]
fn frames_that_wait_and_frames_that_find_no_room_to_wait() {
    for method in METHODS {
        let mut rig = Rig::unresolved(method, Kind::Udp, 64 * (2 * TURNS as u32 + 1));
        let first = rig.turn(calls);
        assert_none(&format!("unresolved, {method}"), &mut rig);
        let totals = rig.totals();
        assert_eq!(first, 0, "the first frames that wait: {first} calls to the allocator");
        assert!(totals.balanced() && totals.waiting > 0);
        assert!(totals.dropped(DropReason::NeighbourQueueFull) > 0);
    }
}

#[test]
fn frames_that_wait_too_long() {
    let mut rig = Rig::unresolved(Method::Route, Kind::Udp, 64 * 101);
    for turn in 0..100 {
        let made = rig.turn(calls);
        assert_eq!(made, 0, "turn {turn}");
        rig.advance_clock(Ticks(10));
    }
    assert!(rig.totals().dropped(DropReason::NeighbourUnresolved) > 0);
}

/// Schedulers by themselves: a pick, and telling of connections that open and close.
#[test]
fn picks_of_every_scheduler() {
    const ROUNDS: u32 = 2000;
    for name in Name::ALL {
        let server = |number: u32| Server {
            id: ServerId(number),
            address: Ipv4Addr::from_bits(0x0a01_0000 + number).into(),
            port: 80,
            weight: 1000 * (1 + number % 7),
            last_weight: 1000 * (1 + number % 7),
            load: Arc::new(Load::default()),
        };
        let list: Servers = (0..100).map(server).collect();
        let loads: Vec<Arc<Load>> = list.iter().map(|server| server.load.clone()).collect();
        let scheduler = Scheduler::build(*name, list, Flags::default());
        let mut open = Vec::with_capacity(2 * ROUNDS as usize);
        let mut work = |rounds: std::ops::Range<u32>| {
            for n in rounds {
                let flow = Flow {
                    protocol: 6,
                    source: Ipv4Addr::from_bits(0xac10_0000 + n * 77).into(),
                    source_port: n as u16,
                    // Some that were asked for before, and some new ones.
                    destination: Ipv4Addr::from_bits(0x0a09_0000 + n % 1500).into(),
                    destination_port: 80,
                    now: n,
                };
                let place = scheduler.pick(&flow).expect("a server");
                loads[place].open(n % 2 == 0);
                scheduler.changed(place);
                open.push(place);
                if n % 3 == 0
                    && let Some(place) = open.pop()
                {
                    loads[place].close(n % 2 == 0);
                    scheduler.changed(place);
                }
            }
        };
        work(0..ROUNDS);
        let before = CALLS.get();
        work(ROUNDS..2 * ROUNDS);
        let made = CALLS.get() - before;
        assert_eq!(made, 0, "{name}: {made} calls to the allocator in {ROUNDS} picks");
    }
}
