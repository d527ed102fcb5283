//! Frames of which their sender left something to be done, and segments that are made smaller.

mod support;

use support::packet::{Packet, Seen, reply, request, syn};
use support::services::Config;
use support::{Lab, SERVER_SIDE};
use uvs_engine::port::Offload;
use uvs_engine::service::MssClamp;
use uvs_forward::checksum::Sum;
use uvs_forward::wire::tcp::flag::{ACK, SYN};
use uvs_forward::wire::{Ipv4, protocol};
use uvs_forward::{Method, Offsets, Unfinished};

const METHODS: [Method; 3] = [Method::Route, Method::Masq, Method::Tunnel];

/// The frame as a sender leaves it to its network card.
fn open(packet: &Packet) -> (Vec<u8>, Unfinished) {
    let mut frame = packet.bytes();
    let at = Offsets::of(&frame).unwrap();
    let unfinished = Unfinished::of(at).unwrap();
    unfinished.reopen(&mut frame, at).unwrap();
    (frame, unfinished)
}

#[test]
fn an_open_checksum_makes_no_difference() {
    for method in METHODS {
        for protocol in [protocol::TCP, protocol::UDP] {
            let mut labs = [(); 2].map(|()| Lab::new(Config::one(protocol, method)));
            let mut packets = vec![request(protocol, SYN, 0, 1).payload(b"to the server")];
            if method == Method::Masq {
                packets.push(reply(protocol, SYN | ACK, 0, 1).payload(b"to the client"));
            }
            for packet in packets {
                let whole = labs[0].give(&packet);
                let (frame, unfinished) = open(&packet);
                let left = labs[1].give_open(packet.link, &frame, Offload::checksum(unfinished));
                assert_eq!(whole.len(), 1);
                assert_eq!(left, whole, "{method} of protocol {protocol}");
            }
        }
    }
}

/// What the IPIP packet carries.
fn inner(seen: &Seen) -> Seen {
    Seen::of(seen.link, &[&seen.bytes[..14], seen.inside()].concat())
}

#[test]
fn a_tunnel_gets_segments_and_nat_does_not() {
    const SIZE: u16 = 300;
    let packet = request(protocol::TCP, SYN | ACK, 0, 1).payload(&[7; 1000]);
    let (frame, unfinished) = open(&packet);
    let offload = Offload::segments(unfinished, SIZE);

    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Tunnel));
    let sent = lab.give_open(packet.link, &frame, offload);
    assert!(sent.iter().all(|seen| seen.is_right() && inner(seen).is_right()));
    let lens: Vec<usize> = sent.iter().map(|seen| inner(seen).inside().len() - 20).collect();
    assert_eq!(lens, [300, 300, 300, 100]);
    let totals = lab.totals();
    assert_eq!((totals.rx, totals.parted, totals.merged, totals.tx), (1, 4, 1, 4));
    lab.check();

    let mut lab = Lab::new(Config::one(protocol::TCP, Method::Masq));
    let sent = lab.give_open(packet.link, &frame, offload);
    assert_eq!((sent.len(), sent[0].inside().len(), sent[0].is_right()), (1, 1020, true));
    lab.check();
}

#[test]
fn it_is_the_segments_that_have_to_fit() {
    let mut config = Config::one(protocol::TCP, Method::Masq);
    config.mtus = [1500, 800];
    let mut lab = Lab::new(config);
    for (size, dont_fragment, fits) in
        [(760, true, true), (761, true, false), (760, false, true), (761, false, false)]
    {
        let packet = Packet { dont_fragment, ..syn(0) }.payload(&[7; 1200]);
        let (frame, unfinished) = open(&packet);
        let sent = lab.give_open(packet.link, &frame, Offload::segments(unfinished, size));
        match fits {
            true => assert_eq!((sent.len(), sent[0].link), (1, SERVER_SIDE)),
            false => assert_eq!(sent[0].icmp(), Some((3, 4, 800)), "{size} {dont_fragment}"),
        }
    }
    lab.check();
}

/// The segment size that a SYN announces.
fn mss(seen: &Seen) -> u16 {
    assert!(seen.is_right());
    let ip: Ipv4<&[u8]> = seen.ip();
    let transport = match ip.protocol() {
        protocol::IPIP => &seen.inside()[20..],
        _ => seen.inside(),
    };
    u16::from_be_bytes([transport[22], transport[23]])
}

#[test]
fn announced_segment_sizes_are_lowered_where_the_service_says_so() {
    // Of 1,500 bytes to the clients and 1,400 to the servers, without the headers.
    let fits = |method| if method == Method::Tunnel { 1400 - 20 - 40 } else { 1400 - 40 };
    for method in METHODS {
        for (clamp, expected) in [
            (MssClamp::Off, 1460),
            (MssClamp::To(1200), 1200),
            (MssClamp::To(1461), 1460),
            (MssClamp::PathMtu, fits(method)),
        ] {
            let mut config = Config::one(protocol::TCP, method);
            config.mtus = [1500, 1400];
            config.virtuals[0].mss_clamp = clamp;
            let mut lab = Lab::new(config);
            let announcing = |packet| Packet { options: vec![2, 4, 0x05, 0xb4], ..packet };
            let sent = lab.give(&announcing(syn(0)));
            assert_eq!(mss(&sent[0]), expected, "{method} {clamp:?}");
            if method == Method::Masq {
                let sent = lab.give(&announcing(reply(protocol::TCP, SYN | ACK, 0, 1)));
                assert_eq!(mss(&sent[0]), expected, "back, {clamp:?}");
            }
            let sent = lab.give(&announcing(request(protocol::TCP, ACK, 0, 1)));
            assert_eq!(mss(&sent[0]), 1460, "no SYN");
            lab.check();
        }
    }
}

#[test]
fn a_lowered_segment_size_and_an_open_checksum_go_together() {
    let mut config = Config::one(protocol::TCP, Method::Masq);
    config.virtuals[0].mss_clamp = MssClamp::To(1000);
    let mut lab = Lab::new(config);
    let packet = Packet { options: vec![2, 4, 0x05, 0xb4], ..syn(0) };
    let (frame, unfinished) = open(&packet);
    let sent = lab.give_open(packet.link, &frame, Offload::checksum(unfinished));
    assert_eq!(mss(&sent[0]), 1000);
    assert_ne!(Sum::of(&frame[34..]).finish(), 0, "it was open");
}
