//! Frames of every kind, and a judge of their checksums that shares nothing with the crate.

use proptest::prelude::*;

/// One's complement sum in its plainest form.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

/// CRC32c bit by bit.
fn crc(parts: &[&[u8]]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).to_le_bytes()
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

/// The pseudo header, the protocol and the transport of a packet.
fn opened(packet: &[u8]) -> (Vec<u8>, u8, &[u8]) {
    let (protocol, addresses, transport) = match packet[0] >> 4 {
        4 => (packet[9], &packet[12..20], &packet[usize::from(packet[0] & 15) * 4..]),
        _ => {
            let (mut next, mut at) = (packet[6], 40);
            while [0, 43, 60].contains(&next) {
                (next, at) = (packet[at], at + 8 + 8 * usize::from(packet[at + 1]));
            }
            (next, &packet[8..40], &packet[at..])
        }
    };
    let len = (transport.len() as u32).to_be_bytes();
    ([addresses, &len, &[0, 0, 0, protocol]].concat(), protocol, transport)
}

/// What is wrong with the lengths and checksums of a whole packet and all inside it.
pub fn fault(packet: &[u8]) -> Option<&'static str> {
    match packet[0] >> 4 {
        4 if be16(packet, 2) != packet.len() => return Some("IPv4 length"),
        4 if sum(&[&packet[..usize::from(packet[0] & 15) * 4]]) != 0xffff => {
            return Some("IPv4 header checksum");
        }
        6 if be16(packet, 4) + 40 != packet.len() => return Some("IPv6 length"),
        _ => {}
    }
    let (pseudo, protocol, transport) = opened(packet);
    let is_right = |pseudo: &[u8]| sum(&[pseudo, transport]) == 0xffff;
    match protocol {
        6 if !is_right(&pseudo) => Some("TCP checksum"),
        17 if be16(transport, 4) != transport.len() => Some("UDP length"),
        17 if be16(transport, 6) != 0 && !is_right(&pseudo) => Some("UDP checksum"),
        17 if be16(transport, 2) == 6080 => fault(&transport[12..]),
        132 if crc(&[&transport[..8], &[0; 4], &transport[12..]]) != transport[8..12] => {
            Some("SCTP CRC")
        }
        1 if !is_right(&[]) => Some("ICMP checksum"),
        1 if transport[0] == 3 && cited_sum(&transport[8..]) != 0xffff => Some("cited checksum"),
        58 if !is_right(&pseudo) => Some("ICMPv6 checksum"),
        4 | 41 => fault(transport),
        47 if transport[0] == 0x80 && !is_right(&[]) => Some("GRE checksum"),
        47 => fault(&transport[if transport[0] == 0x80 { 8 } else { 4 }..]),
        _ => None,
    }
}

fn cited_sum(packet: &[u8]) -> u16 {
    sum(&[&packet[..usize::from(packet[0] & 15) * 4]])
}

/// By how much the transport checksum of a packet is wrong.
pub fn error(packet: &[u8]) -> u16 {
    let (pseudo, _, transport) = opened(packet);
    !sum(&[&pseudo, transport])
}

/// The parts of a frame that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    pub v6: bool,
    pub tags: usize,
    /// Words of IPv4 options, or an IPv6 extension header if any.
    pub options: usize,
    pub protocol: u8,
    pub tos: u8,
    pub ttl: u8,
    pub dont_fragment: bool,
    pub src: [u8; 18],
    pub dst: [u8; 18],
    pub payload: Vec<u8>,
}

pub fn plan() -> impl Strategy<Value = Plan> {
    let protocols = prop_oneof![Just(6u8), Just(17), Just(132)];
    let payload = proptest::collection::vec(any::<u8>(), 4..80);
    let ends = (any::<[u8; 18]>(), any::<[u8; 18]>());
    let header = (any::<u8>(), 2u8.., any::<bool>());
    ((any::<bool>(), 0usize..3, 0usize..11), protocols, header, ends, payload).prop_map(
        |((v6, tags, options), protocol, (tos, ttl, dont_fragment), (src, dst), payload)| Plan {
            v6,
            tags,
            options,
            protocol,
            tos,
            ttl,
            dont_fragment,
            src,
            dst,
            payload,
        },
    )
}

