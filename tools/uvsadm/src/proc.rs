//! The text of `/proc/net/ip_vs` and its like, to the byte as the kernel prints it: what monitoring
//! reads.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;

use crate::api::{
    Conn, Endpoint, Method, Netmask, Persistence, Protocol, Rates, Service, ServiceConfig,
    ServiceKey, Settings, Stats, Traffic,
};
use crate::listing::first_line;

/// The kernel's ticks a second, in which it prints the timeout of a persistent service.
const TICKS: u32 = 100;

/// A file of IPVS's under /proc/net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proc {
    /// `ip_vs`: services and servers.
    Services,
    /// `ip_vs_app`: the protocols whose packets are looked into, and how many connections use each.
    App,
    /// `ip_vs_conn`: connections.
    Conns,
    /// `ip_vs_conn_sync`: connections, and where each was opened.
    ConnsSync,
    /// `ip_vs_stats`: totals and rates over all services.
    Stats,
    /// `ip_vs_stats_percpu`: the same, with each worker's share.
    StatsPercpu,
}

impl Proc {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Services, Self::App, Self::Conns, Self::ConnsSync, Self::Stats, Self::StatsPercpu];

    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Services => "ip_vs",
            Self::App => "ip_vs_app",
            Self::Conns => "ip_vs_conn",
            Self::ConnsSync => "ip_vs_conn_sync",
            Self::Stats => "ip_vs_stats",
            Self::StatsPercpu => "ip_vs_stats_percpu",
        }
    }
}

/// By the file's name.
impl FromStr for Proc {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|file| file.name() == name).ok_or(())
    }
}

/// `ip_vs`; services in the engine's order.
pub fn services(settings: &Settings, services: &[Service]) -> String {
    let mut text = first_line(settings);
    text.push_str(
        "Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
    );
    for service in services {
        service_line(&mut text, &service.config);
        for dest in &service.dests {
            let end = endpoint(dest.config.endpoint());
            let (method, weight) = (dest.config.method, dest.config.weight);
            let (active, inactive) = (dest.active, dest.inactive);
            let _ = writeln!(
                text,
                "  -> {end}      {method:<7} {weight:<6} {active:<10} {inactive:<10}"
            );
        }
    }
    text
}

/// Only where the address is of IPv4, or a mark stands for it, there is a word for `-o`.
fn service_line(text: &mut String, config: &ServiceConfig) {
    let scheduler = &config.scheduler;
    let ops = if config.one_packet { "ops " } else { "" };
    let _ = match config.key {
        ServiceKey::Address { protocol, address: address @ IpAddr::V4(_), port } => {
            write!(text, "{protocol}  {} {scheduler} {ops} ", endpoint(Endpoint { address, port }))
        }
        ServiceKey::Address { protocol, address, port } => {
            write!(text, "{protocol}  {} {scheduler} ", endpoint(Endpoint { address, port }))
        }
        ServiceKey::Mark { mark, .. } => write!(text, "FWM  {mark:08X} {scheduler} {ops}"),
    };
    if let Some(Persistence { timeout, netmask }) = config.persistence {
        let timeout = u64::from(timeout) * u64::from(TICKS);
        let _ = write!(text, "persistent {timeout} {:08X}", mask(config, netmask));
    }
    text.push('\n');
}

/// A prefix stands in the first byte, for the kernel turns the bytes of either.
fn mask(config: &ServiceConfig, netmask: Option<Netmask>) -> u32 {
    match netmask {
        Some(Netmask::V4(mask)) => mask.to_bits(),
        Some(Netmask::V6(prefix)) => u32::from(prefix) << 24,
        None if config.key.is_ipv6() => 128 << 24,
        None => u32::MAX,
    }
}

/// FTP's port.
const FTP: u16 = 21;

/// Whether FTP's helper looks into a connection: it is to FTP's port, and by NAT.
pub fn is_of_ftp(conn: &Conn, services: &[Service]) -> bool {
    let is_service = |service: &&Service| {
        let key = &service.config.key;
        key.protocol() == conn.protocol && key.endpoint() == Some(conn.vip)
    };
    conn.protocol == Some(Protocol::Tcp)
        && conn.vip.port == FTP
        && services.iter().find(is_service).is_some_and(|service| {
            let masq = service.dests.iter().filter(|dest| dest.config.method == Method::Masq);
            masq.into_iter().any(|dest| dest.config.endpoint() == conn.dest)
        })
}

