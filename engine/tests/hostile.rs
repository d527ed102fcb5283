//! Whatever comes: no panic, every frame accounted for (INV-4), none lost (INV-7), no flow's
//! frames out of order (INV-1).

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use uvs_engine::clock::Ticks;
use uvs_engine::link::LinkId;
use uvs_forward::Method;
use uvs_forward::checksum::Sum;
use uvs_forward::wire::{Ipv4, protocol};

use support::services::DIRECTOR_MACS;
use support::{Config, Lab, Packet, Real, Virtual, reply, request};

/// Bytes of the longest frame that the port takes.
const LONGEST: usize = 1900;

/// Service 1 is NAT, 2 direct routing, 3 a tunnel; of TCP, of UDP, and 2 and 3 of SCTP as well.
/// Server 4's Ethernet address is not known, server 254 is the director, 5 was removed.
fn config() -> Config {
    let methods = [Method::Masq, Method::Route, Method::Tunnel];
    let mut virtuals = Vec::new();
    for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        for (last, method) in (1..).zip(methods) {
            if (protocol, method) != (protocol::SCTP, Method::Masq) {
                let mut reals = [1, 2, 4, 254].map(|n| Real::new(n, method)).to_vec();
                reals.push(Real { available: false, ..Real::new(5, method) });
                virtuals.push(Virtual::new(protocol, last, reals));
            }
        }
    }
    let mut config = Config::new(virtuals);
    config.unresolved = vec![4];
    config.mtus = [600, 500];
    config
}

/// A packet that belongs here.
fn packet() -> impl Strategy<Value = Packet> {
    let protocol = prop::sample::select(vec![6, 6, 6, 17, 132, 50, 51, 1, 4]);
    let end = (protocol, any::<u8>(), 0..8u16, 1..=6u8, any::<bool>());
    let tags = prop::collection::vec(
        prop::sample::select(vec![[0x81, 0, 0, 7], [0x88, 0xa8, 0, 7]]),
        0..=2,
    );
    let rest =
        (prop::sample::select(vec![64, 64, 64, 2, 1, 0]), any::<bool>(), 0..700usize, 0..20usize);
    (end, tags, rest).prop_map(|((protocol, flags, n, number, back), tags, rest)| {
        let packet = match back {
            true => reply(protocol, flags, n, number),
            false => request(protocol, flags, n, number),
        };
        let (ttl, dont_fragment, payload, padding) = rest;
        Packet { tags, ttl, dont_fragment, payload: vec![0xab; payload], padding, ..packet }
    })
}

/// One thing that may be wrong with a frame.
#[derive(Clone, Debug)]
enum Spoil {
    Flip(usize, u8),
    Cut(usize),
    Grow(usize),
    Set16(usize, u16),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let length = prop_oneof![Just(0), Just(1), Just(19), Just(20), Just(0xffff), any::<u16>()];
    prop_oneof![
        3 => (0..80usize, 0..8u8).prop_map(|(at, bit)| Spoil::Flip(at, bit)),
        1 => any::<usize>().prop_map(Spoil::Cut),
        1 => (0..600usize).prop_map(Spoil::Grow),
        2 => (12..60usize, length).prop_map(|(at, to)| Spoil::Set16(at, to)),
    ]
}

