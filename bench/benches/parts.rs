//! What the parts of a frame's way cost one by one, and what was chosen between.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{SlicedPacket, TransportSlice};
use uvs_bench::conns::{Family, conn, key};
use uvs_bench::frames::{Bytes, Flow, Kind, request};
use uvs_bench::rig::shuffled;
use uvs_bench::services;
use uvs_bench::table::found;
use uvs_engine::clock::Ticks;
use uvs_engine::link::LinkId;
use uvs_engine::marks::{MarkRule, Marks, Network, Packet};
use uvs_engine::port::BATCH;
use uvs_engine::table::{InKey, Table};
use uvs_forward::Offsets;
use uvs_forward::checksum::Sum;
use uvs_forward::wire::{Ipv4, Udp, protocol};
use uvs_sched::{Flags, Flow as Client, Load, Name, Scheduler, Server, ServerId};

criterion_group! {
    name = parts;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = parse, checksum, marks, table, schedulers, shift
}
criterion_main!(parts);

/// What both give: addresses, ports, protocol, TTL.
type Tuple = (Ipv4Addr, Ipv4Addr, u16, u16, u8, u8);

/// Our views, as the parse stage uses them; they check the IPv4 header checksum as well.
fn by_views(frame: &[u8]) -> Option<Tuple> {
    let at = Offsets::of_ipv4(frame).ok()?;
    let ip = Ipv4::new_unchecked(frame.get(usize::from(at.l3)..)?.first_chunk::<20>()?);
    let udp = Udp::new_unchecked(frame.get(usize::from(at.l4)..)?.first_chunk::<8>()?);
    let (src, dst) = (ip.src().into(), ip.dst().into());
    Some((src, dst, udp.src_port(), udp.dst_port(), ip.protocol(), ip.ttl()))
}

/// etherparse's slices, which do not look at checksums.
fn by_etherparse(frame: &[u8], check: bool) -> Option<Tuple> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let ip = packet.net.as_ref()?.ipv4_ref()?.header();
    if check && ip.to_header().calc_header_checksum() != ip.header_checksum() {
        return None;
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let (src, dst) = (ip.source_addr(), ip.destination_addr());
    Some((src, dst, udp.source_port(), udp.destination_port(), ip.protocol().0, ip.ttl()))
}

fn parse(criterion: &mut Criterion) {
    let frames: Vec<Bytes> = (0..BATCH as u32).map(|n| request(Kind::Udp, Flow(n))).collect();
    for frame in &frames {
        assert!(by_views(frame).is_some());
        assert_eq!(by_views(frame), by_etherparse(frame, true));
    }
    let mut group = criterion.benchmark_group("parse 64 frames");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut bench = |name: &str, parse: &dyn Fn(&[u8]) -> Option<Tuple>| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    black_box(parse(black_box(frame)));
                }
            });
        });
    };
    bench("views, checksum too", &by_views);
    bench("etherparse", &|frame| by_etherparse(frame, false));
    bench("etherparse, checksum too", &|frame| by_etherparse(frame, true));
    group.finish();
}

fn checksum(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..1500).map(|n| (n * 7) as u8).collect();
    let mut group = criterion.benchmark_group("checksum");
    for len in [20, 60, 1480] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| Sum::of(black_box(&bytes[..len])).finish());
        });
    }
    group.finish();
}

/// The mark of a packet that the last of the rules matches. Each is for a client's network, one of
/// ours and a range of ports.
fn marks(criterion: &mut Criterion) {
    let network = |bits| Some(Network { address: Ipv4Addr::from_bits(bits).into(), prefix: 24 });
    let rule = |number: u32| MarkRule {
        source: network(0xac10_0000 + (number << 8)),
        destination: network(0x0a00_0000 + (number << 8)),
        protocol: Some(protocol::TCP),
        ports: Some(8000 + number as u16..=8010 + number as u16),
        link: None,
        mark: number + 1,
    };
    let mut group = criterion.benchmark_group("mark by rules");
    for count in [1, 16, 256, 1024] {
        let marks = Marks::new((0..count).map(rule).collect());
        let last = count - 1;
        let packet = Packet {
            link: LinkId(0),
            protocol: protocol::TCP,
            source: Ipv4Addr::from_bits(0xac10_0007 + (last << 8)).into(),
            source_port: 1024,
            destination: Ipv4Addr::from_bits(0x0a00_0007 + (last << 8)).into(),
            destination_port: 8005 + last as u16,
        };
        assert_eq!(marks.of(&packet), count);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| marks.of(black_box(&packet)));
        });
    }
    group.finish();
}

/// Lookups of a batch as the stages do them: hash and fetch the bucket, fetch the entry, read it.
fn table(criterion: &mut Criterion) {
    for family in [Family::V4, Family::V6] {
        let name = format!("table lookup, {}, batches of 64", family.as_str());
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(BATCH as u64));
        for count in [1_000, 1_000_000] {
            let table = filled(family, count);
            let order = shuffled(count);
            let mut at = 0;
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter_batched_ref(
                    || -> [InKey; BATCH] {
                        at = (at + BATCH) % (order.len() - BATCH);
                        std::array::from_fn(|n| key(family, order[at + n]))
                    },
                    |keys| assert_eq!(found(&table, keys), BATCH),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
}

fn filled(family: Family, count: u32) -> Arc<Table> {
    let now = Ticks(1000);
    let (table, mut owners) = Table::new(count.into(), 1, now).expect("memory for the table");
    for number in 0..count {
        let key = key(family, number);
        let new = conn(family, &key, Ticks::from_secs(300));
        owners[0].insert(table.hash_of(&key), &new, now).expect("room in the table");
    }
    table
}

fn schedulers(criterion: &mut Criterion) {
    let flow = Client {
        protocol: protocol::TCP,
        source: Ipv4Addr::new(172, 16, 0, 1).into(),
        source_port: 1024,
        destination: services::vip(0).into(),
        destination_port: services::PORT,
        now: 0,
    };
    for &name in Name::ALL {
        let mut group = criterion.benchmark_group(format!("pick, {name}"));
        for count in [10, 100, 1000] {
            let servers = (0..count).map(idle_server).collect();
            let scheduler = Scheduler::build(name, servers, Flags::default());
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| scheduler.pick(black_box(&flow)));
            });
        }
        group.finish();
    }
}

/// A server without connections, of a weight from 1 to 10.
fn idle_server(number: u32) -> Server {
    let weight = 1 + number % 10;
    Server {
        id: ServerId(number),
        address: Ipv4Addr::from_bits(0x0a01_0000 + number).into(),
        port: services::PORT,
        weight,
        last_weight: weight,
        load: Arc::new(Load::default()),
    }
}

/// What the AF_XDP port does to a tunnelled frame, which xsk-rs sends only from where a received
/// one begins: 20 bytes to the back.
fn shift(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shift a frame by 20 bytes");
    let mut chunk = vec![0u8; 2048];
    for len in [64, 1400] {
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| {
                let chunk = black_box(chunk.as_mut_slice());
                chunk.copy_within(236..236 + len, 256);
            });
        });
    }
    group.finish();
}
