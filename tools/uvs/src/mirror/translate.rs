//! Services and servers, from the kernel's words to uvs's and back.

use uvs_ipvs as ipvs;
use uvs_ipvs::{AddressFamily, ForwardMethod, NameError, ServiceFlags, TunnelFlags, TunnelType};
use uvs_uvsadm::api::{
    DestConfig, Endpoint, Method, Netmask, Persistence, Protocol, ServiceConfig, ServiceKey,
    Timeouts, Tunnel, TunnelChecksum, TunnelKind,
};

/// What the kernel has and uvs has no word for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// A protocol that IPVS itself does not serve.
    #[error("{0} of the kernel is of a protocol that uvs does not serve")]
    Protocol(ipvs::ServiceKey),
    /// A forwarding method.
    #[error(
        "server {dest} of {service} in the kernel has the forwarding method {method}, which uvs does not have"
    )]
    Method {
        /// The service.
        service: ipvs::ServiceKey,
        /// The server.
        dest: ipvs::DestKey,
        /// The method's number.
        method: u32,
    },
    /// A tunnel.
    #[error(
        "server {dest} of {service} in the kernel has a tunnel of type {kind}, which uvs does not have"
    )]
    Tunnel {
        /// The service.
        service: ipvs::ServiceKey,
        /// The server.
        dest: ipvs::DestKey,
        /// The type's number.
        kind: u8,
    },
}

/// The names of the flags, by their bits: of sh, of mh, of any other scheduler.
const FLAGS: [(ServiceFlags, [&str; 3]); 3] = [
    (ServiceFlags::SCHED1, ["sh-fallback", "mh-fallback", "flag-1"]),
    (ServiceFlags::SCHED2, ["sh-port", "mh-port", "flag-2"]),
    (ServiceFlags::SCHED3, ["flag-3", "flag-3", "flag-3"]),
];

/// The kernel's key of a service.
pub fn kernel_key(key: &ServiceKey) -> ipvs::ServiceKey {
    match *key {
        ServiceKey::Address { protocol, address, port } => ipvs::ServiceKey::Address {
            protocol: ipvs::Protocol(protocol.number().into()),
            address,
            port,
        },
        ServiceKey::Mark { mark, ipv6 } => ipvs::ServiceKey::Mark {
            family: if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet },
            mark,
        },
    }
}

/// uvs's key of a service.
pub fn own_key(key: &ipvs::ServiceKey) -> Result<ServiceKey, Foreign> {
    Ok(match *key {
        ipvs::ServiceKey::Address { protocol, address, port } => {
            let mut known = Protocol::ALL.into_iter();
            let known = known.find(|known| u16::from(known.number()) == protocol.0);
            let protocol = known.ok_or(Foreign::Protocol(*key))?;
            ServiceKey::Address { protocol, address, port }
        }
        ipvs::ServiceKey::Mark { family, mark } => {
            ServiceKey::Mark { mark, ipv6: family == AddressFamily::Inet6 }
        }
    })
}

/// A service for the kernel, which has no timeouts of a service's own.
pub fn kernel_service(config: &ServiceConfig) -> Result<ipvs::Service, NameError> {
    let key = kernel_key(&config.key);
    let mut service = ipvs::Service::new(key, config.scheduler.parse()?);
    service.persistence_engine = config.pe.as_deref().unwrap_or_default().parse()?;
    service.flags.set(ServiceFlags::ONE_PACKET, config.one_packet);
    for (bit, names) in FLAGS {
        let set = config.flags.iter().any(|flag| names.contains(&flag.as_str()));
        service.flags.set(bit, set);
    }
    if let Some(Persistence { timeout, netmask }) = config.persistence {
        service.flags.insert(ServiceFlags::PERSISTENT);
        service.timeout = timeout;
        service.netmask = match netmask {
            None => ipvs::Netmask::host(key.family()),
            Some(Netmask::V4(mask)) => ipvs::Netmask::Mask(mask),
            Some(Netmask::V6(length)) => ipvs::Netmask::Prefix(length.into()),
        };
    }
    Ok(service)
}

