//! The interfaces that the engine works on, by name.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use uvs_engine::link::{Forwards, Link, MAX_LINKS};

use super::HostError;
use super::kernel::Kernel;

/// Looks up interfaces by name, in the order of the names.
///
/// # Errors
///
/// An interface that does not exist, is down, is not Ethernet or is named twice; more names than
/// [`MAX_LINKS`]; a kernel that does not answer.
pub fn find(names: &[String]) -> Result<Vec<Link>, HostError> {
    if names.len() > MAX_LINKS {
        return Err(HostError::TooMany { count: names.len(), most: MAX_LINKS });
    }
    let mut kernel = Kernel::open()?;
    pick(names, &kernel.links()?, &kernel.addresses()?)
}

/// Any interface of the host, also those that the engine cannot use; for `uvs doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its kind, where the kernel made it itself: `veth`, `bridge`, `ipip` and so on.
    pub kind: Option<String>,
    /// Whether its frames are Ethernet.
    pub ethernet: bool,
    /// Whether it is switched on.
    pub up: bool,
    /// Largest IP packet that it carries, in bytes.
    pub mtu: u32,
    /// The id of the XDP program that is attached to it.
    pub xdp: Option<u32>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// All interfaces of the host.
///
/// # Errors
///
/// When the kernel does not answer.
pub fn all() -> Result<Vec<Interface>, HostError> {
    let mut kernel = Kernel::open()?;
    let (links, addresses) = (kernel.links()?, kernel.addresses()?);
    Ok(links.iter().filter_map(|link| survey(link, &addresses)).collect())
}

fn survey(message: &LinkMessage, addresses: &[AddressMessage]) -> Option<Interface> {
    let header = &message.header;
    let mut interface = Interface {
        name: name_of(message)?.to_owned(),
        kind: None,
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        up: header.flags.contains(LinkFlags::Up),
        mtu: 0,
        xdp: None,
        addresses: addresses_of(header.index, addresses).filter_map(v4).collect(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(parts) => {
                interface.xdp = parts.iter().find_map(|part| match part {
                    LinkXdp::ProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(interface)
}

fn pick(
    names: &[String],
    links: &[LinkMessage],
    addresses: &[AddressMessage],
) -> Result<Vec<Link>, HostError> {
    let mut seen = HashSet::new();
    let one = |name: &String| {
        if !seen.insert(name.clone()) {
            return Err(HostError::Twice { name: name.clone() });
        }
        let found = links.iter().find(|link| name_of(link) == Some(name));
        let message = found.ok_or_else(|| HostError::NoInterface {
            name: name.clone(),
            present: links.iter().filter_map(name_of).collect::<Vec<_>>().join(", "),
        })?;
        if !message.header.flags.contains(LinkFlags::Up) {
            return Err(HostError::Down { name: name.clone() });
        }
        read(message, addresses).ok_or_else(|| HostError::NotEthernet { name: name.clone() })
    };
    names.iter().map(one).collect()
}

/// A link from its message and the addresses of all; `None` when it is not Ethernet.
pub(super) fn read(message: &LinkMessage, addresses: &[AddressMessage]) -> Option<Link> {
    if message.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })?;
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(u16::try_from(*mtu).unwrap_or(u16::MAX)),
        _ => None,
    });
    let name = name_of(message)?;
    Some(Link {
        name: name.to_owned(),
        ifindex: message.header.index,
        mac,
        mtu: mtu?,
        addresses: addresses_of(message.header.index, addresses).map(Into::into).collect(),
        forwards: Forwards {
            // The kernel asks the one for the interface on which a packet came, the other for all.
            v4: forwards("ipv4", name),
            v6: forwards("ipv6", "all"),
        },
    })
}

/// Whether the host forwards; what has no such setting is no reason not to.
fn forwards(family: &str, interface: &str) -> bool {
    let file = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
    std::fs::read_to_string(file).map_or(true, |value| value.trim() != "0")
}

fn name_of(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The interface's IPv4 addresses: wider scope first, primary before secondary, else in the order
/// in which they were added.
fn addresses_of(ifindex: u32, addresses: &[AddressMessage]) -> impl Iterator<Item = IpAddr> {
    let mut own: Vec<_> = addresses.iter().filter(|a| a.header.index == ifindex).collect();
    own.sort_by_key(|address| {
        let secondary = address.header.flags.contains(AddressHeaderFlags::Secondary);
        (u8::from(address.header.scope), secondary)
    });
    own.into_iter().filter_map(local)
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

/// An interface's own address; where it is point to point, `Address` is the other end's.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    find(true).or_else(|| find(false))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::AddressScope;

    use super::*;

    fn message(name: &str, index: u32, kind: LinkLayerType, up: bool) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = kind;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
            LinkAttribute::Mtu(if name == "lo" { 65536 } else { 1500 }),
        ];
        message
    }

    fn address(index: u32, ip: [u8; 4], scope: AddressScope, secondary: bool) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.scope = scope;
        if secondary {
            message.header.flags = AddressHeaderFlags::Secondary;
        }
        message.attributes = vec![
            AddressAttribute::Address(IpAddr::from([9, 9, 9, 9])),
            AddressAttribute::Local(IpAddr::from(ip)),
        ];
        message
    }

    fn sentence(names: &[&str]) -> String {
        let links = [
            message("lo", 1, LinkLayerType::Loopback, true),
            message("eth0", 2, LinkLayerType::Ether, true),
            message("eth1", 3, LinkLayerType::Ether, false),
        ];
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        pick(&names, &links, &[]).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_used_is_said_in_a_sentence() {
        assert_eq!(
            sentence(&["eth0", "eth9"]),
            r#"no interface "eth9"; there are: lo, eth0, eth1 (see `ip link`)"#
        );
        assert_eq!(
            sentence(&["eth1"]),
            r#"interface "eth1" is down; `ip link set eth1 up` brings it up"#
        );
        assert!(sentence(&["lo"]).contains("not Ethernet"));
        assert!(sentence(&["eth0", "eth0"]).contains("named twice"));
        let many: Vec<String> = (0..9).map(|n| format!("eth{n}")).collect();
        assert!(find(&many).unwrap_err().to_string().starts_with("9 interfaces"));
    }

    #[test]
    fn the_primary_address_stands_first() {
        let links = [message("eth0", 2, LinkLayerType::Ether, true)];
        let addresses = [
            address(2, [169, 254, 0, 1], AddressScope::Link, false),
            address(3, [10, 0, 0, 9], AddressScope::Universe, false),
            address(2, [10, 0, 0, 2], AddressScope::Universe, true),
            address(2, [10, 0, 0, 1], AddressScope::Universe, false),
        ];
        let found = pick(&["eth0".into()], &links, &addresses).unwrap();
        let expected: Vec<Ipv4Addr> = [[10, 0, 0, 1], [10, 0, 0, 2], [169, 254, 0, 1]]
            .into_iter()
            .map(Ipv4Addr::from)
            .collect();
        assert_eq!(found[0].addresses, expected);
        assert_eq!((found[0].ifindex, found[0].mtu, found[0].mac), (2, 1500, [2, 0, 0, 0, 0, 2]));
    }
}
