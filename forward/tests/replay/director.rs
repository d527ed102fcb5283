//! A director of the simplest kind: it finds connections by walking a list, and does with a frame
//! what the crate's functions say. This is the order in which an engine's stages would call them.

use std::net::IpAddr;

use uvs_forward::fragment::{Cut, Splitter};
use uvs_forward::icmp::{self, CitedTtl, MAX_FRAME, Offender, Related, Sender, TunnelError};
use uvs_forward::mtu::{self, Fit, Size, Way};
use uvs_forward::options::{self, Stamp};
use uvs_forward::reassembly::{Assembly, HEAD, Key, MAX_PIECES, Piece, Progress};
use uvs_forward::tun::{self, Gue, Kind, MAX_ROOM, Outer};
use uvs_forward::wire::{Tcp, protocol, tcp};
use uvs_forward::{
    Address, End, Family, Hop, Method, Offsets, Refused, Tuple, Unfinished, dr, nat,
};

use crate::draws::Draws;
use crate::recording::{Case, Dev};
use crate::service::{Dest, Service, Setup};

/// What became of a frame.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Sent(Vec<(Dev, Vec<u8>)>),
    /// For the host's own stack: what that does is not ours.
    Host,
    Dropped,
    /// Kept until the rest of it comes.
    Kept,
}

#[derive(Clone, Copy, Debug)]
struct Conn {
    protocol: u8,
    client: (IpAddr, u16),
    vip: (IpAddr, u16),
    dest: Dest,
}

/// A packet under way.
struct Packet {
    frame: Vec<u8>,
    at: Offsets,
    dev: Dev,
    largest: u16,
    pieces: Vec<u16>,
}

type Waiting<A> = Vec<(Key<A>, Box<Assembly>, Vec<u8>)>;

pub struct Director {
    setup: Setup,
    conns: Vec<Conn>,
    mtu: (u16, u16),
    /// To the only server, and what was told before the way was looked up anew: the kernel's
    /// route knows it from the next packet on.
    path_mtu: u16,
    told_mtu: Option<u16>,
    sysctls: Sysctls,
    unfinished: bool,
    draws: Draws,
    waiting_v4: Waiting<[u8; 4]>,
    waiting_v6: Waiting<[u8; 16]>,
    /// How many connections were scheduled.
    turn: usize,
    /// The crate's functions that took part.
    pub rules: Vec<&'static str>,
}

struct Sysctls {
    pmtu_disc: bool,
    schedule_icmp: bool,
    nat_icmp_send: bool,
    cache_bypass: bool,
    ip_forward: bool,
}

/// An address of either family out of a text's.
trait Octets: Address {
    fn of(address: IpAddr) -> Option<Self>;
    fn ip(self) -> IpAddr;
}

impl Octets for [u8; 4] {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(it) => Some(it.octets()),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        self.into()
    }
}

impl Octets for [u8; 16] {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(it) => Some(it.octets()),
            IpAddr::V4(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        self.into()
    }
}

impl Director {
    pub fn new(case: &Case) -> Self {
        let on = |name, default| case.sysctl(name).map_or(default, |value| value != 0);
        Self {
            setup: Setup::of(case),
            conns: vec![],
            mtu: case.mtu,
            path_mtu: case.mtu.1,
            told_mtu: None,
            sysctls: Sysctls {
                pmtu_disc: on("pmtu_disc", true),
                schedule_icmp: on("schedule_icmp", false),
                nat_icmp_send: on("nat_icmp_send", false),
                cache_bypass: on("cache_bypass", false),
                ip_forward: on("ipv4/ip_forward", true),
            },
            unfinished: case.name.starts_with("partial_"),
            draws: Draws::default(),
            waiting_v4: vec![],
            waiting_v6: vec![],
            turn: 0,
            rules: vec![],
        }
    }

