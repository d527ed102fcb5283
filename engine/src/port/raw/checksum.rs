//! Checksums that a sender on this machine left unfinished.
//!
//! A socket on the other end of a veth pair writes only the pseudo header's sum into the TCP or
//! UDP checksum field and leaves the rest to its device (CHECKSUM_PARTIAL), which does not do it.

const ETHERTYPE_AT: usize = 12;
const TAG: usize = 4;
const IPV4: [u8; 2] = [0x08, 0x00];
const VLAN: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Finishes the TCP or UDP checksum of an Ethernet frame with IPv4 in it; others stay as they are.
pub(super) fn finish(frame: &mut [u8]) {
    if let Some((segment, field)) = segment(frame) {
        let sum = !sum(segment);
        // RFC 768: a UDP checksum of 0 means none, so a computed 0 is sent as all ones.
        let sum = if sum == 0 { 0xffff } else { sum };
        segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The TCP or UDP segment, and where its checksum field is.
fn segment(frame: &mut [u8]) -> Option<(&mut [u8], usize)> {
    let mut at = ETHERTYPE_AT;
    while VLAN.iter().any(|tag| frame.get(at..at + 2) == Some(tag)) {
        at += TAG;
    }
    if frame.get(at..at + 2)? != IPV4 {
        return None;
    }
    let ip = frame.get_mut(at + 2..)?;
    let header = usize::from(*ip.first()? & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let field = match *ip.get(9)? {
        TCP => 16,
        UDP => 6,
        _ => return None,
    };
    let segment = ip.get_mut(header.max(20)..length)?;
    (segment.len() >= field + 2).then_some((segment, field))
}

/// The Internet checksum's sum (RFC 1071), not complemented.
fn sum(bytes: &[u8]) -> u16 {
    let (words, odd) = bytes.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    sum += odd.first().map_or(0, |&byte| u32::from(byte) << 8);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.1:1 -> 10.0.0.2:2, UDP "abc", the field holding the pseudo header's sum.
    fn unfinished(tags: usize) -> Vec<u8> {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend([8, 0, 0x45, 0, 0, 31, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let pseudo = sum(&[10, 0, 0, 1, 10, 0, 0, 2, 0, UDP, 0, 11]);
        frame.extend([0, 1, 0, 2, 0, 11]);
        frame.extend(pseudo.to_be_bytes());
        frame.extend(*b"abc");
        frame
    }

    #[test]
    fn a_finished_checksum_sums_up_with_its_pseudo_header() {
        for tags in 0..3 {
            let mut frame = unfinished(tags);
            finish(&mut frame);
            let mut whole = vec![10, 0, 0, 1, 10, 0, 0, 2, 0, UDP, 0, 11];
            whole.extend(&frame[34 + 4 * tags..]);
            assert_eq!(sum(&whole), 0xffff, "{tags} tags");
        }
    }

    #[test]
    fn no_length_panics() {
        let whole = unfinished(1);
        for end in 0..whole.len() {
            finish(&mut whole[..end].to_vec());
        }
        let mut lying = whole.clone();
        lying[20..22].copy_from_slice(&[0xff, 0xff]);
        finish(&mut lying);
        assert_eq!(lying[20..22], [0xff, 0xff]);
    }
}
