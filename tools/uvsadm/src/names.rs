//! Names of hosts and ports, both ways.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};

use crate::api::Protocol;

/// Resolves names on a command line, and finds names for a listing without `-n`.
pub trait Names {
    /// The address of a host.
    fn host(&self, name: &str) -> Option<IpAddr>;
    /// The port of a service of `protocol`.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a host.
    fn host_name(&self, address: IpAddr) -> Option<String>;
    /// The name of a service's port.
    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// Knows no names: `-n`, and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn host(&self, _: &str) -> Option<IpAddr> {
        None
    }

    fn port(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }

    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// The system's names: its resolver for hosts in both ways, /etc/services for ports.
#[derive(Clone, Debug)]
pub struct System {
    services: String,
    /// What the resolver said, for a table names an address many times.
    hosts: RefCell<HashMap<IpAddr, Option<String>>>,
}

impl System {
    /// Reads /etc/services; without it ports have no names.
    pub fn load() -> Self {
        let services = fs::read_to_string("/etc/services").unwrap_or_default();
        Self { services, hosts: RefCell::default() }
    }
}

impl Names for System {
    /// ipvsadm asks for IPv4 addresses only.
    fn host(&self, name: &str) -> Option<IpAddr> {
        let found = (name, 0).to_socket_addrs().ok()?;
        found.map(|socket| socket.ip()).find(IpAddr::is_ipv4)
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        services(&self.services, protocol)
            .find(|(_, names)| names.contains(&name))
            .map(|(port, _)| port)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        let mut known = self.hosts.borrow_mut();
        let found = known.entry(address).or_insert_with(|| dns_lookup::lookup_addr(&address).ok());
        found.clone()
    }

    fn port_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        services(&self.services, protocol)
            .find(|(found, _)| *found == port)
            .map(|(_, names)| names[0].to_owned())
    }
}

/// The lines of a file in fields, without comments and blank lines.
fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or(line).split_whitespace().collect())
        .filter(|fields: &Vec<_>| !fields.is_empty())
}

/// The ports of /etc/services for `protocol`, each with its name and then its aliases.
fn services(text: &str, protocol: Protocol) -> impl Iterator<Item = (u16, Vec<&str>)> {
    fields(text).filter_map(move |mut fields| {
        let (port, found) = fields.get(1)?.split_once('/')?;
        let port = port.parse().ok().filter(|_| found == protocol.name())?;
        fields.remove(1);
        Some((port, fields))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_name_and_aliases() {
        let names = System {
            services: "# x\nhttp 80/tcp www # web\nshell 514/tcp cmd syslog\nsyslog 514/udp\nbad\n"
                .into(),
            hosts: RefCell::default(),
        };
        assert_eq!(names.port("www", Protocol::Tcp), Some(80));
        assert_eq!(names.port("syslog", Protocol::Tcp), Some(514));
        assert_eq!(names.port("http", Protocol::Udp), None);
        assert_eq!(names.port_name(514, Protocol::Tcp).as_deref(), Some("shell"));
        assert_eq!(names.port_name(514, Protocol::Udp).as_deref(), Some("syslog"));
        assert_eq!(names.host_name([127, 0, 0, 1].into()).as_deref(), Some("localhost"));
        assert!(names.hosts.borrow().contains_key(&[127, 0, 0, 1].into()), "asked for once");
    }
}
