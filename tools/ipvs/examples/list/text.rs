//! Services and destinations as `ipvsadm -Ln` prints them, but in the kernel's order.

use uvs_ipvs::{ForwardMethod, ListedDest, Netmask, Service, ServiceFlags};

/// A service's line.
pub fn service(service: &Service) -> String {
    let mut line = format!("{} {}", service.key, service.scheduler);
    let flags = scheduler_flags(service);
    if !flags.is_empty() {
        line += &format!(" ({})", flags.join(","));
    }
    if service.flags.contains(ServiceFlags::PERSISTENT) {
        line += &format!(" persistent {}", service.timeout);
        line += &netmask(service);
    }
    if !service.persistence_engine.is_empty() {
        line += &format!(" pe {}", service.persistence_engine);
    }
    if service.flags.contains(ServiceFlags::ONE_PACKET) {
        line += " ops";
    }
    line
}

fn netmask(service: &Service) -> String {
    let host = Netmask::host(service.key.family());
    match service.netmask {
        netmask if netmask == host => String::new(),
        Netmask::Mask(mask) => format!(" mask {mask}"),
        Netmask::Prefix(length) => format!(" mask {length}"),
    }
}

fn scheduler_flags(service: &Service) -> Vec<&'static str> {
    let names = match service.scheduler.as_str() {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let flags = [ServiceFlags::SCHED1, ServiceFlags::SCHED2, ServiceFlags::SCHED3];
    let set = |flag| service.flags.contains(flag);
    names.into_iter().zip(flags).filter(|(_, flag)| set(*flag)).map(|(name, _)| name).collect()
}

/// A destination's line.
pub fn dest(listed: &ListedDest) -> String {
    let method = match listed.dest.method {
        ForwardMethod::MASQ => "Masq",
        ForwardMethod::LOCAL_NODE => "Local",
        ForwardMethod::TUNNEL => "Tunnel",
        ForwardMethod::DIRECT_ROUTE => "Route",
        _ => "Unknown",
    };
    let (key, weight) = (listed.dest.key, listed.dest.weight);
    let (active, inactive) = (listed.connections.active, listed.connections.inactive);
    format!("  -> {key:<28} {method:<7} {weight:<6} {active:<10} {inactive:<10}")
}
