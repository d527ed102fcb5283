//! Rewriters: direct routing, NAT, each tunnel, options of TCP, fragments. What is refused stays as
//! it was; what leaves has right lengths, and checksums as right as they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uvs_forward::fragment::{Cut, Splitter};
use uvs_forward::gso::Segmenter;
use uvs_forward::mtu::{self, Fit, Size, Way};
use uvs_forward::reassembly::{Assembly, HEAD, MAX_PIECES, Piece, Progress};
use uvs_forward::tun::{self, Checksum, Gue, Kind, Outer};
use uvs_forward::wire::{Malformed, protocol};
use uvs_forward::{Address, End, Family, Offsets, Refused, Tuple, Unfinished, dr, mss, nat};
use uvs_fuzz::input::{HOP, Knobs};
use uvs_fuzz::judge::{self, transport_error};

fuzz_target!(|data: &[u8]| {
    let Some((knobs, mut frame)) = Knobs::split(data) else { return };
    let Ok(at) = Offsets::of(&frame) else { return };
    let routed = direct(&frame, at);
    match at.family {
        Family::V4 => translated(&frame, at, knobs.end::<4>()),
        Family::V6 => translated(&frame, at, knobs.end::<16>()),
    }
    clamped(&frame, at, knobs.number(6));
    // From here on without padding, as the engine cuts it.
    frame.truncate(at.end as usize);
    finished(&frame, at);
    for kind in kinds() {
        tunnelled::<[u8; 4]>(&frame, routed.as_deref(), at, (kind, knobs.address(8)), knobs);
        tunnelled::<[u8; 16]>(&frame, routed.as_deref(), at, (kind, knobs.address(8)), knobs);
    }
    fits(&frame, at, knobs);
    split(&frame, at, knobs.mtu());
    segmented(&frame, at, knobs.number(6));
});

/// Segments: each whole, its checksums right, and together the payload.
fn segmented(frame: &[u8], at: Offsets, size: u16) {
    let Ok(mut segmenter) = Segmenter::new(frame, at, size) else { return };
    let (mut out, mut together) = (vec![0; frame.len()], Vec::new());
    let mut headers = frame.len();
    while let Some(len) = segmenter.next(&mut out) {
        let segment = &out[..len];
        let its = Offsets::of(segment).expect("a segment is a whole packet");
        assert_eq!((its.end as usize, its.l4, its.protocol), (len, at.l4, at.protocol));
        assert_eq!(transport_error(segment, its), Some(0));
        headers = usize::from(at.l4)
            + match at.protocol {
                protocol::TCP => usize::from(segment[usize::from(at.l4) + 12] >> 4) * 4,
                _ => 8,
            };
        assert!(len - headers <= size.into());
        together.extend_from_slice(&segment[headers..]);
    }
    assert_eq!(together, &frame[headers..]);
}

fn ttl(frame: &[u8], at: Offsets) -> u8 {
    frame[usize::from(at.l3) + if at.family == Family::V4 { 8 } else { 7 }]
}

/// Direct routing; gives the frame as it left.
fn direct(frame: &[u8], at: Offsets) -> Option<Vec<u8>> {
    let mut routed = frame.to_vec();
    let done = dr::forward(&mut routed, at, &HOP);
    if ttl(frame, at) <= 1 {
        assert_eq!(done, Err(Refused::Ttl));
        assert_eq!(routed, frame);
        return None;
    }
    assert_eq!((done, Offsets::of(&routed)), (Ok(()), Ok(at)));
    let changed = (12..frame.len()).filter(|place| frame[*place] != routed[*place]);
    let l3 = usize::from(at.l3);
    let places = match at.family {
        Family::V4 => [l3 + 8, l3 + 10, l3 + 11],
        Family::V6 => [l3 + 7; 3],
    };
    assert!(changed.into_iter().all(|place| places.contains(&place)));
    assert_eq!(ttl(&routed, at), ttl(frame, at) - 1);
    Some(routed)
}

