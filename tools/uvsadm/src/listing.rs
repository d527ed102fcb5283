//! The text of `-L`, to the byte as ipvsadm 1.31 prints it.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::api::{
    Conn, Dest, DestConfig, Endpoint, Method, Persistence, Protocol, Rates, Service, ServiceConfig,
    ServiceKey, Settings, Stats, Tunnel, TunnelChecksum, TunnelKind,
};
use crate::command::{Form, List};
use crate::names::{Names, Numeric};
use crate::order;

/// The version of IPVS that uvs speaks as.
const IPVS_VERSION: &str = "1.2.1";

/// The table of services in the form that `list` asks for: all of it, or one service without the
/// first line. `None` when that service does not exist: ipvsadm then prints
/// [`NO_SUCH_SERVICE`](crate::api::NO_SUCH_SERVICE) and exits with 1.
pub fn services(
    list: &List,
    settings: &Settings,
    services: &[Service],
    names: &dyn Names,
) -> Option<String> {
    let names = if list.numeric { &Numeric } else { names };
    let chosen = chosen(list, services)?;
    let mut text = String::new();
    if list.service.is_none() {
        text.push_str(&first_line(settings));
    }
    text.push_str(&header(list.form));
    for service in chosen {
        text.push_str(&service_line(list, service, names));
        let protocol = service.config.key.protocol();
        let dests =
            if list.sorted { order::dests(&service.dests) } else { service.dests.iter().collect() };
        for dest in dests {
            text.push_str(&dest_line(list, dest, protocol, names));
        }
    }
    Some(text)
}

/// The services that `list` asks for, in its order; `None` when the one that it names does not
/// exist.
pub fn chosen<'a>(list: &List, services: &'a [Service]) -> Option<Vec<&'a Service>> {
    let chosen = services.iter().filter(|s| list.service.is_none_or(|key| s.config.key == key));
    let chosen: Vec<_> = if list.sorted { order::services(chosen) } else { chosen.collect() };
    (list.service.is_none() || !chosen.is_empty()).then_some(chosen)
}

/// The first line of every table of services.
pub(crate) fn first_line(settings: &Settings) -> String {
    format!("IP Virtual Server version {IPVS_VERSION} (size={})\n", settings.table_size)
}

/// The two lines above a table of connections.
pub fn connections_header(list: &List) -> String {
    let pe =
        if list.form == Form::ConnectionsWithPe { "        pe name          pe_data" } else { "" };
    format!(
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination{pe}\n"
    )
}

/// A line of the table of connections; they come in the engine's order.
pub fn connection(list: &List, conn: &Conn, names: &dyn Names) -> String {
    let names = if list.numeric { &Numeric } else { names };
    let name = |end| endpoint(end, conn.protocol, names);
    let protocol = conn.protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.to_string());
    let mut text = format!(
        "{protocol:<3} {:02}:{:02}  {:<11} {:<18} {:<18} ",
        conn.expires / 60,
        conn.expires % 60,
        conn.state,
        name(conn.client),
        name(conn.vip),
    );
    let dest = name(conn.dest);
    let _ = match &conn.pe {
        Some(pe) if list.form == Form::ConnectionsWithPe => {
            writeln!(text, "{dest:<16} {:<18} {}", pe.name, pe.data)
        }
        _ => writeln!(text, "{dest}"),
    };
    text
}

