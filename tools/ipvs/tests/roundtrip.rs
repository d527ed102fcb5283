//! Whatever can be said is read back the same, and no bytes make the codec panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLA_F_NET_BYTEORDER, NetlinkHeader};
use netlink_packet_generic::{GenlHeader, GenlMessage};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uvs_ipvs::wire::{
    Attributes, Command, CommandAttribute, Content, DaemonAttribute, DestAttribute,
    FamilyAttribute, FamilyMessage, InfoAttribute, MaskedFlags, Message, Nested, Packet, Port,
    ServiceAttribute, Stats64Attribute, StatsAttribute, emit, parse,
};
use uvs_ipvs::{
    AddressFamily, Daemon, DaemonState, Dest, DestKey, ForwardMethod, ListedDest, ListedService,
    Name, Netmask, Protocol, Service, ServiceFlags, ServiceKey, Timeouts, Tunnel, TunnelFlags,
    TunnelType,
};

/// An attribute of a kind that no list knows.
fn other() -> impl Strategy<Value = DefaultNla> {
    let flags = prop_oneof![Just(0), Just(NLA_F_NESTED), Just(NLA_F_NET_BYTEORDER)];
    (100..0x3fff_u16, flags, vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, value)| DefaultNla::new(kind | flags, value))
}

fn nested<A: std::fmt::Debug + Clone>(
    attribute: impl Strategy<Value = A>,
) -> impl Strategy<Value = Nested<A>> {
    (any::<bool>(), vec(attribute, 0..6)).prop_map(|(flag, attributes)| Nested { flag, attributes })
}

fn text() -> impl Strategy<Value = String> {
    "[^\\x00]{0,20}"
}

fn port() -> impl Strategy<Value = Port> {
    any::<u16>().prop_map(Port)
}

fn stats() -> impl Strategy<Value = StatsAttribute> {
    use StatsAttribute as A;
    prop_oneof![
        any::<u32>().prop_map(A::Connections),
        any::<u32>().prop_map(A::InPackets),
        any::<u32>().prop_map(A::OutPackets),
        any::<u64>().prop_map(A::InBytes),
        any::<u64>().prop_map(A::OutBytes),
        any::<u32>().prop_map(A::ConnectionRate),
        any::<u32>().prop_map(A::InPacketRate),
        any::<u32>().prop_map(A::OutPacketRate),
        any::<u32>().prop_map(A::InByteRate),
        any::<u32>().prop_map(A::OutByteRate),
        Just(A::Pad(())),
        other().prop_map(A::Other),
    ]
}

fn stats64() -> impl Strategy<Value = Stats64Attribute> {
    use Stats64Attribute as A;
    prop_oneof![
        any::<u64>().prop_map(A::Connections),
        any::<u64>().prop_map(A::InPackets),
        any::<u64>().prop_map(A::OutPackets),
        any::<u64>().prop_map(A::InBytes),
        any::<u64>().prop_map(A::OutBytes),
        any::<u64>().prop_map(A::ConnectionRate),
        any::<u64>().prop_map(A::InPacketRate),
        any::<u64>().prop_map(A::OutPacketRate),
        any::<u64>().prop_map(A::InByteRate),
        any::<u64>().prop_map(A::OutByteRate),
        Just(A::Pad(())),
        other().prop_map(A::Other),
    ]
}

fn service_attribute() -> impl Strategy<Value = ServiceAttribute> {
    use ServiceAttribute as A;
    let flags = any::<(u32, u32)>().prop_map(|(flags, mask)| MaskedFlags { flags, mask });
    prop_oneof![
        any::<u16>().prop_map(A::Af),
        any::<u16>().prop_map(A::Protocol),
        any::<[u8; 16]>().prop_map(A::Address),
        port().prop_map(A::Port),
        any::<u32>().prop_map(A::Fwmark),
        text().prop_map(A::Scheduler),
        flags.prop_map(A::Flags),
        any::<u32>().prop_map(A::Timeout),
        any::<[u8; 4]>().prop_map(A::Netmask),
        nested(stats()).prop_map(A::Stats),
        text().prop_map(A::PersistenceEngine),
        nested(stats64()).prop_map(A::Stats64),
        other().prop_map(A::Other),
    ]
}