/// A service of the kernel's, as uvs has it.
pub fn own_service(service: &ipvs::Service) -> Result<ServiceConfig, Foreign> {
    let netmask = match service.netmask {
        ipvs::Netmask::Mask(mask) => Netmask::V4(mask),
        ipvs::Netmask::Prefix(length) => Netmask::V6(u8::try_from(length).unwrap_or(u8::MAX)),
    };
    let persistent = service.flags.contains(ServiceFlags::PERSISTENT);
    let persistence = Persistence { timeout: service.timeout, netmask: netmask.unless_all() };
    let engine = service.persistence_engine;
    let scheduler = service.scheduler.to_string();
    Ok(ServiceConfig {
        flags: flags(&scheduler, service.flags),
        persistence: persistent.then_some(persistence),
        pe: (!engine.is_empty()).then(|| engine.to_string()),
        one_packet: service.flags.contains(ServiceFlags::ONE_PACKET),
        ..ServiceConfig::new(own_key(&service.key)?, scheduler)
    })
}

fn flags(scheduler: &str, set: ServiceFlags) -> Vec<String> {
    let column = match scheduler {
        "sh" => 0,
        "mh" => 1,
        _ => 2,
    };
    let set = FLAGS.iter().filter(|(bit, _)| set.contains(*bit));
    set.map(|(_, names)| names[column].to_owned()).collect()
}

/// The kernel's key of a server.
pub fn kernel_dest_key(end: &Endpoint) -> ipvs::DestKey {
    ipvs::DestKey { address: end.address, port: end.port }
}

/// A server for the kernel.
pub fn kernel_dest(config: &DestConfig) -> ipvs::Dest {
    let method = match config.method {
        Method::Masq => ForwardMethod::MASQ,
        Method::Tunnel => ForwardMethod::TUNNEL,
        Method::Route => ForwardMethod::DIRECT_ROUTE,
        Method::Local => ForwardMethod::LOCAL_NODE,
    };
    let Tunnel { kind, port, checksum } = config.tunnel;
    let kind = match kind {
        TunnelKind::Ipip => TunnelType::IPIP,
        TunnelKind::Gue => TunnelType::GUE,
        TunnelKind::Gre => TunnelType::GRE,
    };
    let flags = match checksum {
        TunnelChecksum::None => TunnelFlags::empty(),
        TunnelChecksum::Full => TunnelFlags::CSUM,
        TunnelChecksum::Remote => TunnelFlags::REMCSUM,
    };
    ipvs::Dest {
        weight: config.weight,
        upper_threshold: config.u_threshold,
        lower_threshold: config.l_threshold,
        tunnel: ipvs::Tunnel { kind, port, flags },
        ..ipvs::Dest::new(kernel_dest_key(&config.endpoint()), method)
    }
}

/// A server of the kernel's, as uvs has it.
pub fn own_dest(service: &ipvs::ServiceKey, dest: &ipvs::Dest) -> Result<DestConfig, Foreign> {
    let method = match dest.method {
        ForwardMethod::MASQ => Method::Masq,
        ForwardMethod::TUNNEL => Method::Tunnel,
        ForwardMethod::DIRECT_ROUTE => Method::Route,
        ForwardMethod::LOCAL_NODE => Method::Local,
        ForwardMethod(method) => {
            return Err(Foreign::Method { service: *service, dest: dest.key, method });
        }
    };
    Ok(DestConfig {
        weight: dest.weight,
        method,
        u_threshold: dest.upper_threshold,
        l_threshold: dest.lower_threshold,
        // With another method the kernel keeps what it was told, and never looks at it.
        tunnel: match method {
            Method::Tunnel => own_tunnel(service, dest)?,
            _ => Tunnel::default(),
        },
        ..DestConfig::new(dest.key.address, dest.key.port)
    })
}

fn own_tunnel(service: &ipvs::ServiceKey, dest: &ipvs::Dest) -> Result<Tunnel, Foreign> {
    let kind = match dest.tunnel.kind {
        TunnelType::IPIP => TunnelKind::Ipip,
        TunnelType::GUE => TunnelKind::Gue,
        TunnelType::GRE => TunnelKind::Gre,
        TunnelType(kind) => {
            return Err(Foreign::Tunnel { service: *service, dest: dest.key, kind });
        }
    };
    let has = |flag| dest.tunnel.flags.contains(flag);
    let checksum = match (has(TunnelFlags::CSUM), has(TunnelFlags::REMCSUM)) {
        (false, false) => TunnelChecksum::None,
        (true, false) => TunnelChecksum::Full,
        (_, true) => TunnelChecksum::Remote,
    };
    Ok(Tunnel { kind, port: dest.tunnel.port, checksum })
}

