//! Two workers, one table: a connection is one entry however its packets meet (INV-2, INV-3).

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use uvs_engine::clock::Ticks;
use uvs_engine::proto::tcp as states;
use uvs_forward::Method;
use uvs_forward::wire::{protocol, tcp::flag as tcp_flag};

use support::{CLIENT_SIDE, Config, Lab, Packet, Real, Seen, Virtual, reply, request, syn};

const SYN: u8 = tcp_flag::SYN;
const ACK: u8 = tcp_flag::ACK;

/// NAT over two servers, DR over one: 10.0.0.1 and 10.0.0.2.
fn config() -> Config {
    let nat = vec![Real::new(1, Method::Masq), Real::new(2, Method::Masq)];
    let direct = vec![Real::new(3, Method::Route)];
    Config::new(vec![Virtual::new(protocol::TCP, 1, nat), Virtual::new(protocol::TCP, 2, direct)])
}

#[test]
fn replies_may_come_to_the_other_worker() {
    let mut lab = Lab::with(config(), 2, 64);
    let sent = lab.give(&syn(0));
    let server = sent[0].ip().dst()[3];
    lab.put(1, &reply(protocol::TCP, SYN | ACK, 0, server));
    lab.run();
    let sent = lab.sent(1);
    assert_eq!((sent.len(), sent[0].link, sent[0].ip().src()), (1, CLIENT_SIDE, [10, 0, 0, 1]));
    // The client's next packet comes to the other worker as well.
    lab.put(1, &request(protocol::TCP, ACK, 0, 1));
    lab.run();
    assert_eq!((lab.sent(1).len(), lab.conn().state), (1, states::ESTABLISHED));
    assert_eq!(lab.conn().owner, 0);
    lab.check();
}

#[test]
fn the_owner_ends_what_another_worker_shortened() {
    let mut lab = Lab::with(config(), 2, 64);
    let sent = lab.give(&syn(0));
    lab.give(&request(protocol::TCP, ACK, 0, 1));
    // The owner has just looked at it, and would not for a minute.
    lab.pass(5);
    let server = sent[0].ip().dst()[3];
    lab.put(1, &reply(protocol::TCP, tcp_flag::RST, 0, server));
    lab.run();
    assert_eq!(lab.conn().state, states::CLOSE);
    lab.pass(9);
    assert_eq!(lab.table.len(), 1);
    lab.pass(1);
    assert!(lab.table.is_empty());
    lab.check();
}

