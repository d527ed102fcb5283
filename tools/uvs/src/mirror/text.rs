//! A change as the line of ipvsadm's that makes it.

use uvs_uvsadm::api::{Change, Dest, DestConfig, Service, ServiceConfig, ServiceKey};
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::save;

/// The line, without a name of a program.
pub fn line(change: &Change) -> String {
    match change {
        Change::AddService { service } => service_line(service),
        Change::EditService { service } => format!("-E{}", &service_line(service)[2..]),
        Change::DelService { service } => format!("-D {}", key(service)),
        Change::Flush => "-C".to_owned(),
        Change::AddDest { service, dest } => dest_line(service, dest),
        Change::EditDest { service, dest } => format!("-e{}", &dest_line(service, dest)[2..]),
        Change::DelDest { service, dest } => format!("-d {} -r {dest}", key(service)),
        Change::SetTimeouts { timeouts } => {
            format!("--set {} {} {}", timeouts.tcp, timeouts.tcp_fin, timeouts.udp)
        }
        Change::Zero { service: Some(service) } => format!("-Z {}", key(service)),
        Change::Zero { service: None } => "-Z".to_owned(),
        Change::SetSetting { name, value } => format!("{name} = {value}"),
    }
}

/// `-A -t 10.0.0.1:80 -s wlc ...`
fn service_line(service: &ServiceConfig) -> String {
    save(&[Service::new(service.clone())], &Numeric).trim_end().to_owned()
}

/// `-a -t 10.0.0.1:80 -r 10.0.1.1:80 ...`, with the thresholds that ipvsadm-save leaves out.
fn dest_line(key: &ServiceKey, dest: &DestConfig) -> String {
    let mut service = Service::new(ServiceConfig::new(*key, ""));
    service.dests.push(Dest::new(*dest));
    let mut line = save(&[service], &Numeric).lines().last().unwrap_or_default().to_owned();
    for (option, threshold) in [("-x", dest.u_threshold), ("-y", dest.l_threshold)] {
        if threshold > 0 {
            line += &format!(" {option} {threshold}");
        }
    }
    line
}

/// `-t 10.0.0.1:80`
fn key(key: &ServiceKey) -> String {
    let line = service_line(&ServiceConfig::new(*key, ""));
    line.trim_start_matches("-A ").trim_end_matches(" -s").to_owned()
}

#[cfg(test)]
mod tests {
    use uvs_uvsadm::api::{Method, Protocol};
    use uvs_uvsadm::parse_line;

    use super::*;

    #[test]
    fn every_line_makes_its_change_again() {
        let web = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 80);
        let mark = ServiceKey::Mark { mark: 7, ipv6: true };
        let limited = DestConfig {
            u_threshold: 9,
            l_threshold: 4,
            weight: 0,
            ..DestConfig::new([10, 0, 1, 1], 80)
        };
        let masq = DestConfig {
            method: Method::Masq,
            ..DestConfig::new([0xfd00, 0, 0, 0, 0, 0, 0, 1], 8080)
        };
        let service =
            ServiceConfig { flags: vec!["sh-port".into()], ..ServiceConfig::new(web, "sh") };
        for (change, expected) in [
            (Change::AddService { service: service.clone() }, "-A -t 10.0.0.1:80 -s sh -b sh-port"),
            (Change::EditService { service }, "-E -t 10.0.0.1:80 -s sh -b sh-port"),
            (Change::DelService { service: mark }, "-D -f 7 -6"),
            (
                Change::AddDest { service: web, dest: limited },
                "-a -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 0 -x 9 -y 4",
            ),
            (
                Change::EditDest { service: mark, dest: masq },
                "-e -f 7 -6 -r [fd00::1]:8080 -m -w 1",
            ),
            (
                Change::DelDest { service: web, dest: limited.endpoint() },
                "-d -t 10.0.0.1:80 -r 10.0.1.1:80",
            ),
            (Change::Flush, "-C"),
        ] {
            assert_eq!(line(&change), expected);
            let read = parse_line(1, expected, &Numeric).unwrap();
            let dry_run = false;
            assert_eq!(read, Some(uvs_uvsadm::Command::Change { change, dry_run }));
        }
    }
}
