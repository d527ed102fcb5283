//! Frames for the packets of a scheduling recording, and what a frame that left tells.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{Ethernet2Slice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::Stop;
use crate::rig::{DIRECTOR_CLIENT_MAC, ROUTER_MAC};

/// A packet as recorded: protocol, ends and flags.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'a str,
    /// The client.
    pub source: SocketAddrV4,
    /// The virtual service.
    pub destination: SocketAddrV4,
    /// TCP: flags by letter; SCTP: the first chunk's name.
    pub flags: Option<&'a str>,
}

impl Packet<'_> {
    /// The frame, as the client's router sends it.
    pub(crate) fn frame(&self) -> Result<Vec<u8>, Stop> {
        let (source, destination) = (self.source, self.destination);
        let builder = PacketBuilder::ethernet2(ROUTER_MAC, DIRECTOR_CLIENT_MAC).ipv4(
            source.ip().octets(),
            destination.ip().octets(),
            64,
        );
        let mut frame = Vec::new();
        let written = match self.protocol {
            "udp" => builder.udp(source.port(), destination.port()).write(&mut frame, b"uvs"),
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
    Translated(SocketAddrV4),
    /// In a tunnel, to this server.
    Tunnelled(Ipv4Addr),
    /// An ICMP message, by type and code.
    Icmp(u8, u8),
    /// Something else.
    Other,
}

/// Reads a frame that left; `virtual_end` is where the packet went that caused it.
pub(crate) fn sent(frame: &[u8], virtual_end: SocketAddrV4) -> Sent {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return Sent::Other };
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { return Sent::Other };
    let destination = ip.header().destination_addr();
    if ip.header().protocol() == etherparse::IpNumber::IPV4 {
        return Sent::Tunnelled(destination);
    }
    if let Some(TransportSlice::Icmpv4(icmp)) = &sliced.transport {
        return Sent::Icmp(icmp.type_u8(), icmp.code_u8());
    }
    if destination == *virtual_end.ip() {
        let mac =
            Ethernet2Slice::from_slice_without_fcs(frame).map(|ethernet| ethernet.destination());
        return mac.map_or(Sent::Other, Sent::Direct);
    }
    let port = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.destination_port(),
        Some(TransportSlice::Udp(udp)) => udp.destination_port(),
        _ => return Sent::Other,
    };
    Sent::Translated(SocketAddrV4::new(destination, port))
}
