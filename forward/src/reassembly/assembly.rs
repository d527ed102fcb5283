//! The bookkeeping of one packet.

use super::{FragmentRefused, HEAD, MAX_PIECES, Piece, Progress, Reassembled};
use crate::Family;
use crate::wire::{Ipv4, Ipv6, extension, ipv6, protocol};

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    offset: u16,
    len: u16,
}

/// The parts of a packet that are there.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// In order of their offsets, without overlaps.
    spans: [Span; MAX_PIECES],
    count: usize,
    have: u32,
    /// Bytes of the payload, once the last part is there.
    total: Option<u32>,
    /// Bytes of link and IP header, once the first part is there.
    head_len: usize,
    largest: u16,
    largest_with_df: u16,
    /// A bit for each of the four values of ECN that came.
    ecn: u8,
}

impl Default for Assembly {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembly {
    /// Of a packet of which nothing is there.
    pub const fn new() -> Self {
        Self {
            spans: [Span { offset: 0, len: 0 }; MAX_PIECES],
            count: 0,
            have: 0,
            total: None,
            head_len: 0,
            largest: 0,
            largest_with_df: 0,
            ecn: 0,
        }
    }

    /// Takes in the part that a frame holds. `buffer` is the same at each call, [`HEAD`] bytes
    /// longer than the payload that it is to hold.
    ///
    /// # Errors
    ///
    /// After any the assembly is to be given up.
    pub fn add(
        &mut self,
        frame: &[u8],
        piece: &Piece,
        buffer: &mut [u8],
    ) -> Result<Progress, FragmentRefused> {
        let (begin, end) =
            (u32::from(piece.offset), u32::from(piece.offset) + u32::from(piece.len));
        let room = buffer.len().saturating_sub(HEAD);
        let place = buffer.get_mut(HEAD + begin as usize..HEAD + end as usize);
        let place = place.filter(|_| end as usize <= room).ok_or(FragmentRefused::Oversize)?;
        let part = frame.get(usize::from(piece.at)..).unwrap_or_default();
        let part = part.get(..piece.len.into()).ok_or(FragmentRefused::Truncated)?;
        self.ends_agree(end, piece.more)?;
        if !self.insert(Span { offset: piece.offset, len: piece.len })? {
            return Ok(Progress::Waiting);
        }
        place.copy_from_slice(part);
        self.have += end - begin;
        if !piece.more {
            self.total = Some(end);
        }
        self.ecn |= 1 << piece.ecn;
        self.largest = self.largest.max(piece.packet_len);
        if piece.dont_fragment {
            self.largest_with_df = self.largest_with_df.max(piece.packet_len);
        }
        if piece.offset == 0 {
            self.keep_head(frame, piece, buffer)?;
        }
        match self.total {
            Some(total) if total == self.have => self.complete(total, piece, buffer),
            _ => Ok(Progress::Waiting),
        }
    }

    /// Bytes of payload of each fragment, in order: for [`Cut::pieces`](crate::fragment::Cut).
    /// Returns how many there are; the others in `out` are left.
    pub fn pieces(&self, out: &mut [u16; MAX_PIECES]) -> usize {
        for (out, span) in out.iter_mut().zip(&self.spans[..self.count]) {
            *out = span.len;
        }
        self.count
    }

    fn ends_agree(&self, end: u32, more: bool) -> Result<(), FragmentRefused> {
        let last = self.spans[..self.count].last();
        let reached = last.map_or(0, |span| u32::from(span.offset) + u32::from(span.len));
        let right = match (self.total, more) {
            (Some(total), true) => end <= total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => end >= reached,
        };
        if right { Ok(()) } else { Err(FragmentRefused::Overlap) }
    }

    /// Puts a span in its place; `false` when all of it is there already.
    fn insert(&mut self, new: Span) -> Result<bool, FragmentRefused> {
        let end = |span: &Span| u32::from(span.offset) + u32::from(span.len);
        let spans = &self.spans[..self.count];
        let place = spans.partition_point(|span| end(span) <= new.offset.into());
        if spans.get(place).is_some_and(|next| u32::from(next.offset) < end(&new)) {
            return if self.covers(place, new) { Ok(false) } else { Err(FragmentRefused::Overlap) };
        }
        if self.count == MAX_PIECES {
            return Err(FragmentRefused::TooMany);
        }
        self.spans.copy_within(place..self.count, place + 1);
        self.spans[place] = new;
        self.count += 1;
        Ok(true)
    }