fn dest_attribute() -> impl Strategy<Value = DestAttribute> {
    use DestAttribute as A;
    prop_oneof![
        any::<[u8; 16]>().prop_map(A::Address),
        port().prop_map(A::Port),
        any::<u32>().prop_map(A::Method),
        any::<u32>().prop_map(A::Weight),
        any::<u32>().prop_map(A::UpperThreshold),
        any::<u32>().prop_map(A::LowerThreshold),
        any::<u32>().prop_map(A::Active),
        any::<u32>().prop_map(A::Inactive),
        any::<u32>().prop_map(A::Persistent),
        nested(stats()).prop_map(A::Stats),
        any::<u16>().prop_map(A::AddressFamily),
        nested(stats64()).prop_map(A::Stats64),
        any::<u8>().prop_map(A::TunnelType),
        port().prop_map(A::TunnelPort),
        any::<u16>().prop_map(A::TunnelFlags),
        other().prop_map(A::Other),
    ]
}

fn daemon_attribute() -> impl Strategy<Value = DaemonAttribute> {
    use DaemonAttribute as A;
    prop_oneof![
        any::<u32>().prop_map(A::State),
        text().prop_map(A::Interface),
        any::<u32>().prop_map(A::SyncId),
        any::<u16>().prop_map(A::MaxLength),
        any::<Ipv4Addr>().prop_map(A::Group),
        any::<Ipv6Addr>().prop_map(A::Group6),
        any::<u16>().prop_map(A::Port),
        any::<u8>().prop_map(A::Ttl),
        other().prop_map(A::Other),
    ]
}

fn command_attribute() -> impl Strategy<Value = CommandAttribute> {
    use CommandAttribute as A;
    prop_oneof![
        nested(service_attribute()).prop_map(A::Service),
        nested(dest_attribute()).prop_map(A::Dest),
        nested(daemon_attribute()).prop_map(A::Daemon),
        any::<u32>().prop_map(A::TimeoutTcp),
        any::<u32>().prop_map(A::TimeoutTcpFin),
        any::<u32>().prop_map(A::TimeoutUdp),
        other().prop_map(A::Other),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    use InfoAttribute as A;
    let info = prop_oneof![
        any::<u32>().prop_map(A::Version),
        any::<u32>().prop_map(A::ConnectionTableSize),
        other().prop_map(A::Other),
    ];
    let command = any::<u8>()
        .prop_map(Command)
        .prop_filter("other attributes", |command| *command != Command::SET_INFO);
    prop_oneof![
        4 => (command, vec(command_attribute(), 0..4))
            .prop_map(|(command, list)| Message::new(command, list)),
        1 => vec(info, 0..4).prop_map(Message::info),
    ]
}

fn family_message() -> impl Strategy<Value = FamilyMessage> {
    use FamilyAttribute as A;
    let attribute = prop_oneof![
        any::<u16>().prop_map(A::Id),
        text().prop_map(A::Name),
        any::<u32>().prop_map(A::Version),
        any::<u32>().prop_map(A::HeaderSize),
        any::<u32>().prop_map(A::MaxAttribute),
        other().prop_map(A::Other),
    ];
    (any::<u8>(), vec(attribute, 0..6))
        .prop_map(|(command, attributes)| FamilyMessage { command, attributes })
}

fn packet() -> impl Strategy<Value = Packet> {
    let ipvs = (message(), any::<u8>(), 17..u16::MAX).prop_map(|(message, version, family)| {
        let header = GenlHeader { cmd: message.command.0, version };
        Content::Ipvs(GenlMessage::new(header, message, family))
    });
    let family = (family_message(), any::<u8>()).prop_map(|(message, version)| {
        let header = GenlHeader { cmd: message.command, version };
        Content::Family(GenlMessage::new(header, message, 16))
    });
    let header = any::<(u16, u32, u32)>().prop_map(|(flags, sequence, port)| {
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number, header.port_number) = (flags, sequence, port);
        header
    });
    (header, prop_oneof![9 => ipvs, 1 => family]).prop_map(|(header, content)| {
        let mut packet = Packet::new(header, content.into());
        packet.finalize();
        packet
    })
}

fn family() -> impl Strategy<Value = AddressFamily> {
    prop_oneof![Just(AddressFamily::Inet), Just(AddressFamily::Inet6)]
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9.-]{0,15}".prop_map(|text| text.parse().unwrap())
}

fn service_key() -> impl Strategy<Value = ServiceKey> {
    let address =
        (any::<u16>(), any::<IpAddr>(), any::<u16>()).prop_map(|(protocol, address, port)| {
            ServiceKey::Address { protocol: Protocol(protocol), address, port }
        });
    let mark =
        (family(), any::<u32>()).prop_map(|(family, mark)| ServiceKey::Mark { family, mark });
    prop_oneof![address, mark]
}

