//! Frames as they come, and what a frame that left tells.

use std::net::Ipv4Addr;

use uvs_engine::link::LinkId;
use uvs_forward::Offsets;
use uvs_forward::checksum::{self, Sum};
use uvs_forward::wire::ipv4::{self, Ipv4Header};
use uvs_forward::wire::{Ethernet, Ipv4, ethertype, protocol, tcp};

use super::services::{DIRECTOR_MACS, ROUTER_MAC, server_mac};
use super::{CLIENT_SIDE, SERVER_SIDE};

/// An address and a port.
pub type End = (Ipv4Addr, u16);

/// A packet to come.
#[derive(Clone, Debug)]
pub struct Packet {
    pub link: LinkId,
    pub dst_mac: [u8; 6],
    pub src_mac: [u8; 6],
    /// VLAN tags, each with its ethertype.
    pub tags: Vec<[u8; 4]>,
    pub protocol: u8,
    pub src: End,
    pub dst: End,
    /// TCP flags; SCTP: the type of the first chunk.
    pub flags: u8,
    pub ttl: u8,
    pub dont_fragment: bool,
    /// TCP's options, a multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Bytes behind the packet.
    pub padding: usize,
}

/// The client number `n`, one port each.
pub fn client(n: u16) -> End {
    (Ipv4Addr::new(172, 16, (n >> 12) as u8, 1), 1024 + (n & 0xfff))
}

/// A packet of client `n` to the service 10.0.0.`last`:80.
pub fn request(protocol: u8, flags: u8, n: u16, last: u8) -> Packet {
    Packet {
        link: CLIENT_SIDE,
        dst_mac: DIRECTOR_MACS[0],
        src_mac: ROUTER_MAC,
        tags: Vec::new(),
        protocol,
        src: client(n),
        dst: (Ipv4Addr::new(10, 0, 0, last), 80),
        flags,
        ttl: 64,
        dont_fragment: true,
        options: Vec::new(),
        payload: Vec::new(),
        padding: 0,
    }
}

/// A SYN of client `n` to 10.0.0.1:80.
pub fn syn(n: u16) -> Packet {
    request(protocol::TCP, tcp::flag::SYN, n, 1)
}

/// A packet of NAT server `number` to client `n`.
pub fn reply(protocol: u8, flags: u8, n: u16, number: u8) -> Packet {
    Packet {
        link: SERVER_SIDE,
        dst_mac: DIRECTOR_MACS[1],
        src_mac: server_mac(number),
        src: (Ipv4Addr::new(10, 0, 1, number), 8080),
        dst: client(n),
        ..request(protocol, flags, n, 1)
    }
}

impl Packet {
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The frame, with right checksums.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = [self.dst_mac, self.src_mac].concat();
        frame.extend(self.tags.iter().flatten());
        frame.extend(ethertype::IPV4.to_be_bytes());
        let transport = self.transport();
        let header = Ipv4Header {
            tos: 0,
            total_len: (ipv4::HEADER_LEN + transport.len()) as u16,
            id: 7,
            dont_fragment: self.dont_fragment,
            ttl: self.ttl,
            protocol: self.protocol,
            src: self.src.0.octets(),
            dst: self.dst.0.octets(),
        };
        frame.extend(header.to_bytes());
        frame.extend(transport);
        frame.resize(frame.len() + self.padding, 0xee);
        frame
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = [self.src.1.to_be_bytes(), self.dst.1.to_be_bytes()].concat();
        let check = match self.protocol {
            protocol::TCP => {
                let words = 5 + (self.options.len() / 4) as u8;
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, words << 4, self.flags, 16, 0, 0, 0, 0, 0]);
                bytes.extend(&self.options);
                Some(16)
            }
            protocol::UDP => {
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
                Some(6)
            }
            protocol::SCTP => {
                bytes.extend([0; 8]);
                bytes.extend([self.flags, 0, 0, 4]);
                None
            }
            _ => None,
        };
        bytes.extend(&self.payload);
        if let Some(at) = check {
            let (src, dst) = (self.src.0.octets(), self.dst.0.octets());
            let pseudo = Sum::pseudo_v4(src, dst, self.protocol, bytes.len() as u16);
            let sum = checksum::udp((pseudo + Sum::of(&bytes)).finish());
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }
}

/// A frame that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub link: LinkId,
    pub bytes: Vec<u8>,
}

impl Seen {
    pub fn of(link: LinkId, bytes: &[u8]) -> Self {
        Self { link, bytes: bytes.to_vec() }
    }

    pub fn dst_mac(&self) -> [u8; 6] {
        Ethernet::new_checked(&self.bytes[..]).unwrap().dst()
    }

    fn l3(&self) -> usize {
        Ethernet::new_checked(&self.bytes[..]).unwrap().header_len()
    }

    /// The IPv4 packet, checked.
    pub fn ip(&self) -> Ipv4<&[u8]> {
        Ipv4::new_checked(&self.bytes[self.l3()..]).expect("a whole IPv4 packet")
    }

    /// What the IPv4 packet carries; in a tunnel that is a packet again.
    pub fn inside(&self) -> &[u8] {
        &self.bytes[self.l3() + self.ip().header_len()..]
    }

    /// ICMP type and code, and the MTU that it may tell.
    pub fn icmp(&self) -> Option<(u8, u8, u16)> {
        let inside = self.inside();
        (self.ip().protocol() == protocol::ICMP)
            .then(|| (inside[0], inside[1], u16::from_be_bytes([inside[6], inside[7]])))
    }

    /// Whether headers and checksums are right: IP's, and UDP's or TCP's.
    pub fn is_right(&self) -> bool {
        let (ip, inside) = (self.ip(), self.inside());
        let pseudo = Sum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), inside.len() as u16);
        let sum = match ip.protocol() {
            protocol::TCP | protocol::UDP => (pseudo + Sum::of(inside)).finish(),
            protocol::ICMP => Sum::of(inside).finish(),
            _ => 0,
        };
        sum == 0 && Offsets::of_ipv4(&self.bytes).is_ok()
    }
}
