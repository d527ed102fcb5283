//! Arbitrary bytes: no view and no rewriter panics, and what is refused stays as it was.

use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;
use uvs_forward::icmp::{self, CitedTtl, Offender, Sender};
use uvs_forward::tun::{self, Outer};
use uvs_forward::wire::{Ethernet, Icmp4, Ipv4, Sctp, Tcp, Udp};
use uvs_forward::{Hop, Offsets, checksum, dr, nat};

const HOP: Hop = Hop { src: [1; 6], dst: [2; 6] };
const END: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);

/// Bytes that often get far: an ethertype, a version and lengths that may be right, and half the
/// time a right checksum.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..120);
    let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(132), any::<u8>()];
    (bytes, 0usize..4, 4u8..16, 0u8..120, protocol, any::<bool>(), any::<bool>()).prop_map(
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
            if right {
                bytes[l3 + 10..l3 + 12].fill(0);
                let header = &bytes[l3..l3 + 4 * usize::from(ihl)];
                let check = checksum::Sum::of(header).finish();
                bytes[l3 + 10..l3 + 12].copy_from_slice(&check.to_be_bytes());
            }
            bytes
        },
    )
}

/// Runs every rewriter over a copy of `frame`.
fn rewrite(frame: &[u8], at: Offsets) {
    type Rewriter = fn(&mut [u8], Offsets) -> Result<(), uvs_forward::Refused>;
    let rewriters: [Rewriter; 4] = [
        |frame, at| dr::forward(frame, at, &HOP),
        |frame, at| nat::to_server(frame, at, END, &HOP),
        |frame, at| nat::to_client(frame, at, END, &HOP),
        |frame, at| tun::ipip(frame, at, &Outer { src: [1; 4], dst: [2; 4], id: 3 }, &HOP),
    ];
    for rewriter in rewriters {
        let mut copy = frame.to_vec();
        if rewriter(&mut copy, at).is_err() {
            assert_eq!(copy, frame);
        }
    }
    let (sender, mut out) = (Sender { src: [1; 4], id: 2 }, [0; icmp::MAX_FRAME]);
    for ttl in [CitedTtl::Received, CitedTtl::Lowered] {
        let offender = Offender { frame, at, ttl };
        icmp::dest_unreachable(offender, sender, icmp::code::PORT, &mut out);
        icmp::frag_needed(offender, sender, 1400, &mut out);
        icmp::time_exceeded(offender, sender, &mut out);
    }
    assert!(at.ipv4_end(frame) <= frame.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn parsed_frames_are_rewritten_or_refused(frame in frame()) {
        if let Ok(at) = Offsets::of_ipv4(&frame) {
            prop_assert!(usize::from(at.l4) <= at.ipv4_end(&frame));
            rewrite(&frame, at);
            let mut roomy = vec![0; tun::ROOM];
            roomy.extend(&frame);
            let ttl = Ipv4::new_unchecked(&frame[usize::from(at.l3)..]).ttl();
            let done = tun::ipip(&mut roomy, at, &Outer { src: [1; 4], dst: [2; 4], id: 3 }, &HOP);
            prop_assert_eq!(done.is_ok(), ttl > 1);
        }
    }

    #[test]
    fn even_wrong_offsets_do_not_panic(frame in frame(), l3 in 0u16..140, l4 in 0u16..140) {
        rewrite(&frame, Offsets { l3, l4 });
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
    let parsed = (0..2000)
        .filter(|_| Offsets::of_ipv4(&strategy.new_tree(&mut runner).unwrap().current()).is_ok())
        .count();
    assert!(parsed > 20, "only {parsed} of 2000 frames: the tests above prove little");
}