fn service() -> impl Strategy<Value = Service> {
    let rest = (name(), any::<u32>(), any::<u32>(), any::<u32>(), name());
    (service_key(), rest).prop_map(|(key, (scheduler, flags, timeout, netmask, engine))| Service {
        key,
        scheduler,
        // 2 is the kernel's own.
        flags: ServiceFlags::from_bits_retain(flags & !2),
        timeout,
        netmask: match key.family() {
            AddressFamily::Inet => Netmask::Mask(Ipv4Addr::from_bits(netmask)),
            AddressFamily::Inet6 => Netmask::Prefix(netmask),
        },
        persistence_engine: engine,
    })
}

fn dest() -> impl Strategy<Value = Dest> {
    let key = any::<(IpAddr, u16)>().prop_map(|(address, port)| DestKey { address, port });
    let tunnel = any::<(u8, u16, u16)>().prop_map(|(kind, port, flags)| Tunnel {
        kind: TunnelType(kind),
        port,
        flags: TunnelFlags::from_bits_retain(flags),
    });
    (key, any::<(u32, u32, u32, u32)>(), tunnel).prop_map(
        |(key, (method, weight, upper_threshold, lower_threshold), tunnel)| Dest {
            key,
            method: ForwardMethod(method),
            weight,
            upper_threshold,
            lower_threshold,
            tunnel,
        },
    )
}

fn daemon() -> impl Strategy<Value = Daemon> {
    let state = prop_oneof![Just(DaemonState::Master), Just(DaemonState::Backup)];
    (state, name(), option::of(any::<IpAddr>()), any::<(u32, u16, u16, u8)>()).prop_map(
        |(state, interface, group, (sync_id, max_length, port, ttl))| Daemon {
            state,
            interface,
            sync_id,
            max_length,
            group,
            port,
            ttl,
        },
    )
}

/// Reads as values whatever can be read; only that it does not panic counts.
fn read_values(packets: &[Packet]) {
    for packet in packets {
        let netlink_packet_core::NetlinkPayload::InnerMessage(Content::Ipvs(message)) =
            &packet.payload
        else {
            continue;
        };
        let Attributes::Command(list) = &message.payload.attributes else { continue };
        let _ = Timeouts::read(list);
        for attribute in list {
            match attribute {
                CommandAttribute::Service(list) => {
                    let _ = ListedService::read(&list.attributes);
                }
                CommandAttribute::Dest(list) => {
                    let _ = ListedDest::read(&list.attributes, AddressFamily::Inet6);
                }
                CommandAttribute::Daemon(list) => {
                    let _ = Daemon::read(&list.attributes);
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(packets in vec(packet(), 1..3)) {
        prop_assert_eq!(parse(&emit(&packets)).unwrap(), packets);
    }

    #[test]
    fn services_are_read_as_they_were_said(service in service()) {
        prop_assert_eq!(Service::read(&service.attributes()), Ok(service));
        prop_assert_eq!(ServiceKey::read(&service.attributes()), Ok(service.key));
        prop_assert_eq!(ServiceKey::read(&service.key.attributes()), Ok(service.key));
    }

    #[test]
    fn dests_are_read_as_they_were_said(dest in dest(), family in family()) {
        prop_assert_eq!(Dest::read(&dest.attributes(), family), Ok(dest));
        prop_assert_eq!(DestKey::read(&dest.key.attributes(), family), Ok(dest.key));
    }

    #[test]
    fn daemons_are_read_as_they_were_said(daemon in daemon()) {
        prop_assert_eq!(Daemon::read(&daemon.attributes()), Ok(daemon));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(packets) = parse(&bytes) {
            read_values(&packets);
            emit(&packets);
        }
    }

    /// Damage in the middle of a good message: read or refused; and what is read is written back
    /// byte for byte but for the generic header's reserved bytes, which are written as zero.
    #[test]
    fn what_is_damaged_is_refused_or_kept(
        packet in packet(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = emit(&[packet]);
        for (index, byte) in damage {
            // The length in front stays: with another one nothing is left to look at.
            let index = index.index(bytes.len() - 4) + 4;
            bytes[index] = byte;
        }
        if let Ok(packets) = parse(&bytes) {
            read_values(&packets);
            let again = emit(&packets);
            // Types below 16 are netlink's own: not all have a payload.
            if bytes[4] >= 16 || bytes[5] != 0 {
                prop_assert_eq!(parse(&again).unwrap(), packets);
                bytes[18..20].fill(0);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
