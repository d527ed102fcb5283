//! The steering program: which frames come to uvs, and which stay with the kernel.
//!
//! The program is `steer.bpf.c`; this side loads it once for all links, hangs it up and keeps its
//! tables at what is served.

mod marks;

use std::collections::HashSet;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object, ObjectBuilder};

use super::OpenError;
use super::hook::{Filter, Heart, Hook, XdpMode, tcx, xdp};
use crate::link::{Link, LinkId};
use crate::marks::Marks;
pub use crate::service::Endpoint;
use marks::MarkRules;

/// How often the kernel is asked again for the memory of a map's entry, and after which pause.
const MEMORY_TRIES: u32 = 100;
const MEMORY_PAUSE: Duration = Duration::from_millis(5);

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// Slots of a link in the socket map: more queues than a link can have workers.
pub(super) const QUEUES_PER_LINK: u32 = 256;

/// `struct address` of the program, as it stands on the wire.
type AddressKey = [u8; 16];

/// `struct endpoint` of the program.
type EndpointKey = [u8; 24];

impl Endpoint {
    fn key(&self) -> EndpointKey {
        let mut key = [0; 24];
        key[..16].copy_from_slice(&self.octets());
        key[16..18].copy_from_slice(&self.port.to_be_bytes());
        key[18] = self.protocol;
        key
    }

    fn octets(&self) -> AddressKey {
        self.address.to_bits().to_be_bytes()
    }
}

/// A firewall mark that has a service, and whether that is of IPv6 packets.
pub type ServedMark = (u32, bool);

/// What uvs serves, and so what comes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steered {
    /// Virtual services: what clients send to.
    pub services: HashSet<Endpoint>,
    /// Real servers behind NAT: what their replies come from.
    pub servers: HashSet<Endpoint>,
    /// Where tunnels to real servers end.
    pub tunnels: HashSet<Endpoint>,
    /// Firewall marks: which packets have which.
    pub marks: Arc<Marks>,
    /// The marks that have a service: what clients send is also what has one of these.
    pub served: HashSet<ServedMark>,
}

/// The tables were not brought to what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// More than the program's table holds.
    #[error("{wanted} {what} are more than the steering program's {room}")]
    Full {
        /// The table.
        what: &'static str,
        /// Entries asked for.
        wanted: usize,
        /// Entries it holds.
        room: usize,
    },
    /// The kernel refused a change.
    #[error("the steering program's table of {what} cannot be changed: {source}")]
    Kernel {
        /// The table.
        what: &'static str,
        /// The kernel's answer.
        source: libbpf_rs::Error,
    },
}

/// Which programs of the object a port mode needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    Xdp,
    /// In place of `Xdp`, for frames in several parts.
    XdpFrags,
    Raw,
}

impl Programs {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Xdp => &["uvs_xdp"],
            Self::XdpFrags => &["uvs_xdp_frags"],
            Self::Raw => &["uvs_raw", "uvs_tcx", "uvs_tc"],
        }
    }
}

