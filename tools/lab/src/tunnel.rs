//! Tunnels as the servers see them: their names, and a packet out of another one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustix::net::{Protocol, ipproto};

/// What stands between the outer IP header and the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Nothing: IPv4 and IPv6 in either (RFC 2003, RFC 2473, RFC 4213).
    Ipip,
    /// GRE (RFC 2784), with a checksum always or never.
    Gre {
        /// Whether there is one.
        checksum: bool,
    },
    /// GUE (draft-ietf-intarea-gue), with a checksum of the UDP datagram always or never.
    Gue {
        /// The server's port.
        port: u16,
        /// Whether there is one.
        checksum: bool,
    },
}

/// Numbers of EtherType (GRE) and of IP (all others) for the packet inside.
const ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];
const IPV4: u8 = 4;
const IPV6: u8 = 41;

impl Tunnel {
    /// The options of `ipvsadm -a` for a server at the end of such a tunnel.
    pub fn options(self) -> String {
        let checksum = |checksum| if checksum { "--tun-csum" } else { "--tun-nocsum" };
        match self {
            Self::Ipip => "-i".to_owned(),
            Self::Gre { checksum: has } => format!("-i --tun-type gre {}", checksum(has)),
            Self::Gue { port, checksum: has } => {
                format!("-i --tun-type gue --tun-port {port} {}", checksum(has))
            }
        }
    }

    /// What the outer IP header may say that it carries.
    pub(crate) fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Ipip => &[ipproto::IPIP, ipproto::IPV6],
            Self::Gre { .. } => &[ipproto::GRE],
            Self::Gue { .. } => &[ipproto::UDP],
        }
    }

    /// The packet in one whose outer IP header was followed by `payload`, without anything behind
    /// its end. `None` for what is not exactly such a tunnel's.
    pub(crate) fn inside(self, outer: Outer, payload: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Ipip => {
                let ipv6 = outer.protocol == ipproto::IPV6;
                whole(payload).filter(|inner| is_ipv6(inner) == ipv6)
            }
            Self::Gre { checksum } => gre(checksum, payload),
            Self::Gue { port, checksum } => gue(port, checksum, outer, payload),
        }
    }
}

/// What counts of the outer IP header; both addresses are of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer {
    pub(crate) protocol: Protocol,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
}

fn gre(checksum: bool, payload: &[u8]) -> Option<&[u8]> {
    const CHECKSUM: u16 = 0x8000;
    let flags = be16(payload, 0)?;
    let ethertype = be16(payload, 2)?;
    let inner = match (flags, checksum) {
        (0, false) => payload.get(4..)?,
        // The checksum, and two bytes that are 0.
        (CHECKSUM, true) if sum(0, payload) == 0xffff && be16(payload, 6)? == 0 => &payload[8..],
        _ => return None,
    };
    let inner = whole(inner)?;
    (ethertype == ETHERTYPES[usize::from(is_ipv6(inner))]).then_some(inner)
}

fn gue(port: u16, checksum: bool, outer: Outer, payload: &[u8]) -> Option<&[u8]> {
    let (length, check) = (be16(payload, 4)?, be16(payload, 6)?);
    if be16(payload, 2)? != port || usize::from(length) != payload.len() {
        return None;
    }
    match (check, checksum) {
        (0, false) => {}
        (1.., true) if sum(pseudo(outer, length), payload) == 0xffff => {}
        _ => return None,
    }
    let inner = whole(payload.get(12..)?)?;
    let carried = if is_ipv6(inner) { IPV6 } else { IPV4 };
    // Version 0, no control message, no further words, no flags.
    (payload[8..12] == [0, carried, 0, 0]).then_some(inner)
}

/// What a UDP checksum covers besides the datagram.
fn pseudo(outer: Outer, length: u16) -> u32 {
    const UDP: u32 = 17;
    let of = |address: IpAddr| match address {
        IpAddr::V4(v4) => u32::from(sum(0, &v4.octets())),
        IpAddr::V6(v6) => u32::from(sum(0, &v6.octets())),
    };
    of(outer.src) + of(outer.dst) + u32::from(length) + UDP
}

/// One's complement sum (RFC 1071).
fn sum(start: u32, bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2);
    let words = pairs.map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let mut sum = words.fold(start, |sum, word| sum + u32::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The IP packet at the start of `bytes`, if all of it is there.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (least, len) = match bytes.first()? >> 4 {
        4 => (usize::from(bytes[0] & 15) * 4, usize::from(be16(bytes, 2)?)),
        6 => (40, 40 + usize::from(be16(bytes, 4)?)),
        _ => return None,
    };
    bytes.get(..len).filter(|_| least >= 20 && len >= least)
}

fn is_ipv6(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// `ipip`, `gre`, `gre-csum`, `gue:6080`, `gue-csum:6080`.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dash = |checksum: &bool| if *checksum { "-csum" } else { "" };
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gre { checksum } => write!(f, "gre{}", dash(checksum)),
            Self::Gue { port, checksum } => write!(f, "gue{}:{port}", dash(checksum)),
        }
    }
}

