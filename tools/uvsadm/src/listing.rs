//! The text of `-L`, to the byte as ipvsadm 1.31 prints it.

use std::fmt::Write as _;

use crate::api::{Conn, Dest, Endpoint, Protocol, Rates, Service, Settings, Stats};
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
    let mut text = String::new();
    if list.service.is_none() {
        let size = settings.table_size;
        let _ = writeln!(text, "IP Virtual Server version {IPVS_VERSION} (size={size})");
    }
    text.push_str(&header(list.form));
    let chosen = services.iter().filter(|s| list.service.is_none_or(|key| s.config.key == key));
    let chosen: Vec<_> = if list.sorted { order::services(chosen) } else { chosen.collect() };
    if list.service.is_some() && chosen.is_empty() {
        return None;
    }
    for service in chosen {
        text.push_str(&service_line(list, service, names));
        let protocol = service.config.key.protocol;
        let dests =
            if list.sorted { order::dests(&service.dests) } else { service.dests.iter().collect() };
        for dest in dests {
            text.push_str(&dest_line(list, dest, protocol, names));
        }
    }
    Some(text)
}

/// The table of connections, in the order given.
pub fn connections(list: &List, conns: &[Conn], names: &dyn Names) -> String {
    let names = if list.numeric { &Numeric } else { names };
    let mut text = String::from("IPVS connection entries\n");
    text.push_str("pro expire state       source             virtual            destination\n");
    for conn in conns {
        let name = |end| endpoint(end, conn.protocol, names);
        let expires = format!("{:02}:{:02}", conn.expires / 60, conn.expires % 60);
        let _ = writeln!(
            text,
            "{:<3} {expires:<6} {:<11} {:<18} {:<18} {}",
            conn.protocol,
            conn.state,
            name(conn.client),
            name(conn.vip),
            name(conn.dest),
        );
    }
    text
}

/// The timeouts (`-L --timeout`).
pub fn timeouts(settings: &Settings) -> String {
    let timeouts = settings.timeouts;
    format!("Timeout (tcp tcpfin udp): {} {} {}\n", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
}

/// `address:port`, by names if there are any.
pub(crate) fn endpoint(end: Endpoint, protocol: Protocol, names: &dyn Names) -> String {
    let host = names.host_name(end.address.into()).unwrap_or_else(|| end.address.to_string());
    let port = names.port_name(end.port, protocol).unwrap_or_else(|| end.port.to_string());
    format!("{host}:{port}")
}

fn header(form: Form) -> String {
    let first = match form {
        Form::Stats => ["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"],
        Form::Rate => ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"],
        Form::Thresholds => {
            return format!(
                "{:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Prot LocalAddress:Port", "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            );
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

fn service_line(list: &List, service: &Service, names: &dyn Names) -> String {
    let config = &service.config;
    let name = endpoint(config.key.endpoint(), config.key.protocol, names);
    let name = format!("{:<4} {name}", config.key.protocol);
    match list.form {
        Form::Stats => format!("{name:<33}{}\n", figures(&totals(service.stats), list.exact)),
        Form::Rate => format!("{name:<33}{}\n", figures(&rates(service.rates), list.exact)),
        _ if config.flags.is_empty() => format!("{name} {}\n", config.scheduler),
        _ => format!("{name} {} ({})\n", config.scheduler, config.flags.join(",")),
    }
}

fn dest_line(list: &List, dest: &Dest, protocol: Protocol, names: &dyn Names) -> String {
    let config = &dest.config;
    let name = format!("  -> {:<28}", endpoint(config.endpoint(), protocol, names));
    let (active, inactive) = (dest.active, dest.inactive);
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
        _ => {
            let (method, weight) = (config.method, config.weight);
            format!("{name} {method:<7} {weight:<6} {active:<10} {inactive:<10}\n")
        }
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
    use crate::api::{DestConfig, Method, ServiceConfig, ServiceKey, Timeouts};

    const SETTINGS: Settings =
        Settings { table_size: 4096, timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 } };

    fn list(form: Form) -> List {
        List { form, service: None, numeric: true, exact: false, sorted: true }
    }

    fn end(text: &str) -> Endpoint {
        let socket: std::net::SocketAddrV4 = text.parse().unwrap();
        Endpoint { address: *socket.ip(), port: socket.port() }
    }

    fn service(protocol: Protocol, at: &str, scheduler: &str, dests: Vec<Dest>) -> Service {
        let Endpoint { address, port } = end(at);
        let key = ServiceKey { protocol, address, port };
        let config = ServiceConfig { key, scheduler: scheduler.into(), flags: vec![] };
        Service { config, stats: Stats::default(), rates: Rates::default(), dests }
    }

    fn dest(at: &str, method: Method, weight: u32, active: u32, inactive: u32) -> Dest {
        let Endpoint { address, port } = end(at);
        let config = DestConfig { address, port, weight, method, u_threshold: 0, l_threshold: 0 };
        Dest { config, active, inactive, stats: Stats::default(), rates: Rates::default() }
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
    fn connections_and_timeouts() {
        let conn = |protocol, state: &str, client, vip, dest, expires| Conn {
            protocol,
            client: end(client),
            vip: end(vip),
            dest: end(dest),
            state: state.into(),
            expires,
        };
        let conns = [
            conn(Protocol::Tcp, "SYN_RECV", "172.16.0.3:1002", "10.0.0.1:80", "10.0.1.5:80", 58),
            conn(Protocol::Sctp, "INIT1", "172.16.0.5:9", "10.0.0.1:99", "10.0.1.1:99", 2),
            conn(Protocol::Tcp, "FIN_WAIT", "172.16.0.2:1001", "10.0.0.1:80", "10.0.1.6:80", 118),
        ];
        let expected = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 00:58  SYN_RECV    172.16.0.3:1002    10.0.0.1:80        10.0.1.5:80
SCTP 00:02  INIT1       172.16.0.5:9       10.0.0.1:99        10.0.1.1:99
TCP 01:58  FIN_WAIT    172.16.0.2:1001    10.0.0.1:80        10.0.1.6:80
";
        assert_eq!(connections(&list(Form::Connections), &conns, &Numeric), expected);
        assert_eq!(timeouts(&SETTINGS), "Timeout (tcp tcpfin udp): 900 120 300\n");
    }
}
