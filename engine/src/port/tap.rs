//! The way back to the host: a TAP device of our own.
//!
//! A frame that is written into it is received by the host's stack as if it had come from the
//! interface on which the engine took it: delivered to a local address, or forwarded. The device
//! is not persistent, so that the kernel removes it, and all settings of it, when the process
//! ends, however it ends.
//!
//! What differs from the interface is its name: firewall rules that name the interface do not
//! match what comes back this way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::Offload;
use crate::host::Host;
use crate::link::{Link, LinkId};

/// Where TAP devices are made.
const TUN: &str = "/dev/net/tun";

/// What the devices are called; the kernel puts a number in.
const NAME: &str = "uvs-host%d";

/// The device's own address. The kernel drops what comes in on an interface without any address
/// as soon as reverse path filtering is on, loose or strict. An address of the loopback network
/// reaches nothing that was not reached before, and is never taken as a source.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 117, 118, 115);

/// Settings in which the device follows the interface, in /proc/sys/net/ipv4/conf.
const FOLLOWED: [&str; 5] =
    ["forwarding", "accept_local", "route_localnet", "src_valid_mark", "accept_source_route"];

/// IPv6 is received, but the device gets no address of its own and speaks to nobody.
const SILENT: [(&str, u8); 3] = [("addr_gen_mode", 1), ("accept_ra", 0), ("autoconf", 0)];

/// Why the device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel's TUN driver is not there.
    #[error("{TUN} is missing; `modprobe tun` loads the driver, `uvs doctor` checks it")]
    NoDriver,
    /// The process may not make network devices.
    #[error("no permission to make a TAP device; run as root or with CAP_NET_ADMIN")]
    NotAllowed,
    /// The kernel refused a step.
    #[error("cannot {step} the TAP device: {source}")]
    Refused {
        /// What was tried, a verb.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Strict reverse path filtering would drop every frame and cannot be switched off.
    #[error(
        "cannot set net.ipv4.conf.{name}.rp_filter to {value}: {source}; make /proc/sys writable, or \
         `sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.default.rp_filter=2` before the start"
    )]
    Filtered {
        /// The device's name.
        name: String,
        /// What was to be set.
        value: u8,
        /// Why it was not.
        source: io::Error,
    },
}

/// A TAP device that hands frames of one link to the host.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
    mac: [u8; 6],
    /// Settings that could not be made like the link's, as `sysctl` writes them.
    unset: Vec<String>,
}

impl Tap {
    /// Makes the device and brings it up, with MTU and settings like those of `link`.
    ///
    /// # Errors
    ///
    /// No driver, no permission, or strict reverse path filtering that cannot be changed; nothing
    /// is left behind then.
    pub fn open(link: &Link) -> Result<Self, TapError> {
        let (file, name) = create()?;
        let socket = control_socket().map_err(refused("configure"))?;
        let mut request = Request::new(&name);
        request.call(&socket, libc::SIOCGIFHWADDR).map_err(refused("read the address of"))?;
        let mac = request.mac();
        let mut tap = Self { file, name, mac, unset: Vec::new() };
        tap.follow(link)?;

        Request::new(&tap.name)
            .mtu(link.mtu)
            .call(&socket, libc::SIOCSIFMTU)
            .map_err(refused("set the MTU of"))?;
        // While it is down, so that the kernel adds no route to the address's class A network.
        for (address, step) in
            [(ADDRESS, libc::SIOCSIFADDR), (Ipv4Addr::BROADCAST, libc::SIOCSIFNETMASK)]
        {
            let mut request = Request::new(&tap.name);
            request.address(address).call(&socket, step).map_err(refused("give an address to"))?;
        }
        Request::new(&tap.name)
            .flags(libc::IFF_UP | libc::IFF_NOARP)
            .call(&socket, libc::SIOCSIFFLAGS)
            .map_err(refused("bring up"))?;
        Ok(tap)
    }