    pub fn frame(&mut self, dev: Dev, mut frame: Vec<u8>, draws: Draws) -> Outcome {
        self.draws = draws;
        let Ok(at) = Offsets::of(&frame) else { return self.drop("malformed") };
        if at.family == Family::V4 && at.l4 - at.l3 > 20 {
            self.rule("options::fill");
            let vip = [10, 0, 0, 1];
            let stamp = Stamp { address: vip, time: draws.time };
            match options::fill(&mut frame, at, stamp) {
                Ok(()) => {}
                Err(Refused::Option(pointer)) => {
                    self.rule("icmp::parameter_problem");
                    let about = Offender { frame: &frame, at, ttl: CitedTtl::Received };
                    let sender = Sender { src: vip, id: self.draws.id };
                    let mut out = vec![0; MAX_FRAME];
                    let len = icmp::parameter_problem(about, sender, pointer, &mut out).unwrap();
                    return Outcome::Sent(vec![(dev, out[..len].to_vec())]);
                }
                Err(_) => return self.drop("source route"),
            }
        }
        frame.truncate(at.end as usize);
        let packet = Packet { frame, at, dev, largest: 0, pieces: vec![] };
        match at.family {
            Family::V4 => self.whole::<[u8; 4]>(packet, |it| &mut it.waiting_v4),
            Family::V6 => self.whole::<[u8; 16]>(packet, |it| &mut it.waiting_v6),
        }
    }

    /// Collects fragments, and goes on with whole packets.
    fn whole<A: Octets>(
        &mut self,
        mut packet: Packet,
        waiting: fn(&mut Self) -> &mut Waiting<A>,
    ) -> Outcome {
        if !packet.at.fragment {
            return self.packet::<A>(packet);
        }
        self.rule("reassembly");
        let Ok((key, piece)) = Piece::of::<A>(&packet.frame, packet.at) else {
            return self.drop("a bad fragment");
        };
        let waiting = waiting(self);
        let at = waiting.iter().position(|(its, ..)| *its == key).unwrap_or_else(|| {
            waiting.push((key, Box::new(Assembly::new()), vec![0; HEAD + 65536]));
            waiting.len() - 1
        });
        let (_, assembly, buffer) = &mut waiting[at];
        let whole = match assembly.add(&packet.frame, &piece, buffer) {
            Ok(Progress::Complete(whole)) => whole,
            Ok(Progress::Waiting) => return Outcome::Kept,
            Err(_) => {
                waiting.swap_remove(at);
                return self.drop("a bad fragment");
            }
        };
        let mut pieces = [0; MAX_PIECES];
        let count = assembly.pieces(&mut pieces);
        packet.frame = buffer[whole.start..whole.end].to_vec();
        packet.at = Offsets::of(&packet.frame).unwrap();
        packet.largest = whole.largest;
        packet.pieces = pieces[..count].to_vec();
        waiting.swap_remove(at);
        self.packet::<A>(packet)
    }

    fn packet<A: Octets>(&mut self, packet: Packet) -> Outcome {
        if packet.at.protocol == A::FAMILY.icmp() {
            return self.icmp::<A>(packet);
        }
        let Ok(tuple) = Tuple::<A>::of(&packet.frame, packet.at) else { return Outcome::Host };
        if let Some(conn) = self.to_server(&tuple) {
            return self.forward::<A>(packet, conn);
        }
        if let Some(conn) = self.to_client(&tuple) {
            return self.reply::<A>(packet, conn, None);
        }
        let service = self.setup.find(tuple.protocol, tuple.dst.address.ip(), tuple.dst.port);
        let service = service.filter(|_| self.is_seen(tuple.dst.address.ip()));
        let Some(service) = service.cloned() else { return self.without_service(packet, &tuple) };
        // Their keys are agreed on first.
        if [protocol::AH, protocol::ESP].contains(&packet.at.protocol) {
            return Outcome::Host;
        }
        let syn = opens(&packet);
        if tuple.protocol == protocol::TCP && !syn {
            return Outcome::Host;
        }
        self.schedule(packet, &tuple, &service)
    }

    fn schedule<A: Octets>(
        &mut self,
        packet: Packet,
        tuple: &Tuple<A>,
        service: &Service,
    ) -> Outcome {
        // The newest server is the head of the list, and round robin begins there.
        let usable: Vec<&Dest> = service.dests.iter().rev().filter(|it| it.weight > 0).collect();
        self.turn += 1;
        let Some(dest) = usable.get((self.turn - 1) % usable.len().max(1)) else {
            if self.sysctls.cache_bypass {
                return self.bypass(packet, tuple);
            }
            self.rule("icmp::port_unreachable");
            return self.answer::<A>(&packet, CitedTtl::Received, |about, sender, out| {
                icmp::port_unreachable(about, sender, out)
            });
        };
        let dest = Dest { port: if dest.port == 0 { tuple.dst.port } else { dest.port }, ..**dest };
        let client = (tuple.src.address.ip(), tuple.src.port);
        let vip = (tuple.dst.address.ip(), tuple.dst.port);
        let conn = Conn { protocol: tuple.protocol, client, vip, dest };
        if !service.one_packet {
            self.conns.push(conn);
        }
        self.forward::<A>(packet, conn)
    }

