//! The rewriters against frames that the real kernel's IPVS forwarded.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;
use uvs_forward::tun::{self, Outer};
use uvs_forward::{Hop, Offsets, dr, nat};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/conform/cases/fwd");

/// The lab of the recordings: from the director to the server, and to the client's router.
const TO_SERVER: Hop = Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, 1, 1] };
const TO_CLIENT: Hop = Hop { src: [2, 0, 0, 0, 0, 0xc1], dst: [2, 0, 0, 0, 0, 0xc0] };

/// Every frame in of a recording with its frame out, and the device on which it came.
fn recorded(name: &str) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let text = std::fs::read_to_string(format!("{CASES}/{name}.json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let mut frames = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        let (came, left) = (step["in"].as_array().unwrap(), step["out"].as_array().unwrap());
        assert_eq!(came.len(), left.len(), "{name}: each frame leaves as one");
        for (came, left) in came.iter().zip(left) {
            let device = step["in_dev"].as_str().unwrap().to_owned();
            frames.push((device, hex(came), hex(&left["hex"])));
        }
    }
    assert!(!frames.is_empty());
    frames
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().unwrap();
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn dr_v4_tcp() {
    for (_, mut frame, expected) in recorded("dr_v4_tcp") {
        let at = Offsets::of_ipv4(&frame).unwrap();
        assert_eq!(dr::forward(&mut frame, at, &TO_SERVER), Ok(()));
        assert_eq!(frame, expected);
    }
}

#[test]
fn nat_v4_udp() {
    let dest = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 1), 8080);
    let vip = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
    for (device, mut frame, expected) in recorded("nat_v4_udp") {
        let at = Offsets::of_ipv4(&frame).unwrap();
        let done = match device.as_str() {
            "c" => nat::to_server(&mut frame, at, dest, &TO_SERVER),
            _ => nat::to_client(&mut frame, at, vip, &TO_CLIENT),
        };
        assert_eq!(done, Ok(()));
        assert_eq!(frame, expected);
    }
}

#[test]
fn tun_ipip_v4_udp() {
    for (_, frame, expected) in recorded("tun_ipip_v4_udp") {
        let at = Offsets::of_ipv4(&frame).unwrap();
        // The kernel draws the outer identification at random. Taken over from the recording, it
        // leaves nothing to mask: the outer checksum is compared as well.
        let id = u16::from_be_bytes([expected[18], expected[19]]);
        let outer = Outer { src: [10, 0, 1, 254], dst: [10, 0, 1, 1], id };
        let mut roomy = vec![0; tun::ROOM];
        roomy.extend(frame);
        assert_eq!(tun::ipip(&mut roomy, at, &outer, &TO_SERVER), Ok(()));
        assert_eq!(roomy, expected);
    }
}
