//! IPv4 options (RFC 791, RFC 781, RFC 2113): looked at when a packet arrives, as the kernel does
//! before IPVS sees it. Record route and timestamp are filled in, source routes are refused, all
//! others are left.

use crate::checksum::{Sum, update};
use crate::wire::{Ipv4, ipv4};
use crate::{Family, Offsets, Refused};

mod kind {
    pub const END: u8 = 0;
    pub const NO_OPERATION: u8 = 1;
    pub const RECORD_ROUTE: u8 = 7;
    pub const TIMESTAMP: u8 = 68;
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    pub const ROUTER_ALERT: u8 = 148;
}

/// The bit of an option's kind that says that every fragment has a copy of it.
const COPIED: u8 = 0x80;

/// Flags of a timestamp option: what each entry is.
mod stamped {
    pub const TIME_ONLY: u8 = 0;
    pub const ADDRESS_TOO: u8 = 1;
    pub const PRESCRIBED: u8 = 3;
}

/// What is written into options that ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The director: the address that the packet is for when that is the director's own, else the
    /// one from which it would answer the sender.
    pub address: [u8; 4],
    /// Milliseconds since midnight UT.
    pub time: u32,
}

/// Fills in the options of a received IPv4 frame. One without options, or of IPv6, is left as it
/// is.
///
/// # Errors
///
/// [`Refused::SourceRoute`]; [`Refused::Option`] when an option makes no sense, with the byte of
/// the header to point at in [`icmp::parameter_problem`](crate::icmp::parameter_problem);
/// [`Refused::Truncated`] when `at` is not of this frame. The frame is as it was then.
#[inline]
pub fn fill(frame: &mut [u8], at: Offsets, stamp: Stamp) -> Result<(), Refused> {
    let header_len = usize::from(at.l4.saturating_sub(at.l3));
    if at.family == Family::V6 || header_len <= ipv4::HEADER_LEN {
        return Ok(());
    }
    fill_header(frame, at, stamp)
}

#[cold]
fn fill_header(frame: &mut [u8], at: Offsets, stamp: Stamp) -> Result<(), Refused> {
    let header = frame.get_mut(at.l3.into()..at.l4.into()).ok_or(Refused::Truncated)?;
    let (fixed, options) =
        header.split_at_mut_checked(ipv4::HEADER_LEN).ok_or(Refused::Truncated)?;
    let mut filled = [0; ipv4::MAX_OPTIONS];
    let filled = filled.get_mut(..options.len()).ok_or(Refused::Truncated)?;
    filled.copy_from_slice(options);
    Filler { options: filled, stamp, seen: Seen::default() }.run()?;
    // What a sum loses with each old word is its complement.
    let change = options.chunks(2).zip(filled.chunks(2)).fold(Sum::NOTHING, |sum, (old, new)| {
        let word = |pair: &[u8]| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
        sum + Sum::change16(word(old), word(new))
    });
    options.copy_from_slice(filled);
    let mut ip = Ipv4::new_unchecked(fixed);
    let check = update(ip.checksum(), change);
    ip.set_checksum(check);
    Ok(())
}

/// Options that may be there once.
#[derive(Default)]
struct Seen {
    record_route: bool,
    timestamp: bool,
    source_route: bool,
}

struct Filler<'a> {
    options: &'a mut [u8],
    stamp: Stamp,
    seen: Seen,
}

