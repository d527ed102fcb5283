//! Arbitrary bytes: no function of the crate panics, and what is refused stays as it was.

use proptest::prelude::*;
use uvs_forward::fragment::{Cut, Splitter};
use uvs_forward::icmp::{self, CitedTtl, Offender, Related, Relay, Sender, TunnelError};
use uvs_forward::mtu::{self, Size, Way};
use uvs_forward::options::{self, Stamp};
use uvs_forward::reassembly::{Assembly, HEAD, Piece};
use uvs_forward::tun::{self, Checksum, Gue, Outer};
use uvs_forward::wire::{Ethernet, Icmp4, Icmp6, Sctp, Tcp, Udp};
use uvs_forward::{
    Address, End, Family, Hop, Offsets, Refused, Tuple, Unfinished, checksum, dr, mss, nat,
};

const HOP: Hop = Hop { src: [1; 6], dst: [2; 6] };
const END: End<[u8; 4]> = End { address: [10, 0, 0, 1], port: 80 };
const END6: End<[u8; 16]> = End { address: [0xfd; 16], port: 80 };

/// Bytes that often get far: an ethertype, a version and lengths that may be right, and half the
/// time a right checksum.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![frame_v4(), frame_v6()]
}

fn protocol() -> impl Strategy<Value = u8> {
    const ALL: &[u8] = &[1, 4, 6, 17, 41, 47, 50, 51, 58, 132, 0, 43, 44, 59, 60];
    prop_oneof![2 => Just(1u8), 2 => Just(58), 4 => proptest::sample::select(ALL), 1 => any::<u8>()]
}

fn ihl() -> impl Strategy<Value = u8> {
    prop_oneof![Just(5u8), 4u8..16]
}

fn frame_v6() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..3], 0..200);
    (bytes, 0usize..3, 0u8..140, protocol(), protocol(), any::<bool>()).prop_map(
        |(mut bytes, tags, len, next, second, cites)| {
            let l3 = 14 + 4 * tags;
            if bytes.len() < l3 + 60 {
                return bytes;
            }
            for tag in 0..tags {
                bytes[12 + 4 * tag..14 + 4 * tag].copy_from_slice(&[0x88, 0xa8]);
            }
            bytes[l3 - 2..l3].copy_from_slice(&[0x86, 0xdd]);
            bytes[l3] = 0x60;
            bytes[l3 + 4..l3 + 6].copy_from_slice(&[0, len]);
            bytes[l3 + 6] = next;
            bytes[l3 + 40] = second;
            if cites && next == 58 && bytes.len() > l3 + 60 {
                bytes[l3 + 40] = 1 + second % 4;
                bytes[l3 + 48] = 0x60;
                bytes[l3 + 54] = [6, 17, 44, 60][usize::from(second % 4)];
            }
            bytes
        },
    )
}

fn frame_v4() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..160);
    (bytes, 0usize..4, ihl(), 0u8..160, protocol(), any::<bool>(), any::<bool>()).prop_map(
        |(mut bytes, tags, ihl, len, protocol, whole, right)| {
            let l3 = 14 + 4 * tags;
            if bytes.len() < l3 + 60 {
                return bytes;
            }
            for tag in 0..tags {
                bytes[12 + 4 * tag..14 + 4 * tag].copy_from_slice(&[0x81, 0]);
            }
            bytes[l3 - 2..l3].copy_from_slice(&[8, 0]);
            bytes[l3] = 0x40 | ihl;
            bytes[l3 + 2..l3 + 4].copy_from_slice(&[0, len]);
            bytes[l3 + 9] = protocol;
            if whole {
                bytes[l3 + 6..l3 + 8].fill(0);
            }
            let l4 = l3 + 4 * usize::from(ihl);
            if protocol == 1 && bytes.len() > l4 + 28 {
                // A cited packet, of a tunnel perhaps.
                bytes[l4] = 3 + bytes[l4] % 2;
                bytes[l4 + 8] = 0x45;
                bytes[l4 + 14..l4 + 16].fill(0);
                bytes[l4 + 17] = [4, 6, 17, 47][usize::from(bytes[l4 + 17] % 4)];
            }
            if right {
                bytes[l3 + 10..l3 + 12].fill(0);
                let check = checksum::Sum::of(&bytes[l3..l4]).finish();
                bytes[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
            }
            bytes
        },
    )
}

