//! What the tests of the ports stand on: namespaces with veth pairs, and frames to send there.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The service of the tests, on the first link's address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 1);
pub const SERVED: u16 = 80;
pub const NOT_SERVED: u16 = 81;
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 7);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 2);
/// Where keys for IPsec are agreed.
pub const IPSEC_VIP: Ipv4Addr = Ipv4Addr::new(10, 90, 0, 3);
pub const IPSEC_SERVER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 8);

/// The same in IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 1);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 7);
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 2);

/// Says why a test is skipped, and that it is.
pub fn skip() -> bool {
    // SAFETY: no arguments.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("skipped: namespaces and packet sockets need root");
    }
    !root
}

/// Two namespaces, the director's and its peer's, joined by `links` veth pairs: `d0`-`p0`, ...
/// They go when this is dropped.
pub struct Net {
    pub director: String,
    pub peer: String,
}

impl Net {
    pub fn new(links: usize, queues: usize) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only that the numbers differ matters.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("uvs-{side}-{}-{number}", std::process::id());
        let net = Self { director: name("d"), peer: name("p") };
        run(&format!("ip netns add {}", net.director));
        run(&format!("ip netns add {}", net.peer));
        for at in 0..links {
            let queues = format!("numrxqueues {queues} numtxqueues {queues}");
            run(&format!(
                "ip -n {} link add d{at} {queues} type veth peer name p{at} {queues} netns {}",
                net.director, net.peer
            ));
            for (side, space, last) in [("d", &net.director, 1), ("p", &net.peer, 2)] {
                run(&format!(
                    "ip -n {space} link set {side}{at} address 02:00:00:00:0{at}:0{last}"
                ));
                run(&format!("ip -n {space} addr add 10.9{at}.0.{last}/24 dev {side}{at}"));
                run(&format!("ip -n {space} link set {side}{at} up"));
            }
        }
        net
    }

    /// Runs `work` on a thread in the director's namespace.
    pub fn in_director<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(&self.director, work)
    }

    /// A packet socket on the peer's end of link `at`.
    pub fn peer(&self, at: usize) -> Peer {
        inside(&self.peer, || Peer::open(&format!("p{at}")).unwrap())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in [&self.director, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn inside<R: Send>(space: &str, work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{space}")).unwrap();
            // SAFETY: the descriptor is open; only this thread moves.
            assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn ifindex(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a C string that outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Sends and sees whole frames.
pub struct Peer(OwnedFd);

impl Peer {
    fn open(name: &str) -> io::Result<Self> {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(all)) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: a new descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        address.sll_ifindex = ifindex(name) as i32;
        let (one, large) = (1i32, 8i32 << 20);
        // SAFETY: values and address outlive the calls and have the sizes that are told.
        unsafe {
            let (option, size) = ((&raw const one).cast(), 4);
            let ignore = libc::PACKET_IGNORE_OUTGOING;
            assert_eq!(libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, ignore, option, size), 0);
            let buffer = (&raw const large).cast();
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer, 4);
            let size = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size), 0);
        }
        Ok(Self(fd))
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the frame outlives the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// The frames that have come and that `wanted` picks.
    pub fn seen(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (to, size) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: the buffer outlives the call and has the size that is told.
            let count = unsafe { libc::recv(self.0.as_raw_fd(), to, size, libc::MSG_DONTWAIT) };
            match usize::try_from(count) {
                Ok(count) if wanted(&buffer[..count]) => frames.push(buffer[..count].to_vec()),
                Ok(_) => {}
                Err(_) => return frames,
            }
        }
    }
}

/// Repeats `step` until it says that it is done, or for five seconds; says whether it was.
pub fn until(mut step: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if step() {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

pub fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let mut sum: u32 =
        packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum; `mark` is its payload.
pub fn udp(from: u16, to: u16, mark: u32) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes(), 12u16.to_be_bytes(), [0, 0]]
        .concat()
        .into_iter()
        .chain(mark.to_be_bytes())
        .collect()
}

/// A frame from the client to a port of the VIP.
pub fn request(port: u16, mark: u32) -> Vec<u8> {
    ethernet(&[], 0x0800, &ip(17, CLIENT, VIP, 0, &udp(4000, port, mark)))
}

/// An ICMP message about a packet.
pub fn icmp(kind: u8, about: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], about].concat()
}

/// The services of the tests: protocol, address, port.
pub fn services() -> Vec<(u8, IpAddr, u16)> {
    vec![
        (17, VIP.into(), SERVED),
        (6, VIP.into(), 0),
        (17, IPSEC_VIP.into(), 500),
        (17, VIP6.into(), SERVED),
    ]
}

/// Their servers behind NAT.
pub fn servers() -> Vec<(u8, IpAddr, u16)> {
    vec![(17, SERVER.into(), SERVED), (17, IPSEC_SERVER.into(), 0), (17, SERVER6.into(), SERVED)]
}

