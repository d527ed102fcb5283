//! How datagrams go to the kernel and come back.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// Bytes read at once. The kernel fills at most 32 KiB in a list; an error's answer has the request
/// in it.
const BUFFER: usize = 1 << 16;

/// Something that carries datagrams: the kernel's socket, or a stand-in in a test.
pub trait Transport {
    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Takes the next datagram. The kernel answers before `send` returns, so what is not there will
    /// not come, and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is none; those of `recv`: ENOBUFS says that answers
    /// were lost.
    fn receive(&mut self) -> io::Result<&[u8]>;
}

/// A generic netlink socket, in the network namespace of the thread that opened it.
pub struct NetlinkSocket {
    socket: Socket,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens the socket; no privilege is needed for it.
    ///
    /// # Errors
    ///
    /// Those of `socket` and `bind`.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Connected to the kernel, it gets nothing from other processes.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER) })
    }
}

impl Transport for NetlinkSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram, 0).map(|_| ())
    }

    fn receive(&mut self) -> io::Result<&[u8]> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(&self.buffer),
            }
        }
    }
}
