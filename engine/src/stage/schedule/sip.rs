//! The persistence engine for SIP: a call is known by its Call-ID (RFC 3261, section 20.8; kernel:
//! ip_vs_pe_sip.c).

use uvs_forward::wire::{protocol, udp};

use super::Leave;
use crate::batch::Slot;
use crate::calls::NAME_MAX;
use crate::counters::DropReason;

/// The Call-ID of a SIP message over UDP.
///
/// # Errors
///
/// The packet has none, or one that is too long: it is dropped.
pub(super) fn call_id(slot: &Slot) -> Result<&[u8], Leave> {
    let at = usize::from(slot.at.l4) + udp::HEADER_LEN;
    let message = match slot.protocol {
        protocol::UDP => slot.frame.bytes().get(at..).unwrap_or_default(),
        _ => &[],
    };
    let id = header(message).filter(|id| !id.is_empty() && id.len() <= NAME_MAX);
    id.ok_or(Leave::Drop(DropReason::NoCallId))
}

/// The value of the header field, in its long or its compact form.
fn header(message: &[u8]) -> Option<&[u8]> {
    let mut lines = message.split(|byte| *byte == b'\n');
    // The first line is the request or the status; an empty one ends the header.
    lines.next()?;
    lines.take_while(|line| !line.trim_ascii().is_empty()).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        let known = name.eq_ignore_ascii_case(b"Call-ID") || name.eq_ignore_ascii_case(b"i");
        known.then(|| value.split(u8::is_ascii_whitespace).next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_found_by_its_long_and_its_compact_name() {
        let message = b"INVITE sip:a@b SIP/2.0\r\nVia: x\r\nCall-ID: aaa@x\r\nTo: y\r\n\r\nbody";
        assert_eq!(header(message), Some(&b"aaa@x"[..]));
        assert_eq!(header(b"SIP/2.0 200 OK\r\ni:7\r\n\r\n"), Some(&b"7"[..]));
        assert_eq!(header(b"SIP/2.0 200 OK\r\ncall-id :\t7 \r\n\r\n"), Some(&b"7"[..]));
    }

    #[test]
    fn without_a_call_there_is_none() {
        for message in ["", "Call-ID: 1", "X\r\n\r\nCall-ID: 1\r\n", "X\nCall-ID", "X\nVia: i:1\n"]
        {
            assert_eq!(header(message.as_bytes()), None, "{message:?}");
        }
    }
}
