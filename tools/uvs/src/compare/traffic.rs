//! The frames: conversations with every service, made up as they go, or those of a capture.

use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use etherparse::{IpNumber, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;
use uvs_lab::{CLIENT_SIDE_MAC, CLIENTS_MAC, SERVER_SIDE_MAC};
use uvs_uvsadm::api::{Endpoint, Method, Protocol};

use super::Services;
use crate::Failure;

/// The side of the directors on which a frame comes or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The clients', over their router.
    Clients,
    /// The servers'.
    Servers,
}

/// What somebody sends: TCP's flags by their letters, or SCTP's chunk, and what it carries.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Who says it.
    pub from: Side,
    /// TCP's flags by their letters.
    flags: &'static str,
    /// SCTP's first chunk.
    chunk: u8,
    payload: &'static [u8],
}

const fn word(from: Side, flags: &'static str, chunk: u8, payload: &'static [u8]) -> Word {
    Word { from, flags, chunk, payload }
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A conversation's beginning, of any protocol: three-way handshakes, a question and its answer.
const OPENING: [Word; 5] = [
    word(Side::Clients, "S", 1, b""),
    word(Side::Servers, "SA", 2, b""),
    word(Side::Clients, "A", 10, b""),
    word(Side::Clients, "PA", 0, ASK),
    word(Side::Servers, "PA", 0, ANSWER),
];

/// Its end.
const CLOSING: [Word; 3] = [
    word(Side::Clients, "FA", 7, b""),
    word(Side::Servers, "FA", 8, b""),
    word(Side::Clients, "A", 14, b""),
];

/// A client that speaks with a service.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The client.
    pub client: SocketAddr,
    /// The service.
    pub vip: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The hops that its packets may still go.
    pub ttl: u8,
}

/// What is to be said next.
#[derive(Clone, Debug)]
pub struct Step {
    /// The flow's number.
    pub flow: usize,
    /// What is said.
    pub word: Word,
}

/// A frame of a capture, and where it comes in.
pub type Captured = (Side, Vec<u8>);

/// Conversations with all services: new ones while others last and some end, then a packet that
/// opens nothing and one whose way ends at the director.
pub fn conversations(services: &Services, each: usize) -> (Vec<Flow>, Vec<Step>) {
    let (mut flows, mut steps) = (Vec::new(), Vec::new());
    let targets = services.targets.values().filter_map(|target| {
        let protocol = target.service.key.protocol()?;
        Some((protocol, target.service.key.endpoint()?, &target.dests))
    });
    for (protocol, end, dests) in targets {
        let translated = dests.iter().any(|dest| dest.method == Method::Masq);
        let first = flows.len();
        let flow = |place| Flow::new(client(end.address, first + place), socket(end), protocol);
        let says = |flow, words: &[Word]| {
            let said = words.iter().filter(|word| translated || word.from == Side::Clients);
            said.map(|word| Step { flow, word: *word }).collect::<Vec<_>>()
        };
        for place in 0..each {
            flows.push(flow(place));
            steps.extend(says(first + place, &OPENING));
            if place % 3 == 2 {
                steps.extend(says(first + place - 1, &CLOSING));
            }
        }
        let odd = flows.len();
        flows.push(flow(each));
        steps.extend(says(odd, &OPENING[3..4]));
        flows.push(Flow { ttl: 1, ..flow(each + 1) });
        steps.extend(says(odd + 1, &OPENING[..1]));
    }
    (flows, steps)
}

/// The client of this number: neighbours differ in port, every other one in its address too.
pub fn client(vip: IpAddr, number: usize) -> SocketAddr {
    let port = 1024 + (number % 60_000) as u16;
    let host = (number / 2) as u32 % (1 << 17);
    match vip {
        // The network for measurements (RFC 2544).
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::from_bits(0xc612_0000 + host).into(), port),
        IpAddr::V6(_) => {
            let address = Ipv6Addr::from_bits((0xfd00_0009 << 96) + u128::from(host) + 1);
            SocketAddr::new(address.into(), port)
        }
    }
}

fn socket(end: Endpoint) -> SocketAddr {
    // A service of every port is asked at one of them.
    SocketAddr::new(end.address, if end.port == 0 { 8080 } else { end.port })
}

