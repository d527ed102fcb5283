//! The fuzzer's bytes as frames and as what else a rewrite needs.

use uvs_forward::{End, Hop};

use crate::judge;

/// The hop of all rewrites.
pub const HOP: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };

/// Bytes of the longest frame that the ports take.
const LONGEST: usize = 1514;

/// Addresses, ports and numbers of a rewrite, in front of its frame.
#[derive(Clone, Copy, Debug)]
pub struct Knobs<'a>(&'a [u8; Knobs::LEN]);

impl<'a> Knobs<'a> {
    const LEN: usize = 48;

    /// The knobs, and the frame behind them, with right checksums if the first knob says so.
    /// `None` when the input is too short.
    pub fn split(data: &'a [u8]) -> Option<(Self, Vec<u8>)> {
        let (knobs, frame) = data.split_first_chunk()?;
        let mut frame = frame[..frame.len().min(LONGEST)].to_vec();
        let knobs = Self(knobs);
        if knobs.flag(0) {
            judge::mend(&mut frame);
        }
        Some((knobs, frame))
    }

    /// A bit of the first two bytes.
    pub fn flag(self, bit: usize) -> bool {
        self.0[bit / 8] >> (bit % 8) & 1 == 1
    }

    /// A number of 16 bits.
    pub fn number(self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// A packet size that links may have.
    pub fn mtu(self) -> u16 {
        68 + self.number(2) % 1500
    }

    /// An address and a port for what is translated.
    pub fn end<const N: usize>(self) -> End<[u8; N]> {
        End { address: self.address(8), port: self.number(4) }
    }

    /// The octets from `at` on.
    pub fn address<const N: usize>(self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("48 bytes hold two addresses behind 8")
    }
}

/// A frame of a list, with what is to be done before it.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// Bit 0: the link. Bits 3 to 5: how much time passes before.
    pub tag: u8,
    /// The frame.
    pub frame: Vec<u8>,
}

impl Tagged {
    /// Checksums are made right.
    const MEND: u8 = 1 << 1;
    /// A batch begins anew.
    const ALONE: u8 = 1 << 2;

    /// The frames of a list; one that is cut off ends it.
    pub fn list(mut data: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        while let Some((&[tag, high, low], rest)) = data.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
            let (frame, rest) = rest.split_at(len);
            let mut frame = frame[..len.min(LONGEST)].to_vec();
            if tag & Self::MEND != 0 {
                judge::mend(&mut frame);
            }
            frames.push(Self { tag, frame });
            data = rest;
        }
        frames
    }

    /// Whether the batch before is run first.
    pub fn is_alone(&self) -> bool {
        self.tag & Self::ALONE != 0
    }

    /// Which of eight spans of time passes before.
    pub fn span(&self) -> usize {
        usize::from(self.tag >> 3 & 7)
    }
}