    /// Past a cache that has no server: direct routing to where the packet wants to go.
    fn bypass<A: Octets>(&mut self, packet: Packet, tuple: &Tuple<A>) -> Outcome {
        let client = (tuple.src.address.ip(), tuple.src.port);
        let vip = (tuple.dst.address.ip(), tuple.dst.port);
        let (method, kind) = (Method::Route, Kind::Ipip);
        let dest = Dest { address: vip.0, port: vip.1, method, kind, weight: 0 };
        let conn = Conn { protocol: tuple.protocol, client, vip, dest };
        self.conns.push(conn);
        self.forward::<A>(packet, conn)
    }

    /// Whether IPVS sees what goes to this address: the director's own, or a marked one.
    fn is_seen(&self, address: IpAddr) -> bool {
        let text = address.to_string();
        is_local(address) || self.setup.marked.as_ref().is_some_and(|net| text.starts_with(net))
    }

    /// A server's packet that no connection knows, or one for nobody.
    fn without_service<A: Octets>(&mut self, packet: Packet, tuple: &Tuple<A>) -> Outcome {
        let from = (tuple.src.address.ip(), tuple.src.port);
        let is_server = |service: &Service| {
            let is_it =
                |dest: &Dest| dest.method == Method::Masq && (dest.address, dest.port) == from;
            service.protocol == Some(tuple.protocol) && service.dests.iter().any(is_it)
        };
        let known = self.setup.services.iter().any(is_server);
        if !self.sysctls.nat_icmp_send || !known || resets(&packet) {
            return Outcome::Host;
        }
        self.rule("icmp::port_unreachable");
        self.answer::<A>(&packet, CitedTtl::Lowered, |about, sender, out| {
            icmp::port_unreachable(about, sender, out)
        })
    }

    fn icmp<A: Octets>(&mut self, packet: Packet) -> Outcome {
        if let Ok(related) = Related::<A>::of(&packet.frame, packet.at) {
            self.rule("icmp::Related");
            assert!(icmp::is_intact::<A>(&packet.frame, packet.at));
            if let Some(conn) = self.to_server(&related.tuple) {
                return self.forward_related(packet, conn, &related);
            }
            if let Some(conn) = self.to_client(&related.tuple) {
                return self.reply::<A>(packet, conn, Some(&related));
            }
            let end = related.tuple.dst;
            let service =
                self.setup.find(related.tuple.protocol, end.address.ip(), end.port).cloned();
            if let Some(service) = service.filter(|_| self.sysctls.schedule_icmp) {
                let Some(dest) = service.dests.last() else { return Outcome::Host };
                let client = (related.tuple.src.address.ip(), related.tuple.src.port);
                let vip = (end.address.ip(), end.port);
                let conn = Conn { protocol: related.tuple.protocol, client, vip, dest: *dest };
                self.conns.push(conn);
                return self.forward_related(packet, conn, &related);
            }
        }
        self.tunnel_error(packet)
    }

    /// An error about a packet to a client, on its way to the server that sent it.
    fn forward_related<A: Octets>(
        &mut self,
        mut packet: Packet,
        conn: Conn,
        related: &Related<A>,
    ) -> Outcome {
        if conn.dest.method != Method::Masq {
            return self.forward::<A>(packet, conn);
        }
        self.rule("icmp::to_server");
        let dest = End { address: A::of(conn.dest.address).unwrap(), port: conn.dest.port };
        let (dev, hop) = self.hop(conn.dest.address);
        icmp::to_server(&mut packet.frame, packet.at, related, dest, &hop).unwrap();
        Outcome::Sent(vec![(dev, packet.frame)])
    }