/// Timeouts for the kernel.
pub fn kernel_timeouts(timeouts: &Timeouts) -> ipvs::Timeouts {
    let Timeouts { tcp, tcp_fin, udp } = *timeouts;
    ipvs::Timeouts { tcp, tcp_fin, udp }
}

/// Timeouts of the kernel's, as uvs has them.
pub fn own_timeouts(timeouts: &ipvs::Timeouts) -> Timeouts {
    let ipvs::Timeouts { tcp, tcp_fin, udp } = *timeouts;
    Timeouts { tcp, tcp_fin, udp }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = ServiceKey> {
        let protocol = prop::sample::select(Protocol::ALL.to_vec());
        prop_oneof![
            (protocol, any::<std::net::IpAddr>(), any::<u16>())
                .prop_map(|(protocol, address, port)| ServiceKey::new(protocol, address, port)),
            (1..=u32::MAX, any::<bool>()).prop_map(|(mark, ipv6)| ServiceKey::Mark { mark, ipv6 }),
        ]
    }

    prop_compose! {
        /// A service as ipvsadm's grammar makes it.
        fn any_service()(
            key in any_key(),
            scheduler in prop::sample::select(vec!["rr", "wlc", "sh", "mh"]),
            bits in 0..8u32,
            timeout in prop::option::of(1..100_000u32),
            mask in any::<Ipv4Addr>(),
            prefix in 1..=128u8,
            pe: bool,
            one_packet: bool,
        ) -> ServiceConfig {
            let netmask = if key.is_ipv6() { Netmask::V6(prefix) } else { Netmask::V4(mask) };
            let persistence = |timeout| Persistence { timeout, netmask: netmask.unless_all() };
            ServiceConfig {
                flags: flags(scheduler, ServiceFlags::from_bits_retain(bits << 3)),
                persistence: timeout.map(persistence),
                pe: pe.then(|| "sip".to_owned()),
                one_packet,
                ..ServiceConfig::new(key, scheduler)
            }
        }
    }

    prop_compose! {
        fn any_dest()(
            address: std::net::IpAddr,
            port: u16,
            weight in 0..=i32::MAX as u32,
            method in prop::sample::select(vec![Method::Masq, Method::Tunnel, Method::Route]),
            thresholds: (u32, u32),
            kind in prop::sample::select(vec![TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre]),
            checksum in prop::sample::select(
                vec![TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]
            ),
            tunnel_port: u16,
        ) -> DestConfig {
            let tunnel = Tunnel { kind, port: tunnel_port, checksum };
            DestConfig {
                weight,
                method,
                u_threshold: thresholds.0,
                l_threshold: thresholds.1,
                tunnel: if method == Method::Tunnel { tunnel } else { Tunnel::default() },
                ..DestConfig::new(address, port)
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_on_the_way_to_the_kernel_and_back(
            service in any_service(), dest in any_dest()
        ) {
            let theirs = kernel_service(&service).unwrap();
            prop_assert_eq!(own_service(&theirs), Ok(service));
            prop_assert_eq!(own_dest(&theirs.key, &kernel_dest(&dest)), Ok(dest));
        }
    }

    #[test]
    fn what_uvs_has_no_word_for_is_named() {
        let key = ServiceKey::new(Protocol::Tcp, [10, 0, 0, 1], 80);
        let key = kernel_key(&key);
        let dest = kernel_dest(&DestConfig::new([10, 0, 1, 1], 80));
        let bypass = ipvs::Dest { method: ForwardMethod::BYPASS, ..dest };
        assert_eq!(
            own_dest(&key, &bypass).unwrap_err().to_string(),
            "server 10.0.1.1:80 of TCP  10.0.0.1:80 in the kernel has the forwarding method 4, \
             which uvs does not have"
        );
        let mut strange = ipvs::Dest { method: ForwardMethod::TUNNEL, ..dest };
        strange.tunnel.kind = TunnelType(9);
        assert!(own_dest(&key, &strange).unwrap_err().to_string().contains("of type 9"));
        strange.method = ForwardMethod::MASQ;
        assert!(own_dest(&key, &strange).is_ok(), "nobody looks at it");
        let gre = ipvs::ServiceKey::Address {
            protocol: ipvs::Protocol(47),
            address: [10, 0, 0, 1].into(),
            port: 0,
        };
        assert_eq!(own_key(&gre), Err(Foreign::Protocol(gre)));
    }
}