impl Filler<'_> {
    fn run(mut self) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(&option) = self.options.get(at) {
            match option {
                kind::END => {
                    // Nothing may follow but more of these.
                    self.options[at..].fill(kind::END);
                    break;
                }
                kind::NO_OPERATION => at += 1,
                _ => at += self.option(at, option)?,
            }
        }
        // Known only now: a fault behind it is told first.
        if self.seen.source_route { Err(Refused::SourceRoute) } else { Ok(()) }
    }

    /// Looks at the option of this kind that begins at `at`; gives its length.
    fn option(&mut self, at: usize, option: u8) -> Result<usize, Refused> {
        let left = self.options.len() - at;
        let len = self.options.get(at + 1).copied().ok_or_else(|| fault(at))?;
        let len = usize::from(len);
        if len < 2 || len > left {
            return Err(fault(at));
        }
        match option {
            kind::RECORD_ROUTE => self.record_route(at, len)?,
            kind::TIMESTAMP => self.timestamp(at, len)?,
            kind::LOOSE_SOURCE_ROUTE | kind::STRICT_SOURCE_ROUTE => self.source_route(at, len)?,
            kind::ROUTER_ALERT if len < 4 => return Err(fault(at + 1)),
            _ => {}
        }
        Ok(len)
    }

    fn record_route(&mut self, at: usize, len: usize) -> Result<(), Refused> {
        once(&mut self.seen.record_route, at)?;
        let free = self.pointer(at, len, 3, 4)?;
        if free > len {
            return Ok(());
        }
        self.put(at, len, free, &[self.stamp.address])?;
        self.options[at + 2] += 4;
        Ok(())
    }

    fn source_route(&mut self, at: usize, len: usize) -> Result<(), Refused> {
        self.pointer(at, len, 3, 4)?;
        once(&mut self.seen.source_route, at)
    }

    fn timestamp(&mut self, at: usize, len: usize) -> Result<(), Refused> {
        once(&mut self.seen.timestamp, at)?;
        let free = self.pointer(at, len, 4, 5)?;
        let (overflow, flag) = (self.options[at + 3] >> 4, self.options[at + 3] & 0xf);
        if free > len {
            // No room: counted, unless only prescribed hosts are to stamp.
            if flag != stamped::PRESCRIBED {
                let more = overflow.checked_add(1).filter(|count| *count < 16);
                self.options[at + 3] = more.ok_or_else(|| fault(at + 3))? << 4 | flag;
            }
            return Ok(());
        }
        let Stamp { address, time } = self.stamp;
        let time = time.to_be_bytes();
        match flag {
            stamped::TIME_ONLY => self.put(at, len, free, &[time])?,
            stamped::ADDRESS_TOO => self.put(at, len, free, &[address, time])?,
            stamped::PRESCRIBED => return self.prescribed(at, len, free),
            _ => return self.room(at, len, free, 4),
        }
        self.options[at + 2] += if flag == stamped::TIME_ONLY { 4 } else { 8 };
        Ok(())
    }

    /// A stamp that is for one host: ours if it is for this one.
    fn prescribed(&mut self, at: usize, len: usize, free: usize) -> Result<(), Refused> {
        self.room(at, len, free, 8)?;
        let slot = at + free - 1;
        if self.options[slot..slot + 4] == self.stamp.address {
            self.options[slot + 4..slot + 8].copy_from_slice(&self.stamp.time.to_be_bytes());
            self.options[at + 2] += 8;
        }
        Ok(())
    }

    /// Where in the option the next entry goes, counted from 1.
    fn pointer(&self, at: usize, len: usize, min: usize, first: u8) -> Result<usize, Refused> {
        if len < min {
            return Err(fault(at + 1));
        }
        let free = self.options[at + 2];
        if free < first { Err(fault(at + 2)) } else { Ok(free.into()) }
    }

    /// Whether an entry of `entry` bytes is inside the option.
    fn room(&self, at: usize, len: usize, free: usize, entry: usize) -> Result<(), Refused> {
        if free + entry - 1 > len { Err(fault(at + 2)) } else { Ok(()) }
    }

    fn put(
        &mut self,
        at: usize,
        len: usize,
        free: usize,
        entry: &[[u8; 4]],
    ) -> Result<(), Refused> {
        let entry = entry.as_flattened();
        self.room(at, len, free, entry.len())?;
        let slot = at + free - 1;
        self.options[slot..slot + entry.len()].copy_from_slice(entry);
        Ok(())
    }
}

fn once(seen: &mut bool, at: usize) -> Result<(), Refused> {
    if std::mem::replace(seen, true) { Err(fault(at)) } else { Ok(()) }
}

/// A fault at this byte of the options.
fn fault(at: usize) -> Refused {
    // At most 40 of them.
    Refused::Option((ipv4::HEADER_LEN + at) as u8)
}

