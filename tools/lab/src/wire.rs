//! The end of a cable, to send whole frames into it and see what comes out.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::Error;

/// The longest frame that is read.
const LONGEST: usize = 1 << 16;

/// What a burst of frames needs before anybody looks, in bytes.
const ROOM: usize = 8 << 20;

/// A packet socket on one interface of the namespace in which it is opened. It does not see what it
/// sends itself.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or no permission.
    pub fn open(interface: &str) -> Result<Self, Error> {
        let opened = open(interface).map_err(Error::socket(format!("open {interface}")))?;
        Ok(Self { socket: opened, buffer: vec![0; LONGEST] })
    }

    /// Sends a frame; false when the queue below is full.
    ///
    /// # Errors
    ///
    /// Those of `send`, as when the interface is gone.
    pub fn send(&self, frame: &[u8]) -> Result<bool, Error> {
        match rustix::net::send(&self.socket, frame, SendFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(false),
            Err(error) => Err(Error::socket("send a frame")(error.into())),
        }
    }

    /// The next frame that has come, if one has.
    pub fn receive(&mut self) -> Option<&[u8]> {
        let (count, _) =
            rustix::net::recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT).ok()?;
        Some(&self.buffer[..count])
    }
}

fn open(interface: &str) -> io::Result<OwnedFd> {
    let all = u32::from((libc::ETH_P_ALL as u16).to_be());
    let protocol = Protocol::from_raw(all.try_into().expect("it is not 0"));
    let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    let index = name_to_index(&socket, interface)?;
    rustix::net::bind(&socket, &Interface::of(index))?;
    set_socket_recv_buffer_size_force(&socket, ROOM)?;
    Ok(socket)
}

/// All frames of an interface (packet(7)).
struct Interface(libc::sockaddr_ll);

impl Interface {
    fn of(index: u32) -> Self {
        Self(libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        })
    }
}

// SAFETY: pointer and size are those of a sockaddr_ll that lives as long as `self`.
unsafe impl SocketAddrArg for Interface {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f((&raw const self.0).cast(), size_of::<libc::sockaddr_ll>() as _)
    }
}
