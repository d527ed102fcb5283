//! What the kernel's ethtool interface (`linux/ethtool.h`) tells about a link.

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const GET_DRIVER: u32 = 0x03;
const GET_CHANNELS: u32 = 0x3c;

/// How many queues a link uses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues.
    pub rx: u32,
    /// Send queues.
    pub tx: u32,
}

#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// The queues of the interface `name`. A driver that cannot say has one of each.
///
/// # Errors
///
/// The kernel's, `ENODEV` for an interface that is not there.
pub fn queues(name: &str) -> io::Result<Queues> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    match ask(name, &mut channels) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok(Queues { rx: 1, tx: 1 });
        }
        Err(error) => return Err(error),
    }
    let rx = (channels.combined + channels.rx).max(1);
    let tx = (channels.combined + channels.tx).max(1);
    Ok(Queues { rx, tx })
}

/// The name of the interface's driver, such as `veth` or `virtio_net`.
///
/// # Errors
///
/// The kernel's.
pub fn driver(name: &str) -> io::Result<String> {
    let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
    ask(name, &mut info)?;
    let end = info.driver.iter().position(|&byte| byte == 0).unwrap_or(info.driver.len());
    Ok(String::from_utf8_lossy(&info.driver[..end]).into_owned())
}

fn ask<T>(name: &str, request: &mut T) -> io::Result<()> {
    // SAFETY: all zero is a valid ifreq.
    let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= ifreq.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in ifreq.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    ifreq.ifr_ifru.ifru_data = (request as *mut T).cast();
    let socket = datagram_socket()?;
    // SAFETY: the request is a repr(C) struct that begins with its command and has the kernel's
    // layout for it; it outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut ifreq) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn datagram_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_one_queue_and_no_name_none() {
        assert_eq!(queues("lo").unwrap(), Queues { rx: 1, tx: 1 });
        assert_eq!(queues("nosuchlink0").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert!(queues("a-name-longer-than-the-kernel-has-room-for").is_err());
    }
}