    fn tunnel_error(&mut self, packet: Packet) -> Outcome {
        let error = match TunnelError::of(&packet.frame, packet.at) {
            Ok(error) => error,
            Err(_) => {
                self.host_learns(&packet);
                return Outcome::Host;
            }
        };
        let Some(_) = self.to_server(&error.tuple) else { return Outcome::Host };
        self.rule("icmp::TunnelError");
        if let Some(told) = error.path_mtu {
            // The first makes the route anew, which the next packet finds; later ones change it.
            let told = told.min(self.path_mtu);
            match self.path_mtu < self.mtu.1 {
                true => self.path_mtu = told,
                false => self.told_mtu = Some(told),
            }
        }
        let sender = Sender { src: error.tuple.dst.address, id: self.draws.id };
        let (dev, hop) = self.hop(error.tuple.src.address.into());
        let relay = icmp::Relay { sender, path_mtu: self.path_mtu, hop: &hop };
        let mut out = vec![0; MAX_FRAME];
        match error.relay(&packet.frame, packet.at, &relay, &mut out) {
            Some(len) => Outcome::Sent(vec![(dev, out[..len].to_vec())]),
            None => Outcome::Dropped,
        }
    }

    /// The host's stack has a receiver for errors about GRE, whatever is inside: its route knows
    /// the smaller MTU then. So it was on the recorded machine, not for the other tunnels.
    fn host_learns(&mut self, packet: &Packet) {
        let icmp = packet.at.transport(&packet.frame).unwrap();
        if let [3, 4, _, _, _, _, high, low, rest @ ..] = icmp
            && rest.get(9) == Some(&protocol::GRE)
            && rest.len() > 28
        {
            self.told_mtu = Some(u16::from_be_bytes([*high, *low]).max(552));
        }
    }

    fn to_server<A: Octets>(&self, tuple: &Tuple<A>) -> Option<Conn> {
        let client = (tuple.src.address.ip(), tuple.src.port);
        let vip = (tuple.dst.address.ip(), tuple.dst.port);
        let is_it =
            |conn: &&Conn| (conn.protocol, conn.client, conn.vip) == (tuple.protocol, client, vip);
        self.conns.iter().find(is_it).copied()
    }

    fn to_client<A: Octets>(&self, tuple: &Tuple<A>) -> Option<Conn> {
        let server = (tuple.src.address.ip(), tuple.src.port);
        let client = (tuple.dst.address.ip(), tuple.dst.port);
        let is_it = |conn: &&Conn| {
            let dest = conn.dest;
            let ends = (conn.protocol, conn.client, (dest.address, dest.port));
            dest.method == Method::Masq && ends == (tuple.protocol, client, server)
        };
        self.conns.iter().find(is_it).copied()
    }

    /// From a client to a server, by the connection's method.
    fn forward<A: Octets>(&mut self, mut packet: Packet, conn: Conn) -> Outcome {
        let dest = conn.dest;
        if dest.address.to_string() == "10.0.1.200" {
            // Nobody answers for this one: the host asks.
            return Outcome::Host;
        }
        if is_local(dest.address) {
            if dest.method == Method::Masq {
                self.rule("nat::to_local");
                let end = End { address: A::of(dest.address).unwrap(), port: dest.port };
                nat::to_local(&mut packet.frame, packet.at, end).unwrap();
                assert!(Offsets::of(&packet.frame).is_ok());
            }
            return Outcome::Host;
        }
        let ttl = packet.frame[14 + if A::FAMILY == Family::V4 { 8 } else { 7 }];
        if ttl <= 1 {
            self.rule("icmp::time_exceeded");
            return self.answer::<A>(&packet, CitedTtl::Received, |about, sender, out| {
                icmp::time_exceeded(about, sender, out)
            });
        }
        let tunnelled = dest.method == Method::Tunnel;
        let outer = if dest.address.is_ipv4() { Family::V4 } else { Family::V6 };
        let room = dest.kind.room(outer, self.unfinished);
        if let Some(told) = self.told_mtu.take() {
            self.path_mtu = told;
        }
        let (dev, hop) = self.hop(dest.address);
        let way = Way {
            mtu: if dev == Dev::C { self.mtu.0 } else { self.path_mtu },
            tunnel: tunnelled.then_some((outer, room as u16)),
            pmtu_disc: self.sysctls.pmtu_disc,
        };
        let size = Size::of(&packet.frame, packet.at, packet.largest).unwrap();
        let fit = mtu::to_server(&size, &way);
        if let Fit::TooBig(mtu) = fit {
            self.rule("icmp::frag_needed");
            return self.answer::<A>(&packet, CitedTtl::Lowered, |about, sender, out| {
                icmp::frag_needed(about, sender, mtu, out)
            });
        }
        match (dest.method, outer) {
            (Method::Tunnel, Family::V4) => self.tunnel::<[u8; 4]>(packet, dest, fit),
            (Method::Tunnel, Family::V6) => self.tunnel::<[u8; 16]>(packet, dest, fit),
            (Method::Masq, _) => {
                self.rule("nat::to_server");
                let end = End { address: A::of(dest.address).unwrap(), port: dest.port };
                self.finish(&mut packet);
                nat::to_server(&mut packet.frame, packet.at, end, &hop).unwrap();
                self.send(dev, packet, fit)
            }
            _ => {
                self.rule("dr::forward");
                self.finish(&mut packet);
                dr::forward(&mut packet.frame, packet.at, &hop).unwrap();
                self.send(dev, packet, fit)
            }
        }
    }

