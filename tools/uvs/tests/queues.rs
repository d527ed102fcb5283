//! Two workers on two queues of every interface, on two cores. With NAT a reply may reach the
//! other worker, which has to find the connection all the same.

mod lab;

use std::collections::BTreeSet;

use lab::{
    Lab, assert_nothing_dropped, assert_spread_evenly, cores, queues_by_core, stay_on, two_queues,
};
use uvs_control::api::{Counters, WorkerCounters};
use uvs_lab::{Arms, Director, ECHO_PORT, HTTP_PORT, Host, HttpJob, Method, UdpJob, http_get};

const REQUESTS: u64 = 1000;
const FLOWS: usize = 60;
const DATAGRAMS: u64 = 1200;

/// Requests by curl, datagrams, and requests from both cores: all of them right.
fn all_is_answered(lab: &Lab, engine: &Director) -> Counters {
    let target = lab.network.service(HTTP_PORT);
    let http = lab.load().curl(target, REQUESTS).unwrap();
    let echo = lab.network.service(ECHO_PORT);
    let job = UdpJob { flows: FLOWS, datagrams: DATAGRAMS, ..UdpJob::to(echo) };
    let udp = lab.load().udp(&job).unwrap();
    let [http_service, udp_service] = lab::services(engine);
    assert_spread_evenly(&http, &http_service);
    assert_spread_evenly(&udp, &udp_service);
    let job = HttpJob { requests: REQUESTS / 2, ..HttpJob::to(target) };
    lab.inside(Host::Client, || {
        std::thread::scope(|scope| {
            for core in 0..2 {
                let job = &job;
                scope.spawn(move || {
                    stay_on(core);
                    let tally = http_get(job);
                    assert!(tally.is_clean(), "{tally:?}");
                });
            }
        });
    });

    let counters = engine.counters().unwrap();
    assert_nothing_dropped(&counters);
    assert_eq!(counters.host_frames(), 0, "{counters:?}");
    let workers = &counters.workers;
    println!("{}: {workers:?}", engine.port());
    assert_eq!(workers.len(), 2);
    assert_eq!(workers.iter().map(|worker| worker.rx).sum::<u64>(), counters.rx);
    assert_each_is_listed_once(engine);
    counters
}

fn assert_each_is_listed_once(engine: &Director) {
    let conns = engine.client().connections().unwrap();
    let key = |conn: &uvs_uvsadm::api::Conn| {
        format!("{:?} {:?} {:?}", conn.protocol, conn.client, conn.vip)
    };
    let keys: BTreeSet<String> = conns.iter().map(key).collect();
    assert_eq!(keys.len(), conns.len(), "a connection is listed twice");
    let services = lab::settled(engine, |stats| stats.conns);
    let opened: u64 = services.iter().map(|service| service.stats.conns).sum();
    assert!(opened <= 2 * REQUESTS + FLOWS as u64, "a connection was opened twice");
}

#[track_caller]
fn assert_both_worked(workers: &[WorkerCounters]) {
    let sum: u64 = workers.iter().map(|worker| worker.rx).sum();
    assert!(workers.iter().all(|worker| worker.rx > sum / 20), "one idles: {workers:?}");
}

/// All that clients send comes to worker 0, all that servers send to worker 1.
#[test]
fn nat_replies_find_their_connection_at_the_other_worker() {
    let Some(lab) = two_queues(Arms::Two, Method::Masq) else { return };
    queues_by_core(&lab, "out0", [cores(u32::MAX), 0]);
    queues_by_core(&lab, "in0", [0, cores(u32::MAX)]);
    let engine = lab.engine("afxdp");
    let counters = all_is_answered(&lab, &engine);
    let services = lab::settled(&engine, |stats| stats.in_pkts + stats.out_pkts);
    let service = |of: fn(&uvs_uvsadm::api::Stats) -> u64| -> u64 {
        services.iter().map(|service| of(&service.stats)).sum()
    };
    assert_eq!(counters.workers[0].rx, service(|stats| stats.in_pkts));
    assert_eq!(counters.workers[1].rx, service(|stats| stats.out_pkts));
    engine.stop().unwrap();

    // Packet sockets share the frames by their addresses, which differ in a reply.
    let engine = lab.engine("raw");
    assert_both_worked(&all_is_answered(&lab, &engine).workers);
    engine.stop().unwrap();
}

fn spread_by_core(arms: Arms, method: Method) {
    let Some(lab) = two_queues(arms, method) else { return };
    for interface in lab.network.director_interfaces() {
        queues_by_core(&lab, interface, [cores(0x5555_5555), cores(0xaaaa_aaaa)]);
    }
    for port in lab::PORTS {
        let engine = lab.engine(port);
        assert_both_worked(&all_is_answered(&lab, &engine).workers);
        engine.stop().unwrap();
    }
}

/// Frames of one connection, both ways, come to either worker, as the sender's core has it.
#[test]
fn nat_with_one_arm_works_on_two_queues() {
    spread_by_core(Arms::One, Method::Masq);
}

#[test]
fn dr_works_on_two_queues() {
    spread_by_core(Arms::One, Method::Route);
}