/// `ip_vs_app`, with so many connections of FTP.
pub fn app(ftp: usize) -> String {
    format!("prot port    usecnt name\nTCP  {FTP:<7} {ftp:<6} {:<17}\n", "ftp")
}

/// The line above the connections of `ip_vs_conn` and `ip_vs_conn_sync`.
pub fn conns_header(file: Proc) -> &'static str {
    match file {
        Proc::ConnsSync => {
            "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Origin Expires\n"
        }
        _ => "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n",
    }
}

/// A line of `ip_vs_conn` or `ip_vs_conn_sync`.
pub fn conn(file: Proc, conn: &Conn) -> String {
    let protocol = conn.protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.to_string());
    let mut text = format!("{protocol:<3}");
    for end in [conn.client, conn.vip, conn.dest] {
        let address = address(end.address);
        let _ = write!(text, " {address} {:04X}", end.port);
    }
    let (state, expires) = (&conn.state, conn.expires);
    let _ = match (file, &conn.pe) {
        // What other directors told of is not there yet: all were opened here.
        (Proc::ConnsSync, _) => writeln!(text, " {state:<11} LOCAL  {expires:7}"),
        (_, Some(pe)) => writeln!(text, " {state:<11} {expires:7} {} {}", pe.name, pe.data),
        (_, None) => writeln!(text, " {state:<11} {expires:7}"),
    };
    text
}

/// `ip_vs_stats`, or `ip_vs_stats_percpu` with a row a worker.
pub fn stats(file: Proc, traffic: &Traffic) -> String {
    let first = ["Total", "Incoming", "Outgoing", "Incoming", "Outgoing"];
    let second = ["Conns", "Packets", "Packets", "Bytes", "Bytes"];
    let rates_of = ["Conns/s", "Pkts/s", "Pkts/s", "Bytes/s", "Bytes/s"];
    let all = row(totals(traffic.stats));
    let (rates_names, rates) = (row(rates_of.map(String::from)), row(rates(traffic.rates)));
    let (first, second) = (row(first.map(String::from)), row(second.map(String::from)));
    if file != Proc::StatsPercpu {
        return format!("{first}\n{second}\n{all}\n\n{rates_names}\n{rates}\n");
    }
    let mut text = format!("    {first}\nCPU {second}\n");
    for (worker, share) in traffic.workers.iter().enumerate() {
        let _ = writeln!(text, "{worker:3X} {}", row(totals(*share)));
    }
    let _ = write!(text, "  ~ {all}\n\n    {rates_names}\n    {rates}\n");
    text
}

fn row([a, b, c, d, e]: [String; 5]) -> String {
    format!("{a:>8} {b:>8} {c:>8} {d:>16} {e:>16}")
}

fn totals(of: Stats) -> [String; 5] {
    [of.conns, of.in_pkts, of.out_pkts, of.in_bytes, of.out_bytes].map(|n| format!("{n:X}"))
}

fn rates(of: Rates) -> [String; 5] {
    [of.cps, of.in_pps, of.out_pps, of.in_bps, of.out_bps].map(|n| format!("{n:X}"))
}

fn endpoint(end: Endpoint) -> String {
    let address = address(end.address);
    match end.address {
        IpAddr::V4(_) => format!("{address}:{:04X}", end.port),
        IpAddr::V6(_) => format!("[{address}]:{:04X}", end.port),
    }
}