/// The first packet of a connection.
pub fn opening() -> Word {
    OPENING[0]
}

/// A packet of a connection that is known.
pub fn question() -> Word {
    OPENING[3]
}

impl Word {
    /// What it is called in this protocol.
    pub fn name(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Tcp => self.flags.to_owned(),
            Protocol::Udp => "datagram".to_owned(),
            Protocol::Sctp => format!("chunk {}", self.chunk),
        }
    }
}

impl Flow {
    /// A client's that is far enough away.
    pub fn new(client: SocketAddr, vip: SocketAddr, protocol: Protocol) -> Self {
        Self { client, vip, protocol, ttl: 64 }
    }

    /// What the client says, as its router sends it.
    pub fn frame(&self, word: &Word) -> Vec<u8> {
        let macs = (CLIENTS_MAC, CLIENT_SIDE_MAC);
        frame(self.protocol, macs, (self.client, self.vip), self.ttl, word)
    }

    /// What a server answers to a packet as it came to it; `None` when that was no packet of this
    /// protocol.
    pub fn answer(&self, came: &[u8], word: &Word) -> Option<Vec<u8>> {
        let packet = SlicedPacket::from_ethernet(came).ok()?;
        let (from, to) = addresses(&packet)?;
        let ports = match packet.transport {
            Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
            Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
            _ if self.protocol == Protocol::Sctp => {
                // Behind an IPv4 header without options, or an IPv6 one.
                let at = if from.is_ipv4() { 14 + 20 } else { 14 + 40 };
                let port =
                    |at: usize| came.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
                (port(at)?, port(at + 2)?)
            }
            _ => return None,
        };
        let server_mac = *came.first_chunk::<6>()?;
        let ends = (SocketAddr::new(to, ports.1), SocketAddr::new(from, ports.0));
        Some(frame(self.protocol, (server_mac, SERVER_SIDE_MAC), ends, 64, word))
    }
}

/// Who sent a packet, and to whom.
fn addresses(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((header.source_addr().into(), header.destination_addr().into()))
        }
        _ => None,
    }
}

type Ends = (SocketAddr, SocketAddr);

/// A frame from the first of two to the second.
fn frame(
    protocol: Protocol,
    macs: ([u8; 6], [u8; 6]),
    (from, to): Ends,
    ttl: u8,
    word: &Word,
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
    let packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), ttl),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), ttl),
        _ => return Vec::new(),
    };
    let (from, to) = (from.port(), to.port());
    let mut frame = Vec::new();
    let written = match protocol {
        Protocol::Udp => packet.udp(from, to).write(&mut frame, ASK),
        Protocol::Sctp => packet.write(&mut frame, IpNumber::SCTP, &sctp(from, to, word)),
        Protocol::Tcp => {
            let tcp =
                word.flags.chars().fold(packet.tcp(from, to, 1000, 8192), |tcp, flag| match flag {
                    'S' => tcp.syn(),
                    'F' => tcp.fin(),
                    'P' => tcp.psh(),
                    'A' => tcp.ack(2000),
                    _ => tcp,
                });
            tcp.write(&mut frame, word.payload)
        }
    };
    // A vector takes what is written, and all is shorter than a packet may be.
    written.map(|()| frame).unwrap_or_default()
}

/// An SCTP packet of one chunk (RFC 9260).
fn sctp(from: u16, to: u16, word: &Word) -> Vec<u8> {
    const HEADER: usize = 12;
    let tag = if word.chunk == 1 { 0u32 } else { 7 };
    let body = [0u8; 16];
    let mut packet = [&from.to_be_bytes()[..], &to.to_be_bytes(), &tag.to_be_bytes()].concat();
    packet.extend([0; 4]);
    packet.extend([word.chunk, 0, 0, 4 + body.len() as u8]);
    packet.extend(body);
    let sum = crc32c::crc32c(&packet).to_le_bytes();
    packet[HEADER - 4..HEADER].copy_from_slice(&sum);
    packet
}

/// The frames of a capture that have to do with the services: from a server what comes from one of
/// them, from the clients what goes to a virtual address.
pub fn captured(path: &Path, services: &Services) -> Result<Vec<Captured>, Failure> {
    let about = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| about(&error))?;
    let mut reader = PcapReader::new(BufReader::new(file)).map_err(|error| about(&error))?;
    if reader.header().datalink != DataLink::ETHERNET {
        return Err(about(&"only captures of Ethernet frames can be compared"));
    }
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(|error| about(&error))?;
        frames.extend(services.direct(packet.data.into_owned()));
    }
    Ok(frames)
}

