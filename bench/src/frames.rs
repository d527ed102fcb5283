//! The frames of the benches: 60 bytes, that is 64 on the wire with Ethernet's checksum.

use std::net::Ipv4Addr;

use uvs_forward::checksum::{self, Sum};
use uvs_forward::wire::ipv4::Ipv4Header;
use uvs_forward::wire::{ethernet, ethertype, ipv4, protocol, tcp};

use crate::services::{DIRECTOR_MAC, PORT, ROUTER_MAC, SERVICES, server, server_mac, vip};

/// Bytes of a frame.
pub const LEN: usize = 60;
/// A whole frame, Ethernet header first.
pub type Bytes = [u8; LEN];

const L3: usize = ethernet::HEADER_LEN;
const L4: usize = L3 + ipv4::HEADER_LEN;

/// What a frame is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A UDP datagram of 18 bytes.
    Udp,
    /// The first segment of a TCP connection.
    Syn,
    /// A later segment of it, without data.
    Ack,
}

/// A client's flow, by number; each has an address and a port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow(pub u32);

impl Flow {
    fn address(self) -> Ipv4Addr {
        // 1024 ports each of clients in 172.16.0.0/12: as from many networks behind NAT.
        Ipv4Addr::from_bits(u32::from_be_bytes([172, 16, 0, 0]) + self.0 / 1024)
    }

    fn port(self) -> u16 {
        (1024 + self.0 % 1024) as u16
    }

    fn service(self) -> u8 {
        (self.0 % u32::from(SERVICES)) as u8
    }
}

/// A frame of the client of `flow` to its service.
pub fn request(kind: Kind, flow: Flow) -> Bytes {
    let (from, to) = ((flow.address(), flow.port()), (vip(flow.service()), PORT));
    build(kind, [DIRECTOR_MAC, ROUTER_MAC], from, to)
}

/// A frame of the server number `at` to the client of `flow`.
pub fn reply(kind: Kind, flow: Flow, at: u8) -> Bytes {
    let (from, to) = ((server(at), PORT), (flow.address(), flow.port()));
    build(kind, [DIRECTOR_MAC, server_mac(at)], from, to)
}

/// Whole, with right checksums: the engine looks at IP's, and NAT brings the other up to date.
fn build(kind: Kind, macs: [[u8; 6]; 2], from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Bytes {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&macs[0]);
    frame[6..12].copy_from_slice(&macs[1]);
    frame[12..L3].copy_from_slice(&ethertype::IPV4.to_be_bytes());
    let (protocol, len) = match kind {
        Kind::Udp => (protocol::UDP, LEN - L4),
        Kind::Syn | Kind::Ack => (protocol::TCP, tcp::HEADER_LEN),
    };
    let (src, dst) = (from.0.octets(), to.0.octets());
    let header = Ipv4Header {
        tos: 0,
        total_len: (ipv4::HEADER_LEN + len) as u16,
        id: 0,
        dont_fragment: true,
        ttl: 64,
        protocol,
        src,
        dst,
    };
    frame[L3..L4].copy_from_slice(&header.to_bytes());
    let transport = &mut frame[L4..L4 + len];
    transport[..2].copy_from_slice(&from.1.to_be_bytes());
    transport[2..4].copy_from_slice(&to.1.to_be_bytes());
    let at = match kind {
        Kind::Udp => {
            transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            6
        }
        Kind::Syn | Kind::Ack => {
            transport[12] = 5 << 4;
            transport[13] = if kind == Kind::Syn { tcp::flag::SYN } else { tcp::flag::ACK };
            16
        }
    };
    let sum = Sum::pseudo_v4(src, dst, protocol, len as u16) + Sum::of(transport);
    transport[at..at + 2].copy_from_slice(&checksum::udp(sum.finish()).to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_forward::Offsets;

    #[test]
    fn flows_differ_and_their_frames_parse() {
        let mut seen = std::collections::HashSet::new();
        for flow in (0..5000).map(Flow) {
            assert!(seen.insert((flow.address(), flow.port())));
            for kind in [Kind::Udp, Kind::Syn, Kind::Ack] {
                assert!(Offsets::of_ipv4(&request(kind, flow)).is_ok());
                assert!(Offsets::of_ipv4(&reply(kind, flow, 3)).is_ok());
            }
        }
    }
}