/// All digits of an address, nothing shortened.
fn address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{:08X}", v4.to_bits()),
        IpAddr::V6(v6) => v6.segments().map(|part| format!("{part:04x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Dest, DestConfig, Pe};

    fn v6(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn line(key: ServiceKey, set: impl Fn(&mut ServiceConfig)) -> String {
        let mut config = ServiceConfig::new(key, "wlc");
        set(&mut config);
        let mut text = String::new();
        service_line(&mut text, &config);
        text
    }

    /// Lines as Linux 6.1 printed them.
    #[test]
    fn services_are_written_as_by_the_kernel() {
        let ops = |config: &mut ServiceConfig| config.one_packet = true;
        let five = |config: &mut ServiceConfig| {
            config.one_packet = true;
            let netmask = Some(Netmask::V6(64));
            config.persistence = Some(Persistence { timeout: 5, netmask });
        };
        let key = ServiceKey::Mark { mark: 77, ipv6: false };
        assert_eq!(line(key, ops), "FWM  0000004D wlc ops \n");
        let key = ServiceKey::Mark { mark: 78, ipv6: true };
        assert_eq!(line(key, five), "FWM  0000004E wlc ops persistent 500 40000000\n");
        let key = ServiceKey::new(Protocol::Udp, v6("fd00::1"), 53);
        let expected = "UDP  [fd00:0000:0000:0000:0000:0000:0000:0001]:0035 wlc \n";
        assert_eq!(line(key, ops), expected);
        let key = ServiceKey::new(Protocol::Udp, [10, 0, 0, 1], 5060);
        assert_eq!(line(key, ops), "UDP  0A000001:13C4 wlc ops  \n");
        assert_eq!(line(key, |_| {}), "UDP  0A000001:13C4 wlc  \n");
    }

    #[test]
    fn servers_of_both_families_are_written_as_by_the_kernel() {
        let dest = |address: IpAddr, method, weight| {
            Dest::new(DestConfig { method, weight, ..DestConfig::new(address, 80) })
        };
        let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 80);
        let mut service = Service::new(ServiceConfig::new(key, "rr"));
        service.dests = vec![
            dest([10, 0, 1, 7].into(), Method::Masq, 2_000_000_000),
            dest(v6("fd00:2::1"), Method::Tunnel, 1),
        ];
        let settings = Settings { table_size: 4096, ..Settings::default() };
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000001:0050 rr  
  -> 0A000107:0050      Masq    2000000000 0          0         
  -> [fd00:0002:0000:0000:0000:0000:0000:0001]:0050      Tunnel  1      0          0         
";
        assert_eq!(services(&settings, &[service]), expected);
    }

    #[test]
    fn a_call_has_its_name_at_the_end() {
        let end = |last, port| Endpoint { address: [10, 0, 0, last].into(), port };
        let (client, vip, dest) = (end(9, 0), end(1, 5060), end(2, 5060));
        let pe = Some(Pe { name: "sip".into(), data: "aaa@x".into() });
        let (protocol, state) = (Some(Protocol::Udp), "NONE".to_owned());
        let call = Conn { protocol, client, vip, dest, state, expires: 59, pe };
        let expected =
            "UDP 0A000009 0000 0A000001 13C4 0A000002 13C4 NONE             59 sip aaa@x\n";
        assert_eq!(conn(Proc::Conns, &call), expected);
    }

    #[test]
    fn ftp_looks_into_connections_by_nat() {
        assert_eq!(app(0), "prot port    usecnt name\nTCP  21      0      ftp              \n");
        let end = |last, port| Endpoint { address: [10, 0, 0, last].into(), port };
        let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 21);
        let mut service = Service::new(ServiceConfig::new(key, "rr"));
        for (last, method) in [(2, Method::Masq), (3, Method::Route)] {
            let config = DestConfig { method, ..DestConfig::new([10, 0, 0, last], 21) };
            service.dests.push(Dest::new(config));
        }
        let of = |server, port| {
            let (client, vip, dest) = (end(9, 5), end(1, port), end(server, port));
            let (protocol, state) = (Some(Protocol::Tcp), "ESTABLISHED".to_owned());
            let conn = Conn { protocol, client, vip, dest, state, expires: 9, pe: None };
            is_of_ftp(&conn, std::slice::from_ref(&service))
        };
        assert!(of(2, 21) && !of(3, 21) && !of(2, 22));
    }

    #[test]
    fn every_file_is_known_by_its_name() {
        for file in Proc::ALL {
            assert_eq!(file.name().parse(), Ok(file));
        }
        assert_eq!("ip_vs_status".parse::<Proc>(), Err(()));
    }
}