    fn tunnel<O: Octets>(&mut self, mut packet: Packet, dest: Dest, fit: Fit) -> Outcome {
        let (dev, hop) = self.hop(dest.address);
        let outer = Outer {
            src: if O::FAMILY == Family::V4 { O::of([10, 0, 1, 254].into()) } else { O::of(R6) }
                .unwrap(),
            dst: O::of(dest.address).unwrap(),
            id: self.draws.id as u16,
            pmtu_disc: self.sysctls.pmtu_disc,
        };
        let remote = matches!(dest.kind, Kind::Gue { checksum: tun::Checksum::Remote, .. });
        let unfinished = Unfinished::of(packet.at).filter(|_| self.unfinished && remote);
        if unfinished.is_none() {
            self.finish(&mut packet);
        }
        let room = dest.kind.room(O::FAMILY, unfinished.is_some());
        assert!(room <= MAX_ROOM);
        packet.frame.splice(..0, vec![0xaa; room]);
        let (frame, at) = (&mut packet.frame, packet.at);
        match dest.kind {
            Kind::Ipip => {
                self.rules.push("tun::ipip");
                tun::ipip(frame, at, &outer, &hop).unwrap();
            }
            Kind::Gre { checksum } => {
                self.rules.push("tun::gre");
                tun::gre(frame, at, checksum, &outer, &hop).unwrap();
            }
            Kind::Gue { port, checksum } => {
                self.rules.push("tun::gue");
                let src_port = self.draws.src_port;
                let gue = Gue { src_port, dst_port: port, checksum, unfinished };
                tun::gue(frame, at, gue, &outer, &hop).unwrap();
            }
        }
        packet.at = Offsets { end: at.end + room as u32, family: O::FAMILY, ..at };
        self.send(dev, packet, fit)
    }

    /// From a server back to a client, or an error about what went to the server.
    fn reply<A: Octets>(
        &mut self,
        mut packet: Packet,
        conn: Conn,
        related: Option<&Related<A>>,
    ) -> Outcome {
        if !self.sysctls.ip_forward {
            return Outcome::Dropped;
        }
        let vip = End { address: A::of(conn.vip.0).unwrap(), port: conn.vip.1 };
        let (dev, hop) = self.hop(conn.client.0);
        let size = Size::of(&packet.frame, packet.at, packet.largest).unwrap();
        let fit = mtu::to_client(&size, self.mtu.0);
        if let Fit::TooBig(mtu) = fit {
            self.rule("icmp::frag_needed");
            return self.answer::<A>(&packet, CitedTtl::Received, |about, sender, out| {
                icmp::frag_needed(about, sender, mtu, out)
            });
        }
        match related {
            Some(related) => {
                self.rule("icmp::to_client");
                icmp::to_client(&mut packet.frame, packet.at, related, vip, &hop).unwrap();
            }
            None => {
                self.rule("nat::to_client");
                nat::to_client(&mut packet.frame, packet.at, vip, &hop).unwrap();
            }
        }
        self.send(dev, packet, fit)
    }

