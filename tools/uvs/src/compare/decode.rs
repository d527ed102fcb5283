//! A frame in words, field by field, so that two can be told apart by a person.

use std::collections::BTreeMap;

use etherparse::{LaxPacketHeaders, LinkHeader, NetHeaders, TransportHeader};
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
    let mut tunnel = false;
    match &packet.net {
        Some(NetHeaders::Ipv4(ip, _)) => {
            tunnel = matches!(ip.protocol.0, 4 | 41);
            tell("ipv4.source", ip.source.map(|byte| byte.to_string()).join("."));
            tell("ipv4.destination", ip.destination.map(|byte| byte.to_string()).join("."));
            tell("ipv4.protocol", ip.protocol.0.to_string());
            tell("ipv4.ttl", ip.time_to_live.to_string());
            tell("ipv4.tos", format!("{:#04x}", u8::from(ip.dscp) << 2 | u8::from(ip.ecn)));
            tell("ipv4.length", ip.total_len.to_string());
            tell("ipv4.id", ip.identification.to_string());
            tell("ipv4.dont_fragment", ip.dont_fragment.to_string());
            tell("ipv4.more_fragments", ip.more_fragments.to_string());
            tell("ipv4.offset", ip.fragment_offset.to_string());
            tell("ipv4.options", hex(&ip.options));
            tell("ipv4.checksum", format!("{:#06x}", ip.header_checksum));
        }
        Some(NetHeaders::Ipv6(ip, _)) => {
            tunnel = matches!(ip.next_header.0, 4 | 41);
            tell("ipv6.source", ip.source_addr().to_string());
            tell("ipv6.destination", ip.destination_addr().to_string());
            tell("ipv6.protocol", ip.next_header.0.to_string());
            tell("ipv6.ttl", ip.hop_limit.to_string());
            tell("ipv6.class", format!("{:#04x}", ip.traffic_class));
            tell("ipv6.label", ip.flow_label.value().to_string());
            tell("ipv6.length", ip.payload_length.to_string());
        }
        Some(other) => tell("net", format!("{other:?}")),
        None => {}
    }
    match &packet.transport {
        Some(TransportHeader::Tcp(tcp)) => {
            let flags =
                [(tcp.syn, 'S'), (tcp.fin, 'F'), (tcp.rst, 'R'), (tcp.psh, 'P'), (tcp.ack, 'A')];
            tell("tcp.port_from", tcp.source_port.to_string());
            tell("tcp.port_to", tcp.destination_port.to_string());
            tell(
                "tcp.flags",
                flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect(),
            );
            tell("tcp.sequence", tcp.sequence_number.to_string());
            tell("tcp.acknowledged", tcp.acknowledgment_number.to_string());
            tell("tcp.window", tcp.window_size.to_string());
            tell("tcp.options", hex(tcp.options.as_slice()));
            tell("tcp.checksum", format!("{:#06x}", tcp.checksum));
        }
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
    let payload = packet.payload.slice();
    match LaxPacketHeaders::from_ip(payload) {
        Ok(inner) if tunnel => add(&format!("{prefix}inner."), &inner, fields),
        _ => fields.push((format!("{prefix}payload"), hex(payload))),
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
        assert!(!differences(&one, b"short").is_empty());
        assert!(line(&one).contains("ipv4.destination 10.0.0.2"));
    }
}