impl Plan {
    /// The Ethernet header.
    pub fn link(&self) -> Vec<u8> {
        let mut link = vec![2, 0, 0, 0, 0, 0xc1, 2, 0, 0, 0, 0, 0xc0];
        for _ in 0..self.tags {
            link.extend([0x81, 0, 0, 7]);
        }
        link.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
        link
    }

    /// The IP packet, all right.
    pub fn packet(&self) -> Vec<u8> {
        self.around(self.protocol, self.transport())
    }

    pub fn frame(&self) -> Vec<u8> {
        [self.link(), self.packet()].concat()
    }

    fn transport(&self) -> Vec<u8> {
        let mut transport = [&self.src[16..], &self.dst[16..]].concat();
        match self.protocol {
            6 => transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]),
            17 => {
                transport.extend((8 + self.payload.len() as u16).to_be_bytes());
                transport.extend([0, 0]);
            }
            _ => transport.extend([0; 8]),
        }
        transport.extend(&self.payload);
        transport
    }

    /// An IP packet around a transport whose checksum field is 0 and is filled in.
    fn around(&self, protocol: u8, mut transport: Vec<u8>) -> Vec<u8> {
        let head = self.header(protocol, transport.len());
        let (pseudo, ..) = opened(&[&head[..], &transport].concat());
        let pseudo = if protocol == 1 { vec![] } else { pseudo };
        let check = !sum(&[&pseudo, &transport]);
        let check = if check == 0 && protocol == 17 { 0xffff } else { check };
        match protocol {
            6 => transport[16..18].copy_from_slice(&check.to_be_bytes()),
            17 => transport[6..8].copy_from_slice(&check.to_be_bytes()),
            132 => {
                let crc = crc(&[&transport]);
                transport[8..12].copy_from_slice(&crc);
            }
            _ => transport[2..4].copy_from_slice(&check.to_be_bytes()),
        }
        [head, transport].concat()
    }

    fn header(&self, protocol: u8, len: usize) -> Vec<u8> {
        if self.v6 {
            let extension = if self.options > 0 { 8 } else { 0 };
            let mut head = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
            head.extend(((len + extension) as u16).to_be_bytes());
            head.extend([if self.options > 0 { 60 } else { protocol }, self.ttl]);
            head.extend(&self.src[..16]);
            head.extend(&self.dst[..16]);
            if self.options > 0 {
                head.extend([protocol, 0, 1, 4, 0, 0, 0, 0]);
            }
            return head;
        }
        let mut head = vec![0x45 + self.options as u8, self.tos];
        head.extend(((20 + 4 * self.options + len) as u16).to_be_bytes());
        let df = if self.dont_fragment { 0x40 } else { 0 };
        head.extend([0x12, 0x34, df, 0, self.ttl, protocol, 0, 0]);
        head.extend(&self.src[..4]);
        head.extend(&self.dst[..4]);
        head.extend(vec![1; 4 * self.options]);
        let check = !sum(&[&head]);
        head[10..12].copy_from_slice(&check.to_be_bytes());
        head
    }

    /// A frame with an ICMP error about this packet, of which `cited` bytes of the transport are
    /// left; from a router to the packet's sender.
    pub fn error_frame(&self, cited: usize) -> Vec<u8> {
        let packet = self.packet();
        let header = packet.len() - self.transport().len();
        let mut icmp = vec![if self.v6 { 1 } else { 3 }, if self.v6 { 4 } else { 3 }];
        icmp.extend([0; 6]);
        icmp.extend(&packet[..packet.len().min(header + cited)]);
        let back = Self { src: [9; 18], dst: self.src, options: 0, ..self.clone() };
        let protocol = if self.v6 { 58 } else { 1 };
        [self.link(), back.around(protocol, icmp)].concat()
    }
}
