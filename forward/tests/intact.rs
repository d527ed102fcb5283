//! Every rewrite of every kind of frame leaves every checksum right, that of the packet and those
//! of what is inside or around it; and a wrong one stays as wrong as it was.

mod support;

use proptest::prelude::*;
use support::{Plan, error, fault, plan};
use uvs_forward::icmp::{self, CitedTtl, Offender, Related, Sender};
use uvs_forward::tun::{self, Checksum, Gue, Kind, Outer};
use uvs_forward::{
    Address, End, Family, Fields, Hop, Offsets, Refused, Tuple, Unfinished, dr, nat,
};

const HOP: Hop = Hop { src: [1; 6], dst: [2; 6] };

/// Out of the 18 bytes that an end is in a plan.
trait Cut: Address {
    fn cut(bytes: &[u8; 18]) -> Self;
}

impl Cut for [u8; 4] {
    fn cut(bytes: &[u8; 18]) -> Self {
        *bytes.first_chunk().unwrap()
    }
}

impl Cut for [u8; 16] {
    fn cut(bytes: &[u8; 18]) -> Self {
        *bytes.first_chunk().unwrap()
    }
}

fn end<A: Cut>(bytes: &[u8; 18]) -> End<A> {
    End { address: A::cut(bytes), port: u16::from_be_bytes([bytes[16], bytes[17]]) }
}

