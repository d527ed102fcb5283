//! A frame in words, field by field, so that two can be told apart by a person.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use etherparse::{
    Ipv4Header, Ipv6Header, LaxPacketHeaders, LinkHeader, NetHeaders, TcpHeader, TransportHeader,
};
use serde::Serialize;

/// A field in which two frames differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name, `ipv4.ttl` for instance; what is inside a tunnel has `inner.` before it.
    pub field: String,
    /// With the kernel; none when its frame has no such field.
    pub kernel: Option<String>,
    /// With uvs.
    pub uvs: Option<String>,
}

/// Names in the order of the frame, each with its value.
type Fields = Vec<(String, String)>;

/// Where the two differ.
pub fn differences(kernel: &[u8], uvs: &[u8]) -> Vec<Field> {
    let (kernel, uvs) = (fields(kernel), fields(uvs));
    let values = |fields: &Fields| fields.iter().cloned().collect::<BTreeMap<_, _>>();
    let (ours, theirs) = (values(&uvs), values(&kernel));
    let mut names: Vec<String> = Vec::new();
    for (name, _) in kernel.into_iter().chain(uvs) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let field = |field: String| {
        let (kernel, uvs) = (theirs.get(&field).cloned(), ours.get(&field).cloned());
        Field { field, kernel, uvs }
    };
    names.into_iter().map(field).filter(|field| field.kernel != field.uvs).collect()
}

