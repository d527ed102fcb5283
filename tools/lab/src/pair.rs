//! Two directors side by side, which look the same from outside: one for the kernel's IPVS, one
//! for uvs, and a namespace that holds the other ends of their cables.
//!
//! ```text
//!            wires                                  wires
//!   kernel-c ------ c1 [kernel] r1 ------ kernel-r
//!      uvs-c ------ c1  [uvs]   r1 ------ uvs-r
//! ```
//!
//! What is sent into a cable is what the client's router or a server sends. Both directors have the
//! same addresses, IP's and Ethernet's, so that the same frame is for either and what leaves them
//! can be compared byte for byte. Nobody answers in `wires`: the neighbours are told.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{command_in, ip_batch, run};
use crate::grave::{self, Undertaker};
use crate::{Error, LabName};

/// The directors' Ethernet address towards the clients.
pub const CLIENT_SIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
/// The directors' Ethernet address towards the servers.
pub const SERVER_SIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xe1];
/// The Ethernet address of the clients' router.
pub const CLIENTS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc0];

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// The kernel's.
    Kernel,
    /// uvs's.
    Uvs,
}

impl Twin {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Kernel, Self::Uvs];

    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Uvs => "uvs",
        }
    }

    /// The ends of its cables in the namespace of wires, the clients' first.
    pub fn wires(self) -> [String; 2] {
        ["c", "r"].map(|end| format!("{}-{end}", self.name()))
    }
}

/// The Ethernet address of the server of this number, from 0.
pub fn server_mac(number: usize) -> [u8; 6] {
    let [high, low] = (number as u16).to_be_bytes();
    [2, 0, 0, 1, high, low]
}

/// The two directors; all of it goes when this is dropped, or when the process dies.
#[derive(Debug)]
pub struct Pair {
    name: LabName,
    undertaker: Option<Undertaker>,
}

impl Pair {
    /// Makes the two, for these virtual addresses and servers. `program` has the lab's own tools.
    ///
    /// # Errors
    ///
    /// What the network cannot be made without, or of.
    pub fn up(program: &Path, vips: &[IpAddr], servers: &[IpAddr]) -> Result<Self, Error> {
        crate::network::may_make()?;
        grave::sweep()?;
        let name = LabName::next();
        grave::remove(name)?;
        let undertaker = Some(Undertaker::start(program, name)?);
        // From here on an error takes down what stands, by dropping `pair`.
        let pair = Self { name, undertaker };
        pair.make(vips, servers)?;
        Ok(pair)
    }

    fn make(&self, vips: &[IpAddr], servers: &[IpAddr]) -> Result<(), Error> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(Error::file(folder))?;
        let wires = self.wires();
        let directors = Twin::BOTH.map(|twin| self.namespace(twin));
        let all = [&directors[..], std::slice::from_ref(&wires)].concat();
        ip_batch(None, &all.iter().map(|it| format!("netns add {it}")).collect::<Vec<_>>())?;
        for namespace in &all {
            run(command_in(namespace, "sysctl").arg("-eqw").args(SYSCTLS))?;
        }
        run(command_in(&wires, "sysctl").args(["-eqw", "net.ipv6.conf.default.disable_ipv6=1"]))?;
        for twin in Twin::BOTH {
            self.lay(twin)?;
            ip_batch(Some(&self.namespace(twin)), &set_up(vips, servers))?;
        }
        Ok(())
    }

    /// Lays a director's two cables.
    fn lay(&self, twin: Twin) -> Result<(), Error> {
        let (wires, director) = (self.wires(), self.namespace(twin));
        let ends = [("c1", CLIENT_SIDE_MAC), ("r1", SERVER_SIDE_MAC)];
        for (wire, (end, mac)) in twin.wires().iter().zip(ends) {
            let mac = text(mac);
            let link = format!(
                "link add {wire} netns {wires} type veth peer name {end} netns {director} \
                 address {mac}"
            );
            ip_batch(None, &[link])?;
            for (namespace, interface) in [(&wires, &wire[..]), (&director, end)] {
                let up = format!("link set {interface} up");
                ip_batch(Some(namespace), &[up])?;
                // No network card finishes checksums and cuts segments between them.
                let plain =
                    ["-K", interface, "tx", "off", "gso", "off", "tso", "off", "gro", "off"];
                run(command_in(namespace, "ethtool").args(plain))?;
            }
        }
        Ok(())
    }

    /// A folder that goes with the pair.
    pub fn folder(&self) -> PathBuf {
        self.name.folder()
    }

    /// The name of a director's namespace.
    pub fn namespace(&self, twin: Twin) -> String {
        format!("{}-{}", self.name, twin.name())
    }

    /// The name of the namespace with the other ends of the cables.
    pub fn wires(&self) -> String {
        format!("{}-wires", self.name)
    }

    /// A command that will run on a director.
    pub fn command(&self, twin: Twin, program: &Path) -> Command {
        command_in(&self.namespace(twin), &program.display().to_string())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(undertaker) = self.undertaker.take()
            && grave::remove(self.name).is_ok()
        {
            undertaker.dismiss();
        }
    }
}

/// Runs `work` on a thread that lives in a namespace; threads that it starts live there too.
///
/// # Errors
///
/// When there is no such namespace, or it may not be entered.
pub fn inside<R: Send>(namespace: &str, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
    let path = Path::new("/run/netns").join(namespace);
    let file = File::open(&path).map_err(Error::file(&path))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let network = Some(LinkNameSpaceType::Network);
            let moved = move_into_link_name_space(file.as_fd(), network);
            moved.map_err(|error| Error::file(&path)(error.into())).map(|()| work())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Nothing is filtered, limited or said that no frame asked for.
const SYSCTLS: [&str; 14] = [
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.default.send_redirects=0",
    "net.ipv4.ip_forward=1",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.forwarding=1",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.default.accept_ra=0",
    "net.ipv6.conf.default.router_solicitations=0",
    // No link-local address, and nothing that is said for its sake.
    "net.ipv6.conf.default.addr_gen_mode=1",
    "net.ipv4.igmp_link_local_mcast_reports=0",
];

/// The batch that gives a director its addresses, routes and neighbours.
fn set_up(vips: &[IpAddr], servers: &[IpAddr]) -> Vec<String> {
    let router = text(CLIENTS_MAC);
    let mut lines: Vec<String> = [
        "link set lo up",
        "address add 192.168.1.254/24 dev c1",
        "address add fd00:1::254/64 dev c1 nodad",
        "address add 10.0.1.254/24 dev r1",
        "address add fd00:2::254/64 dev r1 nodad",
        "route add default via 192.168.1.1",
        "route add ::/0 via fd00:1::1",
    ]
    .map(str::to_owned)
    .into();
    for router_address in ["192.168.1.1", "fd00:1::1"] {
        let neighbour = format!("neighbour add {router_address} lladdr {router}");
        lines.push(format!("{neighbour} nud permanent dev c1"));
    }
    let whole = |address: &IpAddr| if address.is_ipv4() { 32 } else { 128 };
    for vip in vips {
        let nodad = if vip.is_ipv6() { " nodad" } else { "" };
        lines.push(format!("address add {vip}/{} dev lo{nodad}", whole(vip)));
    }
    for (number, server) in servers.iter().enumerate() {
        let mac = text(server_mac(number));
        lines.push(format!("route replace {server}/{} dev r1", whole(server)));
        lines.push(format!("neighbour add {server} lladdr {mac} nud permanent dev r1"));
    }
    lines
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
