//! The client against the kernel at hand. It needs ip_vs, root, and a network namespace without
//! services: `unshare -n target/debug/deps/kernel-... --ignored`.

use std::net::IpAddr;

use uvs_ipvs::{
    AddressFamily, Client, Daemon, DaemonState, Dest, DestKey, Error, ForwardMethod, Name, Netmask,
    Protocol, Service, ServiceFlags, ServiceKey, Stats, Timeouts, Tunnel, TunnelFlags, TunnelType,
};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(protocol: Protocol, address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, address: address.parse().unwrap(), port }
}

fn at(address: &str, port: u16) -> DestKey {
    DestKey { address: address.parse::<IpAddr>().unwrap(), port }
}

/// One service of each kind.
fn services() -> Vec<Service> {
    let plain = Service::new(key(Protocol::TCP, "10.0.0.1", 80), name("rr"));
    let mut persistent = Service::new(key(Protocol::TCP, "fd00::1", 443), name("mh"));
    persistent.flags = ServiceFlags::PERSISTENT | ServiceFlags::SCHED1 | ServiceFlags::SCHED2;
    persistent.timeout = 300;
    persistent.netmask = Netmask::Prefix(64);
    let mut sip = Service::new(key(Protocol::UDP, "10.0.0.1", 5060), name("wlc"));
    sip.flags = ServiceFlags::PERSISTENT | ServiceFlags::ONE_PACKET;
    sip.timeout = 60;
    sip.netmask = Netmask::Mask([255, 255, 255, 0].into());
    sip.persistence_engine = name("sip");
    let sctp = Service::new(key(Protocol::SCTP, "10.0.0.1", 99), name("wrr"));
    let mark = |family| Service::new(ServiceKey::Mark { family, mark: 7 }, name("sh"));
    vec![plain, persistent, sip, sctp, mark(AddressFamily::Inet), mark(AddressFamily::Inet6)]
}

/// One destination of each kind, of an IPv4 service.
fn dests() -> Vec<Dest> {
    let new = |address, method| Dest::new(at(address, 80), method);
    let mut limited = new("10.0.1.1", ForwardMethod::DIRECT_ROUTE);
    (limited.weight, limited.upper_threshold, limited.lower_threshold) = (65536, 100, 50);
    let mut masq = new("10.0.1.2", ForwardMethod::MASQ);
    (masq.key.port, masq.weight) = (8080, 0);
    let mut gue = new("10.0.1.3", ForwardMethod::TUNNEL);
    gue.tunnel = Tunnel { kind: TunnelType::GUE, port: 6080, flags: TunnelFlags::REMCSUM };
    let mut gre = new("10.0.1.4", ForwardMethod::TUNNEL);
    gre.tunnel = Tunnel { kind: TunnelType::GRE, port: 0, flags: TunnelFlags::CSUM };
    vec![limited, masq, gue, gre, new("fd00:2::5", ForwardMethod::TUNNEL)]
}

