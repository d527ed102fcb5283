//! ICMP and ICMPv6: the errors that the director sends, those that it translates, and those about
//! its own tunnel packets.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uvs_forward::icmp::{self, CitedTtl, Offender, Related, Relay, Sender, TunnelError};
use uvs_forward::{Address, End, Family, Offsets, Refused};
use uvs_fuzz::input::{HOP, Knobs};
use uvs_fuzz::judge::{self, transport_error};

fuzz_target!(|data: &[u8]| {
    let Some((knobs, frame)) = Knobs::split(data) else { return };
    let Ok(at) = Offsets::of(&frame) else { return };
    match at.family {
        Family::V4 => both::<[u8; 4]>(&frame, at, (knobs.address(24), knobs.end()), knobs),
        Family::V6 => both::<[u8; 16]>(&frame, at, (knobs.address(24), knobs.end()), knobs),
    }
    relayed(&frame, at, knobs);
    // Whoever asks for the other family is refused.
    let mut out = [0; icmp::MAX_FRAME];
    let offender = Offender { frame: &frame, at, ttl: CitedTtl::Received };
    let other = match at.family {
        Family::V4 => icmp::time_exceeded(offender, Sender { src: [1; 16], id: 0 }, &mut out),
        Family::V6 => icmp::time_exceeded(offender, Sender { src: [1; 4], id: 0 }, &mut out),
    };
    assert_eq!(other, None);
});

fn both<A: Address>(frame: &[u8], at: Offsets, (src, new): (A, End<A>), knobs: Knobs<'_>) {
    let is_error = Related::<A>::of(frame, at).is_ok();
    for ttl in [CitedTtl::Received, CitedTtl::Lowered] {
        // A frame is answered only before its time to live is used up.
        let used_up = frame[usize::from(at.l3) + if A::FAMILY == Family::V4 { 8 } else { 7 }] == 0;
        if ttl == CitedTtl::Lowered && used_up {
            continue;
        }
        let told = answers(frame, at, ttl, Sender { src, id: knobs.number(6).into() }, knobs);
        assert!(!told || !is_error, "an error was answered with an error");
    }
    if let Ok(related) = Related::<A>::of(frame, at) {
        translated(frame, at, &related, new);
    }
}

/// Every answer is a right packet to the offender's sender, and shows what it is about.
fn answers<A: Address>(
    frame: &[u8],
    at: Offsets,
    ttl: CitedTtl,
    sender: Sender<A>,
    knobs: Knobs<'_>,
) -> bool {
    type Answer<A> = fn(Offender<'_>, Sender<A>, u16, &mut [u8]) -> Option<usize>;
    let all: [Answer<A>; 3] = [
        |offender, sender, _, out| icmp::port_unreachable(offender, sender, out),
        |offender, sender, mtu, out| icmp::frag_needed(offender, sender, mtu, out),
        |offender, sender, _, out| icmp::time_exceeded(offender, sender, out),
    ];
    let offender = Offender { frame, at, ttl };
    let mut told = false;
    for answer in all {
        let mut out = [0; icmp::MAX_FRAME];
        let Some(len) = answer(offender, sender, knobs.mtu(), &mut out) else { continue };
        told = true;
        let l3 = usize::from(at.l3);
        let whole = is_right::<A>(&out[..len], l3);
        assert_eq!((&out[..6], &out[6..12]), (&frame[6..12], &frame[..6]));
        assert_eq!(out[12..l3], frame[12..l3]);
        let (packet, asker) = (&out[l3..len], &frame[l3..at.end as usize]);
        let (its_src, its_dst) = ends::<A>(packet);
        assert_eq!((its_src, its_dst), (sender.src, ends::<A>(asker).0));
        let cited = &packet[A::HEADER_LEN + 8..];
        assert!(whole.l4 as usize == l3 + A::HEADER_LEN);
        assert_eq!(cited[A::HEADER_LEN..], asker[A::HEADER_LEN..cited.len()]);
        if ttl == CitedTtl::Received {
            assert_eq!(cited, &asker[..cited.len()]);
        }
        // A buffer that is too short is not written past.
        assert_eq!(answer(offender, sender, knobs.mtu(), &mut out[..len - 1]), None);
    }
    told
}

fn ends<A: Address>(packet: &[u8]) -> (A, A) {
    let header = A::header(packet).expect("a whole header");
    (A::src(header), A::dst(header))
}

/// A message of the director's own: its lengths, its checksums, its size.
fn is_right<A: Address>(frame: &[u8], l3: usize) -> Offsets {
    let at = Offsets::of(frame).expect("a right packet");
    assert_eq!((at.end as usize, at.family), (frame.len(), A::FAMILY));
    assert_eq!(transport_error(frame, at), Some(0));
    assert!(icmp::is_intact::<A>(frame, at));
    let most = if A::FAMILY == Family::V4 { icmp::MAX_PACKET } else { icmp::MAX_PACKET_V6 };
    assert!(frame.len() - l3 <= most);
    at
}

/// A translated error is about the translated packet, and its checksum as right as it was.
fn translated<A: Address>(frame: &[u8], at: Offsets, related: &Related<A>, new: End<A>) {
    let before = transport_error(frame, at);
    for to_server in [true, false] {
        let mut out = frame.to_vec();
        let done = match to_server {
            true => icmp::to_server(&mut out, at, related, new, &HOP),
            false => icmp::to_client(&mut out, at, related, new, &HOP),
        };
        if let Err(refused) = done {
            assert_eq!(out, frame, "{refused}");
            let ttl = frame[usize::from(at.l3) + if A::FAMILY == Family::V4 { 8 } else { 7 }];
            assert!(refused != Refused::Ttl || ttl <= 1);
            continue;
        }
        assert_eq!(Offsets::of(&out), Ok(at));
        assert_eq!(transport_error(&out, at), before);
        let after = Related::<A>::of(&out, at).expect("an error still");
        assert_eq!(after.cited, related.cited);
        let (tuple, expected) = (after.tuple, related.tuple);
        let [changed, kept] = match to_server {
            true => [(tuple.dst, new), (tuple.src, expected.src)],
            false => [(tuple.src, new), (tuple.dst, expected.dst)],
        };
        assert_eq!((changed.0.address, kept.0), (changed.1.address, kept.1));
        // Of AH and ESP the ports are those of their key exchange, and not in the packet.
        let has_ports = matches!(related.cited.protocol, 6 | 17 | 132);
        assert!(!has_ports || changed.0.port == new.port);
        let cited = &out[related.cited.l3.into()..related.cited.l4.into()];
        assert!(A::FAMILY == Family::V6 || judge::sum(&[cited]) == 0xffff);
    }
}

/// Errors about tunnel packets come back as errors about what was inside.
fn relayed(frame: &[u8], at: Offsets, knobs: Knobs<'_>) {
    let Ok(error) = TunnelError::of(frame, at) else { return };
    let sender = Sender { src: knobs.address(24), id: knobs.number(6).into() };
    let relay = Relay { sender, path_mtu: knobs.mtu(), hop: &HOP };
    let mut out = [0; icmp::MAX_FRAME];
    let Some(len) = error.relay(frame, at, &relay, &mut out) else { return };
    assert_eq!(transport_error(frame, at), Some(0), "a wrong one is not told");
    is_right::<[u8; 4]>(&out[..len], 14);
    let (src, dst) = ends::<[u8; 4]>(&out[14..len]);
    assert_eq!((src, dst), (sender.src, error.tuple.src.address));
}
