//! What a frame costs in memory, by forwarding method and number of flows.
//!
//! One worker on the port `memory`; each batch is 64 frames of 64 bytes of flows in a random
//! order. Only the worker's turn is timed, see [`uvs_bench::rig`]. After criterion's own output
//! comes a table against the bars. 10 M flows take about 1.5 GB; `UVS_BENCH_FLOWS=1000,1000000`
//! measures those numbers of flows only.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use uvs_bench::bars::{self, Row, measure, measure_end, table};
use uvs_bench::frames::Kind;
use uvs_bench::machine::Machine;
use uvs_bench::rig::{Case, Rig, timed};
use uvs_engine::port::BATCH;
use uvs_forward::Method;

/// Flows, and what a frame in DR may cost in nanoseconds.
const SIZES: [(u32, f64); 3] = [(1_000, 25.0), (1_000_000, 60.0), (10_000_000, 80.0)];

/// What NAT and TUN may cost more.
const MORE: f64 = 15.0;

/// What a new connection may cost.
const NEW: f64 = 150.0;

const CASES: [(&str, Case, f64); 6] = [
    ("DR, UDP", Case::to_server(Method::Route, Kind::Udp), 0.0),
    ("DR, TCP", Case::to_server(Method::Route, Kind::Ack), 0.0),
    ("NAT to server, UDP", Case::to_server(Method::Masq, Kind::Udp), MORE),
    ("NAT to server, TCP", Case::to_server(Method::Masq, Kind::Ack), MORE),
    ("NAT reply, UDP", Case::to_client(Kind::Udp), MORE),
    ("TUN, UDP", Case::to_server(Method::Tunnel, Kind::Udp), MORE),
];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    let mut rows = Vec::new();
    for (flows, bar) in sizes() {
        for (name, case, more) in CASES {
            let mut rig = Rig::established(case, flows);
            bench(&mut criterion, name, flows, &mut rig);
            let cost = measure(&mut rig);
            rows.push(Row { name: name.into(), flows, cost, bar: Some(bar + more) });
        }
    }
    let flows = 1 << 20;
    for (name, method) in [("new, DR", Method::Route), ("new, NAT", Method::Masq)] {
        let mut rig = Rig::opening(method, Kind::Syn, flows);
        bench(&mut criterion, name, flows, &mut rig);
        let cost = measure(&mut rig);
        rows.push(Row { name: format!("{name}, SYN"), flows, cost, bar: Some(NEW) });
        if method == Method::Route {
            rig.close_all();
            let cost = measure_end(&mut rig, flows);
            rows.push(Row { name: "its end, by the timer".into(), flows, cost, bar: None });
        }
    }
    println!("\n{}, port memory\n\n{}", Machine::here().line(), table(&rows));
    println!("of each, the timing itself: {:.1}", bars::clock_cost());
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, name: &str, flows: u32, rig: &mut Rig) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(BenchmarkId::from_parameter(flows), |bencher| {
        bencher.iter_custom(|turns| (0..turns).map(|_| rig.turn(timed)).sum());
    });
    group.finish();
}

fn sizes() -> Vec<(u32, f64)> {
    let Ok(wanted) = std::env::var("UVS_BENCH_FLOWS") else { return SIZES.to_vec() };
    let wanted: Vec<&str> = wanted.split(',').collect();
    SIZES.into_iter().filter(|(flows, _)| wanted.contains(&flows.to_string().as_str())).collect()
}