/// A frame in one line.
pub fn line(frame: &[u8]) -> String {
    const TOLD: [&str; 8] =
        ["source", "destination", "ttl", "flags", "type", "port_from", "port_to", "protocol"];
    let told = fields(frame)
        .into_iter()
        .filter(|(name, _)| TOLD.contains(&name.rsplit('.').next().unwrap_or_default()));
    told.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

fn fields(frame: &[u8]) -> Fields {
    let mut fields = Fields::new();
    match LaxPacketHeaders::from_ethernet(frame) {
        Ok(packet) => add("", &packet, &mut fields),
        Err(_) => fields.push(("bytes".to_owned(), hex(frame))),
    }
    fields
}

fn add(prefix: &str, packet: &LaxPacketHeaders<'_>, fields: &mut Fields) {
    let mut tell = |name: &str, value: String| fields.push((format!("{prefix}{name}"), value));
    if let Some(LinkHeader::Ethernet2(ethernet)) = &packet.link {
        tell("ethernet.source", mac(ethernet.source));
        tell("ethernet.destination", mac(ethernet.destination));
    }
    match &packet.net {
        Some(NetHeaders::Ipv4(ip, _)) => add_v4(ip, &mut tell),
        Some(NetHeaders::Ipv6(ip, _)) => add_v6(ip, &mut tell),
        Some(other) => tell("net", format!("{other:?}")),
        None => {}
    }
    match &packet.transport {
        Some(TransportHeader::Tcp(tcp)) => add_tcp(tcp, &mut tell),
        Some(TransportHeader::Udp(udp)) => {
            tell("udp.port_from", udp.source_port.to_string());
            tell("udp.port_to", udp.destination_port.to_string());
            tell("udp.length", udp.length.to_string());
            tell("udp.checksum", format!("{:#06x}", udp.checksum));
        }
        Some(TransportHeader::Icmpv4(icmp)) => tell("icmp.type", format!("{:?}", icmp.icmp_type)),
        Some(TransportHeader::Icmpv6(icmp)) => tell("icmpv6.type", format!("{:?}", icmp.icmp_type)),
        Some(other) => tell("transport", format!("{other:?}")),
        None => {}
    }
    match inner(packet).map(LaxPacketHeaders::from_ip) {
        Some(Ok(inner)) => add(&format!("{prefix}inner."), &inner, fields),
        _ => fields.push((format!("{prefix}payload"), hex(packet.payload.slice()))),
    }
}

type Tell<'a> = dyn FnMut(&str, String) + 'a;

fn add_v4(ip: &Ipv4Header, tell: &mut Tell<'_>) {
    tell("ipv4.source", Ipv4Addr::from(ip.source).to_string());
    tell("ipv4.destination", Ipv4Addr::from(ip.destination).to_string());
    tell("ipv4.protocol", ip.protocol.0.to_string());
    tell("ipv4.ttl", ip.time_to_live.to_string());
    tell("ipv4.tos", format!("{:#04x}", (u8::from(ip.dscp) << 2) | u8::from(ip.ecn)));
    tell("ipv4.length", ip.total_len.to_string());
    tell("ipv4.id", ip.identification.to_string());
    tell("ipv4.dont_fragment", ip.dont_fragment.to_string());
    tell("ipv4.more_fragments", ip.more_fragments.to_string());
    tell("ipv4.offset", ip.fragment_offset.to_string());
    tell("ipv4.options", hex(&ip.options));
    tell("ipv4.checksum", format!("{:#06x}", ip.header_checksum));
}

fn add_v6(ip: &Ipv6Header, tell: &mut Tell<'_>) {
    tell("ipv6.source", ip.source_addr().to_string());
    tell("ipv6.destination", ip.destination_addr().to_string());
    tell("ipv6.protocol", ip.next_header.0.to_string());
    tell("ipv6.ttl", ip.hop_limit.to_string());
    tell("ipv6.class", format!("{:#04x}", ip.traffic_class));
    tell("ipv6.label", ip.flow_label.value().to_string());
    tell("ipv6.length", ip.payload_length.to_string());
}

fn add_tcp(tcp: &TcpHeader, tell: &mut Tell<'_>) {
    let flags = [(tcp.syn, 'S'), (tcp.fin, 'F'), (tcp.rst, 'R'), (tcp.psh, 'P'), (tcp.ack, 'A')];
    tell("tcp.port_from", tcp.source_port.to_string());
    tell("tcp.port_to", tcp.destination_port.to_string());
    tell("tcp.flags", flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect());
    tell("tcp.sequence", tcp.sequence_number.to_string());
    tell("tcp.acknowledged", tcp.acknowledgment_number.to_string());
    tell("tcp.window", tcp.window_size.to_string());
    tell("tcp.options", hex(tcp.options.as_slice()));
    tell("tcp.checksum", format!("{:#06x}", tcp.checksum));
}

/// The packet that a tunnel or an ICMP error has in it. GUE is a datagram like any other, as far as
/// its bytes tell.
fn inner<'a>(packet: &LaxPacketHeaders<'a>) -> Option<&'a [u8]> {
    const GRE_CHECKSUM: u8 = 0x80;
    let payload = packet.payload.slice();
    let protocol = match &packet.net {
        Some(NetHeaders::Ipv4(ip, _)) => ip.protocol.0,
        Some(NetHeaders::Ipv6(ip, _)) => ip.next_header.0,
        _ => return None,
    };
    match protocol {
        4 | 41 => Some(payload),
        47 => payload.get(if payload.first()? & GRE_CHECKSUM == 0 { 4 } else { 8 }..),
        1 | 58 if packet.transport.is_some() => Some(payload),
        _ => None,
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// The bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_differ_are_named() {
        let packet = |ttl, port, payload: &[u8]| {
            let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], ttl)
                .udp(port, 53);
            let mut frame = Vec::new();
            builder.write(&mut frame, payload).unwrap();
            frame
        };
        let names = |one: &[u8], other: &[u8]| {
            differences(one, other).into_iter().map(|field| field.field).collect::<Vec<_>>()
        };
        let one = packet(64, 1000, b"x");
        assert_eq!(names(&one, &one), Vec::<String>::new());
        assert_eq!(names(&one, &packet(63, 1000, b"x")), ["ipv4.ttl", "ipv4.checksum"]);
        assert_eq!(names(&one, &packet(64, 1001, b"x")), ["udp.port_from", "udp.checksum"]);
        assert_eq!(names(&one, &packet(64, 1000, b"y")), ["udp.checksum", "payload"]);
        let tunnel = |ttl| {
            let builder = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(
                [10, 0, 0, 3],
                [10, 0, 0, 4],
                64,
            );
            let mut frame = Vec::new();
            let inner = &packet(ttl, 1000, b"x")[14..];
            builder.write(&mut frame, etherparse::IpNumber::IPV4, inner).unwrap();
            frame
        };
        assert_eq!(names(&tunnel(64), &tunnel(63)), ["inner.ipv4.ttl", "inner.ipv4.checksum"]);
        assert!(!differences(&one, b"short").is_empty());
        assert!(line(&one).contains("ipv4.destination 10.0.0.2"));
    }
}
