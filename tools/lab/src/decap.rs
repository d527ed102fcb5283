//! IPIP taken apart for servers whose kernel has no ipip device: from a raw socket into a TUN
//! device, and so to whoever listens on the VIP.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use clap::Args;
use rustix::net::{AddressFamily, RecvFlags, SocketType, ipproto, recv, socket, sockopt};

use crate::Error;
use crate::servers::say_ready;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// Room for the datagrams of a burst, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What `lab decap` is told.
#[derive(Clone, Debug, Args)]
pub struct DecapJob {
    /// The TUN device to make.
    #[arg(long)]
    pub tun: String,
}

impl DecapJob {
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec!["decap".to_owned(), "--tun".to_owned(), self.tun.clone()]
    }
}

/// Unpacks until it is killed; prints `ready` when the device is there (and still down).
pub fn decapsulate(job: &DecapJob) -> Result<(), Error> {
    let doing = format!("make the TUN device {}", job.tun);
    let mut tun = open_tun(&job.tun).map_err(Error::socket(doing))?;
    let tunnel = open_ipip().map_err(Error::socket("open a raw socket for IPIP"))?;
    say_ready()?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match recv(&tunnel, &mut buffer[..], RecvFlags::empty()) {
            // A device that is down refuses the packet, as it would from the wire.
            Ok((len, _)) => drop(strip(&buffer[..len]).map(|inner| tun.write(inner))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(Error::Socket {
                    doing: "receive IPIP".to_owned(),
                    source: error.into(),
                });
            }
        }
    }
}

fn open_ipip() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::IPIP))?;
    sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    Ok(socket)
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

/// The IPv4 packet inside an IPIP packet (RFC 2003), without anything behind its end; `None` when
/// there is none.
fn strip(outer: &[u8]) -> Option<&[u8]> {
    let (header, total) = ipv4_lengths(outer)?;
    if outer[9] != 4 {
        return None;
    }
    let inner = &outer[header..total];
    let (_, total) = ipv4_lengths(inner)?;
    Some(&inner[..total])
}

/// Header and total length of the IPv4 packet at the start of `packet`, if all of it is there.
fn ipv4_lengths(packet: &[u8]) -> Option<(usize, usize)> {
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let whole = first >> 4 == 4 && header >= 20 && header <= total && total <= packet.len();
    whole.then_some((header, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{IpNumber, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    fn inner(payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 168, 77, 2], [10, 77, 0, 1], 64)
            .udp(4000, 7)
            .write(&mut packet, payload)
            .unwrap();
        packet
    }

    fn outer(inner: &[u8], protocol: u8, padding: usize) -> Vec<u8> {
        let (from, to) = ([10, 77, 1, 254], [10, 77, 1, 1]);
        let header = Ipv4Header::new(inner.len() as u16, 64, IpNumber(protocol), from, to).unwrap();
        let mut packet = header.to_bytes().to_vec();
        packet.extend_from_slice(inner);
        packet.resize(packet.len() + padding, 0);
        packet
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(payload: Vec<u8>, padding in 0usize..20) {
            let packet = inner(&payload[..payload.len().min(1400)]);
            let behind_outer = outer(&packet, 4, padding);
            prop_assert_eq!(strip(&behind_outer), Some(&packet[..]));
            let behind_inner = outer(&[&packet[..], &[0].repeat(padding)].concat(), 4, 0);
            prop_assert_eq!(strip(&behind_inner), Some(&packet[..]));
        }

        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, cut in 0usize..80) {
            strip(&bytes);
            let packet = outer(&inner(&bytes[..bytes.len().min(1400)]), 4, 0);
            let cut = cut.min(packet.len());
            prop_assert_eq!(strip(&packet[..cut]).is_some(), cut == packet.len());
        }
    }

    #[test]
    fn other_protocols_are_not_unpacked() {
        assert_eq!(strip(&outer(&inner(b"x"), 41, 0)), None);
        assert_eq!(strip(&outer(b"not a packet at all", 4, 0)), None);
    }
}
