use super::*;
use crate::fragment::{Cut, Splitter};
use crate::wire::hex;
use crate::{Family, Offsets};
use proptest::prelude::*;

/// An IPv4 or IPv6 UDP frame with so much payload behind its UDP header.
fn frame(family: Family, extended: bool, payload: usize) -> (Vec<u8>, Offsets) {
    let mut frame = hex("0200000000c10200000000c0");
    frame.extend(family.ethertype().to_be_bytes());
    let len = 8 + payload;
    match family {
        Family::V4 => {
            let total = (20 + len) as u16;
            frame.extend([0x45, 2]);
            frame.extend(total.to_be_bytes());
            frame.extend([0x12, 0x34, 0, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
            crate::wire::Ipv4::new_unchecked(&mut frame[14..]).fill_checksum();
        }
        Family::V6 => {
            let len = (len + if extended { 8 } else { 0 }) as u16;
            frame.extend([0x60, 0x20, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([if extended { 60 } else { 17 }, 64]);
            frame.extend([7; 32]);
            if extended {
                frame.extend([17, 0, 1, 4, 0, 0, 0, 0]);
            }
        }
    }
    frame.extend([0x1f, 0x40, 0, 80]);
    frame.extend((len as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|byte| (byte * 7) as u8));
    let at = Offsets::of(&frame).unwrap();
    (frame, at)
}

fn fragments(frame: &[u8], at: Offsets, mtu: u16) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(frame, at, Cut { mtu, id: 77, ..Cut::default() }).unwrap();
    let mut out = [0; 2048];
    std::iter::from_fn(|| splitter.next(&mut out).map(|len| out[..len].to_vec())).collect()
}

fn piece(frame: &[u8]) -> Result<Piece, FragmentRefused> {
    let at = Offsets::of(frame).unwrap();
    assert!(at.fragment);
    match at.family {
        Family::V4 => Piece::of::<[u8; 4]>(frame, at).map(|(_, piece)| piece),
        Family::V6 => Piece::of::<[u8; 16]>(frame, at).map(|(_, piece)| piece),
    }
}

/// The frame that comes out of these, and its largest fragment.
fn assembled(fragments: &[Vec<u8>]) -> Result<Option<(Vec<u8>, u16)>, FragmentRefused> {
    let mut assembly = Assembly::new();
    let mut buffer = vec![0xaa; HEAD + 4000];
    for fragment in fragments {
        let piece = piece(fragment)?;
        if let Progress::Complete(whole) = assembly.add(fragment, &piece, &mut buffer)? {
            return Ok(Some((buffer[whole.start..whole.end].to_vec(), whole.largest)));
        }
    }
    Ok(None)
}

/// Changes a byte of an IPv4 header and makes its checksum right again.
fn with(fragment: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut changed = fragment.to_vec();
    changed[14 + at] = byte;
    crate::wire::Ipv4::new_unchecked(&mut changed[14..]).fill_checksum();
    changed
}

#[test]
fn fragments_of_a_packet_have_one_key() {
    let (v4, at) = frame(Family::V4, false, 1000);
    let parts = fragments(&v4, at, 600);
    let key = |frame: &[u8]| Piece::of::<[u8; 4]>(frame, Offsets::of(frame).unwrap()).unwrap().0;
    let expected = Key { src: [1; 4], dst: [2; 4], id: 0x1234, protocol: 17 };
    assert_eq!((key(&parts[0]), key(&parts[1])), (expected, expected));
    let (v6, at) = frame(Family::V6, true, 1000);
    let parts = fragments(&v6, at, 600);
    let key = |frame: &[u8]| Piece::of::<[u8; 16]>(frame, Offsets::of(frame).unwrap()).unwrap().0;
    let expected = Key { src: [7; 16], dst: [7; 16], id: 77, protocol: 0 };
    assert_eq!((key(&parts[0]), key(&parts[1])), (expected, expected));
}

#[test]
fn the_pieces_are_those_that_came() {
    let (frame, at) = frame(Family::V4, false, 1000);
    let mut parts = fragments(&frame, at, 600);
    parts.reverse();
    let mut assembly = Assembly::new();
    let mut buffer = vec![0; HEAD + 4000];
    for part in &parts {
        assembly.add(part, &piece(part).unwrap(), &mut buffer).unwrap();
    }
    let mut pieces = [0; MAX_PIECES];
    let count = assembly.pieces(&mut pieces);
    assert_eq!(pieces[..count], [576, 432]);
}

#[test]
fn duplicates_are_ignored_and_overlaps_end_it() {
    let (frame, at) = frame(Family::V4, false, 1000);
    let parts = fragments(&frame, at, 400);
    let [first, second, third] = &parts[..] else { panic!("{} parts", parts.len()) };
    let whole = assembled(&[first.clone(), first.clone(), second.clone(), third.clone()]);
    assert_eq!(whole.unwrap().unwrap().0, frame);
    // 376 bytes each: the second eight bytes too early, or too late and into the third.
    for offset in [46, 48] {
        let moved = with(second, 7, offset);
        let result = assembled(&[first.clone(), third.clone(), moved]);
        assert_eq!(result, Err(FragmentRefused::Overlap), "{offset}");
    }
    // Two ends.
    let another_end = with(second, 6, 0);
    let result = assembled(&[third.clone(), another_end.clone()]);
    assert_eq!(result, Err(FragmentRefused::Overlap));
    let result = assembled(&[another_end, third.clone()]);
    assert_eq!(result, Err(FragmentRefused::Overlap));
    // A part behind the end.
    let behind = with(&with(first, 6, 0x20), 7, 200);
    assert_eq!(assembled(&[third.clone(), behind]), Err(FragmentRefused::Overlap));
}

#[test]
fn a_tiny_first_fragment_is_refused() {
    for protocol in [6u8, 17, 132] {
        let needed = [(6, 20), (17, 8), (132, 16)].iter().find(|it| it.0 == protocol).unwrap().1;
        for len in [8usize, 16, 24] {
            let (whole, at) = frame(Family::V4, false, 100);
            let parts = fragments(&whole, at, 20 + len as u16);
            let first = with(&parts[0], 9, protocol);
            let expected = if len < needed { Some(FragmentRefused::TinyFirst) } else { None };
            assert_eq!(piece(&first).err(), expected, "{protocol} in {len}");
        }
    }
    // IPv6: the destination options in front count.
    let (whole, at) = frame(Family::V6, false, 100);
    let mut first = fragments(&whole, at, 56).remove(0);
    assert_eq!(piece(&first).err(), None);
    first[54] = 60;
    first[62..70].copy_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(piece(&first).err(), Some(FragmentRefused::TinyFirst));
}

#[test]
fn impossible_sizes_are_refused() {
    let (whole, at) = frame(Family::V4, false, 1000);
    let parts = fragments(&whole, at, 600);
    let far = with(&with(&parts[1], 6, 0x1f), 7, 0xff);
    assert_eq!(piece(&far).err(), Some(FragmentRefused::Oversize), "the ping of death");
    let empty = with(&parts[1], 3, 20);
    let empty = with(&empty, 2, 0);
    assert_eq!(piece(&empty).err(), Some(FragmentRefused::Length));
    // Left over a multiple of 8 and not the last: the kernel cuts IPv4, and drops IPv6.
    let odd = with(&with(&parts[0], 2, 0), 3, 20 + 15);
    assert_eq!(piece(&odd).unwrap().len, 8);
    let (whole, at) = frame(Family::V6, false, 1000);
    let mut odd = fragments(&whole, at, 600).remove(0);
    odd[19] -= 1;
    assert_eq!(piece(&odd).err(), Some(FragmentRefused::Length));
    let mut buffer = [0; HEAD + 575];
    let parts = fragments(
        &frame(Family::V4, false, 1000).0,
        Offsets::of(&frame(Family::V4, false, 1000).0).unwrap(),
        600,
    );
    let first = piece(&parts[0]).unwrap();
    let result = Assembly::new().add(&parts[0], &first, &mut buffer);
    assert_eq!(result, Err(FragmentRefused::Oversize), "for this buffer");
}

#[test]
fn too_many_are_refused() {
    let (whole, at) = frame(Family::V4, false, 2000);
    let parts = fragments(&whole, at, 28);
    assert_eq!(parts.len(), 251);
    assert_eq!(assembled(&parts), Err(FragmentRefused::TooMany));
    let (whole, at) = frame(Family::V4, false, 8 * MAX_PIECES - 8);
    let parts = fragments(&whole, at, 28);
    assert_eq!(parts.len(), MAX_PIECES);
    assert_eq!(assembled(&parts).unwrap().unwrap().0, whole);
}

#[test]
fn df_holds_for_the_whole_if_the_largest_had_it() {
    let (whole, at) = frame(Family::V4, false, 1000);
    let parts = fragments(&whole, at, 600);
    let dont_fragment = |first: bool, last: bool| {
        let df = |part: &Vec<u8>, set: bool| with(part, 6, part[20] | if set { 0x40 } else { 0 });
        let (frame, largest) =
            assembled(&[df(&parts[0], first), df(&parts[1], last)]).unwrap().unwrap();
        assert_eq!(largest, 596);
        crate::wire::Ipv4::new_checked(&frame[14..]).unwrap().dont_fragment()
    };
    assert!(dont_fragment(true, true) && dont_fragment(true, false));
    assert!(!dont_fragment(false, true) && !dont_fragment(false, false));
}

#[test]
fn ecn_is_joined_or_contradicts() {
    let (whole, at) = frame(Family::V4, false, 1000);
    let parts = fragments(&whole, at, 600);
    let joined = |first, last| {
        let frame = assembled(&[with(&parts[0], 1, first), with(&parts[1], 1, last)])?;
        Ok(frame.unwrap().0[15])
    };
    assert_eq!(joined(0xb8, 0xb8), Ok(0xb8));
    assert_eq!(joined(2, 2), Ok(2));
    assert_eq!(joined(2, 3), Ok(3));
    assert_eq!(joined(2, 1), Ok(2), "both mean the same");
    assert_eq!(joined(3, 3), Ok(3));
    assert_eq!(joined(0, 3), Err(FragmentRefused::Ecn));
    assert_eq!(joined(1, 0), Err(FragmentRefused::Ecn));
}

#[test]
fn an_only_fragment_is_whole_at_once() {
    // Recorded: hdr_dr_v6, ext_atomic_frag, but for the hop limit.
    let atomic =
        hex("0200000000c10200000000c086dd60000000001c2c40fd00000c000000000000000000030007fd\
                      0000000000000000000000000000010600000000000009\
                      15e40050000003e800000000500220007bae0000");
    let whole =
        hex("0200000000c10200000000c086dd6000000000140640fd00000c000000000000000000030007fd\
                     000000000000000000000000000001\
                     15e40050000003e800000000500220007bae0000");
    assert_eq!(assembled(&[atomic]), Ok(Some((whole, 68))));
}

proptest! {
    #[test]
    fn in_any_order_it_is_the_packet(
        v6: bool, extended: bool, payload in 100usize..3000, mtu in 600u16..1600,
        order in Just((0..128).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (whole, at) = frame(family, extended, payload);
        let parts = fragments(&whole, at, mtu);
        prop_assume!(parts.len() > 1);
        let order = order.into_iter().filter(|part| *part < parts.len());
        let parts: Vec<_> = order.map(|part| parts[part].clone()).collect();
        let (together, largest) = assembled(&parts).unwrap().unwrap();
        prop_assert_eq!(together, whole);
        prop_assert!(largest <= mtu && usize::from(largest) > usize::from(mtu) - 16);
    }

    #[test]
    fn hostile_parts_are_taken_or_refused(
        parts in proptest::collection::vec((0u16..40, 1usize..60, any::<bool>(), any::<u8>()), 1..20),
    ) {
        let (whole, _) = frame(Family::V4, false, 500);
        let mut assembly = Assembly::new();
        let mut buffer = vec![0; HEAD + 300];
        for (offset, len, more, ecn) in parts {
            let mut part = whole[..34 + len].to_vec();
            part[16..18].copy_from_slice(&(20 + len as u16).to_be_bytes());
            let flags = offset | if more { 0x2000 } else { 0 };
            part[20..22].copy_from_slice(&flags.to_be_bytes());
            let part = with(&part, 1, ecn % 2);
            let Ok(at) = Offsets::of(&part) else { continue };
            let Ok((_, piece)) = Piece::of::<[u8; 4]>(&part, at) else { continue };
            match assembly.add(&part, &piece, &mut buffer) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Complete(whole)) => {
                    prop_assert!(Offsets::of(&buffer[whole.start..whole.end]).is_ok());
                    break;
                }
                Err(_) => break,
            }
        }
    }
}