/// Makes of the options of a first fragment those of a later one: what is not to be copied
/// becomes no operation (RFC 791, 3.1).
pub(crate) fn keep_copied(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&option) = options.get(at) {
        match option {
            kind::END => return,
            kind::NO_OPERATION => at += 1,
            _ => {
                let len = options.get(at + 1).map_or(0, |len| usize::from(*len));
                if len < 2 || at + len > options.len() {
                    return;
                }
                if option & COPIED == 0 {
                    options[at..at + len].fill(kind::NO_OPERATION);
                }
                at += len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex;
    use proptest::prelude::*;

    const STAMP: Stamp = Stamp { address: [10, 0, 0, 1], time: 0x04f0_19e7 };

    /// A frame with these options and nothing behind them.
    fn frame(options: &[u8]) -> (Vec<u8>, Offsets) {
        let mut frame = hex("0200000000c10200000000c008004500001400140000400600\
                             00ac1003070a000001");
        frame.truncate(34);
        frame.extend(options);
        let len = frame.len();
        frame[14] = 0x40 + ((len - 14) / 4) as u8;
        frame[17] = (len - 14) as u8;
        Ipv4::new_unchecked(&mut frame[14..]).fill_checksum();
        let at =
            Offsets { end: len as u32, l3: 14, l4: len as u16, protocol: 6, ..Offsets::default() };
        (frame, at)
    }

    fn filled(options: &str) -> Result<String, Refused> {
        let (mut frame, at) = frame(&hex(options));
        let before = frame.clone();
        let result = fill(&mut frame, at, STAMP);
        if result.is_err() {
            assert_eq!(frame, before);
        }
        assert!(Ipv4::new_checked(&frame[14..]).is_ok());
        result.map(|()| frame[34..].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn is(options: &str, expected: &str) {
        assert_eq!(filled(options).as_deref(), Ok(expected));
    }

    #[test]
    fn the_recorded_ones() {
        // Recorded: hdr_dr_v4, opt_*.
        is("070b04000000000000000000", "070b080a0000010000000000");
        is("440c05000000000000000000", "440c090004f019e700000000");
        for kept in ["94040000", "01010100", "820b00000000000000000000", "99040102"] {
            is(kept, kept);
        }
        assert_eq!(filled("8307040a00010900"), Err(Refused::SourceRoute));
        assert_eq!(filled("8907040a00010900"), Err(Refused::SourceRoute));
    }

    #[test]
    fn stamps_of_all_kinds() {
        is("440c05010000000000000000", "440c0d010a00000104f019e7");
        is("440c05030a00000100000000", "440c0d030a00000104f019e7");
        is("440c05030a00000200000000", "440c05030a00000200000000");
        is("4408090200000000", "4408091200000000");
        is("4408090300000000", "4408090300000000");
        is("0707080000000000", "0707080000000000");
    }

    #[test]
    fn faults_are_pointed_at() {
        let at = |options| match filled(options) {
            Err(Refused::Option(at)) => at - 20,
            other => panic!("{other:?}"),
        };
        assert_eq!(at("07010000"), 0, "a length below 2");
        assert_eq!(at("01070800"), 1, "longer than what is left");
        assert_eq!(at("07020000"), 1, "without a pointer");
        assert_eq!(at("0707030000000000"), 2, "a pointer into the option's head");
        assert_eq!(at("0707050000000000"), 2, "half an entry left");
        assert_eq!(at("440405f0"), 3, "fifteen hosts had no room already");
        assert_eq!(at("07070400000000070704000000000000"), 7, "twice");
    }

    #[test]
    fn what_follows_the_end_is_cleared() {
        is("0007ffff", "00000000");
    }

    #[test]
    fn later_fragments_keep_what_is_copied() {
        let mut options = hex("0703040182040000070300940400000007ff");
        keep_copied(&mut options);
        assert_eq!(options, hex("0101010182040000010101940400000007ff"));
    }

    proptest! {
        #[test]
        fn any_options_leave_a_right_checksum(words in proptest::collection::vec(
            prop_oneof![any::<[u8; 4]>(), Just([7, 7, 4, 0]), Just([68, 12, 5, 1])], 0..11,
        )) {
            let (mut frame, at) = frame(&words.concat()[..4 * words.len().min(10)]);
            let before = frame.clone();
            let result = fill(&mut frame, at, STAMP);
            prop_assert!(Ipv4::new_checked(&frame[14..]).is_ok());
            if result.is_err() {
                prop_assert_eq!(&frame, &before);
            }
            keep_copied(&mut frame[34..]);
        }
    }
}