impl Services {
    /// The side on which a captured frame would come, and the frame as it would come there; `None`
    /// when it has nothing to do with the services.
    fn direct(&self, mut frame: Vec<u8>) -> Option<Captured> {
        let (from, to) = addresses(&SlicedPacket::from_ethernet(&frame).ok()?)?;
        let server = self.servers.iter().position(|server| *server == from);
        let (side, macs) = match server {
            _ if self.vips.contains(&to) => (Side::Clients, (CLIENTS_MAC, CLIENT_SIDE_MAC)),
            Some(number) => (Side::Servers, (uvs_lab::server_mac(number), SERVER_SIDE_MAC)),
            None => return None,
        };
        frame[..6].copy_from_slice(&macs.1);
        frame[6..12].copy_from_slice(&macs.0);
        Some((side, frame))
    }
}

#[cfg(test)]
mod tests {
    use uvs_uvsadm::api::ServiceKey;

    use super::*;

    fn services() -> Services {
        Services::of(&crate::compare::standard::rules(), "the standard services").unwrap()
    }

    #[test]
    fn every_service_is_spoken_with_and_only_nat_servers_answer() {
        let services = services();
        let (flows, steps) = conversations(&services, 3);
        assert_eq!(flows.len(), services.targets.len() * 5);
        let clients: std::collections::BTreeSet<_> = flows.iter().map(|flow| flow.client).collect();
        assert_eq!(clients.len(), flows.len(), "each is another client");
        for step in steps.iter().filter(|step| step.word.from == Side::Servers) {
            let key = ServiceKey::new(
                flows[step.flow].protocol,
                flows[step.flow].vip.ip(),
                flows[step.flow].vip.port(),
            );
            assert_eq!(services.targets[&key].dests[0].method, Method::Masq);
        }
        assert!(flows.iter().all(|flow| !flow.frame(&opening()).is_empty()));
    }

    #[test]
    fn an_answer_goes_back_where_the_packet_came_from() {
        for (protocol, vip) in [
            (Protocol::Tcp, "10.0.0.1:80"),
            (Protocol::Udp, "[fd00::1]:53"),
            (Protocol::Sctp, "10.0.0.1:9"),
            (Protocol::Sctp, "[fd00::1]:9"),
        ] {
            let vip: SocketAddr = vip.parse().unwrap();
            let flow = Flow::new(client(vip.ip(), 7), vip, protocol);
            let came = flow.frame(&opening());
            let answer = flow.answer(&came, &OPENING[1]).unwrap();
            let back = Flow::new(vip, flow.client, protocol).answer(&answer, &opening()).unwrap();
            assert_eq!(back[14..], came[14..], "{protocol} {vip}");
        }
        let udp =
            Flow::new(client([10, 0, 0, 1].into(), 1), ([10, 0, 0, 1], 53).into(), Protocol::Udp);
        assert_eq!(udp.answer(b"no packet", &OPENING[1]), None);
    }

    #[test]
    fn of_a_capture_only_what_concerns_the_services_comes_in() {
        let services = services();
        let flow =
            Flow::new(client([10, 0, 0, 1].into(), 1), ([10, 0, 0, 1], 1001).into(), Protocol::Tcp);
        let (side, frame) = services.direct(flow.frame(&opening())).unwrap();
        assert_eq!((side, &frame[..6]), (Side::Clients, &CLIENT_SIDE_MAC[..]));
        let server = Flow::new(([10, 0, 1, 2], 80).into(), flow.client, Protocol::Tcp);
        let (side, frame) = services.direct(server.frame(&opening())).unwrap();
        assert_eq!((side, &frame[..6]), (Side::Servers, &SERVER_SIDE_MAC[..]));
        let stranger = Flow::new(flow.client, ([10, 0, 9, 9], 80).into(), Protocol::Tcp);
        assert_eq!(services.direct(stranger.frame(&opening())), None);
        assert_eq!(services.direct(vec![0; 60]), None);
        assert_eq!(services.direct(vec![]), None);
    }
}