/// Where their tunnels end.
pub fn tunnels() -> Vec<(u8, IpAddr, u16)> {
    vec![(4, SERVER.into(), 0), (17, SERVER.into(), 6080)]
}

/// Frames, and whether they are uvs's, given [`services`], [`servers`] and [`tunnels`].
pub fn cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    [cases_v4(), cases_v6()].concat()
}

fn cases_v4() -> Vec<(&'static str, Vec<u8>, bool)> {
    let v4 = |packet: Vec<u8>| ethernet(&[], 0x0800, &packet);
    let other = Ipv4Addr::new(10, 90, 0, 9);
    let sent = ip(17, VIP, CLIENT, 0, &udp(SERVED, 4000, 0));
    let unrelated = ip(17, VIP, CLIENT, 0, &udp(NOT_SERVED, 4000, 0));
    let to_server = ip(17, CLIENT, SERVER, 0, &udp(4000, SERVED, 0));
    let to_ipsec = ip(50, CLIENT, IPSEC_SERVER, 0, &[0; 8]);
    let in_ipip = ip(4, VIP, SERVER, 0, &to_server);
    let in_gre = ip(47, VIP, SERVER, 0, &to_server);
    let in_gue = ip(17, VIP, SERVER, 0, &udp(40000, 6080, 0));
    let mut options = ip(17, CLIENT, VIP, 0, &[&[1; 40][..], &udp(4000, SERVED, 0)].concat());
    options[0] = 0x4f;
    vec![
        ("service", v4(ip(17, CLIENT, VIP, 0, &udp(4000, SERVED, 0))), true),
        ("one tag", ethernet(&[5], 0x0800, &ip(17, CLIENT, VIP, 0, &udp(1, SERVED, 0))), true),
        ("two tags", ethernet(&[5, 6], 0x0800, &ip(17, CLIENT, VIP, 0, &udp(1, SERVED, 0))), true),
        ("IP options", v4(options), true),
        ("any port", v4(ip(6, CLIENT, VIP, 0, &[0; 20])), true),
        ("another port", v4(ip(17, CLIENT, VIP, 0, &udp(4000, NOT_SERVED, 0))), false),
        ("another address", v4(ip(17, CLIENT, other, 0, &udp(4000, SERVED, 0))), false),
        ("another protocol", v4(ip(132, CLIENT, VIP, 0, &udp(4000, SERVED, 0))), false),
        ("server's reply", v4(ip(17, SERVER, CLIENT, 0, &udp(SERVED, 4000, 0))), true),
        ("server's own", v4(ip(17, SERVER, CLIENT, 0, &udp(53, 4000, 0))), false),
        ("ESP", v4(ip(50, CLIENT, IPSEC_VIP, 0, &[])), true),
        ("AH", v4(ip(51, CLIENT, IPSEC_VIP, 0, &[0; 24])), true),
        ("ESP without ISAKMP", v4(ip(50, CLIENT, VIP, 0, &[0; 24])), false),
        ("server's ESP", v4(ip(50, IPSEC_SERVER, CLIENT, 0, &[0; 24])), true),
        ("server's AH without ISAKMP", v4(ip(51, SERVER, CLIENT, 0, &[0; 24])), false),
        ("not IPsec", v4(ip(49, CLIENT, IPSEC_VIP, 0, &[0; 24])), false),
        ("ESP unreachable", v4(ip(1, IPSEC_SERVER, CLIENT, 0, &icmp(3, &to_ipsec))), true),
        ("first fragment", v4(ip(17, CLIENT, VIP, 0x2000, &udp(4000, NOT_SERVED, 0))), true),
        ("last fragment", v4(ip(17, CLIENT, VIP, 0x0010, &[0; 8])), true),
        ("server's fragment", v4(ip(17, SERVER, CLIENT, 0x0010, &[0; 8])), true),
        ("fragment to another", v4(ip(17, CLIENT, other, 0x0010, &[0; 8])), false),
        ("ping", v4(ip(1, CLIENT, VIP, 0, &icmp(8, &[0; 28]))), false),
        ("unreachable", v4(ip(1, CLIENT, VIP, 0, &icmp(3, &sent))), true),
        ("time exceeded", v4(ip(1, other, VIP, 0, &icmp(11, &sent))), true),
        ("unreachable, not ours", v4(ip(1, CLIENT, VIP, 0, &icmp(3, &unrelated))), false),
        ("unreachable, not to the VIP", v4(ip(1, CLIENT, other, 0, &icmp(3, &sent))), false),
        ("server unreachable", v4(ip(1, SERVER, CLIENT, 0, &icmp(3, &to_server))), true),
        ("tunnel packet unreachable", v4(ip(1, other, VIP, 0, &icmp(3, &in_ipip))), true),
        ("GUE packet unreachable", v4(ip(1, other, VIP, 0, &icmp(3, &in_gue))), true),
        ("tunnel of another unreachable", v4(ip(1, VIP, other, 0, &icmp(3, &in_ipip))), false),
        ("tunnel of another kind", v4(ip(1, other, VIP, 0, &icmp(3, &in_gre))), false),
        ("ARP", ethernet(&[], 0x0806, &[0; 46]), false),
        ("IPv6 by name only", ethernet(&[], 0x86dd, &[&sent[..], &[0; 20]].concat()), false),
        ("three tags", ethernet(&[1, 2, 3], 0x0800, &sent), false),
        ("cut off", v4(ip(17, CLIENT, VIP, 0, &udp(4000, SERVED, 0))[..22].to_vec()), false),
        (
            "not IPv4",
            v4([&[0x65], &ip(17, CLIENT, VIP, 0, &udp(1, SERVED, 0))[1..]].concat()),
            false,
        ),
        (
            "no header",
            v4([&[0x44], &ip(17, CLIENT, VIP, 0, &udp(1, SERVED, 0))[1..]].concat()),
            false,
        ),
    ]
}