type Rewriter = fn(&mut [u8], Offsets) -> Result<(), Refused>;

const OUTER: Outer<[u8; 4]> = Outer { src: [1; 4], dst: [2; 4], id: 3, pmtu_disc: true };
const OUTER6: Outer<[u8; 16]> = Outer { src: [1; 16], dst: [2; 16], id: 3, pmtu_disc: true };

fn gue(at: Offsets, checksum: Checksum) -> Gue {
    Gue { src_port: 1, dst_port: 2, checksum, unfinished: Unfinished::of(at) }
}

/// Every function that rewrites in place.
const REWRITERS: [Rewriter; 15] = [
    |frame, at| dr::forward(frame, at, &HOP),
    |frame, at| nat::to_server(frame, at, END, &HOP),
    |frame, at| nat::to_client(frame, at, END, &HOP),
    |frame, at| nat::to_server(frame, at, END6, &HOP),
    |frame, at| nat::to_local(frame, at, END6),
    |frame, at| tun::ipip(frame, at, &OUTER, &HOP),
    |frame, at| tun::ipip(frame, at, &OUTER6, &HOP),
    |frame, at| tun::gre(frame, at, true, &OUTER, &HOP),
    |frame, at| tun::gre(frame, at, false, &OUTER6, &HOP),
    |frame, at| tun::gue(frame, at, gue(at, Checksum::Whole), &OUTER, &HOP),
    |frame, at| tun::gue(frame, at, gue(at, Checksum::Remote), &OUTER6, &HOP),
    |frame, at| options::fill(frame, at, Stamp { address: [1; 4], time: 2 }),
    |frame, at| Unfinished::of(at).ok_or(Refused::Protocol)?.finish(frame, at),
    |frame, at| {
        let related = Related::of(frame, at)?;
        icmp::to_server(frame, at, &related, END, &HOP)
    },
    |frame, at| {
        let related = Related::of(frame, at)?;
        icmp::to_client(frame, at, &related, END6, &HOP)
    },
];

/// Runs everything over copies of `frame`.
fn everything(frame: &[u8], at: Offsets) {
    for rewriter in REWRITERS {
        let mut copy = frame.to_vec();
        if rewriter(&mut copy, at).is_err() {
            assert_eq!(copy, frame);
        }
    }
    let mut copy = frame.to_vec();
    if !mss::clamp(&mut copy, at, 1200) {
        assert_eq!(copy, frame);
    }
    answers(frame, at, Sender { src: [1; 4], id: 2 });
    answers(frame, at, Sender { src: [1; 16], id: 2 });
    let sender = Sender { src: [1; 4], id: 2 };
    let mut out = [0; icmp::MAX_FRAME];
    if let Ok(error) = TunnelError::of(frame, at) {
        let relay = Relay { sender, path_mtu: 1400, hop: &HOP };
        error.relay(frame, at, &relay, &mut out);
    }
    split(frame, at);
    pieces::<[u8; 4]>(frame, at);
    pieces::<[u8; 16]>(frame, at);
    assert!(at.ipv4_end(frame) <= frame.len());
}

fn answers<A: Address>(frame: &[u8], at: Offsets, sender: Sender<A>) {
    let mut out = [0; icmp::MAX_FRAME];
    for ttl in [CitedTtl::Received, CitedTtl::Lowered] {
        let offender = Offender { frame, at, ttl };
        icmp::port_unreachable(offender, sender, &mut out);
        icmp::frag_needed(offender, sender, 1400, &mut out);
        icmp::time_exceeded(offender, sender, &mut out);
    }
    let _ = Tuple::<A>::of(frame, at);
    icmp::is_intact::<A>(frame, at);
}

