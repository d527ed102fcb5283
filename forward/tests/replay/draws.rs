//! What the kernel drew at random, read off the frame that it sent: taken over from there, it
//! leaves nothing to mask in the comparison.

use uvs_forward::wire::{Ethernet, Ipv4, Ipv6, ethertype, protocol};

#[derive(Clone, Copy, Debug, Default)]
pub struct Draws {
    /// Of the outermost header: IPv4's identification or IPv6's flow label.
    pub id: u32,
    /// Of GUE's UDP.
    pub src_port: u16,
    /// Of an IPv6 fragment header.
    pub fragment: u32,
    /// In an IP timestamp option.
    pub time: u32,
}

impl Draws {
    /// Of the first frame that left when `came` came in.
    pub fn of(left: Option<&Vec<u8>>, came: &[u8]) -> Self {
        let Some(frame) = left else { return Self::default() };
        let be32 = |at: usize| frame.get(at..at + 4).map_or(0, |it| be(it) as u32);
        let ethernet = Ethernet::new_unchecked(frame);
        let (id, mut l4, next) = match ethernet.ethertype() {
            ethertype::IPV4 => {
                let ip = Ipv4::new_unchecked(&frame[14..]);
                (ip.id().into(), 34, ip.protocol())
            }
            ethertype::IPV6 => {
                let ip = Ipv6::new_unchecked(&frame[14..]);
                (ip.flow_label(), 54, ip.next_header())
            }
            _ => return Self::default(),
        };
        let fragment = if next == protocol::FRAGMENT { be32(l4 + 4) } else { 0 };
        if next == protocol::FRAGMENT {
            l4 += 8;
        }
        let src_port = (be32(l4) >> 16) as u16;
        // The inner packet is the rest of the frame, and its options are where they were.
        let time =
            timestamp_at(came).map_or(0, |at| be32((frame.len() + at).saturating_sub(came.len())));
        Self { id, src_port, fragment, time }
    }
}

/// Where an IPv4 timestamp option has its first time: behind an address, if it has those.
fn timestamp_at(frame: &[u8]) -> Option<usize> {
    let is = |at: usize, byte: u8| frame.get(at) == Some(&byte);
    let has_addresses = frame.get(37).is_some_and(|flags| flags & 0xf != 0);
    (is(13, 0) && is(34, 68) && frame[14] > 0x45).then_some(if has_addresses { 42 } else { 38 })
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