    /// Whether the spans from `place` on hold all of `new`.
    fn covers(&self, place: usize, new: Span) -> bool {
        let (mut at, end) = (u32::from(new.offset), u32::from(new.offset) + u32::from(new.len));
        for span in &self.spans[place..self.count] {
            if u32::from(span.offset) > at {
                return false;
            }
            at = u32::from(span.offset) + u32::from(span.len);
            if at >= end {
                return true;
            }
        }
        false
    }

    /// Copies link and IP header of the first fragment in front of the payload, an IPv6 fragment
    /// header left out.
    fn keep_head(
        &mut self,
        frame: &[u8],
        piece: &Piece,
        buffer: &mut [u8],
    ) -> Result<(), FragmentRefused> {
        let cut = match piece.family {
            Family::V4 => 0,
            Family::V6 => extension::FRAGMENT_LEN,
        };
        let len = usize::from(piece.at).checked_sub(cut).filter(|len| *len <= HEAD);
        let len = len.ok_or(FragmentRefused::Oversize)?;
        let head = frame.get(..len).ok_or(FragmentRefused::Truncated)?;
        let place = buffer.get_mut(HEAD - len..HEAD).ok_or(FragmentRefused::Oversize)?;
        place.copy_from_slice(head);
        self.head_len = len;
        if piece.family == Family::V6 {
            let next = *frame.get(len).ok_or(FragmentRefused::Truncated)?;
            let packet = place.get_mut(piece.l3.into()..).ok_or(FragmentRefused::Truncated)?;
            let next_at = last_next_header(packet).ok_or(FragmentRefused::Truncated)?;
            packet[next_at] = next;
        }
        Ok(())
    }

    /// Writes into the header what is true of the whole packet.
    fn complete(
        &self,
        total: u32,
        piece: &Piece,
        buffer: &mut [u8],
    ) -> Result<Progress, FragmentRefused> {
        let ecn = together(self.ecn).ok_or(FragmentRefused::Ecn)?;
        let (start, end) = (HEAD - self.head_len, HEAD + total as usize);
        let packet = buffer.get_mut(start + usize::from(piece.l3)..end);
        let packet = packet.ok_or(FragmentRefused::Truncated)?;
        let len = packet.len();
        match piece.family {
            Family::V4 => {
                let len = u16::try_from(len).map_err(|_| FragmentRefused::Oversize)?;
                let mut ip = Ipv4::new_unchecked(&mut *packet);
                ip.set_total_len(len);
                ip.set_tos(ip.tos() | ecn);
                // DF is of the whole packet if it was on the largest part (ip_frag_reasm).
                ip.set_fragment(self.largest_with_df == self.largest, false, 0);
                ip.fill_checksum();
            }
            Family::V6 => {
                let len = u16::try_from(len - ipv6::HEADER_LEN);
                let mut ip = Ipv6::new_unchecked(&mut *packet);
                ip.set_payload_len(len.map_err(|_| FragmentRefused::Oversize)?);
                ip.set_ecn(ip.traffic_class() | ecn);
            }
        }
        Ok(Progress::Complete(Reassembled { start, end, largest: self.largest }))
    }
}

/// Where the last of the headers in front of a fragment header says what follows it, in bytes from
/// the packet's first.
fn last_next_header(headers: &[u8]) -> Option<usize> {
    let (mut next_at, mut at) = (6, ipv6::HEADER_LEN);
    for _ in 0..extension::MAX_HEADERS {
        if *headers.get(next_at)? == protocol::FRAGMENT {
            return Some(next_at);
        }
        next_at = at;
        at += (usize::from(*headers.get(at + 1)?) + 1) * 8;
    }
    (*headers.get(next_at)? == protocol::FRAGMENT).then_some(next_at)
}

/// The ECN bits that the whole packet gets besides the first fragment's own (RFC 3168, 5.3): `None`
/// when some fragments are of a sender that can do ECN and some are not.
fn together(seen: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1 << 0b00;
    const CE: u8 = 1 << 0b11;
    let (capable, not) = (seen & !NOT_ECT != 0, seen & NOT_ECT != 0);
    if capable && not {
        return None;
    }
    let mixed = seen.count_ones() > 1;
    Some(if mixed && seen & CE != 0 { 0b11 } else { 0 })
}
