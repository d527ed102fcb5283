//! What each forwarding method costs over direct routing of IPv4, the cheapest one.
//!
//! A turn rewrites 64 frames of 58 bytes (IPv6: 78) in memory; making them is not timed. The methods
//! take turns, so that whatever else the machine does hits all alike. `cargo bench -p uvs-forward`
//! prints the median of the differences to direct routing, and the difference of the fastest
//! rounds, beside what is allowed.

use std::hint::black_box;
use std::time::Instant;

use uvs_forward::tun::{self, Checksum, Gue, Kind, MAX_ROOM, Outer};
use uvs_forward::wire::{Ipv4Header, Ipv6Header};
use uvs_forward::{End, Family, Hop, Offsets, Refused, dr, nat};

const BATCH: usize = 64;
const TURNS: usize = 200;
const ROUNDS: usize = 301;

const HOP: Hop = Hop { src: [1; 6], dst: [2; 6] };
const END: End<[u8; 4]> = End { address: [10, 0, 1, 1], port: 8080 };
const END6: End<[u8; 16]> = End { address: [0xfd; 16], port: 8080 };
const OUTER: Outer<[u8; 4]> =
    Outer { src: [10, 0, 1, 254], dst: [10, 0, 1, 1], id: 7, pmtu_disc: true };
const OUTER6: Outer<[u8; 16]> = Outer { src: [0xfd; 16], dst: [0xfc; 16], id: 7, pmtu_disc: true };

type Rewrite = fn(&mut [u8], Offsets) -> Result<(), Refused>;

struct Method {
    name: &'static str,
    /// Of the frames.
    family: Family,
    protocol: u8,
    /// Bytes in front of the frame.
    room: usize,
    rewrite: Rewrite,
    /// Nanoseconds that a frame may cost more than direct routing.
    bar: f64,
}

const UDP: u8 = 17;
const TCP: u8 = 6;
const SCTP: u8 = 132;

const fn method(name: &'static str, family: Family, protocol: u8, rewrite: Rewrite) -> Method {
    let bar = match family {
        Family::V4 => 15.0,
        Family::V6 => 25.0,
    };
    Method { name, family, protocol, room: 0, rewrite, bar }
}

const fn tunnel(
    name: &'static str,
    families: (Family, Family),
    kind: Kind,
    rewrite: Rewrite,
) -> Method {
    let bar = match families {
        (Family::V4, Family::V4) => 15.0,
        _ => 25.0,
    };
    let room = kind.room(families.1, false);
    Method { name, family: families.0, protocol: UDP, room, rewrite, bar }
}

use Family::{V4, V6};

const GRE_SUM: Kind = Kind::Gre { checksum: true };
const GRE: Kind = Kind::Gre { checksum: false };
const GUE_SUM: Kind = Kind::Gue { port: 6080, checksum: Checksum::Whole };
const GUE: Kind = Kind::Gue { port: 6080, checksum: Checksum::None };

const fn gue(checksum: Checksum) -> Gue {
    Gue { src_port: 40000, dst_port: 6080, checksum, unfinished: None }
}

const METHODS: [Method; 19] = [
    method("DR", V4, UDP, |frame, at| dr::forward(frame, at, black_box(&HOP))),
    method("NAT to server, UDP", V4, UDP, |frame, at| {
        nat::to_server(frame, at, black_box(END), black_box(&HOP))
    }),
    method("NAT to server, TCP", V4, TCP, |frame, at| {
        nat::to_server(frame, at, black_box(END), black_box(&HOP))
    }),
    method("NAT to server, SCTP", V4, SCTP, |frame, at| {
        nat::to_server(frame, at, black_box(END), black_box(&HOP))
    }),
    method("NAT to client, TCP", V4, TCP, |frame, at| {
        nat::to_client(frame, at, black_box(END), black_box(&HOP))
    }),
    tunnel("IPIP", (V4, V4), Kind::Ipip, |frame, at| {
        tun::ipip(frame, at, black_box(&OUTER), black_box(&HOP))
    }),
    tunnel("GRE", (V4, V4), GRE, |frame, at| {
        tun::gre(frame, at, false, black_box(&OUTER), black_box(&HOP))
    }),
    tunnel("GRE, checksum", (V4, V4), GRE_SUM, |frame, at| {
        tun::gre(frame, at, true, black_box(&OUTER), black_box(&HOP))
    }),
    tunnel("GUE", (V4, V4), GUE, |frame, at| {
        tun::gue(frame, at, gue(Checksum::None), black_box(&OUTER), black_box(&HOP))
    }),
    tunnel("GUE, checksum", (V4, V4), GUE_SUM, |frame, at| {
        tun::gue(frame, at, gue(Checksum::Whole), black_box(&OUTER), black_box(&HOP))
    }),
    method("DR, IPv6", V6, UDP, |frame, at| dr::forward(frame, at, black_box(&HOP))),
    method("NAT to server, UDP, IPv6", V6, UDP, |frame, at| {
        nat::to_server(frame, at, black_box(END6), black_box(&HOP))
    }),
    method("NAT to server, TCP, IPv6", V6, TCP, |frame, at| {
        nat::to_server(frame, at, black_box(END6), black_box(&HOP))
    }),
    method("NAT to client, TCP, IPv6", V6, TCP, |frame, at| {
        nat::to_client(frame, at, black_box(END6), black_box(&HOP))
    }),
    tunnel("IPIP, 4 in 6", (V4, V6), Kind::Ipip, |frame, at| {
        tun::ipip(frame, at, black_box(&OUTER6), black_box(&HOP))
    }),
    tunnel("IPIP, 6 in 4", (V6, V4), Kind::Ipip, |frame, at| {
        tun::ipip(frame, at, black_box(&OUTER), black_box(&HOP))
    }),
    tunnel("IPIP, 6 in 6", (V6, V6), Kind::Ipip, |frame, at| {
        tun::ipip(frame, at, black_box(&OUTER6), black_box(&HOP))
    }),
    tunnel("GRE, checksum, 6 in 6", (V6, V6), GRE_SUM, |frame, at| {
        tun::gre(frame, at, true, black_box(&OUTER6), black_box(&HOP))
    }),
    tunnel("GUE, checksum, 6 in 6", (V6, V6), GUE_SUM, |frame, at| {
        tun::gue(frame, at, gue(Checksum::Whole), black_box(&OUTER6), black_box(&HOP))
    }),
];