    /// Hands a frame to the host's stack without waiting; false when there is no room. VLAN tags
    /// are taken off: the host's VLAN interfaces are on the link, not on this device.
    /// What is left to be done to it, a checksum or segments, the host's stack does as with any
    /// frame of this machine.
    pub fn give(&self, frame: &mut [u8], offload: Offload) -> bool {
        let len = frame.len();
        let Some(frame) = addressed(frame, self.mac) else { return false };
        // The bytes of the tags, two at most.
        let header = offload.further(-((len - frame.len()) as i16)).header();
        let parts = [IoSlice::new(&header), IoSlice::new(frame)];
        let whole = header.len() + frame.len();
        (&self.file).write_vectored(&parts).is_ok_and(|written| written == whole)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What could not be set as it is on the link, each as `net.ipv4.conf.NAME.KEY=VALUE`;
    /// usually nothing.
    pub fn unset(&self) -> &[String] {
        &self.unset
    }

    fn follow(&mut self, link: &Link) -> Result<(), TapError> {
        for key in FOLLOWED {
            if let Some(value) = read("ipv4", &link.name, key) {
                let _ = self.set("ipv4", key, value);
            }
        }
        for (key, value) in SILENT {
            let _ = self.set("ipv6", key, value);
        }
        // The kernel takes the larger of the interface's value and the one for all. What comes
        // back here left its path, so that strict (1) becomes loose (2): the source must still be
        // reachable, but over any interface.
        let filter = |name| read("ipv4", name, "rp_filter").unwrap_or(0);
        let value = if filter("all").max(filter(&link.name)) == 0 { 0 } else { 2 };
        let result = self.set("ipv4", "rp_filter", value);
        let strict = filter("all").max(filter(&self.name)) == 1;
        match result {
            Err(source) if strict => {
                Err(TapError::Filtered { name: self.name.clone(), value, source })
            }
            _ => Ok(()),
        }
    }

    /// Makes a setting of the device unless it is so already; what fails is kept in `unset`.
    fn set(&mut self, family: &str, key: &str, value: u8) -> io::Result<()> {
        // A setting that is not there (no IPv6, an older kernel) needs no change.
        if read(family, &self.name, key).is_none_or(|is| is == value) {
            return Ok(());
        }
        let written = fs::write(setting(family, &self.name, key), value.to_string());
        if written.is_err() {
            self.unset.push(format!("net.{family}.conf.{}.{key}={value}", self.name));
        }
        written
    }
}

/// The way back to the host from every link.
#[derive(Clone, Debug)]
pub struct Taps(Arc<[Tap]>);

impl Taps {
    /// Makes a device for each link, in their order; clones share them.
    ///
    /// # Errors
    ///
    /// As [`Tap::open`].
    pub fn open(links: &[Link]) -> Result<Self, TapError> {
        let taps: Result<Vec<Tap>, TapError> = links.iter().map(Tap::open).collect();
        Ok(Self(taps?.into()))
    }