    fn finish(&mut self, packet: &mut Packet) {
        if self.unfinished {
            self.rule("Unfinished::finish");
            let todo = Unfinished::of(packet.at).unwrap();
            todo.finish(&mut packet.frame, packet.at).unwrap();
        }
    }

    fn send(&mut self, dev: Dev, packet: Packet, fit: Fit) -> Outcome {
        let mtu = match fit {
            Fit::Whole => return Outcome::Sent(vec![(dev, packet.frame)]),
            Fit::Split(mtu) => mtu,
            Fit::TooBig(_) | Fit::Narrow => return self.drop("does not fit"),
        };
        self.rule("fragment::Splitter");
        let cut = Cut { mtu, id: self.draws.fragment, pieces: &packet.pieces };
        let mut splitter = Splitter::new(&packet.frame, packet.at, cut).unwrap();
        let mut out = vec![0; 2048];
        let next = || splitter.next(&mut out).map(|len| (dev, out[..len].to_vec()));
        Outcome::Sent(std::iter::from_fn(next).collect())
    }

    /// Tells the sender of a packet, as the virtual address that it is for or, to a server, as the
    /// director.
    fn answer<A: Octets>(
        &mut self,
        packet: &Packet,
        ttl: CitedTtl,
        build: impl Fn(Offender<'_>, Sender<A>, &mut [u8]) -> Option<usize>,
    ) -> Outcome {
        let src = match (packet.dev, A::FAMILY) {
            (Dev::C, _) => Tuple::<A>::of(&packet.frame, packet.at).unwrap().dst.address,
            (Dev::R, Family::V4) => A::of([10, 0, 1, 254].into()).unwrap(),
            (Dev::R, Family::V6) => A::of(R6).unwrap(),
        };
        let offender = Offender { frame: &packet.frame, at: packet.at, ttl };
        let mut out = vec![0; MAX_FRAME];
        match build(offender, Sender { src, id: self.draws.id }, &mut out) {
            Some(len) => Outcome::Sent(vec![(packet.dev, out[..len].to_vec())]),
            None => Outcome::Dropped,
        }
    }

    /// The way to an address: the lab's routes and neighbours.
    fn hop(&self, address: IpAddr) -> (Dev, Hop) {
        let text = address.to_string();
        let c =
            |mac: [u8; 2]| Hop { src: [2, 0, 0, 0, 0, 0xc1], dst: [2, 0, 0, 0, mac[0], mac[1]] };
        let r =
            |mac: [u8; 2]| Hop { src: [2, 0, 0, 0, 0, 0xe1], dst: [2, 0, 0, 0, mac[0], mac[1]] };
        if text.starts_with("172.") || text.starts_with("fd00:c:") {
            return (Dev::C, c([0, 0xc0]));
        }
        if text == "192.168.1.77" {
            return (Dev::C, c([2, 0x77]));
        }
        if self.setup.routed.iter().any(|network| text.starts_with(network)) {
            return (Dev::R, r([1, 40]));
        }
        match address {
            IpAddr::V4(it) => (Dev::R, r([1, it.octets()[3]])),
            IpAddr::V6(it) => (Dev::R, r([1, it.octets()[15]])),
        }
    }

    fn rule(&mut self, rule: &'static str) {
        self.rules.push(rule);
    }

    fn drop(&mut self, rule: &'static str) -> Outcome {
        self.rules.push(rule);
        Outcome::Dropped
    }
}

/// fd00:2::254.
const R6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x254));

fn is_local(address: IpAddr) -> bool {
    let own = ["10.0.0.1", "10.0.1.254", "192.168.1.254", "fd00::1", "fd00:1::254", "fd00:2::254"];
    own.contains(&address.to_string().as_str()) || address.is_loopback()
}

fn tcp_flags(packet: &Packet) -> Option<u8> {
    let transport = packet.at.transport(&packet.frame)?;
    (packet.at.protocol == protocol::TCP).then(|| Tcp::new_unchecked(transport).flags())
}

/// A SYN opens a connection, but no RST does.
fn opens(packet: &Packet) -> bool {
    tcp_flags(packet)
        .is_some_and(|flags| flags & (tcp::flag::SYN | tcp::flag::RST) == tcp::flag::SYN)
}

fn resets(packet: &Packet) -> bool {
    tcp_flags(packet).is_some_and(|flags| flags & tcp::flag::RST != 0)
}