/// Memory of a frame, which begins at [`HEADROOM`] as a NIC would put it there.
#[derive(Clone)]
#[repr(align(64))]
struct Bytes([u8; 256]);

const HEADROOM: usize = 64;

/// A frame of 58 bytes (IPv6: 78), and its offsets.
fn frame(family: Family, protocol: u8) -> (Bytes, Offsets) {
    const TRANSPORT: u16 = 24;
    let mut frame = vec![2; 12];
    frame.extend(family.ethertype().to_be_bytes());
    match family {
        Family::V4 => frame.extend(
            Ipv4Header {
                tos: 0,
                total_len: 20 + TRANSPORT,
                id: 1,
                dont_fragment: true,
                ttl: 64,
                protocol,
                src: [172, 16, 3, 7],
                dst: [10, 0, 0, 1],
            }
            .to_bytes(),
        ),
        Family::V6 => frame.extend(
            Ipv6Header {
                traffic_class: 0,
                flow_label: 0,
                payload_len: TRANSPORT,
                next_header: protocol,
                hop_limit: 64,
                src: [0xfe; 16],
                dst: [0xfd; 16],
            }
            .to_bytes(),
        ),
    }
    frame.extend([7; TRANSPORT as usize]);
    let at = Offsets::of(&frame).expect("a frame that parses");
    let mut bytes = [0; 256];
    bytes[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
    (Bytes(bytes), at)
}

/// The frames of a method.
struct Rig<'a> {
    method: &'a Method,
    made: Bytes,
    at: Offsets,
    /// Where a frame with its room is.
    place: std::ops::Range<usize>,
    frames: Vec<Bytes>,
}

impl<'a> Rig<'a> {
    fn new(method: &'a Method) -> Self {
        assert!(method.room <= MAX_ROOM);
        let (made, at) = frame(method.family, method.protocol);
        let place = HEADROOM - method.room..HEADROOM + at.end as usize;
        let frames = vec![made.clone(); BATCH];
        Self { method, made, at, place, frames }
    }

    /// Nanoseconds a frame, of some turns.
    fn round(&mut self) -> f64 {
        let mut took = 0;
        for _ in 0..TURNS {
            self.frames.fill(self.made.clone());
            let start = Instant::now();
            for frame in &mut self.frames {
                let done =
                    (self.method.rewrite)(black_box(&mut frame.0[self.place.clone()]), self.at);
                assert!(done.is_ok());
            }
            took += start.elapsed().as_nanos();
            black_box(&self.frames);
        }
        took as f64 / (TURNS * BATCH) as f64
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn main() {
    let mut rigs: Vec<Rig<'_>> = METHODS.iter().map(Rig::new).collect();
    let mut costs = vec![Vec::new(); rigs.len()];
    for _ in 0..ROUNDS {
        for (rig, costs) in rigs.iter_mut().zip(&mut costs) {
            costs.push(rig.round());
        }
    }
    let dr = &costs[0];
    println!("DR, IPv4: {:.1} ns a frame, at least {:.1}", median(dr.clone()), least(dr));
    println!("\n{:<28}{:>8}{:>8}{:>8}", "ns a frame over DR", "median", "least", "bar");
    for (method, costs) in METHODS.iter().zip(&costs).skip(1) {
        let more = median(costs.iter().zip(dr).map(|(it, dr)| it - dr).collect());
        let missed = if more > method.bar { "  missed" } else { "" };
        let fastest = least(costs) - least(dr);
        println!("{:<28}{more:>8.1}{fastest:>8.1}{:>8}{missed}", method.name, method.bar);
    }
}
