//! Clamping of TCP's maximum segment size (`--mss-clamp`): so that segments of both ends fit a way
//! that tunnels have made narrower.

use crate::checksum::{Sum, update};
use crate::wire::{Tcp, protocol, tcp};
use crate::{Family, Offsets};

mod option {
    pub const END: u8 = 0;
    pub const NO_OPERATION: u8 = 1;
    pub const MSS: u8 = 2;
    pub const MSS_LEN: u8 = 4;
}

/// The segment size that fits packets of `mtu` bytes: less both headers without options.
pub const fn of_mtu(mtu: u16, family: Family) -> u16 {
    let headers = match family {
        Family::V4 => 20 + tcp::HEADER_LEN,
        Family::V6 => 40 + tcp::HEADER_LEN,
    };
    mtu.saturating_sub(headers as u16)
}

/// Lowers the segment size that a SYN or SYN ACK announces to `mss`; gives whether it did. A
/// packet that announces none, or a smaller one, is left.
pub fn clamp(frame: &mut [u8], at: Offsets, mss: u16) -> bool {
    if at.protocol != protocol::TCP || at.fragment {
        return false;
    }
    let segment = frame.get_mut(at.l4.into()..at.end as usize).unwrap_or_default();
    let Ok(tcp) = Tcp::new_checked(&*segment) else { return false };
    let (check, is_syn) = (tcp.checksum(), tcp.flags() & tcp::flag::SYN != 0);
    let Some((value_at, old)) = is_syn.then(|| find(segment)).flatten() else { return false };
    if old <= mss {
        return false;
    }
    segment[value_at..value_at + 2].copy_from_slice(&mss.to_be_bytes());
    // An option may begin at any byte. At an odd one the value's bytes are in two words, each the
    // other one's place: then a swapped change is what the sum takes in.
    let change = match value_at % 2 {
        0 => Sum::change16(old, mss),
        _ => Sum::change16(old.swap_bytes(), mss.swap_bytes()),
    };
    Tcp::new_unchecked(segment).set_checksum(update(check, change));
    true
}

/// Where the value of the MSS option stands in a segment, and the value.
fn find(segment: &[u8]) -> Option<(usize, u16)> {
    let header_len = usize::from(segment[12] >> 4) * 4;
    let header = segment.get(..header_len)?;
    let mut at = tcp::HEADER_LEN;
    loop {
        match *header.get(at)? {
            option::END => return None,
            option::NO_OPERATION => at += 1,
            option::MSS => {
                let [_, len, high, low] = *header.get(at..)?.first_chunk()?;
                let right = len == option::MSS_LEN;
                return right.then_some((at + 2, u16::from_be_bytes([high, low])));
            }
            _ => match *header.get(at + 1)? {
                0 | 1 => return None,
                len => at += usize::from(len),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use proptest::prelude::*;

    const SRC: [u8; 16] = [1; 16];
    const DST: [u8; 16] = [2; 16];

    /// An IPv6 frame with a TCP segment of these options, its checksum right.
    fn frame(flags: u8, options: &[u8], payload: &[u8]) -> (Vec<u8>, Offsets) {
        let mut segment = vec![0; 20];
        segment[12] = ((20 + options.len()) / 4) as u8 * 16;
        segment[13] = flags;
        segment.extend(options);
        segment.extend(payload);
        let len = segment.len() as u32;
        let sum = <[u8; 16]>::pseudo(SRC, DST, 6, len) + Sum::of(&segment);
        segment[16..18].copy_from_slice(&sum.finish().to_be_bytes());
        let frame = [vec![0; 54], segment].concat();
        let at = Offsets {
            end: 54 + len,
            l3: 14,
            l4: 54,
            protocol: 6,
            family: Family::V6,
            fragment: false,
        };
        (frame, at)
    }

    fn is_right(frame: &[u8]) -> bool {
        let segment = &frame[54..];
        let pseudo = <[u8; 16]>::pseudo(SRC, DST, 6, segment.len() as u32);
        (pseudo + Sum::of(segment)).finish() == 0
    }

    #[test]
    fn only_a_larger_one_in_a_syn_is_lowered() {
        let clamped = |flags, options: &[u8], mss| {
            let (mut frame, at) = frame(flags, options, b"");
            let before = frame.clone();
            let did = clamp(&mut frame, at, mss);
            assert_eq!(did, frame != before);
            assert!(is_right(&frame));
            did.then(|| frame[74..].to_vec())
        };
        let mss = [2, 4, 0x05, 0xb4];
        assert_eq!(clamped(0x02, &mss, 1400), Some(vec![2, 4, 0x05, 0x78]));
        assert_eq!(clamped(0x12, &[1, 2, 4, 5, 0xb4, 0, 0, 0], 1400).unwrap()[3..5], [5, 0x78]);
        assert_eq!(clamped(0x02, &mss, 1460), None);
        assert_eq!(clamped(0x10, &mss, 1400), None, "no SYN");
        assert_eq!(clamped(0x02, &[], 1400), None, "no options");
        assert_eq!(clamped(0x02, &[8, 1, 2, 4], 0), None, "an impossible length");
        assert_eq!(clamped(0x02, &[2, 3, 5, 0xb4], 0), None, "another length than MSS has");
        assert_eq!(clamped(0x02, &[0, 2, 4, 9], 0), None, "behind the end");
    }

    #[test]
    fn what_fits_a_packet() {
        assert_eq!((of_mtu(1500, Family::V4), of_mtu(1480, Family::V6)), (1460, 1420));
        assert_eq!(of_mtu(30, Family::V4), 0);
    }

    proptest! {
        #[test]
        fn the_checksum_stays_right(
            lead in proptest::collection::vec(Just(1u8), 0..8), old: u16, mss: u16,
            payload in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut options = lead;
            options.extend([2, 4]);
            options.extend(old.to_be_bytes());
            options.resize(options.len().next_multiple_of(4), 0);
            let (mut frame, at) = frame(2, &options, &payload);
            prop_assert_eq!(clamp(&mut frame, at, mss), old > mss);
            prop_assert!(is_right(&frame));
        }

        #[test]
        fn any_options_are_survived(
            options in proptest::collection::vec(0u8..9, 0..40), offset: u8, mss: u16,
        ) {
            let (mut frame, at) = frame(2, &options, b"");
            frame[54 + 12] = offset;
            clamp(&mut frame, at, mss);
        }
    }
}