    /// The devices.
    pub fn iter(&self) -> impl Iterator<Item = &Tap> {
        self.0.iter()
    }
}

impl Host for Taps {
    fn give(&mut self, link: LinkId, frame: &mut [u8], offload: Offload) -> bool {
        self.0.get(usize::from(link.0)).is_some_and(|tap| tap.give(frame, offload))
    }
}

/// The frame without VLAN tags and, when it is for one host, addressed to this device; `None` for
/// what is no Ethernet frame.
fn addressed(frame: &mut [u8], mac: [u8; 6]) -> Option<&[u8]> {
    /// Ethernet addresses, and the type after them.
    const ADDRESSES: usize = 12;
    const TAG: usize = 4;
    let mut start = 0;
    // Two tags at most, as QinQ has them.
    for _ in 0..2 {
        let kind = frame.get(start + ADDRESSES..start + ADDRESSES + 2)?;
        if !matches!(kind, [0x81, 0x00] | [0x88, 0xa8]) {
            break;
        }
        // The inner type has to be there as well.
        frame.get(start + TAG + ADDRESSES..start + TAG + ADDRESSES + 2)?;
        frame.copy_within(start..start + ADDRESSES, start + TAG);
        start += TAG;
    }
    let frame = frame.get_mut(start..)?;
    let destination = frame.get_mut(..6)?;
    let is_unicast = destination[0] & 1 == 0;
    if is_unicast {
        destination.copy_from_slice(&mac);
    }
    Some(frame)
}

fn create() -> Result<(File, String), TapError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        // std opens with O_CLOEXEC, so that no child process keeps the device alive.
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDriver,
        Some(libc::EPERM | libc::EACCES) => TapError::NotAllowed,
        _ => TapError::Refused { step: "open", source: error },
    })?;
    let mut request = Request::new(NAME);
    let made = request
        .flags(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)
        .call(&file, libc::TUNSETIFF);
    made.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => TapError::NotAllowed,
        _ => TapError::Refused { step: "make", source: error },
    })?;
    Ok((file, request.name()))
}

/// A socket for the requests that configure an interface (man 7 netdevice).
fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn refused(step: &'static str) -> impl Fn(io::Error) -> TapError {
    move |source| TapError::Refused { step, source }
}

fn setting(family: &str, interface: &str, key: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/{family}/conf/{interface}/{key}"))
}

fn read(family: &str, interface: &str, key: &str) -> Option<u8> {
    fs::read_to_string(setting(family, interface, key)).ok()?.trim().parse().ok()
}

/// A request about one interface, with what it sets or what came back.
struct Request(libc::ifreq);

impl Request {
    fn new(name: &str) -> Self {
        // SAFETY: all zero is a valid ifreq: an empty name and an empty value.
        let mut raw: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays 0 and ends the name.
        let room = raw.ifr_name.len() - 1;
        for (to, from) in raw.ifr_name[..room].iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Self(raw)
    }

    fn flags(&mut self, flags: libc::c_int) -> &mut Self {
        self.0.ifr_ifru.ifru_flags = flags as libc::c_short;
        self
    }

    fn mtu(&mut self, mtu: u16) -> &mut Self {
        self.0.ifr_ifru.ifru_mtu = libc::c_int::from(mtu);
        self
    }

