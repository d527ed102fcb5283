//! The kernel's notifications of what changes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::HostError;
use super::kernel::{BUFFER, parse};

// Multicast groups of linux/rtnetlink.h.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV4_NETCONF: u32 = 24;
const RTNLGRP_IPV6_NETCONF: u32 = 25;

const GROUPS: [u32; 8] = [
    RTNLGRP_LINK,
    RTNLGRP_NEIGH,
    RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_NETCONF,
    RTNLGRP_IPV6_NETCONF,
];

/// A setting of an interface changed, forwarding for instance: a message that the crate has not.
const RTM_NEWNETCONF: u16 = 80;

/// What may wait unread, in bytes: some thousand notifications.
const BACKLOG: i32 = 1 << 20;

/// A socket on which the kernel says what changed.
pub(super) struct Notices {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Notices {
    pub(super) fn open() -> Result<Self, HostError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.set_rx_buf_sz(BACKLOG)?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            Ok(socket)
        };
        let socket = open().map_err(|source| HostError::Kernel { what: "changes", source })?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Gives all that waits to `each`; false when some were lost or told of settings, so that
    /// everything has to be read anew.
    pub(super) fn drain(&mut self, mut each: impl FnMut(Message)) -> io::Result<bool> {
        let mut complete = true;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(complete),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_overrun(&error) => {
                    complete = false;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Behind the length; the kernel tells of each change in a datagram of its own.
            let kind = self.buffer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
            complete &= kind != Some(RTM_NEWNETCONF);
            for (_, payload) in parse(&self.buffer) {
                if let NetlinkPayload::InnerMessage(message) = payload {
                    each(message);
                }
            }
        }
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// ENOBUFS: the kernel had no room for a notification and dropped it (man 7 netlink).
fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}
