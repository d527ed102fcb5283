//! The names that the recording machine knew: a few of its /etc/services, and no hosts but itself.

use std::net::{IpAddr, Ipv4Addr};

use uvs_uvsadm::api::Protocol::{self, Tcp, Udp};
use uvs_uvsadm::names::Names;

/// See the module.
pub(crate) struct Recorded;

/// The first name of a port is the one that is printed.
const PORTS: [(&str, u16, &[Protocol]); 22] = [
    ("tcpmux", 1, &[Tcp]),
    ("echo", 7, &[Tcp, Udp]),
    ("discard", 9, &[Tcp, Udp]),
    ("daytime", 13, &[Tcp, Udp]),
    ("ftp-data", 20, &[Tcp]),
    ("ftp", 21, &[Tcp]),
    ("ssh", 22, &[Tcp]),
    ("telnet", 23, &[Tcp]),
    ("smtp", 25, &[Tcp]),
    ("domain", 53, &[Tcp, Udp]),
    ("tftp", 69, &[Udp]),
    ("http", 80, &[Tcp]),
    ("www", 80, &[Tcp]),
    ("pop3", 110, &[Tcp]),
    ("ntp", 123, &[Udp]),
    ("https", 443, &[Tcp, Udp]),
    ("shell", 514, &[Tcp]),
    ("syslog", 514, &[Tcp, Udp]),
    ("sip", 5060, &[Tcp, Udp]),
    ("sip-tls", 5061, &[Tcp, Udp]),
    ("http-alt", 8080, &[Tcp, Udp]),
    ("webcache", 8080, &[Tcp, Udp]),
];

impl Names for Recorded {
    fn host(&self, name: &str) -> Option<IpAddr> {
        (name == "localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let named = |row: &&(&str, u16, &[Protocol])| row.0 == name && row.2.contains(&protocol);
        PORTS.iter().find(named).map(|row| row.1)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        address.is_loopback().then(|| "localhost".to_owned())
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        let numbered = |row: &&(&str, u16, &[Protocol])| row.1 == port && row.2.contains(&protocol);
        PORTS.iter().find(numbered).map(|row| row.0.to_owned())
    }
}