    fn address(&mut self, address: Ipv4Addr) -> &mut Self {
        let mut data = [0; 14];
        // A sockaddr_in: two bytes of port, then the address.
        for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
            *to = from as libc::c_char;
        }
        let sa_family = libc::AF_INET as libc::sa_family_t;
        self.0.ifr_ifru.ifru_addr = libc::sockaddr { sa_family, sa_data: data };
        self
    }

    fn call(&mut self, fd: &impl AsRawFd, request: libc::Ioctl) -> io::Result<()> {
        // SAFETY: every request used here reads and writes one ifreq, and this one is ours.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut self.0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn name(&self) -> String {
        self.0.ifr_name.iter().take_while(|c| **c != 0).map(|c| char::from(*c as u8)).collect()
    }

    fn mac(&self) -> [u8; 6] {
        // SAFETY: the union is plain bytes, and all of it was set, to zero or by the kernel.
        let data = unsafe { self.0.ifr_ifru.ifru_hwaddr.sa_data };
        std::array::from_fn(|at| data[at] as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::UdpSocket;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::link::Forwards;

    const VIP: [u8; 4] = [10, 77, 0, 1];
    const CLIENT: [u8; 4] = [10, 9, 0, 2];
    const BEHIND: [u8; 4] = [10, 50, 0, 1];
    const INSIDE: &str = "UVS_TEST_INSIDE";

    /// Whether the test goes on here: inside a network namespace of its own, into which it is run
    /// again, and which is gone with it.
    fn in_namespace(test: &str) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let made = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) || !std::path::Path::new(TUN).exists() {
            eprintln!("skipped {test}: needs root (a network namespace) and {TUN}");
            return false;
        }
        let mut command = Command::new("unshare");
        command.arg("--net").arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        assert!(command.status().unwrap().success(), "{test} failed inside its namespace");
        false
    }

    fn run(line: &str) -> String {
        let output = Command::new("sh").args(["-ec", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A director with the interface `out` towards the client, `in` towards what is behind it,
    /// and a VIP on `lo`.
    fn director() -> Link {
        run("ip link set lo up
             ip link add out type veth peer name client
             ip link add in type veth peer name behind
             for i in out client in behind; do
                 echo 1 > /proc/sys/net/ipv6/conf/$i/disable_ipv6
                 ip link set $i up
             done
             ip address add 10.9.0.1/24 dev out
             ip address add 10.50.0.254/24 dev in
             ip address add 10.77.0.1/32 dev lo
             ip neigh add 10.50.0.1 lladdr 02:00:00:00:00:50 dev in
             echo 1 > /proc/sys/net/ipv4/ip_forward");
        let name = "out".to_owned();
        Link {
            name,
            ifindex: 0,
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![],
            forwards: Forwards::ALL,
        }
    }

    fn sum(bytes: &[u8]) -> u32 {
        bytes
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |b| u32::from(*b)))
            .sum()
    }

    fn checksum(mut sum: u32) -> [u8; 2] {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    /// A UDP frame from the client to port 5000 of `to`, as a NIC would have received it.
    fn frame(to: [u8; 4], tags: &[[u8; 4]], payload: &[u8]) -> Vec<u8> {
        let length = (8 + payload.len() as u16).to_be_bytes();
        let mut udp = [&[0x30, 0x39, 0x13, 0x88], &length[..], &[0, 0], payload].concat();
        let pseudo = sum(&CLIENT) + sum(&to) + 17 + sum(&length);
        let udp_sum = checksum(pseudo + sum(&udp));
        udp[6..8].copy_from_slice(&udp_sum);
        let total = (20 + udp.len() as u16).to_be_bytes();
        let mut ip =
            [&[0x45, 0], &total[..], &[0, 0, 0x40, 0, 64, 17, 0, 0], &CLIENT, &to].concat();
        let ip_sum = checksum(sum(&ip));
        ip[10..12].copy_from_slice(&ip_sum);
        [&[2; 12], tags.concat().as_slice(), &[8, 0], &ip, &udp].concat()
    }

    fn server() -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::from(VIP), 5000)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    fn heard(socket: &UdpSocket) -> Option<Vec<u8>> {
        let mut bytes = [0; 64];
        let (count, from) = socket.recv_from(&mut bytes).ok()?;
        assert_eq!(from.ip(), Ipv4Addr::from(CLIENT));
        Some(bytes[..count].to_vec())
    }

    fn exists(device: &str) -> bool {
        Command::new("ip").args(["link", "show", device]).output().unwrap().status.success()
    }

    #[test]
    fn the_host_takes_frames_as_from_its_interface() {
        if !in_namespace("port::tap::tests::the_host_takes_frames_as_from_its_interface") {
            return;
        }
        let link = director();
        let socket = server();
        let forwarded = || {
            let all = fs::read_to_string("/proc/net/dev").unwrap();
            let line = all.lines().find_map(|line| line.trim().strip_prefix("behind:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
        };
        for (all, out) in [(0, 0), (1, 0), (0, 1), (2, 0), (1, 2)] {
            run(&format!(
                "cd /proc/sys/net/ipv4/conf; echo {all} > all/rp_filter; echo 1 > default/rp_filter
                 echo {out} > out/rp_filter; echo 0 > in/rp_filter"
            ));
            let tap = Tap::open(&link).unwrap();
            assert_eq!(tap.unset(), &[] as &[String]);
            assert!(tap.give(&mut frame(VIP, &[], b"plain"), Offload::NONE));
            assert_eq!(heard(&socket).unwrap(), b"plain", "rp_filter all {all}, out {out}");
            let tags = [[0x88, 0xa8, 0, 7], [0x81, 0, 0, 8]];
            assert!(tap.give(&mut frame(VIP, &tags, b"tagged"), Offload::NONE));
            assert_eq!(heard(&socket).unwrap(), b"tagged");
            // 32,772 bytes with its tags: beyond an i16, and not without them.
            assert!(tap.give(&mut frame(VIP, &tags, &[7; 32_722]), Offload::NONE));
            assert_eq!(heard(&socket).unwrap(), [7; 64]);

            let before = forwarded();
            assert!(tap.give(&mut frame(BEHIND, &[], b"forward"), Offload::NONE));
            assert!(
                (0..100).any(|_| {
                    std::thread::sleep(Duration::from_millis(5));
                    forwarded() == before + 1
                }),
                "rp_filter all {all}, out {out}"
            );
        }
    }

    #[test]
    fn the_host_still_checks_checksums_and_its_forwarding_switch() {
        let test = "port::tap::tests::the_host_still_checks_checksums_and_its_forwarding_switch";
        if !in_namespace(test) {
            return;
        }
        let link = director();
        let socket = server();
        run("echo 0 > /proc/sys/net/ipv4/conf/out/forwarding");
        let tap = Tap::open(&link).unwrap();
        let mut broken = frame(VIP, &[], b"broken");
        *broken.last_mut().unwrap() ^= 1;
        assert!(tap.give(&mut broken, Offload::NONE));
        assert_eq!(heard(&socket), None);
        assert_eq!(read("ipv4", tap.name(), "forwarding"), Some(0));
        let routes = run("ip route show table all");
        assert!(!routes.contains("127.0.0.0/8 dev uvs"), "no network route: {routes}");
        assert!(!run(&format!("ip -6 address show dev {}", tap.name())).contains("inet6"));
    }

    #[test]
    fn nothing_is_left_behind() {
        if !in_namespace("port::tap::tests::nothing_is_left_behind") {
            return;
        }
        let link = if exists("out") {
            Link {
                name: "out".into(),
                ifindex: 0,
                mac: [2; 6],
                mtu: 1500,
                addresses: vec![],
                forwards: Forwards::ALL,
            }
        } else {
            director()
        };
        let tap = Tap::open(&link).unwrap();
        if std::env::var_os("UVS_TEST_HOLD").is_some() {
            println!("holding {}", tap.name());
            std::thread::sleep(Duration::from_secs(30));
            return;
        }
        let name = tap.name().to_owned();
        assert!(exists(&name));
        drop(tap);
        assert!(!exists(&name));

        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "port::tap::tests::nothing_is_left_behind", "--nocapture"]);
        let mut held = command.env("UVS_TEST_HOLD", "1").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
        let line = lines.find_map(|line| line.unwrap().split("holding ").nth(1).map(str::to_owned));
        let name = line.unwrap();
        assert!(exists(&name));
        // SIGKILL: the process has no say in what happens then.
        held.kill().unwrap();
        held.wait().unwrap();
        assert!(!exists(&name));
    }

    #[test]
    fn what_is_no_ethernet_frame_is_refused() {
        let mac = [2, 0, 0, 0, 0, 1];
        for length in 0..14 {
            assert_eq!(addressed(&mut vec![0x81; length], mac), None);
        }
        let mut tag_only = [[0; 12].as_slice(), &[0x81, 0, 0, 1]].concat();
        assert_eq!(addressed(&mut tag_only, mac), None);
        let mut multicast = [[1; 12].as_slice(), &[8, 0]].concat();
        assert_eq!(addressed(&mut multicast, mac).unwrap()[..6], [1; 6]);
        let mut three = [[2; 12].as_slice(), &[0x81, 0, 0, 1].repeat(3), &[8, 0]].concat();
        assert_eq!(addressed(&mut three, mac).unwrap()[12..], [0x81, 0, 0, 1, 8, 0]);
    }
}
