//! Tunnels taken apart for servers whose kernel has no devices for it: from raw sockets into a TUN
//! device, and so to whoever listens on the VIP.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use clap::Args;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketType, bind, recvfrom, socket, sockopt,
};

use crate::servers::say_ready;
use crate::tunnel::Outer;
use crate::{Error, Tunnel};

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Room for the datagrams of a burst, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What `lab decap` is told.
#[derive(Clone, Debug, Args)]
pub struct DecapJob {
    /// The TUN device to make.
    #[arg(long)]
    pub tun: String,
    /// What is taken apart, and nothing else: ipip, gre, gre-csum, gue:PORT, gue-csum:PORT.
    #[arg(long)]
    pub tunnel: Tunnel,
    /// The address to which the tunnel goes.
    #[arg(long)]
    pub local: IpAddr,
}

impl DecapJob {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { tun, tunnel, local } = self;
        let options = [
            ("--tun", tun.clone()),
            ("--tunnel", tunnel.to_string()),
            ("--local", local.to_string()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        std::iter::once("decap".to_owned()).chain(options).collect()
    }
}

/// Unpacks until it is killed; prints `ready` when the device is there (and still down).
pub fn decapsulate(job: &DecapJob) -> Result<(), Error> {
    let doing = format!("make the TUN device {}", job.tun);
    let tun = open_tun(&job.tun).map_err(Error::socket(doing))?;
    let doing = format!("open raw sockets for {}", job.tunnel);
    let _quiet = listener(job).map_err(Error::socket(doing.clone()))?;
    let open = |protocol: &Protocol| Ok((*protocol, open_raw(job.local, *protocol)?));
    let sockets: io::Result<Vec<_>> = job.tunnel.protocols().iter().map(open).collect();
    let sockets = sockets.map_err(Error::socket(doing))?;
    say_ready()?;
    std::thread::scope(|scope| {
        let unpack = |(protocol, socket)| unpack(job, protocol, &socket, &tun);
        let threads: Vec<_> =
            sockets.into_iter().map(|socket| scope.spawn(move || unpack(socket))).collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it does not panic"));
        ends.collect()
    })
}

/// Who has the port of a GUE tunnel: the kernel would else say that nobody has it. Nobody reads
/// from it.
fn listener(job: &DecapJob) -> io::Result<Option<UdpSocket>> {
    match job.tunnel {
        Tunnel::Gue { port, .. } => UdpSocket::bind((job.local, port)).map(Some),
        _ => Ok(None),
    }
}

/// A raw socket that gets whole packets of this protocol to `local`, put together if they came in
/// fragments.
fn open_raw(local: IpAddr, protocol: Protocol) -> io::Result<OwnedFd> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::RAW, Some(protocol))?;
    sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    bind(&socket, &SocketAddr::new(local, 0))?;
    Ok(socket)
}

/// Takes apart what comes to one socket.
fn unpack(
    job: &DecapJob,
    protocol: Protocol,
    socket: &OwnedFd,
    mut tun: &File,
) -> Result<(), Error> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (len, src) = match recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _, src)) => (len, src),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                let doing = format!("receive {}", job.tunnel);
                return Err(Error::Socket { doing, source: error.into() });
            }
        };
        let Some(src) = src.and_then(|src| SocketAddr::try_from(src).ok()) else { continue };
        let outer = Outer { protocol, src: src.ip(), dst: job.local };
        let inside = payload(job.local, &buffer[..len])
            .and_then(|payload| job.tunnel.inside(outer, payload));
        // A device that is down refuses the packet, as it would from the wire.
        inside.into_iter().for_each(|inner| drop(tun.write(inner)));
    }
}

/// What follows the outer IP header: of IPv4 a raw socket gets that too, of IPv6 it does not.
fn payload(local: IpAddr, packet: &[u8]) -> Option<&[u8]> {
    match local {
        IpAddr::V4(_) => packet.get(usize::from(packet.first()? & 15) * 4..),
        IpAddr::V6(_) => Some(packet),
    }
}

/// Makes a TUN device in the calling thread's namespace and gives the file through which bare IP
/// packets come and go; the device is gone when the file is closed.
///
/// Fails without CAP_NET_ADMIN, without /dev/net/tun, and for a name that is taken or too long.
pub fn open_tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(CLONE_DEVICE)?;
    // SAFETY: an ifreq is plain bytes for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name has 1 to 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one ifreq at the pointer.
    let done: c_int = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}