impl Spoil {
    fn apply(&self, frame: &mut Vec<u8>) {
        match *self {
            Self::Flip(at, bit) => {
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Cut(at) => frame.truncate(at % (frame.len() + 1)),
            Self::Grow(by) => frame.resize(frame.len() + by, 0xee),
            Self::Set16(at, to) => {
                if let Some(word) = frame.get_mut(at..at + 2) {
                    word.copy_from_slice(&to.to_be_bytes());
                }
            }
        }
    }
}

/// Makes a spoilt header's checksum right, so that the frame gets further.
fn mend(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(14..) else { return };
    let len = usize::from(header.first().copied().unwrap_or(0) & 0x0f) * 4;
    if let Some(header) = header.get_mut(..len)
        && len >= 20
    {
        header[10..12].fill(0);
        let sum = Sum::of(header).finish();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// A frame, and the link on which it comes.
fn frame() -> impl Strategy<Value = (LinkId, Vec<u8>)> {
    let spoilt = (packet(), prop::collection::vec(spoil(), 0..4), any::<bool>());
    let spoilt = spoilt.prop_map(|(packet, spoils, mended)| {
        let mut frame = packet.bytes();
        spoils.iter().for_each(|spoil| spoil.apply(&mut frame));
        frame.truncate(LONGEST);
        if mended {
            mend(&mut frame);
        }
        (packet.link, frame)
    });
    let arbitrary = (0..3u8, prop::collection::vec(any::<u8>(), 0..120), any::<bool>());
    let arbitrary = arbitrary.prop_map(|(link, mut frame, addressed)| {
        if addressed && frame.len() >= 14 {
            frame[..6].copy_from_slice(&DIRECTOR_MACS[usize::from(link.min(1))]);
            frame[12..14].copy_from_slice(&[8, 0]);
        }
        (LinkId(link), frame)
    });
    prop_oneof![4 => spoilt, 1 => arbitrary]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn anything_is_accounted_for(
        batches in prop::collection::vec((prop::collection::vec(frame(), 0..40), 0..400u32), 1..6),
    ) {
        let mut lab = Lab::with(config(), 1, 64);
        let mut came = 0;
        for (frames, ticks) in batches {
            for (link, frame) in &frames {
                lab.put_bytes(0, *link, frame);
            }
            came += frames.len();
            lab.run();
            lab.check();
            lab.clock.advance(Ticks(ticks));
        }
        let totals = lab.totals();
        prop_assert_eq!(totals.rx, came as u64);
        let (sent, host) = (lab.sent(0), lab.host_got(0));
        prop_assert_eq!(sent.len() as u64, totals.tx + totals.originated);
        prop_assert_eq!(host.len() as u64, totals.host_frames());
        // What leaves is a whole IPv4 packet to somebody, by its own lengths.
        for seen in &sent {
            prop_assert_eq!(seen.inside().len() + seen.ip().header_len(), usize::from(seen.ip().total_len()));
            prop_assert!(DIRECTOR_MACS.contains(&seen.bytes[6..12].try_into().unwrap()));
        }
        lab.workers[0].stop();
        lab.check();
        prop_assert_eq!(lab.totals().waiting, 0);
    }

    #[test]
    fn the_order_of_a_flow_is_kept(
        steps in prop::collection::vec((0..12u16, 1..=3u8, 0..8u8), 1..200),
        noise in prop::collection::vec(frame(), 0..50),
    ) {
        let mut lab = Lab::with(config(), 1, 64);
        let mut noise = noise.into_iter();
        let mut sent = Vec::new();
        for (number, (n, service, chance)) in steps.iter().enumerate() {
            let mark = (number as u32).to_be_bytes();
            let protocol = if n % 2 == 0 { protocol::TCP } else { protocol::UDP };
            // Every one a SYN: flows that begin in the middle would be the host's affair.
            lab.put(0, &request(protocol, 2, 100 + n, *service).payload(&mark));
            if let Some((link, frame)) = noise.next() {
                lab.put_bytes(0, link, &frame);
            }
            match chance {
                0 => {
                    lab.config.unresolved = if lab.config.unresolved.is_empty() { vec![4, 1] } else { vec![] };
                    lab.publish();
                }
                1 | 2 => lab.run(),
                3 => drop(Some(lab.workers[0].turn())),
                _ => {}
            }
            sent.extend(lab.sent(0));
        }
        lab.config.unresolved.clear();
        lab.publish();
        lab.run();
        sent.extend(lab.sent(0));
        let mut last: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for seen in sent {
            // Noise that does not fit a link leaves in fragments, and only the first has ports. What
            // is looked for is short.
            if seen.ip().fragment_offset() != 0 {
                continue;
            }
            let inner = if seen.ip().protocol() == protocol::IPIP { seen.inside() } else { &seen.bytes[14..] };
            // The noise is of other clients.
            let ip = match Ipv4::new_checked(inner) {
                Ok(ip) if (1124..1136).contains(&u16::from_be_bytes([inner[20], inner[21]])) => ip,
                _ => continue,
            };
            let mark = u32::from_be_bytes(*inner.last_chunk().unwrap());
            let flow = [&[ip.protocol()], &ip.dst()[..], &inner[20..24]].concat();
            if ip.protocol() != protocol::ICMP && let Some(before) = last.insert(flow, mark) {
                prop_assert!(before < mark, "{} left before {}", before, mark);
            }
        }
        lab.check();
    }
}