/// The loaded program, its tables, and what holds it on the links; dropped, it is gone.
#[derive(Debug)]
pub struct Steering {
    hooks: Vec<Hook>,
    heart: Option<Heart>,
    programs: Vec<(&'static str, OwnedFd)>,
    services: Table<24>,
    servers: Table<24>,
    vips: Table<16>,
    nat_servers: Table<16>,
    tunnels: Table<24>,
    marks: MarkRules,
    links: MapHandle,
    /// Only for AF_XDP: a kernel that is built without it has no such map.
    xsks: Option<MapHandle>,
    heartbeat: MapHandle,
}

impl Steering {
    /// Loads the programs of a mode; nothing is steered before [`update`](Self::update).
    pub(super) fn load(programs: Programs) -> Result<Self, OpenError> {
        // libbpf would write to stderr what our errors say as well.
        libbpf_rs::set_print(None);
        let mut object = ObjectBuilder::default().name("uvs")?.open_memory(OBJECT)?;
        for mut program in object.progs_mut() {
            let wanted = programs.names().iter().any(|name| program.name() == *name);
            program.set_autoload(wanted);
        }
        for mut map in object.maps_mut() {
            if map.name() == "xsks" {
                map.set_autocreate(programs != Programs::Raw)?;
            }
        }
        let object = object.load()?;
        Ok(Self {
            hooks: Vec::new(),
            heart: None,
            programs: descriptors(&object, programs)?,
            services: Table::new("services", &object)?,
            servers: Table::new("servers", &object)?,
            vips: Table::new("vips", &object)?,
            nat_servers: Table::new("nat_servers", &object)?,
            tunnels: Table::new("tunnels", &object)?,
            marks: MarkRules::new(&object)?,
            links: map(&object, "links")?,
            xsks: match programs {
                Programs::Xdp | Programs::XdpFrags => Some(map(&object, "xsks")?),
                Programs::Raw => None,
            },
            heartbeat: map(&object, "heartbeat")?,
        })
    }

    /// Brings the tables to `wanted`: first what is new, then what is gone, so that a frame that
    /// both serve is steered all the time.
    ///
    /// # Errors
    ///
    /// A table too small (nothing is changed then), or the kernel's refusal (a later update
    /// starts from what was done).
    pub fn update(&mut self, wanted: &Steered) -> Result<(), SteerError> {
        let services: HashSet<_> = wanted.services.iter().map(Endpoint::key).collect();
        let servers: HashSet<_> = wanted.servers.iter().map(Endpoint::key).collect();
        let vips: HashSet<_> = wanted.services.iter().map(Endpoint::octets).collect();
        let nat_servers: HashSet<_> = wanted.servers.iter().map(Endpoint::octets).collect();
        let tunnels: HashSet<_> = wanted.tunnels.iter().map(Endpoint::key).collect();
        self.services.check(&services)?;
        self.tunnels.check(&tunnels)?;
        self.servers.check(&servers)?;
        self.marks.check(wanted)?;

        self.services.add(&services)?;
        self.servers.add(&servers)?;
        self.vips.add(&vips)?;
        self.nat_servers.add(&nat_servers)?;
        self.tunnels.add(&tunnels)?;
        self.marks.update(wanted)?;
        self.services.keep(&services)?;
        self.servers.keep(&servers)?;
        self.vips.keep(&vips)?;
        self.tunnels.keep(&tunnels)?;
        self.nat_servers.keep(&nat_servers)
    }