/// NAT in both directions, and to the director itself.
fn translated<A: Address>(frame: &[u8], at: Offsets, new: End<A>) {
    type Rewrite<A> = fn(&mut [u8], Offsets, End<A>) -> Result<(), Refused>;
    let ways: [(Rewrite<A>, bool); 3] = [
        (|frame, at, new| nat::to_server(frame, at, new, &HOP), true),
        (|frame, at, new| nat::to_client(frame, at, new, &HOP), false),
        (|frame, at, new| nat::to_local(frame, at, new), true),
    ];
    for (way, to_dst) in ways {
        let mut out = frame.to_vec();
        if way(&mut out, at, new).is_err() {
            assert_eq!(out, frame, "a refused frame stays as it was");
            continue;
        }
        assert_eq!(Offsets::of(&out), Ok(at));
        if let Ok(before) = Tuple::<A>::of(frame, at) {
            let new = match at.protocol {
                // They have no ports.
                protocol::AH | protocol::ESP => {
                    End { port: if to_dst { before.dst.port } else { before.src.port }, ..new }
                }
                _ => new,
            };
            let expected =
                if to_dst { Tuple { dst: new, ..before } } else { Tuple { src: new, ..before } };
            assert_eq!(Tuple::<A>::of(&out, at), Ok(expected));
        }
        checksum_is_kept(frame, &out, at);
    }
}

/// A transport checksum is as right or wrong as it was.
fn checksum_is_kept(before: &[u8], after: &[u8], at: Offsets) {
    let transport = |frame| at.transport(frame).unwrap_or_default();
    let (old, new) = (transport(before), transport(after));
    match at.protocol {
        protocol::UDP => {
            assert_ne!(new[6..8], [0, 0]);
            // A missing one is made.
            let expected = transport_error(before, at).unwrap_or(0);
            assert_eq!(transport_error(after, at), Some(expected));
        }
        protocol::SCTP if old[..4] != new[..4] => assert!(judge::crc_is_right(new)),
        protocol::SCTP => assert_eq!(old, new),
        _ => assert_eq!(transport_error(before, at), transport_error(after, at)),
    }
    assert_eq!(old.get(20..), new.get(20..));
}

/// A clamped SYN is the same but for the segment size and the checksum, and stays so.
fn clamped(frame: &[u8], at: Offsets, limit: u16) {
    let mut out = frame.to_vec();
    if !mss::clamp(&mut out, at, limit) {
        return assert_eq!(out, frame);
    }
    assert_eq!(transport_error(frame, at), transport_error(&out, at));
    let (l4, end) = (usize::from(at.l4), at.end as usize);
    let changed = (0..out.len()).filter(|place| frame[*place] != out[*place]).collect::<Vec<_>>();
    assert!(changed.iter().all(|place| (l4 + 16..end).contains(place)) && changed.len() <= 4);
    assert!(!mss::clamp(&mut out, at, limit));
}

/// A checksum that is left open is right once it is finished.
fn finished(frame: &[u8], at: Offsets) {
    let Some(todo) = Unfinished::of(at).filter(|_| !at.fragment) else { return };
    let mut open = frame.to_vec();
    let field = usize::from(todo.field);
    open[field..field + 2].copy_from_slice(&judge::pseudo_sum(frame, at).to_be_bytes());
    assert_eq!(todo.finish(&mut open, at), Ok(()));
    assert_eq!(transport_error(&open, at), Some(0));
}

fn kinds() -> [Kind; 6] {
    let gue = |checksum| Kind::Gue { port: 6080, checksum };
    [
        Kind::Ipip,
        Kind::Gre { checksum: false },
        Kind::Gre { checksum: true },
        gue(Checksum::None),
        gue(Checksum::Whole),
        gue(Checksum::Remote),
    ]
}

/// In a tunnel is the packet as direct routing would have sent it, whole.
fn tunnelled<A: Address>(
    frame: &[u8],
    routed: Option<&[u8]>,
    at: Offsets,
    (kind, src): (Kind, A),
    knobs: Knobs<'_>,
) {
    let outer = Outer { src, dst: src, id: knobs.number(6), pmtu_disc: knobs.flag(1) };
    let unfinished = Unfinished::of(at).filter(|_| knobs.flag(2) && !at.fragment);
    let room = kind.room(A::FAMILY, unfinished.is_some());
    let roomy = [vec![0xaa; room], frame.to_vec()].concat();
    let mut out = roomy.clone();
    let done = match kind {
        Kind::Ipip => tun::ipip(&mut out, at, &outer, &HOP),
        Kind::Gre { checksum } => tun::gre(&mut out, at, checksum, &outer, &HOP),
        Kind::Gue { port, checksum } => {
            let gue = Gue { src_port: 40000, dst_port: port, checksum, unfinished };
            tun::gue(&mut out, at, gue, &outer, &HOP)
        }
    };
    let Some(routed) = routed else {
        assert_eq!(done, Err(Refused::Ttl));
        return assert_eq!(out, roomy);
    };
    assert_eq!(done, Ok(()));
    let outside = Offsets::of(&out).expect("a right packet");
    assert_eq!((outside.family, outside.end as usize), (A::FAMILY, out.len()));
    let tags = 12..usize::from(at.l3) - 2;
    assert_eq!((outside.l3, &out[tags.clone()]), (at.l3, &frame[tags]));
    assert_eq!(
        out[out.len() - (frame.len() - usize::from(at.l3))..],
        routed[at.l3.into()..at.end as usize]
    );
    let transport = outside.transport(&out).unwrap();
    match kind {
        Kind::Ipip => assert_eq!(outside.protocol, at.family.protocol()),
        Kind::Gre { checksum: true } => assert_eq!(judge::sum(&[transport]), 0xffff),
        Kind::Gre { checksum: false } => assert_eq!(transport[..2], [0, 0]),
        Kind::Gue { checksum: Checksum::None, .. } => {
            assert_eq!(transport_error(&out, outside), None);
        }
        Kind::Gue { .. } => assert_eq!(transport_error(&out, outside), Some(0)),
    }
}

