//! A list that does not say what it should: the error names the attribute by the kernel's name.

use netlink_packet_core::{DefaultNla, NetlinkHeader, NetlinkPayload, Nla};
use uvs_ipvs::wire::{
    Attributes, Command, CommandAttribute, Content, DaemonAttribute, DestAttribute, MaskedFlags,
    Message, Nested, Packet, Port, ServiceAttribute, Stats64Attribute, StatsAttribute, emit, parse,
};
use uvs_ipvs::{
    AddressFamily, Connections, Daemon, DaemonState, Dest, DestKey, ForwardMethod, ListedDest,
    ListedService, Name, Service, ServiceFlags, ServiceKey, Stats, Timeouts, ValueError,
};

fn key() -> ServiceKey {
    let protocol = uvs_ipvs::Protocol::TCP;
    ServiceKey::Address { protocol, address: [10, 0, 0, 1].into(), port: 80 }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Without each attribute in turn, and with each in turn too short, reading fails and says which;
/// those named in `optional` may be missing.
fn faults<A: Nla + Clone, T: std::fmt::Debug>(
    list: &[A],
    raw: impl Fn(DefaultNla) -> A,
    read: impl Fn(&[A]) -> Result<T, ValueError>,
    names: &[&str],
    optional: &[&str],
) {
    assert_eq!(list.len(), names.len());
    read(list).unwrap();
    for (index, name) in names.iter().enumerate() {
        let mut without = list.to_vec();
        without.remove(index);
        match read(&without) {
            Err(ValueError::Missing { attribute }) => assert_eq!(attribute, *name),
            Ok(_) => assert!(optional.contains(name), "{name}"),
            Err(other) => panic!("{name}: {other}"),
        }
        let mut short = list.to_vec();
        short[index] = raw(DefaultNla::new(list[index].kind(), vec![]));
        match read(&short) {
            Err(ValueError::Malformed { attribute, length: 0 }) => assert_eq!(attribute, *name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn services() {
    let mut service = Service::new(key(), name("wlc"));
    service.persistence_engine = name("sip");
    let mut list = service.attributes();
    list.push(ServiceAttribute::Stats64(Nested { flag: false, attributes: wide() }));
    let names = [
        "IPVS_SVC_ATTR_AF",
        "IPVS_SVC_ATTR_PROTOCOL",
        "IPVS_SVC_ATTR_ADDR",
        "IPVS_SVC_ATTR_PORT",
        "IPVS_SVC_ATTR_SCHED_NAME",
        "IPVS_SVC_ATTR_PE_NAME",
        "IPVS_SVC_ATTR_FLAGS",
        "IPVS_SVC_ATTR_TIMEOUT",
        "IPVS_SVC_ATTR_NETMASK",
    ];
    let (said, optional) = (&list[..names.len()], ["IPVS_SVC_ATTR_PE_NAME"]);
    faults(said, ServiceAttribute::Other, Service::read, &names, &optional);
    assert_eq!(
        ListedService::read(said),
        Err(ValueError::Missing { attribute: "IPVS_SVC_ATTR_STATS64" })
    );
    assert_eq!(ListedService::read(&list), Ok(ListedService { service, stats: counted() }));
}

#[test]
fn dests() {
    let key = DestKey { address: [10, 0, 1, 1].into(), port: 80 };
    let dest = Dest::new(key, ForwardMethod::TUNNEL);
    let mut list = dest.attributes();
    list.extend([
        DestAttribute::Active(1),
        DestAttribute::Inactive(2),
        DestAttribute::Persistent(3),
        DestAttribute::Stats(Nested { flag: false, attributes: narrow() }),
    ]);
    let names = [
        "IPVS_DEST_ATTR_ADDR_FAMILY",
        "IPVS_DEST_ATTR_ADDR",
        "IPVS_DEST_ATTR_PORT",
        "IPVS_DEST_ATTR_FWD_METHOD",
        "IPVS_DEST_ATTR_WEIGHT",
        "IPVS_DEST_ATTR_TUN_TYPE",
        "IPVS_DEST_ATTR_TUN_PORT",
        "IPVS_DEST_ATTR_TUN_FLAGS",
        "IPVS_DEST_ATTR_U_THRESH",
        "IPVS_DEST_ATTR_L_THRESH",
        "IPVS_DEST_ATTR_ACTIVE_CONNS",
        "IPVS_DEST_ATTR_INACT_CONNS",
        "IPVS_DEST_ATTR_PERSIST_CONNS",
    ];
    let read = |list: &[DestAttribute]| ListedDest::read(list, AddressFamily::Inet);
    let optional = [names[0], names[5], names[6], names[7]];
    let stats = list.pop().unwrap();
    let with_stats = |list: &[DestAttribute]| read(&[list, std::slice::from_ref(&stats)].concat());
    faults(&list, DestAttribute::Other, with_stats, &names, &optional);
    let missing = ValueError::Missing { attribute: "IPVS_DEST_ATTR_STATS64" };
    assert_eq!(read(&list), Err(missing));
    let connections = Connections { active: 1, inactive: 2, persistent: 3 };
    let listed = ListedDest { dest, connections, stats: counted() };
    assert_eq!(with_stats(&list), Ok(listed));
}

/// Kernels that know neither tunnels nor mixed families say less.
#[test]
fn a_dest_of_an_old_kernel_has_the_services_family() {
    let address = {
        let mut union = [0; 16];
        union[15] = 1;
        DestAttribute::Address(union)
    };
    let list = [address, DestAttribute::Port(Port(80))];
    let key = DestKey::read(&list, AddressFamily::Inet6).unwrap();
    assert_eq!(key.to_string(), "[::1]:80");
}

#[test]
fn daemons() {
    let list = Daemon::new(DaemonState::Master, name("eth0")).attributes();
    let names =
        ["IPVS_DAEMON_ATTR_STATE", "IPVS_DAEMON_ATTR_MCAST_IFN", "IPVS_DAEMON_ATTR_SYNC_ID"];
    faults(&list, DaemonAttribute::Other, Daemon::read, &names, &[]);
    let mut list = list;
    list[0] = DaemonAttribute::State(3);
    let unknown = ValueError::Unknown { attribute: "IPVS_DAEMON_ATTR_STATE", value: 3 };
    assert_eq!(Daemon::read(&list), Err(unknown));
}

#[test]
fn timeouts() {
    let list = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 }.attributes();
    let names =
        ["IPVS_CMD_ATTR_TIMEOUT_TCP", "IPVS_CMD_ATTR_TIMEOUT_TCP_FIN", "IPVS_CMD_ATTR_TIMEOUT_UDP"];
    faults(&list, CommandAttribute::Other, Timeouts::read, &names, &[]);
}

#[test]
fn counters_of_both_widths() {
    let names = [
        "IPVS_STATS_ATTR_CONNS",
        "IPVS_STATS_ATTR_INPKTS",
        "IPVS_STATS_ATTR_OUTPKTS",
        "IPVS_STATS_ATTR_INBYTES",
        "IPVS_STATS_ATTR_OUTBYTES",
        "IPVS_STATS_ATTR_CPS",
        "IPVS_STATS_ATTR_INPPS",
        "IPVS_STATS_ATTR_OUTPPS",
        "IPVS_STATS_ATTR_INBPS",
        "IPVS_STATS_ATTR_OUTBPS",
    ];
    let service = |stats| {
        let mut list = Service::new(key(), name("rr")).attributes();
        list.push(stats);
        ListedService::read(&list)
    };
    let nested = |attributes: &[_]| Nested { flag: false, attributes: attributes.to_vec() };
    let read = |list: &[_]| service(ServiceAttribute::Stats64(nested(list)));
    faults(&wide(), Stats64Attribute::Other, read, &names, &[]);
    let nested = |attributes: &[_]| Nested { flag: false, attributes: attributes.to_vec() };
    let read = |list: &[_]| service(ServiceAttribute::Stats(nested(list)));
    faults(&narrow(), StatsAttribute::Other, read, &names, &[]);
}

#[test]
fn of_two_attributes_of_a_kind_the_last_counts() {
    let mut list = Service::new(key(), name("rr")).attributes();
    list.push(ServiceAttribute::Scheduler("wlc".into()));
    assert_eq!(Service::read(&list).unwrap().scheduler, name("wlc"));
}

#[test]
fn what_the_kernel_would_not_say_is_refused() {
    let with = |attribute| {
        let mut list = Service::new(key(), name("rr")).attributes();
        list.push(attribute);
        Service::read(&list).unwrap_err().to_string()
    };
    assert_eq!(with(ServiceAttribute::Af(7)), "IPVS_SVC_ATTR_AF is 7, which is not known");
    let long = "sixteen-bytes-xx";
    assert_eq!(
        with(ServiceAttribute::Scheduler(long.into())),
        "IPVS_SVC_ATTR_SCHED_NAME is \"sixteen-bytes-xx\", which is too long"
    );
}

#[test]
fn a_name_ends_at_its_zero_byte_and_nowhere_before() {
    for bytes in [&b"rr"[..], b"r\0r\0", b"\xff\0", b""] {
        let mut list = Service::new(key(), name("rr")).attributes();
        list.push(ServiceAttribute::Other(DefaultNla::new(6, bytes.to_vec())));
        let packet = Packet::new(
            NetlinkHeader::default(),
            Content::ipvs(Message::new(Command::NEW_SERVICE, vec![service(list)]), 28).into(),
        );
        let again = parse(&emit(&[packet])).unwrap().remove(0);
        let NetlinkPayload::InnerMessage(Content::Ipvs(message)) = again.payload else { panic!() };
        let Attributes::Command(list) = message.payload.attributes else { panic!() };
        let [CommandAttribute::Service(list)] = &list[..] else { panic!() };
        let malformed =
            ValueError::Malformed { attribute: "IPVS_SVC_ATTR_SCHED_NAME", length: bytes.len() };
        assert_eq!(Service::read(&list.attributes), Err(malformed));
    }
}

fn service(list: Vec<ServiceAttribute>) -> CommandAttribute {
    CommandAttribute::Service(Nested::flagged(list))
}

/// The mark of a service in the kernel's table is no configuration; other bits are.
#[test]
fn the_kernels_own_flag_is_left_out() {
    let mut list = Service::new(key(), name("rr")).attributes();
    list.push(ServiceAttribute::Flags(MaskedFlags { flags: 0xff07, mask: !0 }));
    let flags = Service::read(&list).unwrap().flags;
    let named = ServiceFlags::PERSISTENT | ServiceFlags::ONE_PACKET;
    assert_eq!(flags, named | ServiceFlags::from_bits_retain(0xff00));
}

fn counted() -> Stats {
    Stats {
        connections: 1,
        in_packets: 2,
        out_packets: 3,
        in_bytes: 4,
        out_bytes: 5,
        connection_rate: 6,
        in_packet_rate: 7,
        out_packet_rate: 8,
        in_byte_rate: 9,
        out_byte_rate: 10,
    }
}

fn wide() -> Vec<Stats64Attribute> {
    use Stats64Attribute as A;
    vec![
        A::Connections(1),
        A::InPackets(2),
        A::OutPackets(3),
        A::InBytes(4),
        A::OutBytes(5),
        A::ConnectionRate(6),
        A::InPacketRate(7),
        A::OutPacketRate(8),
        A::InByteRate(9),
        A::OutByteRate(10),
    ]
}

fn narrow() -> Vec<StatsAttribute> {
    use StatsAttribute as A;
    vec![
        A::Connections(1),
        A::InPackets(2),
        A::OutPackets(3),
        A::InBytes(4),
        A::OutBytes(5),
        A::ConnectionRate(6),
        A::InPacketRate(7),
        A::OutPacketRate(8),
        A::InByteRate(9),
        A::OutByteRate(10),
    ]
}