    /// Tells the program which link an interface is.
    fn number(&self, link: &Link, id: LinkId) -> io::Result<()> {
        let slot = u32::from(id.0) * QUEUES_PER_LINK;
        let (key, value) = (link.ifindex.to_ne_bytes(), slot.to_ne_bytes());
        self.links.update(&key, &value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Hangs the XDP program on a link.
    pub(super) fn attach_xdp(&mut self, link: &Link, id: LinkId, mode: XdpMode) -> io::Result<()> {
        self.number(link, id)?;
        // It is the only program of its mode.
        let hook = xdp(self.programs[0].1.as_fd(), link.ifindex, mode)?;
        self.hooks.push(hook);
        Ok(())
    }

    /// Lets the frames of a link's queue go to the AF_XDP socket `fd`.
    pub(super) fn connect(&self, id: LinkId, queue: u32, fd: RawFd) -> io::Result<()> {
        let slot = u32::from(id.0) * QUEUES_PER_LINK + queue;
        let no_map = || io::Error::other("the steering program was loaded without AF_XDP");
        self.xsks
            .as_ref()
            .ok_or_else(no_map)?
            .update(&slot.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// The program that picks our frames on a packet socket.
    pub(super) fn socket_filter(&self) -> BorrowedFd<'_> {
        self.program("uvs_raw")
    }

    /// Keeps our frames from the kernel behind the packet sockets of a link, and says by what:
    /// a tcx link where the kernel has it, else a tc filter.
    pub(super) fn shut_ingress(&mut self, link: &Link, id: LinkId) -> io::Result<&'static str> {
        self.number(link, id)?;
        match tcx(self.program("uvs_tcx"), link.ifindex) {
            Ok(hook) => {
                self.hooks.push(hook);
                Ok("tcx link")
            }
            // Kernels before 6.6 do not know the place, and say so in one of these ways.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                self.shut_by_filter(link)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn shut_by_filter(&mut self, link: &Link) -> io::Result<&'static str> {
        if self.heart.is_none() {
            self.heart = Some(Heart::start(
                MapHandle::try_from(&self.heartbeat).map_err(io::Error::other)?,
            )?);
        }
        let hook = Filter::attach(self.program("uvs_tc"), link.ifindex)?;
        self.hooks.push(hook);
        Ok("tc filter")
    }

    fn program(&self, name: &str) -> BorrowedFd<'_> {
        let found = self.programs.iter().find(|(program, _)| *program == name);
        found.expect("asked for by the mode that loaded it").1.as_fd()
    }
}

fn descriptors(
    object: &Object,
    programs: Programs,
) -> Result<Vec<(&'static str, OwnedFd)>, OpenError> {
    let mut found = Vec::new();
    for program in object.progs_mut() {
        if let Some(name) = programs.names().iter().find(|name| program.name() == **name) {
            let fd = program.as_fd().try_clone_to_owned();
            found.push((*name, fd.map_err(|e| OpenError::kernel("bpf", "keeping a program", e))?));
        }
    }
    Ok(found)
}

fn map(object: &Object, name: &str) -> Result<MapHandle, OpenError> {
    let found = object.maps().find(|map| map.name() == name);
    Ok(MapHandle::try_from(&found.expect("steer.bpf.c has every map that is asked for"))?)
}

/// A set in the kernel, and what is in it.
#[derive(Debug)]
struct Table<const N: usize> {
    what: &'static str,
    map: MapHandle,
    room: usize,
    keys: HashSet<[u8; N]>,
}

impl<const N: usize> Table<N> {
    fn new(what: &'static str, object: &Object) -> Result<Self, OpenError> {
        let map = map(object, what)?;
        let room = map.max_entries() as usize;
        Ok(Self { what, map, room, keys: HashSet::new() })
    }

    fn check(&self, wanted: &HashSet<[u8; N]>) -> Result<(), SteerError> {
        // Old and new are in there together for a moment.
        let both = wanted.union(&self.keys).count();
        if both > self.room {
            return Err(SteerError::Full { what: self.what, wanted: both, room: self.room });
        }
        Ok(())
    }

    fn add(&mut self, wanted: &HashSet<[u8; N]>) -> Result<(), SteerError> {
        for key in minus(wanted, &self.keys) {
            self.insert(&key).map_err(|source| SteerError::Kernel { what: self.what, source })?;
            self.keys.insert(key);
        }
        Ok(())
    }

    /// Puts a key into the map. The kernel fetches memory for such a map in the background, so
    /// that many insertions at once may find none for a moment.
    fn insert(&self, key: &[u8; N]) -> Result<(), libbpf_rs::Error> {
        let mut tries = 0;
        loop {
            match self.map.update(key, &[1], MapFlags::ANY) {
                Err(error) if error.kind() == ErrorKind::OutOfMemory && tries < MEMORY_TRIES => {
                    tries += 1;
                    std::thread::sleep(MEMORY_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn keep(&mut self, wanted: &HashSet<[u8; N]>) -> Result<(), SteerError> {
        for key in minus(&self.keys, wanted) {
            self.map
                .delete(&key)
                .map_err(|source| SteerError::Kernel { what: self.what, source })?;
            self.keys.remove(&key);
        }
        Ok(())
    }
}

fn minus<K: Copy + Eq + Hash>(these: &HashSet<K>, those: &HashSet<K>) -> Vec<K> {
    these.difference(those).copied().collect()
}

#[cfg(test)]
#[path = "../../tests/lab/mod.rs"]
mod lab;

#[cfg(test)]
mod tests {
    use super::*;

    use lab::{CLIENT, NOT_SERVED, Net, SERVED, VIP};
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::time::Duration;

    #[test]
    fn an_endpoint_is_keyed_as_it_stands_on_the_wire() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let endpoint = Endpoint { protocol: 6, address: address.into(), port: 0x1234 };
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let key = [&mapped[..], &[0x12, 0x34, 6, 0, 0, 0, 0, 0]].concat();
        assert_eq!(endpoint.key().as_slice(), key);
    }

    /// linux/pkt_cls.h
    pub(super) const TC_ACT_SHOT: i32 = 2;

    fn steered() -> Steered {
        let endpoints = |all: Vec<(u8, IpAddr, u16)>| {
            let endpoint = |(protocol, address, port): (u8, IpAddr, u16)| Endpoint {
                protocol,
                address: address.into(),
                port,
            };
            all.into_iter().map(endpoint).collect()
        };
        let (services, servers) = (endpoints(lab::services()), endpoints(lab::servers()));
        let tunnels = endpoints(lab::tunnels());
        Steered { services, servers, tunnels, ..Steered::default() }
    }

    /// What a program returns for a frame (BPF_PROG_TEST_RUN).
    pub(super) fn verdict(program: BorrowedFd<'_>, frame: &[u8]) -> i32 {
        use std::os::fd::AsRawFd;
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ..Default::default()
        };
        // SAFETY: the frame outlives the call and has the size that is told.
        let run = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
        assert_eq!(run, 0);
        options.retval as i32
    }

    #[test]
    fn the_programs_pick_the_same_frames() {
        if lab::skip() {
            return;
        }
        let mut steering = Steering::load(Programs::Raw).unwrap();
        steering.update(&steered()).unwrap();
        for (name, frame, ours) in lab::cases() {
            let dropped = if ours { TC_ACT_SHOT } else { -1 };
            assert_eq!(verdict(steering.program("uvs_tcx"), &frame), dropped, "{name}");
            // No heart beats.
            assert_eq!(verdict(steering.program("uvs_tc"), &frame), -1, "{name}");
        }
    }

    /// linux/bpf.h
    const XDP_PASS: i32 = 2;
    const XDP_REDIRECT: i32 = 4;

    /// What an XDP program returns for a frame of which only `first` bytes are in one piece; `None`
    /// where the kernel cannot be asked that (Linux 6.18).
    fn verdict_in_parts(program: BorrowedFd<'_>, frame: &[u8], first: usize) -> Option<i32> {
        use std::os::fd::AsRawFd;
        let context = libbpf_sys::xdp_md { data_end: first as u32, ..Default::default() };
        let mut options = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ctx_in: (&raw const context).cast(),
            ctx_size_in: size_of::<libbpf_sys::xdp_md>() as u32,
            ..Default::default()
        };
        // SAFETY: the frame and the context outlive the call and have the sizes that are told.
        let run = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) };
        assert!(run == 0 || run == -libc::EINVAL, "{run}");
        (run == 0).then_some(options.retval as i32)
    }

    /// Steering whose frames on the loopback interface find a socket.
    fn to_a_socket(programs: Programs) -> (Steering, OwnedFd) {
        use std::os::fd::{AsRawFd, FromRawFd};
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: a new descriptor, owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut steering = Steering::load(programs).unwrap();
        steering.update(&steered()).unwrap();
        let (key, slot) = (lab::ifindex("lo").to_ne_bytes(), 0u32.to_ne_bytes());
        steering.links.update(&key, &slot, MapFlags::ANY).unwrap();
        steering.connect(LinkId(0), 0, socket.as_raw_fd()).unwrap();
        (steering, socket)
    }

    #[test]
    fn frames_in_parts_are_picked_as_whole_ones() {
        if lab::skip() {
            return;
        }
        let (whole, _socket) = to_a_socket(Programs::Xdp);
        let (frags, _socket) = to_a_socket(Programs::XdpFrags);
        for (name, frame, ours) in lab::cases() {
            let picked = if ours { XDP_REDIRECT } else { XDP_PASS };
            assert_eq!(verdict(whole.program("uvs_xdp"), &frame), picked, "{name}");
            let program = frags.program("uvs_xdp_frags");
            assert_eq!(verdict(program, &frame), picked, "{name}");
            for first in [14, 30, 40] {
                let parted = verdict_in_parts(program, &frame, first.min(frame.len()));
                assert_eq!(parted.unwrap_or(picked), picked, "{name}, {first} bytes first");
            }
        }
    }

    #[test]
    fn an_update_adds_and_removes_and_refuses_too_much() {
        if lab::skip() {
            return;
        }
        let mut steering = Steering::load(Programs::Raw).unwrap();
        let frame = |port| lab::request(port, 0);
        steering.update(&steered()).unwrap();
        assert_eq!(verdict(steering.program("uvs_tcx"), &frame(SERVED)), TC_ACT_SHOT);
        let other = Endpoint { protocol: 17, address: VIP.into(), port: NOT_SERVED };
        let services = HashSet::from([other]);
        steering.update(&Steered { services, ..Steered::default() }).unwrap();
        assert_eq!(verdict(steering.program("uvs_tcx"), &frame(SERVED)), -1);
        assert_eq!(verdict(steering.program("uvs_tcx"), &frame(NOT_SERVED)), TC_ACT_SHOT);

        let endpoint = |port| Endpoint { protocol: 6, address: CLIENT.into(), port };
        let services = (0..=u16::MAX).map(endpoint).collect();
        let error = steering.update(&Steered { services, ..Steered::default() }).unwrap_err();
        assert_eq!(error.to_string(), "65537 services are more than the steering program's 65536");
        assert_eq!(verdict(steering.program("uvs_tcx"), &frame(NOT_SERVED)), TC_ACT_SHOT);
    }

    #[test]
    fn the_filter_of_older_kernels_stops_and_goes() {
        if lab::skip() {
            return;
        }
        let net = Net::new(1, 1);
        let peer = net.peer(0);
        net.in_director(|| {
            let socket = UdpSocket::bind((VIP, SERVED)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let heard = || {
                peer.send(&lab::request(SERVED, 0));
                socket.recv(&mut [0; 64]).is_ok()
            };
            let link = Link {
                name: "d0".to_owned(),
                ifindex: lab::ifindex("d0"),
                mac: [0; 6],
                mtu: 1500,
                addresses: Vec::new(),
                forwards: crate::link::Forwards::ALL,
            };
            let qdiscs = || lab::run(&format!("tc -n {} qdisc show dev d0", net.director));
            let filtering = || {
                let mut steering = Steering::load(Programs::Raw).unwrap();
                steering.update(&steered()).unwrap();
                assert_eq!(steering.shut_by_filter(&link).unwrap(), "tc filter");
                steering
            };
            let steering = filtering();
            assert!(!heard());
            drop(steering);
            assert!(heard() && !qdiscs().contains("clsact"), "{}", qdiscs());

            // As after kill -9: the filter stays, the heart does not beat.
            let mut killed = filtering();
            std::mem::forget(killed.hooks.pop());
            drop(killed);
            assert!(qdiscs().contains("clsact"));
            assert!(lab::until(heard), "a stale filter still drops");
            let next = filtering();
            assert!(!heard());
            drop(next);
            assert!(heard());
        });
    }
}