/// The timeouts (`-L --timeout`).
pub fn timeouts(settings: &Settings) -> String {
    let timeouts = settings.timeouts;
    format!("Timeout (tcp tcpfin udp): {} {} {}\n", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
}

/// `address:port`, by names if there are any; IPv6 addresses in brackets.
pub(crate) fn endpoint(end: Endpoint, protocol: Option<Protocol>, names: &dyn Names) -> String {
    let host = match (names.host_name(end.address), end.address) {
        (Some(name), IpAddr::V4(_)) => name,
        (Some(name), IpAddr::V6(_)) => format!("[{name}]"),
        (None, IpAddr::V4(address)) => address.to_string(),
        (None, IpAddr::V6(address)) => format!("[{address}]"),
    };
    let port = protocol.and_then(|protocol| names.port_name(end.port, protocol));
    format!("{host}:{}", port.unwrap_or_else(|| end.port.to_string()))
}

fn header(form: Form) -> String {
    let first = match form {
        Form::Stats => ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"],
        Form::Rate => ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"],
        Form::Thresholds => return wide_header("Uthreshold", "Lthreshold", 10),
        Form::PersistentConn => return wide_header("Weight   ", "PersistConn", 9),
        Form::TunInfo => {
            return "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           \
                    Forward TunnelInfo    Weight ActiveConn InActConn\n"
                .to_owned();
        }
        _ => {
            return "Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
                .to_owned();
        }
    };
    let mut text = format!("{:<33}", "Prot LocalAddress:Port");
    for column in first {
        let _ = write!(text, " {column:>8}");
    }
    text + "\n  -> RemoteAddress:Port\n"
}

fn wide_header(one: &str, two: &str, width: usize) -> String {
    format!(
        "{:<33} {one:<width$} {two:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
        "Prot LocalAddress:Port", "ActiveConn", "InActConn"
    )
}

fn service_line(list: &List, service: &Service, names: &dyn Names) -> String {
    let config = &service.config;
    let name = match config.key {
        ServiceKey::Address { protocol, address, port } => {
            format!("{protocol:<4} {}", endpoint(Endpoint { address, port }, Some(protocol), names))
        }
        // ipvsadm prints a mark with its sign.
        ServiceKey::Mark { mark, ipv6 } => {
            format!("FWM  {}{}", mark.cast_signed(), if ipv6 { " IPv6" } else { "" })
        }
    };
    match list.form {
        Form::Stats => format!("{name:<33}{}\n", figures(&totals(service.stats), list.exact)),
        Form::Rate => format!("{name:<33}{}\n", figures(&rates(service.rates), list.exact)),
        _ => format!("{name} {}{}\n", config.scheduler, flags(config)),
    }
}

/// What a service has besides its scheduler.
fn flags(config: &ServiceConfig) -> String {
    let mut text = String::new();
    if !config.flags.is_empty() {
        let _ = write!(text, " ({})", config.flags.join(","));
    }
    if let Some(Persistence { timeout, netmask }) = config.persistence {
        let _ = write!(text, " persistent {timeout}");
        if let Some(mask) = netmask {
            let _ = write!(text, " mask {mask}");
        }
    }
    if let Some(pe) = &config.pe {
        let _ = write!(text, " pe {pe}");
    }
    if config.one_packet {
        text.push_str(" ops");
    }
    if let Some(timeouts) = config.conn_timeouts {
        let _ = write!(text, " conn-timeout {timeouts}");
    }
    if let Some(clamp) = config.mss_clamp {
        let _ = write!(text, " mss-clamp {clamp}");
    }
    text
}

fn dest_line(list: &List, dest: &Dest, protocol: Option<Protocol>, names: &dyn Names) -> String {
    let config = &dest.config;
    let name = format!("  -> {:<28}", endpoint(config.endpoint(), protocol, names));
    let (active, inactive) = (dest.active, dest.inactive);
    let (method, weight) = (config.method, config.weight);
    match list.form {
        Form::Stats => format!("{name}{}\n", figures(&totals(dest.stats), list.exact)),
        Form::Rate => {
            // A server's connections and packets are never shortened, its bytes are.
            let rates = rates(dest.rates);
            let (whole, bytes) = rates.split_at(3);
            format!("{name}{}{}\n", figures(whole, true), figures(bytes, list.exact))
        }
        Form::Thresholds => {
            let (upper, lower) = (config.u_threshold, config.l_threshold);
            format!("{name} {upper:<10} {lower:<10} {active:<10} {inactive:<10}\n")
        }
        Form::PersistentConn => {
            let persistent = dest.persistent;
            format!("{name} {weight:<9} {persistent:<11} {active:<10} {inactive:<10}\n")
        }
        Form::TunInfo => {
            let info = tunnel_info(config);
            format!("{name} {method:<7} {info:<13} {weight:<6} {active:<10} {inactive:<10}\n")
        }
        _ => format!("{name} {method:<7} {weight:<6} {active:<10} {inactive:<10}\n"),
    }
}

/// A server's tunnel as `--tun-info` shows it: `gue:6080:+c`.
fn tunnel_info(config: &DestConfig) -> String {
    if config.method != Method::Tunnel {
        return "n/a".to_owned();
    }
    let Tunnel { kind, port, checksum } = config.tunnel;
    let sum = match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match kind {
        TunnelKind::Ipip => kind.to_string(),
        TunnelKind::Gue => format!("{kind}:{port}:{sum}"),
        TunnelKind::Gre => format!("{kind}:{sum}"),
    }
}

fn totals(stats: Stats) -> [u64; 5] {
    [stats.conns, stats.in_pkts, stats.out_pkts, stats.in_bytes, stats.out_bytes]
}

fn rates(rates: Rates) -> [u64; 5] {
    [rates.cps, rates.in_pps, rates.out_pps, rates.in_bps, rates.out_bps]
}

/// Nine characters a figure; from 100 million on shortened, unless exact.
fn figures(values: &[u64], exact: bool) -> String {
    let mut text = String::new();
    for &value in values {
        let _ = match value {
            _ if exact => write!(text, " {value:>8}"),
            ..100_000_000 => write!(text, "{value:>9}"),
            100_000_000..1_000_000_000 => write!(text, "{:>8}K", value / 1_000),
            1_000_000_000..100_000_000_000 => write!(text, "{:>8}M", value / 1_000_000),
            100_000_000_000..100_000_000_000_000 => write!(text, "{:>8}G", value / 1_000_000_000),
            _ => write!(text, "{:>8}T", value / 1_000_000_000_000),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Netmask, Pe, Timeouts};

    const SETTINGS: Settings = Settings {
        table_size: 4096,
        timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
        settings: Vec::new(),
    };

    fn list(form: Form) -> List {
        List { form, service: None, numeric: true, exact: false, sorted: true, json: false }
    }

    fn end(text: &str) -> Endpoint {
        let socket: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { address: socket.ip(), port: socket.port() }
    }

    fn service(protocol: Protocol, at: &str, scheduler: &str, dests: Vec<Dest>) -> Service {
        let Endpoint { address, port } = end(at);
        let config = ServiceConfig::new(ServiceKey::new(protocol, address, port), scheduler);
        Service { dests, ..Service::new(config) }
    }

    fn dest(at: &str, method: Method, weight: u32, active: u32, inactive: u32) -> Dest {
        let Endpoint { address, port } = end(at);
        let config = DestConfig { weight, method, ..DestConfig::new(address, port) };
        Dest { active, inactive, ..Dest::new(config) }
    }

    fn table() -> Vec<Service> {
        vec![
            service(Protocol::Udp, "10.0.0.1:53", "rr", vec![]),
            service(
                Protocol::Tcp,
                "10.0.0.1:80",
                "wlc",
                vec![
                    dest("10.0.1.10:80", Method::Route, 1, 0, 0),
                    dest("10.0.1.3:80", Method::Tunnel, 0, 1, 0),
                    dest("10.0.1.2:8080", Method::Masq, 100, 0, 1),
                ],
            ),
            service(Protocol::Tcp, "9.0.0.9:8", "nq", vec![]),
            service(Protocol::Sctp, "10.0.0.1:99", "lc", vec![]),
        ]
    }

    #[test]
    fn services_and_servers() {
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  9.0.0.9:8 nq
TCP  10.0.0.1:80 wlc
  -> 10.0.1.2:8080                Masq    100    0          1         
  -> 10.0.1.3:80                  Tunnel  0      1          0         
  -> 10.0.1.10:80                 Route   1      0          0         
UDP  10.0.0.1:53 rr
SCTP 10.0.0.1:99 lc
";
        let text = services(&list(Form::Services), &SETTINGS, &table(), &Numeric);
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn one_service_has_no_first_line() {
        let mut one = list(Form::Services);
        one.service = Some(table()[3].config.key);
        let expected = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
SCTP 10.0.0.1:99 lc
";
        assert_eq!(services(&one, &SETTINGS, &table(), &Numeric).as_deref(), Some(expected));
        assert_eq!(services(&one, &SETTINGS, &[], &Numeric), None);
    }

    #[test]
    fn flags_stand_in_brackets() {
        let mut sh = service(Protocol::Tcp, "10.0.0.1:443", "sh", vec![]);
        sh.config.flags = vec!["sh-fallback".into(), "sh-port".into()];
        let text = services(&list(Form::Services), &SETTINGS, &[sh], &Numeric).unwrap();
        assert!(text.ends_with("\nTCP  10.0.0.1:443 sh (sh-fallback,sh-port)\n"), "{text}");
    }

    #[test]
    fn totals_are_shortened_unless_exact() {
        let mut tcp = service(
            Protocol::Tcp,
            "10.0.0.1:80",
            "rr",
            vec![dest("10.0.1.1:80", Method::Masq, 1, 0, 0)],
        );
        tcp.stats = Stats {
            conns: 99_999_999,
            in_pkts: 999_999_999,
            out_pkts: 99_999_999_999,
            in_bytes: 100_000_000_000,
            out_bytes: u64::MAX,
        };
        tcp.dests[0].stats = tcp.stats;
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.0.0.1:80                  99999999  999999K   99999M     100G18446744T
  -> 10.0.1.1:80                  99999999  999999K   99999M     100G18446744T
";
        let mut stats = list(Form::Stats);
        let text = services(&stats, &SETTINGS, &[tcp.clone()], &Numeric);
        assert_eq!(text.as_deref(), Some(expected));
        stats.exact = true;
        let text = services(&stats, &SETTINGS, &[tcp], &Numeric).unwrap();
        let exact = "TCP  10.0.0.1:80                  99999999 999999999 99999999999 \
                     100000000000 18446744073709551615\n";
        assert!(text.contains(exact), "{text}");
    }

    #[test]
    fn a_servers_packet_rate_is_never_shortened() {
        let rates = Rates {
            cps: 100_000_000,
            in_pps: 100_000_000,
            out_pps: 100_000_000,
            in_bps: 100_000_000,
            out_bps: 100_000_000,
        };
        let mut tcp = service(
            Protocol::Tcp,
            "10.0.0.1:80",
            "rr",
            vec![dest("10.0.1.1:80", Method::Masq, 1, 0, 0)],
        );
        tcp.rates = rates;
        tcp.dests[0].rates = rates;
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.0.0.1:80                   100000K  100000K  100000K  100000K  100000K
  -> 10.0.1.1:80                  100000000 100000000 100000000  100000K  100000K
";
        let text = services(&list(Form::Rate), &SETTINGS, &[tcp], &Numeric);
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn thresholds() {
        let mut tcp = service(
            Protocol::Tcp,
            "10.0.0.1:80",
            "wlc",
            vec![dest("10.0.1.10:80", Method::Route, 1, 2, 3)],
        );
        tcp.dests[0].config.u_threshold = 1000;
        tcp.dests[0].config.l_threshold = 500;
        let expected = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  10.0.0.1:80 wlc
  -> 10.0.1.10:80                 1000       500        2          3         
";
        let text = services(&list(Form::Thresholds), &SETTINGS, &[tcp], &Numeric);
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn what_a_service_has_besides_its_scheduler() {
        let config = |key| ServiceConfig::new(key, "rr");
        let mut all = config(ServiceKey::new(Protocol::Udp, [10, 0, 0, 1], 53));
        let netmask = Some(Netmask::V4([255, 255, 255, 0].into()));
        all.persistence = Some(Persistence { timeout: 5, netmask });
        (all.pe, all.one_packet) = (Some("sip".into()), true);
        all.flags = vec!["flag-2".into()];
        let mut v6 = config(ServiceKey::new(Protocol::Tcp, [0xfd00, 0, 0, 0, 0, 0, 0, 1], 80));
        v6.persistence = Some(Persistence { timeout: 360, netmask: Some(Netmask::V6(64)) });
        let mut mark = config(ServiceKey::Mark { mark: 8, ipv6: true });
        mark.conn_timeouts = Some(Timeouts { tcp: 30, tcp_fin: 0, udp: 5 });
        let expected = "\
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
UDP  10.0.0.1:53 rr (flag-2) persistent 5 mask 255.255.255.0 pe sip ops
TCP  [fd00::1]:80 rr persistent 360 mask 64
FWM  -1 rr
FWM  8 IPv6 rr conn-timeout 30,0,5
";
        let high = config(ServiceKey::Mark { mark: u32::MAX, ipv6: false });
        let table: Vec<Service> = [mark, high, v6, all].map(Service::new).into();
        let mut nosort = list(Form::Services);
        nosort.sorted = false;
        let text = services(&nosort, &SETTINGS, &table, &Numeric).unwrap();
        for line in expected.lines() {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn connections_and_timeouts() {
        let conn = |protocol, state: &str, client, vip, dest, expires| Conn {
            protocol,
            client: end(client),
            vip: end(vip),
            dest: end(dest),
            state: state.into(),
            expires,
            pe: None,
        };
        let (tcp, udp) = (Some(Protocol::Tcp), Some(Protocol::Udp));
        let mut conns = [
            conn(tcp, "SYN_RECV", "172.16.0.3:1002", "10.0.0.1:80", "10.0.1.5:80", 58),
            conn(Some(Protocol::Sctp), "INIT1", "172.16.0.5:9", "10.0.0.1:99", "10.0.1.1:99", 2),
            conn(tcp, "NONE", "[fd00:c::]:0", "[fd00::1]:80", "[fd00:2::2]:8080", 358),
            conn(None, "NONE", "172.16.0.1:0", "0.0.0.7:0", "10.0.1.1:0", 59),
            conn(None, "NONE", "[fd00:c::9]:0", "[0:8::]:0", "[fd00:2::1]:0", 59),
            conn(udp, "NONE", "172.16.0.1:0", "10.0.0.1:5060", "10.0.1.1:5060", 59),
        ];
        conns[5].pe = Some(Pe { name: "sip".into(), data: "aaa@x.example.org".into() });
        let text = |form| {
            let list = list(form);
            let lines = conns.iter().map(|conn| connection(&list, conn, &Numeric));
            connections_header(&list) + &lines.collect::<String>()
        };
        let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:58  SYN_RECV    172.16.0.3:1002    10.0.0.1:80        10.0.1.5:80
SCTP 00:02  INIT1       172.16.0.5:9       10.0.0.1:99        10.0.1.1:99
TCP 05:58  NONE        [fd00:c::]:0       [fd00::1]:80       [fd00:2::2]:8080
IP  00:59  NONE        172.16.0.1:0       0.0.0.7:0          10.0.1.1:0
IP  00:59  NONE        [fd00:c::9]:0      [0:8::]:0          [fd00:2::1]:0
UDP 00:59  NONE        172.16.0.1:0       10.0.0.1:5060      10.0.1.1:5060
";
        assert_eq!(text(Form::Connections), expected);
        let with_pe = text(Form::ConnectionsWithPe);
        let header = "destination        pe name          pe_data\nTCP 00:58";
        assert!(with_pe.contains(header), "{with_pe}");
        let line = "UDP 00:59  NONE        172.16.0.1:0       10.0.0.1:5060      \
                    10.0.1.1:5060    sip                aaa@x.example.org\n";
        assert!(with_pe.ends_with(line), "{with_pe}");
        assert_eq!(timeouts(&SETTINGS), "Timeout (tcp tcpfin udp): 900 120 300\n");
    }
}
