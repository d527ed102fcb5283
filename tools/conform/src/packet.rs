//! Frames for the packets of a scheduling recording, and what a frame that left tells.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ethernet2Slice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::Stop;
use crate::rig::{DIRECTOR_CLIENT_MAC, ROUTER_MAC};

/// A packet as recorded: protocol, ends and flags.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'a str,
    /// The client.
    pub source: SocketAddr,
    /// The virtual service.
    pub destination: SocketAddr,
    /// TCP: flags by letter; SCTP: the first chunk's name.
    pub flags: Option<&'a str>,
}

impl Packet<'_> {
    /// The frame, as the client's router sends it.
    pub(crate) fn frame(&self) -> Result<Vec<u8>, Stop> {
        self.frame_with(b"uvs")
    }

    /// The same with this payload, if it is a datagram.
    pub(crate) fn frame_with(&self, payload: &[u8]) -> Result<Vec<u8>, Stop> {
        let (source, destination) = (self.source, self.destination);
        let ethernet = PacketBuilder::ethernet2(ROUTER_MAC, DIRECTOR_CLIENT_MAC);
        let builder = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            _ => return Err(Stop::Malformed("a packet between two families".into())),
        };
        let mut frame = Vec::new();
        let written = match self.protocol {
            "udp" => builder.udp(source.port(), destination.port()).write(&mut frame, payload),
            "tcp" => self.tcp(builder).write(&mut frame, &[]),
            "sctp" => {
                let protocol = etherparse::IpNumber::SCTP;
                builder.write(&mut frame, protocol, &self.sctp()?)
            }
            other => return Err(Stop::NotSupported(format!("the protocol {other}"))),
        };
        written.map_err(|error| Stop::Malformed(error.to_string()))?;
        Ok(frame)
    }

    fn tcp(
        &self,
        builder: etherparse::PacketBuilderStep<etherparse::IpHeaders>,
    ) -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        let tcp = builder.tcp(self.source.port(), self.destination.port(), 1000, 8192);
        self.flags.unwrap_or("").chars().fold(tcp, |tcp, flag| match flag {
            'F' => tcp.fin(),
            'S' => tcp.syn(),
            'R' => tcp.rst(),
            'P' => tcp.psh(),
            'A' => tcp.ack(1),
            'U' => tcp.urg(0),
            'E' => tcp.ece(),
            'C' => tcp.cwr(),
            _ => tcp,
        })
    }

    fn sctp(&self) -> Result<Vec<u8>, Stop> {
        const CHUNKS: [(&str, u8); 10] = [
            ("DATA", 0),
            ("INIT", 1),
            ("INIT_ACK", 2),
            ("ABORT", 6),
            ("SHUTDOWN", 7),
            ("SHUTDOWN_ACK", 8),
            ("ERROR", 9),
            ("COOKIE_ECHO", 10),
            ("COOKIE_ACK", 11),
            ("SHUTDOWN_COMPLETE", 14),
        ];
        let name = self.flags.unwrap_or("DATA");
        let chunk = CHUNKS.iter().find(|(known, _)| *known == name);
        let Some((_, chunk)) = chunk else {
            return Err(Stop::Malformed(format!("no SCTP chunk is called {name}")));
        };
        let mut header = Vec::new();
        header.extend(self.source.port().to_be_bytes());
        header.extend(self.destination.port().to_be_bytes());
        header.extend([0; 8]);
        header.extend([*chunk, 0, 0, 4]);
        Ok(header)
    }
}

/// What a frame that left the director is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Forwarded whole to the server with this Ethernet address.
    Direct([u8; 6]),
    /// Translated, to this server.
    Translated(SocketAddr),
    /// In a tunnel, to this server.
    Tunnelled(IpAddr),
    /// An ICMP message, by type and code.
    Icmp(u8, u8),
    /// An ICMPv6 message.
    Icmp6(u8, u8),
    /// Something else.
    Other,
}

/// Reads a frame that left; `virtual_end` is where the packet went that caused it.
pub(crate) fn sent(frame: &[u8], virtual_end: SocketAddr) -> Sent {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return Sent::Other };
    let (destination, payload): (IpAddr, _) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().destination_addr().into(), ip.payload()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().destination_addr().into(), ip.payload()),
        _ => return Sent::Other,
    };
    if [etherparse::IpNumber::IPV4, etherparse::IpNumber::IPV6].contains(&payload.ip_number) {
        return Sent::Tunnelled(destination);
    }
    match &sliced.transport {
        Some(TransportSlice::Icmpv4(icmp)) => return Sent::Icmp(icmp.type_u8(), icmp.code_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => return Sent::Icmp6(icmp.type_u8(), icmp.code_u8()),
        _ => {}
    }
    if destination == virtual_end.ip() {
        let mac =
            Ethernet2Slice::from_slice_without_fcs(frame).map(|ethernet| ethernet.destination());
        return mac.map_or(Sent::Other, Sent::Direct);
    }
    let port = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.destination_port(),
        Some(TransportSlice::Udp(udp)) => udp.destination_port(),
        // SCTP has its ports where UDP has them.
        _ => match payload.payload {
            [_, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => return Sent::Other,
        },
    };
    Sent::Translated(SocketAddr::new(destination, port))
}