fn sorted<T, K: Ord>(list: impl IntoIterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut list: Vec<_> = list.into_iter().collect();
    list.sort_by_key(key);
    list
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> (i32, String) {
    let error = result.unwrap_err();
    match error {
        Error::Refused { errno, .. } => (errno, error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn open() -> Client {
    let mut ipvs = Client::open().unwrap();
    let services = ipvs.services().unwrap();
    assert!(services.is_empty(), "there are services; run it in a namespace of its own");
    ipvs
}

#[test]
#[ignore = "needs root and a kernel with ip_vs"]
fn the_kernel_says_back_what_it_was_told() {
    let mut ipvs = open();
    assert_eq!(ipvs.info().unwrap().version >> 16, 1);
    services_are_kept(&mut ipvs);
    dests_are_kept(&mut ipvs);
    many_dests_are_listed(&mut ipvs);
    timeouts_are_kept(&mut ipvs);
    ipvs.flush().unwrap();
    assert!(ipvs.services().unwrap().is_empty());
    daemons_are_kept(&mut ipvs);
}

fn services_are_kept(ipvs: &mut Client) {
    let mut told = sorted(services(), |service| service.key);
    for service in &told {
        ipvs.add_service(service).unwrap();
        let listed = ipvs.service(&service.key).unwrap();
        assert_eq!((listed.service, listed.stats), (*service, Stats::default()));
    }
    assert_eq!(errno(ipvs.add_service(&told[0])), (libc::EEXIST, "Service already exists".into()));
    for service in &mut told {
        service.scheduler = name("lc");
        ipvs.set_service(service).unwrap();
    }
    let listed = ipvs.services().unwrap().into_iter().map(|listed| listed.service);
    assert_eq!(sorted(listed, |service| service.key), told);
    let mut unknown = told[0];
    unknown.scheduler = name("nosuch");
    let text = "Scheduler or persistence engine not found".to_owned();
    assert_eq!(errno(ipvs.set_service(&unknown)), (libc::ENOENT, text));
    let gone = told.pop().unwrap().key;
    ipvs.del_service(&gone).unwrap();
    let no_such = (libc::ESRCH, "No such service".to_owned());
    assert_eq!(errno(ipvs.del_service(&gone)), no_such);
    assert_eq!(errno(ipvs.service(&gone)), no_such);
    assert_eq!(errno(ipvs.zero(Some(&gone))), no_such);
    ipvs.zero(Some(&told[0].key)).unwrap();
    ipvs.zero(None).unwrap();
    assert!(ipvs.dests(&gone).unwrap().is_empty());
}

fn dests_are_kept(ipvs: &mut Client) {
    let service = key(Protocol::TCP, "10.0.0.1", 80);
    let mut told = dests();
    for dest in &told {
        ipvs.add_dest(&service, dest).unwrap();
    }
    let exists = (libc::EEXIST, "Destination already exists".to_owned());
    assert_eq!(errno(ipvs.add_dest(&service, &told[0])), exists);
    let mut heavy = told[0];
    heavy.weight = 1 << 31;
    let range = (libc::ERANGE, "Numerical result out of range".to_owned());
    assert_eq!(errno(ipvs.set_dest(&service, &heavy)), range);
    for dest in &mut told {
        dest.weight += 5;
        ipvs.set_dest(&service, dest).unwrap();
    }
    let listed = ipvs.dests(&service).unwrap();
    let newest_first: Vec<_> = told.iter().rev().copied().collect();
    assert_eq!(listed.iter().map(|listed| listed.dest).collect::<Vec<_>>(), newest_first);
    for dest in &told {
        ipvs.del_dest(&service, &dest.key).unwrap();
    }
    let no_such = (libc::ENOENT, "No such destination".to_owned());
    assert_eq!(errno(ipvs.del_dest(&service, &told[0].key)), no_such);
    let elsewhere = key(Protocol::UDP, "10.9.9.9", 9);
    let no_service = (libc::ESRCH, "Service not defined".to_owned());
    assert_eq!(errno(ipvs.add_dest(&elsewhere, &told[0])), no_service);
}

/// More than fits into one datagram.
fn many_dests_are_listed(ipvs: &mut Client) {
    let service = key(Protocol::TCP, "10.0.0.1", 80);
    let dest = |n: u16| Dest::new(at("10.0.1.1", n), ForwardMethod::DIRECT_ROUTE);
    for n in 1..=3000 {
        ipvs.add_dest(&service, &dest(n)).unwrap();
    }
    let listed = ipvs.dests(&service).unwrap();
    let ports: Vec<_> = listed.iter().map(|listed| listed.dest.key.port).collect();
    assert_eq!(ports, (1..=3000).rev().collect::<Vec<_>>());
}

fn timeouts_are_kept(ipvs: &mut Client) {
    let before = ipvs.timeouts().unwrap();
    ipvs.set_timeouts(&Timeouts { tcp: 0, tcp_fin: 77, udp: 0 }).unwrap();
    assert_eq!(ipvs.timeouts().unwrap(), Timeouts { tcp_fin: 77, ..before });
    ipvs.set_timeouts(&before).unwrap();
    assert_eq!(ipvs.timeouts().unwrap(), before);
}

fn daemons_are_kept(ipvs: &mut Client) {
    let mut master = Daemon::new(DaemonState::Master, name("lo"));
    (master.sync_id, master.max_length) = (77, 1400);
    (master.group, master.port, master.ttl) = (Some([224, 0, 1, 9].into()), 9999, 5);
    ipvs.start_daemon(&master).unwrap();
    assert_eq!(errno(ipvs.start_daemon(&master)).1, "Daemon has already run");
    assert_eq!(ipvs.daemons().unwrap(), [master]);
    ipvs.stop_daemon(DaemonState::Master).unwrap();
    assert_eq!(errno(ipvs.stop_daemon(DaemonState::Master)).1, "No daemon is running");
    let mut backup = Daemon::new(DaemonState::Backup, name("lo"));
    ipvs.start_daemon(&backup).unwrap();
    let [listed] = ipvs.daemons().unwrap()[..] else { panic!("one daemon") };
    (backup.max_length, backup.port, backup.ttl) = (listed.max_length, 8848, 1);
    backup.group = Some([224, 0, 0, 81].into());
    assert_eq!(listed, backup);
    ipvs.stop_daemon(DaemonState::Backup).unwrap();
    backup.interface = name("nosuch");
    assert_eq!(errno(ipvs.start_daemon(&backup)).1, "No such device");
}
