//! What happened to the recorded kernel that no recorded command line did: packets came, and
//! commands were run that are kept apart.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use uvs_control::service::{DestView, ServiceView};
use uvs_engine::address::Address;
use uvs_engine::clock::Ticks;
use uvs_engine::proto::state_name;
use uvs_engine::table::{NewConn, flag};
use uvs_uvsadm::api::{Endpoint, Protocol};
use uvs_uvsadm::names::Numeric;
use uvs_uvsadm::{Command, parse_with};

use super::director::Director;

/// What the director had seen of a client when the section `populated` began, as its first listings
/// of connections and of statistics show it.
struct Seen {
    protocol: Protocol,
    client: &'static str,
    virtual_end: &'static str,
    server: &'static str,
    /// Of the connection, and the seconds that were left; nothing is left of a UDP packet that was
    /// scheduled by itself.
    state: Option<(&'static str, u32)>,
    /// Bytes of each packet from the client, and to it.
    packets: (&'static [u64], &'static [u64]),
}

const fn seen(
    protocol: Protocol,
    ends: [&'static str; 3],
    state: Option<(&'static str, u32)>,
    packets: (&'static [u64], &'static [u64]),
) -> Seen {
    let [client, virtual_end, server] = ends;
    Seen { protocol, client, virtual_end, server, state, packets }
}

use Protocol::{Sctp, Tcp, Udp};

/// The state of a template, which counts no packets.
const TEMPLATE: &str = "NONE";

const SEEN: [Seen; 10] = [
    // The server is the director itself: its host answered with a reset, twice.
    seen(
        Tcp,
        ["172.16.0.1:1000", "10.0.0.1:80", "10.0.0.1:80"],
        Some(("CLOSE", 8)),
        (&[40, 40], &[40, 40]),
    ),
    seen(
        Tcp,
        ["172.16.0.2:1001", "10.0.0.1:80", "10.0.1.6:80"],
        Some(("FIN_WAIT", 118)),
        (&[40, 40, 40], &[]),
    ),
    seen(
        Tcp,
        ["172.16.0.3:1002", "10.0.0.1:80", "10.0.1.5:80"],
        Some(("SYN_RECV", 58)),
        (&[40], &[]),
    ),
    seen(
        Tcp,
        ["172.16.0.4:1003", "10.0.0.1:80", "10.0.1.4:80"],
        Some(("SYN_RECV", 58)),
        (&[40], &[]),
    ),
    seen(
        Tcp,
        ["172.16.0.9:5", "10.0.0.1:443", "10.0.1.1:443"],
        Some(("SYN_RECV", 58)),
        (&[40], &[]),
    ),
    seen(Tcp, ["172.16.0.0:0", "10.0.0.1:443", "10.0.1.1:443"], Some((TEMPLATE, 298)), (&[], &[])),
    seen(
        Tcp,
        ["[fd00:c::9]:6", "[fd00::1]:80", "[fd00:2::2]:8080"],
        Some(("SYN_RECV", 58)),
        (&[60], &[]),
    ),
    seen(
        Tcp,
        ["[fd00:c::]:0", "[fd00::1]:80", "[fd00:2::2]:8080"],
        Some((TEMPLATE, 358)),
        (&[], &[]),
    ),
    seen(Sctp, ["172.16.0.5:9", "10.0.0.1:99", "10.0.1.1:99"], Some(("INIT1", 2)), (&[52], &[])),
    seen(Udp, ["172.16.0.6:1", "10.0.0.1:53", "10.0.1.1:53"], None, (&[31], &[])),
];

/// A service that the table has after the section `wrong`, and that a line made which is kept apart.
const KEPT_APART: &str = "-A -f 77 -o";

/// Does what was done before a section.
pub(super) fn enter(section: &str, director: &Director) {
    match section {
        "populated" => {
            let services = director.control.services();
            SEEN.iter().for_each(|seen| seen.enact(director, &services));
        }
        "after_wrong" => {
            let words: Vec<String> = KEPT_APART.split(' ').map(str::to_owned).collect();
            if let Ok(Command::Change { change, .. }) = parse_with(&words, &Numeric) {
                // Where the line is not kept apart, the service exists.
                drop(director.control.change(&[change]));
            }
        }
        _ => {}
    }
}

impl Seen {
    fn enact(&self, director: &Director, services: &[ServiceView]) {
        let Some((service, dest)) = self.find(services) else { return };
        let (incoming, outgoing) = self.packets;
        if !incoming.is_empty() {
            service.traffic.opened(0);
            dest.traffic.opened(0);
        }
        for traffic in [&service.traffic, &dest.traffic] {
            incoming.iter().for_each(|bytes| traffic.incoming(0, *bytes));
            outgoing.iter().for_each(|bytes| traffic.outgoing(0, *bytes));
        }
        let Some((state, seconds)) = self.state else { return };
        match state {
            // Relaxed: a number by itself.
            TEMPLATE => drop(dest.templates.fetch_add(1, Ordering::Relaxed)),
            _ => drop(dest.load.open(state == "SYN_RECV")),
        }
        if let Some(conn) = self.conn(state, seconds) {
            director.open(&conn);
        }
    }

    fn find<'a>(&self, services: &'a [ServiceView]) -> Option<(&'a ServiceView, &'a DestView)> {
        let is = |end: Endpoint, text: &str| end.to_string() == text;
        let service = services.iter().find(|service| {
            let key = &service.config.key;
            let end = key.endpoint();
            key.protocol() == Some(self.protocol)
                && end.is_some_and(|end| is(end, self.virtual_end))
        })?;
        let mut dests = service.dests.iter();
        Some((service, dests.find(|dest| is(dest.config.endpoint(), self.server))?))
    }

    fn conn(&self, state: &str, seconds: u32) -> Option<NewConn> {
        let end = |text: &str| {
            let end: SocketAddr = text.parse().ok()?;
            Some((Address::from(end.ip()), end.port()))
        };
        let [(caddr, cport), (vaddr, vport), (daddr, dport)] =
            [end(self.client)?, end(self.virtual_end)?, end(self.server)?];
        let (proto, template) = (self.protocol.number(), state == TEMPLATE);
        let number = (0..u8::MAX).find(|number| state_name(proto, *number) == state);
        Some(NewConn {
            proto,
            caddr,
            cport,
            vaddr,
            vport,
            daddr,
            dport,
            dest: 0,
            mark: 0,
            flags: if template { flag::TEMPLATE } else { 0 },
            state: if template { 0 } else { number? },
            // A listing shows whole seconds, rounded down.
            timeout: Ticks(Ticks::from_secs(seconds).0 + 50),
            control: None,
            extra: None,
        })
    }
}