fn split(frame: &[u8], at: Offsets) {
    let cut = Cut { mtu: 60, id: 1, pieces: &[8, 8] };
    let Ok(mut splitter) = Splitter::new(frame, at, cut) else { return };
    let mut out = [0; 300];
    let parts = std::iter::from_fn(|| splitter.next(&mut out)).count();
    assert!(parts <= frame.len());
    if let Ok(size) = Size::of(frame, at, 60) {
        let tunnel = Some((Family::V6, 40));
        mtu::to_server(&size, &Way { mtu: 1400, tunnel, pmtu_disc: true });
        mtu::to_client(&size, 50);
    }
}

fn pieces<A: Address>(frame: &[u8], at: Offsets) {
    let Ok((_, piece)) = Piece::of::<A>(frame, at) else { return };
    for room in [0, 40, 70000] {
        let _ = Assembly::new().add(frame, &piece, &mut vec![0; HEAD + room]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn parsed_frames_are_rewritten_or_refused(frame in frame()) {
        if let Ok(at) = Offsets::of(&frame) {
            prop_assert!(u32::from(at.l4) <= at.end && at.end as usize <= frame.len());
            everything(&frame, at);
            let mut roomy = vec![0; tun::ROOM];
            roomy.extend(&frame);
            let l3 = usize::from(at.l3);
            let ttl = frame[l3 + if at.family == Family::V4 { 8 } else { 7 }];
            let done = tun::ipip(&mut roomy, at, &OUTER, &HOP);
            prop_assert_eq!(done.is_ok(), ttl > 1);
        }
    }

    #[test]
    fn even_wrong_offsets_do_not_panic(
        frame in frame(), ends in (0u32..220, 0u16..220, 0u16..220), protocol in protocol(),
        v6: bool, fragment: bool,
    ) {
        let (end, l3, l4) = ends;
        let family = if v6 { Family::V6 } else { Family::V4 };
        everything(&frame, Offsets { end, l3, l4, protocol, family, fragment });
    }

    #[test]
    fn views_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
        if let Ok(tcp) = Tcp::new_checked(&bytes) {
            let _ = (tcp.src_port(), tcp.dst_port(), tcp.flags(), tcp.checksum());
        }
        if let Ok(udp) = Udp::new_checked(&bytes) {
            let _ = (udp.src_port(), udp.dst_port(), udp.length(), udp.checksum());
        }
        if let Ok(sctp) = Sctp::new_checked(&bytes) {
            let _ = (sctp.src_port(), sctp.dst_port(), sctp.checksum(), sctp.first_chunk_type());
        }
        if let Ok(icmp) = Icmp4::new_checked(&bytes) {
            let _ = (icmp.kind(), icmp.code(), icmp.checksum(), icmp.rest(), icmp.is_error());
        }
        if let Ok(icmp) = Icmp6::new_checked(&bytes) {
            let _ = (icmp.kind(), icmp.code(), icmp.checksum(), icmp.rest(), icmp.is_error());
        }
        if let Ok(ethernet) = Ethernet::new_checked(&bytes) {
            let _ = (ethernet.src(), ethernet.dst(), ethernet.ethertype(), ethernet.header_len());
        }
    }
}

#[test]
fn arbitrary_frames_do_get_past_the_parse() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = frame();
    let mut got = [0; 4];
    for _ in 0..4000 {
        let frame = strategy.new_tree(&mut runner).unwrap().current();
        let Ok(at) = Offsets::of(&frame) else { continue };
        got[0] += usize::from(at.family == Family::V4);
        got[1] += usize::from(at.family == Family::V6);
        got[2] += usize::from(at.fragment);
        let related = Related::<[u8; 4]>::of(&frame, at).is_ok()
            || Related::<[u8; 16]>::of(&frame, at).is_ok();
        got[3] += usize::from(related);
    }
    assert!(got.iter().all(|count| *count > 20), "{got:?} of 4000: the tests above prove little");
}
