//! A veth pair in two network namespaces without a name, which go with the process however it
//! ends.
//!
//! ```text
//!   client's namespace           director's namespace
//!   generator -> c0 ================ d0 -> worker
//!        sink <-                        <-
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::services::{DIRECTOR_MAC, ROUTER_MAC};

/// The client's interface; behind it are all clients and servers.
pub const CLIENT: &str = "c0";
/// The director's interface.
pub const DIRECTOR: &str = "d0";

/// The client's namespace; the director's is that of the thread that made both.
#[derive(Debug)]
pub struct Client(File);

/// Makes both namespaces and the pair, and leaves the calling thread in the director's.
///
/// # Errors
///
/// The kernel's, without CAP_SYS_ADMIN; `ip` cannot be run, or says no.
pub fn make() -> io::Result<Client> {
    enter_new()?;
    let client = Client(File::open("/proc/thread-self/ns/net")?);
    enter_new()?;
    let (ours, theirs) = (text(DIRECTOR_MAC), text(ROUTER_MAC));
    let there = format!("/proc/{}/fd/{}", std::process::id(), client.0.as_raw_fd());
    ip(&format!(
        "link add {DIRECTOR} address {ours} numrxqueues 1 numtxqueues 1 type veth \
         peer name {CLIENT} address {theirs} numrxqueues 1 numtxqueues 1 netns {there}"
    ))?;
    up(DIRECTOR)?;
    Ok(client)
}

impl Client {
    /// Takes the calling thread there, and brings the interface up.
    ///
    /// # Errors
    ///
    /// As [`make`].
    pub fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        up(CLIENT)
    }
}

/// The number of an interface of this thread's namespace.
///
/// # Errors
///
/// There is none of this name.
pub fn number(name: &str) -> io::Result<u32> {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}

/// Puts the calling thread, and the processes that it starts, into a namespace of its own.
fn enter_new() -> io::Result<()> {
    // SAFETY: of what a thread can stop sharing only the network is named here; memory and
    // descriptors stay as they are.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

fn up(name: &str) -> io::Result<()> {
    // Without an address, so that the kernel does not speak there.
    ip(&format!("link set {name} addrgenmode none"))?;
    ip(&format!("link set {name} up"))
}

fn ip(line: &str) -> io::Result<()> {
    let output = Command::new("ip").args(line.split_whitespace()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {line}: {}", said.trim())))
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