/// As it is displayed.
impl FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = text.split_once(':').unwrap_or((text, ""));
        let unknown =
            || format!("`{text}` is no tunnel: ipip, gre, gre-csum, gue:PORT, gue-csum:PORT");
        match (name, port.parse(), port) {
            ("ipip", _, "") => Ok(Self::Ipip),
            ("gre", _, "") => Ok(Self::Gre { checksum: false }),
            ("gre-csum", _, "") => Ok(Self::Gre { checksum: true }),
            ("gue", Ok(port), _) => Ok(Self::Gue { port, checksum: false }),
            ("gue-csum", Ok(port), _) => Ok(Self::Gue { port, checksum: true }),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    const PORT: u16 = 6080;
    const ALL: [Tunnel; 5] = [
        Tunnel::Ipip,
        Tunnel::Gre { checksum: false },
        Tunnel::Gre { checksum: true },
        Tunnel::Gue { port: PORT, checksum: false },
        Tunnel::Gue { port: PORT, checksum: true },
    ];

    fn outer(protocol: Protocol) -> Outer {
        Outer { protocol, src: [10, 77, 1, 254].into(), dst: [10, 77, 1, 1].into() }
    }

    /// Out of a packet whose outer header is right for what is inside.
    fn unpacked(tunnel: Tunnel, ipv6: bool, payload: &[u8]) -> Option<Vec<u8>> {
        let protocols = tunnel.protocols();
        let outer = outer(protocols[usize::from(ipv6) % protocols.len()]);
        tunnel.inside(outer, payload).map(<[u8]>::to_vec)
    }

    fn inner(ipv6: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = match ipv6 {
            false => PacketBuilder::ipv4([192, 168, 77, 2], [10, 77, 0, 1], 64),
            true => PacketBuilder::ipv6([1; 16], [2; 16], 64),
        };
        builder.udp(4000, 7).write(&mut packet, payload).unwrap();
        packet
    }

    /// What follows the outer header, by the RFCs and with etherparse's checksums.
    fn packed(tunnel: Tunnel, inner: &[u8]) -> Vec<u8> {
        let ipv6 = is_ipv6(inner);
        let ethertype = if ipv6 { [0x86, 0xdd] } else { [8, 0] };
        let next = if ipv6 { 41 } else { 4 };
        match tunnel {
            Tunnel::Ipip => inner.to_vec(),
            Tunnel::Gre { checksum: false } => [&[0, 0], &ethertype[..], inner].concat(),
            Tunnel::Gre { checksum: true } => {
                let mut packet = [&[0x80, 0], &ethertype[..], &[0; 4], inner].concat();
                let check = etherparse::checksum::Sum16BitWords::new().add_slice(&packet);
                packet[4..6].copy_from_slice(&check.ones_complement().to_ne_bytes());
                packet
            }
            Tunnel::Gue { port, checksum } => {
                let payload = [&[0, next, 0, 0], inner].concat();
                let mut header =
                    etherparse::UdpHeader::without_ipv4_checksum(40000, port, payload.len())
                        .unwrap();
                if checksum {
                    let outer = ([10, 77, 1, 254], [10, 77, 1, 1]);
                    header.checksum =
                        header.calc_checksum_ipv4_raw(outer.0, outer.1, &payload).unwrap();
                }
                [&header.to_bytes()[..], &payload].concat()
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(payload: Vec<u8>, ipv6: bool, padding in 0usize..20) {
            let packet = inner(ipv6, &payload[..payload.len().min(1400)]);
            for tunnel in ALL {
                prop_assert_eq!(unpacked(tunnel, ipv6, &packed(tunnel, &packet)), Some(packet.clone()));
                let padded = [&packet[..], &[0].repeat(padding)].concat();
                prop_assert_eq!(unpacked(tunnel, ipv6, &packed(tunnel, &padded)), Some(packet.clone()));
                let other = ALL.iter().filter(|other| **other != tunnel);
                for other in other {
                    prop_assert_eq!(unpacked(*other, ipv6, &packed(tunnel, &packet)), None);
                }
            }
        }

        #[test]
        fn a_changed_bit_breaks_a_checksum(ipv6: bool, at in 0usize..52, bit in 0u8..8) {
            for tunnel in [ALL[2], ALL[4]] {
                let mut payload = packed(tunnel, &inner(ipv6, &[7; 20]));
                payload[at] ^= 1 << bit;
                prop_assert_eq!(unpacked(tunnel, ipv6, &payload), None);
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, cut in 0usize..80) {
            for tunnel in ALL {
                unpacked(tunnel, true, &bytes);
                let payload = packed(tunnel, &inner(false, &bytes[..bytes.len().min(1400)]));
                let cut = cut.min(payload.len());
                let inside = unpacked(tunnel, false, &payload[..cut]);
                prop_assert_eq!(inside.is_some(), cut == payload.len());
            }
        }
    }

    #[test]
    fn what_is_inside_is_what_the_outer_header_says() {
        let [ipv4, ipv6] = Tunnel::Ipip.protocols() else { panic!("two protocols") };
        let (v4, v6) = (inner(false, b"x"), inner(true, b"x"));
        assert_eq!(Tunnel::Ipip.inside(outer(*ipv4), &v4), Some(&v4[..]));
        assert_eq!(Tunnel::Ipip.inside(outer(*ipv6), &v6), Some(&v6[..]));
        assert_eq!(Tunnel::Ipip.inside(outer(*ipv6), &v4), None);
        assert_eq!(Tunnel::Ipip.inside(outer(*ipv4), &v6), None);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for tunnel in ALL {
            assert_eq!(tunnel.to_string().parse(), Ok(tunnel));
        }
        for wrong in ["gue", "gre:7", "ipip-csum", ""] {
            assert!(wrong.parse::<Tunnel>().is_err(), "{wrong}");
        }
    }
}