#[test]
fn a_connection_may_be_replaced_from_the_other_worker() {
    let mut lab = Lab::with(config(), 2, 64);
    lab.give(&syn(0));
    lab.give(&request(protocol::TCP, tcp_flag::FIN, 0, 1));
    assert_eq!((lab.conn().state, lab.conn().owner), (states::TIME_WAIT, 0));
    lab.put(1, &syn(0));
    lab.run();
    assert_eq!((lab.conn().state, lab.conn().owner), (states::SYN_RECV, 1));
    lab.check();
    lab.pass(60);
    assert!(lab.table.is_empty());
    lab.check();
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A packet of this client, with these flags, to service 1 or 2, comes to this worker.
    Request(usize, u16, u8, u8),
    /// A reply of this server to this client comes to this worker.
    Reply(usize, u16, u8, u8),
    /// This worker takes a turn.
    Turn(usize),
    /// Ticks pass.
    Pass(u32),
    /// A server is removed, or comes back.
    Available(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = || prop::sample::select(vec![SYN, SYN | ACK, ACK, 0x11, 0x04, 0x06, 0]);
    prop_oneof![
        8 => (0..2usize, 0..4u16, flags(), 1..=2u8).prop_map(|(w, c, f, s)| Step::Request(w, c, f, s)),
        6 => (0..2usize, 0..4u16, flags(), 1..=2u8).prop_map(|(w, c, f, s)| Step::Reply(w, c, f, s)),
        6 => (0..2usize).prop_map(Step::Turn),
        2 => prop_oneof![1..300u32, Just(1000), Just(6000), Just(12_000), Just(90_000)].prop_map(Step::Pass),
        1 => (0..3usize, any::<bool>()).prop_map(|(real, yes)| Step::Available(real, yes)),
    ]
}

impl Step {
    fn apply(self, lab: &mut Lab) {
        match self {
            Self::Request(worker, client, flags, service) => {
                lab.put(worker, &request(protocol::TCP, flags, client, service));
            }
            Self::Reply(worker, client, flags, server) => {
                lab.put(worker, &reply(protocol::TCP, flags, client, server));
            }
            Self::Turn(worker) => drop(Some(lab.workers[worker].turn())),
            Self::Pass(ticks) => lab.clock.advance(Ticks(ticks)),
            Self::Available(real, available) => {
                lab.config.virtuals[real / 2].reals[real % 2].available = available;
                lab.publish();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_turns_comes_out_right(steps in prop::collection::vec(step(), 1..120)) {
        let mut lab = Lab::with(config(), 2, 64);
        for step in steps {
            step.apply(&mut lab);
            // Between the turns of both workers nothing is half done.
            lab.check_loads();
            let keys: Vec<_> = lab.table.iter().map(|conn| conn.in_key()).collect();
            let mut unique = keys.clone();
            unique.sort_by_key(|key| (key.caddr, key.cport, key.vaddr));
            unique.dedup();
            prop_assert_eq!(keys.len(), unique.len(), "INV-2: {:?}", keys);
        }
        lab.run();
        let totals = lab.totals();
        prop_assert!(totals.balanced(), "INV-4: {:?}", totals);
        lab.sent(0);
        lab.sent(1);
        lab.check();
        lab.pass(1000);
        prop_assert!(lab.table.is_empty());
        lab.check();
    }
}

/// The frames of one round of all flows, each as it comes to worker 0.
fn requests(flags: u8, flows: u16) -> Vec<Packet> {
    (0..flows).map(|n| request(protocol::TCP, flags, n, 1 + (n % 2) as u8)).collect()
}

/// Both workers get all flows' packets at once: who is first inserts, both agree on the server.
#[test]
fn two_threads_open_each_connection_once() {
    const FLOWS: u16 = 600;
    for round in 0..20 {
        let mut lab = Lab::with(config(), 2, 2048);
        let last = if round % 2 == 0 { ACK } else { 0x11 };
        for flags in [SYN, ACK, last] {
            for packet in requests(flags, FLOWS).iter().take(340) {
                lab.put(0, packet);
                lab.put(1, packet);
            }
            in_threads(&mut lab);
            let servers = [by_flow(&lab.sent(0)), by_flow(&lab.sent(1))];
            assert_eq!((servers[0].len(), &servers[0]), (340, &servers[1]));
        }
        assert_eq!(lab.table.len(), 340);
        let opened: u64 = lab.config.virtuals.iter().map(|v| v.traffic.total().conns).sum();
        assert_eq!(opened, 340, "each was opened once");
        lab.check();
        lab.pass(901);
        assert!(lab.table.is_empty());
        lab.check();
    }
}

/// Requests on one thread, replies on the other, states going up and down all the while, and
/// connections that end and begin again.
#[test]
fn two_threads_count_what_the_table_holds() {
    const FLOWS: u16 = 8;
    let mut lab = Lab::with(config(), 2, 64);
    let flags = [SYN, ACK, 0x11, 0x04, SYN, 0x06, ACK];
    for round in 0..200u32 {
        for step in 0..100u32 {
            let (n, flags) = (step as u16 % FLOWS, flags[((step * 5 + round) % 7) as usize]);
            lab.put(0, &request(protocol::TCP, flags, n, 1));
            lab.put(
                1,
                &match step % 3 {
                    0 => request(protocol::TCP, flags, n, 1),
                    server => reply(protocol::TCP, flags, n, server as u8),
                },
            );
        }
        in_threads(&mut lab);
        lab.sent(0);
        lab.sent(1);
        assert!(lab.table.len() <= FLOWS.into());
        lab.check();
        if round % 10 == 9 {
            lab.pass(121);
        }
    }
    lab.pass(1000);
    assert!(lab.table.is_empty());
    lab.check();
}

/// Expiry on both workers while packets come: a connection ends or goes on, and is counted right.
#[test]
fn two_threads_expire_and_open() {
    let mut lab = Lab::with(config(), 2, 512);
    for round in 0..50u16 {
        for n in 0..100 {
            lab.put(0, &request(protocol::TCP, SYN, n, 1 + (n % 2) as u8));
            lab.put(1, &request(protocol::TCP, SYN, n, 1 + (n % 2) as u8));
        }
        // Exactly when those of the round before are over.
        if round % 2 == 1 {
            lab.clock.advance(Ticks::from_secs(60));
        }
        in_threads(&mut lab);
        lab.sent(0);
        lab.sent(1);
        assert_eq!(lab.table.len(), 100);
        lab.check();
    }
}

/// Runs all workers at once, each on a thread of its own, until they have nothing to do.
fn in_threads(lab: &mut Lab) {
    let go = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in &mut lab.workers {
            let go = &go;
            scope.spawn(move || {
                while !go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                while worker.turn() > 0 {}
            });
        }
        go.store(true, Ordering::Release);
    });
}

/// The server of each flow, by the client's address and port as they left.
fn by_flow(sent: &[Seen]) -> BTreeMap<Vec<u8>, [u8; 6]> {
    let flow = |seen: &Seen| [&seen.ip().src()[..], &seen.inside()[..2]].concat();
    sent.iter().map(|seen| (flow(seen), seen.dst_mac())).collect()
}
