//! Parsers: header views, offsets, extension headers, options, reassembly, over any frames.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uvs_forward::icmp::{Related, TunnelError};
use uvs_forward::options::{self, Stamp};
use uvs_forward::reassembly::{Assembly, HEAD, Piece, Progress};
use uvs_forward::wire::{
    Ethernet, Gre, Gue, Icmp4, Icmp6, Ipv4, Ipv6, Sctp, Tcp, Udp, extension, ipv4,
};
use uvs_forward::{Address, Family, Offsets, Tuple, ftp, segment};
use uvs_fuzz::input::Tagged;
use uvs_fuzz::judge::sum;

fuzz_target!(|data: &[u8]| {
    let Some((_, data)) = data.split_first_chunk::<2>() else { return };
    let frames = Tagged::list(data);
    for Tagged { frame, .. } in &frames {
        views(frame);
        if let Ok(at) = Offsets::of(frame) {
            parsed(frame, at);
            fill(frame, at);
        }
    }
    assemble::<[u8; 4]>(&frames);
    assemble::<[u8; 16]>(&frames);
});

/// No view reads past its bytes, wherever it begins.
fn views(bytes: &[u8]) {
    for start in [0, 14, 34, 54] {
        let Some(bytes) = bytes.get(start..) else { return };
        if let Ok(ethernet) = Ethernet::new_checked(bytes) {
            let _ = (ethernet.src(), ethernet.dst(), ethernet.is_multicast());
            assert!(ethernet.header_len() <= bytes.len());
        }
        if let Ok(ip) = Ipv4::new_checked(bytes) {
            assert!(ip.header_len() <= ip.total_len().into());
            assert!(usize::from(ip.total_len()) <= bytes.len());
            assert_eq!(sum(&[&bytes[..ip.header_len()]]), 0xffff);
        }
        if let Ok(ip) = Ipv6::new_checked(bytes) {
            assert!(usize::from(ip.payload_len()) + 40 <= bytes.len());
        }
        let _ = Tcp::new_checked(bytes).map(|tcp| (tcp.src_port(), tcp.flags(), tcp.checksum()));
        let _ = Udp::new_checked(bytes).map(|udp| (udp.length(), udp.checksum()));
        let _ = Sctp::new_checked(bytes).map(|sctp| (sctp.checksum(), sctp.first_chunk_type()));
        let _ = Icmp4::new_checked(bytes).map(|icmp| (icmp.kind(), icmp.rest(), icmp.is_error()));
        let _ = Icmp6::new_checked(bytes).map(|icmp| (icmp.kind(), icmp.rest(), icmp.is_error()));
        let _ = Gre::new_checked(bytes).map(|gre| assert!(gre.header_len() <= bytes.len()));
        let _ = Gue::new_checked(bytes).map(|gue| assert!(gue.header_len() <= bytes.len()));
        if let Ok(upper) = extension::upper(bytes) {
            assert!(upper.fragment.is_none_or(|at| at < upper.at));
        }
        let _ = (ftp::passive(bytes), ftp::active(bytes), ftp::asks_passive(bytes));
    }
}

/// The headers stand in their order inside the frame, padding changes nothing, and a cut is noticed.
fn parsed(frame: &[u8], at: Offsets) {
    let end = at.end as usize;
    assert!(at.l3 < at.l4 && usize::from(at.l4) <= end && end <= frame.len(), "{at:?}");
    let padded = [&frame[..end], &[0xee; 9]].concat();
    assert_eq!(Offsets::of(&padded), Ok(at));
    assert_eq!(Offsets::of(&frame[..end]), Ok(at));
    assert!(Offsets::of(&frame[..end - 1]).is_err());
    assert_eq!(Offsets::of_ipv4(frame).is_ok(), at.family == Family::V4);
    let _ = segment::Numbers::of(frame, at.l4, end).map(|numbers| numbers.reset());
    match at.family {
        Family::V4 => followed::<[u8; 4], [u8; 16]>(frame, at),
        Family::V6 => followed::<[u8; 16], [u8; 4]>(frame, at),
    }
    if let Ok(error) = TunnelError::of(frame, at) {
        assert!(error.inner.l3 > at.l4 && error.inner.end == at.end);
    }
}

/// What is found of its own family is in the frame, of the other nothing.
fn followed<A: Address, Other: Address>(frame: &[u8], at: Offsets) {
    assert!(Tuple::<Other>::of(frame, at).is_err() && Related::<Other>::of(frame, at).is_err());
    let tuple = Tuple::<A>::of(frame, at);
    assert!(tuple.is_err() || tuple.map(|tuple| tuple.reversed().reversed()) == tuple);
    if let Ok(Related { tuple, cited }) = Related::<A>::of(frame, at) {
        assert!(cited.l3 > at.l4 && cited.l4 > cited.l3 && cited.end == at.end);
        assert_eq!(Tuple::of(frame, cited), Ok(tuple.reversed()));
    }
}

/// Options are filled in with the checksum, and nothing else is written; or nothing at all is.
fn fill(frame: &[u8], at: Offsets) {
    let mut filled = frame.to_vec();
    match options::fill(&mut filled, at, Stamp { address: [10, 0, 0, 1], time: 77 }) {
        Err(_) => assert_eq!(filled, frame),
        Ok(()) => {
            assert_eq!(Offsets::of(&filled), Ok(at));
            let (l3, l4) = (usize::from(at.l3), usize::from(at.l4));
            assert_eq!((&filled[..l3 + 10], &filled[l4..]), (&frame[..l3 + 10], &frame[l4..]));
            let fixed = l3 + 12..l3 + ipv4::HEADER_LEN;
            assert_eq!(filled[fixed.clone()], frame[fixed]);
        }
    }
}

/// What fragments make together is a whole packet with the bytes of each.
fn assemble<A: Address>(frames: &[Tagged]) {
    let (mut assembly, mut buffer) = (Assembly::new(), vec![0; HEAD + 65536]);
    let mut parts = Vec::new();
    for Tagged { frame, .. } in frames {
        let Ok(at) = Offsets::of(frame) else { continue };
        let Ok((_, piece)) = Piece::of::<A>(frame, at) else { continue };
        parts.push((piece.offset, piece.len, piece.more));
        match assembly.add(frame, &piece, &mut buffer) {
            Err(_) => return,
            Ok(Progress::Waiting) => {}
            Ok(Progress::Complete(whole)) => {
                let bytes = &buffer[whole.start..whole.end];
                let length: usize =
                    parts.iter().map(|(offset, len, _)| usize::from(offset + len)).max().unwrap();
                assert_eq!(whole.end, HEAD + length, "{parts:?}");
                // What is inside may still be wrong: of the transport only the first part is there.
                if let Ok(at) = Offsets::of(bytes) {
                    assert_eq!((at.end as usize, at.family), (bytes.len(), A::FAMILY));
                }
                return;
            }
        }
    }
}