pub fn ipv6(next: u8, from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

fn cases_v6() -> Vec<(&'static str, Vec<u8>, bool)> {
    let frame = |packet: Vec<u8>| ethernet(&[], 0x86dd, &packet);
    let request = |next, headers: &[u8], port| {
        frame(ipv6(next, CLIENT6, VIP6, &[headers, &udp(4000, port, 0)].concat()))
    };
    let other = Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, 9);
    let sent = ipv6(17, VIP6, CLIENT6, &udp(SERVED, 4000, 0));
    let to_server = ipv6(17, CLIENT6, SERVER6, &udp(4000, SERVED, 0));
    let error = |from, to, kind, about: &[u8]| frame(ipv6(58, from, to, &icmp(kind, about)));
    let cut = ipv6(17, CLIENT6, VIP6, &udp(4000, SERVED, 0))[..42].to_vec();
    // Hop-by-hop options, then a routing header of 16 bytes, then destination options.
    let extensions =
        [&[43, 0, 1, 4, 0, 0, 0, 0][..], &[60, 1, 4, 0], &[0; 12], &[17, 0, 1, 4, 0, 0, 0, 0]]
            .concat();
    let authentication = [&[17, 4][..], &[0; 22]].concat();
    let fragment = |offset: u16| [&[17, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 1]].concat();
    vec![
        ("v6, service", request(17, &[], SERVED), true),
        (
            "v6, two tags",
            ethernet(&[5, 6], 0x86dd, &ipv6(17, CLIENT6, VIP6, &udp(1, SERVED, 0))),
            true,
        ),
        ("v6, extension headers", request(0, &extensions, SERVED), true),
        ("v6, extension headers to another port", request(0, &extensions, NOT_SERVED), false),
        ("v6, behind an authentication header", request(51, &authentication, SERVED), true),
        ("v6, another port", request(17, &[], NOT_SERVED), false),
        ("v6, another address", frame(ipv6(17, CLIENT6, other, &udp(1, SERVED, 0))), false),
        ("v6, another protocol", request(6, &[], SERVED), false),
        ("v6, server's reply", frame(ipv6(17, SERVER6, CLIENT6, &udp(SERVED, 1, 0))), true),
        ("v6, server's own", frame(ipv6(17, SERVER6, CLIENT6, &udp(53, 1, 0))), false),
        ("v6, ESP without ISAKMP", request(50, &[], SERVED), false),
        ("v6, first fragment", request(44, &fragment(1), NOT_SERVED), true),
        ("v6, last fragment", request(44, &fragment(8), NOT_SERVED), true),
        (
            "v6, fragment to another",
            frame(ipv6(44, CLIENT6, other, &[fragment(8), vec![0; 8]].concat())),
            false,
        ),
        ("v6, ping", error(CLIENT6, VIP6, 128, &sent), false),
        ("v6, neighbour solicitation", error(CLIENT6, VIP6, 135, &VIP6.octets()), false),
        ("v6, unreachable", error(CLIENT6, VIP6, 1, &sent), true),
        ("v6, too big", error(other, VIP6, 2, &sent), true),
        ("v6, unreachable, not to the VIP", error(CLIENT6, other, 1, &sent), false),
        ("v6, server unreachable", error(SERVER6, CLIENT6, 1, &to_server), true),
        ("v6, ICMP of IPv4", frame(ipv6(1, CLIENT6, VIP6, &icmp(3, &sent))), false),
        ("v6, no next header", request(59, &[], SERVED), false),
        ("v6, cut off", frame(cut), false),
    ]
}