/// What left is whole but for padding, and goes to the next hop with its tags.
fn judge(plan: &Plan, frame: &[u8], at: Offsets) -> Result<(), TestCaseError> {
    let l3 = plan.link().len();
    prop_assert_eq!(&frame[..12], &[2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
    prop_assert_eq!(&frame[12..l3 - 2], &plan.link()[12..l3 - 2]);
    prop_assert_eq!(fault(&frame[l3..at.end as usize]), None);
    Ok(())
}

fn translated<A: Cut>(plan: &Plan, new: &[u8; 18], back: bool) -> Result<(), TestCaseError> {
    let mut frame = plan.frame();
    let at = Offsets::of(&frame).unwrap();
    frame.extend([0xee; 5]);
    let new = end::<A>(new);
    let tuple = Tuple::<A>::of(&frame, at).unwrap();
    let done = match back {
        false => nat::to_server(&mut frame, at, new, &HOP),
        true => nat::to_client(&mut frame, at, new, &HOP),
    };
    prop_assert_eq!(done, Ok(()));
    judge(plan, &frame, at)?;
    let expected = if back { Tuple { src: new, ..tuple } } else { Tuple { dst: new, ..tuple } };
    prop_assert_eq!(Tuple::<A>::of(&frame, at), Ok(expected));
    let mut local = plan.frame();
    prop_assert_eq!(nat::to_local(&mut local, at, new), Ok(()));
    prop_assert_eq!(fault(&local[usize::from(at.l3)..]), None);
    Ok(())
}

fn stays_wrong<A: Cut>(plan: &Plan, new: &[u8; 18], by: u16) -> Result<(), TestCaseError> {
    let mut frame = plan.frame();
    let at = Offsets::of(&frame).unwrap();
    let field = usize::from(at.l4) + if plan.protocol == 6 { 16 } else { 6 };
    let check = u16::from_be_bytes([frame[field], frame[field + 1]]).wrapping_add(by);
    // A UDP checksum of 0 is none.
    prop_assume!(plan.protocol == 6 || check != 0);
    frame[field..field + 2].copy_from_slice(&check.to_be_bytes());
    let before = error(&frame[at.l3.into()..]);
    nat::to_server(&mut frame, at, end::<A>(new), &HOP).unwrap();
    prop_assert_eq!(error(&frame[at.l3.into()..]) % 0xffff, before % 0xffff);
    Ok(())
}

fn tunnelled<O: Cut>(
    plan: &Plan,
    kind: Kind,
    ends: (&[u8; 18], &[u8; 18]),
) -> Result<(), TestCaseError> {
    let inner = plan.frame();
    let at = Offsets::of(&inner).unwrap();
    let room = kind.room(O::FAMILY, false);
    let mut frame = [vec![0xaa; room], inner].concat();
    let (src, dst) = (O::cut(ends.0), O::cut(ends.1));
    let outer = Outer { src, dst, id: 7, pmtu_disc: true };
    let done = match kind {
        Kind::Ipip => tun::ipip(&mut frame, at, &outer, &HOP),
        Kind::Gre { checksum } => tun::gre(&mut frame, at, checksum, &outer, &HOP),
        Kind::Gue { port, checksum } => {
            let gue = Gue { src_port: 40000, dst_port: port, checksum, unfinished: None };
            tun::gue(&mut frame, at, gue, &outer, &HOP)
        }
    };
    prop_assert_eq!(done, Ok(()));
    let outside = Offsets::of(&frame).unwrap();
    prop_assert_eq!((outside.family, outside.end as usize), (O::FAMILY, frame.len()));
    judge(plan, &frame, outside)
}

fn error_translated<A: Cut>(
    plan: &Plan,
    new: &[u8; 18],
    (cited, back): (usize, bool),
) -> Result<(), TestCaseError> {
    let mut frame = plan.error_frame(cited);
    let at = Offsets::of(&frame).unwrap();
    prop_assert!(icmp::is_intact::<A>(&frame, at));
    let related = Related::<A>::of(&frame, at).unwrap();
    let (src, dst) = (end::<A>(&plan.src), end::<A>(&plan.dst));
    prop_assert_eq!(related.tuple, Tuple { protocol: plan.protocol, src: dst, dst: src });
    let new = end::<A>(new);
    let done = match back {
        false => icmp::to_server(&mut frame, at, &related, new, &HOP),
        true => icmp::to_client(&mut frame, at, &related, new, &HOP),
    };
    prop_assert_eq!(done, Ok(()));
    judge(plan, &frame, at)?;
    let tuple = related.tuple;
    let expected = if back { Tuple { src: new, ..tuple } } else { Tuple { dst: new, ..tuple } };
    prop_assert_eq!(Related::<A>::of(&frame, at).unwrap().tuple, expected);
    Ok(())
}

fn answered<A: Cut>(plan: &Plan, src: &[u8; 18]) -> Result<(), TestCaseError> {
    let frame = plan.frame();
    let at = Offsets::of(&frame).unwrap();
    for ttl in [CitedTtl::Received, CitedTtl::Lowered] {
        let about = Offender { frame: &frame, at, ttl };
        let mut out = [0; icmp::MAX_FRAME];
        let sender = Sender { src: A::cut(src), id: 5 };
        let Some(len) = icmp::frag_needed(about, sender, 1400, &mut out) else { continue };
        prop_assert_eq!(fault(&out[usize::from(at.l3)..len]), None);
    }
    Ok(())
}

fn kinds() -> impl Strategy<Value = Kind> {
    let checksums =
        prop_oneof![Just(Checksum::None), Just(Checksum::Whole), Just(Checksum::Remote)];
    prop_oneof![
        Just(Kind::Ipip),
        any::<bool>().prop_map(|checksum| Kind::Gre { checksum }),
        checksums.prop_map(|checksum| Kind::Gue { port: 6080, checksum }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn direct_routing(plan in plan()) {
        let mut frame = plan.frame();
        let at = Offsets::of(&frame).unwrap();
        prop_assert_eq!(fault(&frame[usize::from(at.l3)..]), None);
        prop_assert_eq!(dr::forward(&mut frame, at, &HOP), Ok(()));
        judge(&plan, &frame, at)?;
    }

    #[test]
    fn nat_both_ways(plan in plan(), new: [u8; 18], back: bool) {
        match plan.v6 {
            false => translated::<[u8; 4]>(&plan, &new, back)?,
            true => translated::<[u8; 16]>(&plan, &new, back)?,
        }
    }

    #[test]
    fn nat_of_a_wrong_checksum(mut plan in plan(), new: [u8; 18], tcp: bool, by in 1u16..) {
        plan.protocol = if tcp { 6 } else { 17 };
        match plan.v6 {
            false => stays_wrong::<[u8; 4]>(&plan, &new, by)?,
            true => stays_wrong::<[u8; 16]>(&plan, &new, by)?,
        }
    }

    #[test]
    fn every_tunnel(plan in plan(), kind in kinds(), v6: bool, src: [u8; 18], dst: [u8; 18]) {
        match v6 {
            false => tunnelled::<[u8; 4]>(&plan, kind, (&src, &dst))?,
            true => tunnelled::<[u8; 16]>(&plan, kind, (&src, &dst))?,
        }
    }

    #[test]
    fn nat_of_errors(plan in plan(), new: [u8; 18], cited in 4usize..60, back: bool) {
        match plan.v6 {
            false => error_translated::<[u8; 4]>(&plan, &new, (cited, back))?,
            true => error_translated::<[u8; 16]>(&plan, &new, (cited, back))?,
        }
    }

    #[test]
    fn answers(plan in plan(), src: [u8; 18]) {
        match plan.v6 {
            false => answered::<[u8; 4]>(&plan, &src)?,
            true => answered::<[u8; 16]>(&plan, &src)?,
        }
    }

    #[test]
    fn unfinished_frames_are_finished(mut plan in plan(), tcp: bool) {
        plan.protocol = if tcp { 6 } else { 17 };
        let whole = plan.frame();
        let at = Offsets::of(&whole).unwrap();
        let todo = Unfinished::of(at).unwrap();
        let mut frame = whole.clone();
        let (field, len) = (usize::from(todo.field), at.end - u32::from(at.l4));
        let pseudo = match plan.v6 {
            false => <[u8; 4]>::pseudo(Cut::cut(&plan.src), Cut::cut(&plan.dst), plan.protocol, len),
            true => <[u8; 16]>::pseudo(Cut::cut(&plan.src), Cut::cut(&plan.dst), plan.protocol, len),
        };
        frame[field..field + 2].copy_from_slice(&pseudo.folded().to_be_bytes());
        prop_assert_eq!(todo.finish(&mut frame, at), Ok(()));
        prop_assert_eq!(frame, whole);
    }

    #[test]
    fn a_used_up_ttl_is_refused_by_all(mut plan in plan(), ttl in 0u8..2) {
        plan.ttl = ttl;
        let mut frame = plan.frame();
        let at = Offsets::of(&frame).unwrap();
        prop_assert_eq!(dr::forward(&mut frame, at, &HOP), Err(Refused::Ttl));
        let mut roomy = [vec![0; 20], frame.clone()].concat();
        let outer = Outer { src: [1; 4], dst: [2; 4], id: 0, pmtu_disc: false };
        prop_assert_eq!(tun::ipip(&mut roomy, at, &outer, &HOP), Err(Refused::Ttl));
        prop_assert_eq!(&roomy[20..], &frame);
        prop_assert_eq!(frame, plan.frame());
    }
}

#[test]
fn families_have_their_numbers() {
    assert_eq!((Family::V4.ethertype(), Family::V6.ethertype()), (0x0800, 0x86dd));
    assert_eq!((Family::V4.protocol(), Family::V6.protocol()), (4, 41));
    let fields = Fields {
        tos: 0,
        payload_len: 8,
        id: 0,
        dont_fragment: false,
        flow_label: 1,
        ttl: 64,
        protocol: 17,
        src: [1; 16],
        dst: [2; 16],
    };
    assert_eq!(<[u8; 16]>::write_header(&fields)[..8], [0x60, 0, 0, 1, 0, 8, 17, 64]);
}