/// What is told to be too big is, and what leaves whole is not.
fn fits(frame: &[u8], at: Offsets, knobs: Knobs<'_>) {
    let size = Size::of(frame, at, 0).expect("offsets of this frame");
    let outer = if knobs.flag(3) { Family::V6 } else { Family::V4 };
    let kind = kinds()[usize::from(knobs.number(0) & 0x0fff) % 6];
    let room = kind.room(outer, false) as u16;
    for tunnel in [None, Some((outer, room))] {
        let inside = knobs.mtu().saturating_sub(tunnel.map_or(0, |(_, room)| room));
        let way = Way { mtu: knobs.mtu(), tunnel, pmtu_disc: knobs.flag(1) };
        match mtu::to_server(&size, &way) {
            Fit::Whole => assert!(size.len <= inside.into()),
            Fit::Split(most) => assert!(most == way.mtu && size.len > inside.into()),
            Fit::TooBig(told) => assert!(told == inside && size.len > told.into()),
            Fit::Narrow => assert!(tunnel.is_some() && inside < 1280),
        }
    }
    match mtu::to_client(&size, knobs.mtu()) {
        Fit::Whole => assert!(size.len <= knobs.mtu().into()),
        Fit::Split(most) | Fit::TooBig(most) => {
            assert!(most == knobs.mtu() && size.len > most.into());
        }
        Fit::Narrow => unreachable!("there is no tunnel"),
    }
}

/// Fragments fit, and are the packet again when they are put together, the last one first.
fn split(frame: &[u8], at: Offsets, mtu: u16) {
    if at.fragment {
        return;
    }
    let cut = Cut { mtu, id: 7, pieces: &[] };
    let Ok(mut splitter) = Splitter::new(frame, at, cut) else { return };
    let mut out = [0; 1600];
    let parts: Vec<Vec<u8>> =
        std::iter::from_fn(|| splitter.next(&mut out).map(|len| out[..len].to_vec())).collect();
    let ours = parts.iter().all(|part| part.len() <= usize::from(at.l3) + usize::from(mtu));
    assert!(ours && !parts.is_empty());
    if parts.len() == 1 || parts.len() > MAX_PIECES {
        return;
    }
    match at.family {
        Family::V4 => together::<[u8; 4]>(frame, at, &parts),
        Family::V6 => together::<[u8; 16]>(frame, at, &parts),
    }
}

fn together<A: Address>(frame: &[u8], at: Offsets, parts: &[Vec<u8>]) {
    let (mut assembly, mut buffer) = (Assembly::new(), vec![0; HEAD + 2048]);
    for (number, part) in parts.iter().enumerate().rev() {
        let its = match Offsets::of(part) {
            Ok(its) => its,
            // Extension headers may be cut, as the kernel cuts them.
            Err(malformed) => {
                return assert_eq!((malformed, number), (Malformed::Extension, 0));
            }
        };
        assert!(its.fragment && its.end as usize == part.len());
        // A first part without its transport header is refused, and a header that is too long.
        let Ok((_, piece)) = Piece::of::<A>(part, its) else { return };
        match assembly.add(part, &piece, &mut buffer) {
            Err(refused) => {
                assert_eq!(number, 0, "{refused}");
                return;
            }
            Ok(Progress::Waiting) => assert_ne!(number, 0),
            Ok(Progress::Complete(whole)) => {
                assert_eq!(number, 0);
                let whole = &buffer[whole.start..whole.end];
                let same = |part: &[u8]| match at.family {
                    // Of the header's fields DF went, and so the checksum is another.
                    Family::V4 => [&part[..usize::from(at.l3) + 6], &part[at.l4.into()..]].concat(),
                    Family::V6 => part.to_vec(),
                };
                assert_eq!(same(whole), same(frame));
            }
        }
    }
}
