//! Whole frames, as a packet socket sends and sees them.

use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType};

/// A packet socket on an interface of the namespace in which it is opened.
pub struct Wire(OwnedFd);

/// Where a VLAN tag stands in a frame.
const TAG_AT: usize = 12;

impl Wire {
    /// Sends on `interface` and sees all that comes in there.
    pub fn open(interface: &str) -> Self {
        let all = u32::from((libc::ETH_P_ALL as u16).to_be());
        let protocol = Protocol::from_raw(all.try_into().unwrap());
        let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, Some(protocol));
        let socket = socket.unwrap();
        let on = &raw const ON;
        // SAFETY: the value lives for ever and has the size that is told.
        let set = unsafe {
            let option = libc::PACKET_AUXDATA;
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, on.cast(), 4)
        };
        assert_eq!(set, 0);
        rustix::net::bind(&socket, &Interface::named(interface)).unwrap();
        // What a burst of frames needs before anybody looks.
        set_socket_recv_buffer_size_force(&socket, 8 << 20).unwrap();
        let limit = Some(Duration::from_millis(20));
        set_socket_timeout(&socket, Timeout::Recv, limit).unwrap();
        Self(socket)
    }

    /// Sends frames by one system call; says how many went. A flood fills the queue below.
    pub fn send_all(&self, frames: &mut [Vec<u8>]) -> u64 {
        let part = |frame: &mut Vec<u8>| libc::iovec {
            iov_base: frame.as_mut_ptr().cast(),
            iov_len: frame.len(),
        };
        let mut parts: Vec<libc::iovec> = frames.iter_mut().map(part).collect();
        let message = |part: &mut libc::iovec| {
            // SAFETY: all zero is a message without anything.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        };
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let (first, count) = (messages.as_mut_ptr(), messages.len() as u32);
        // SAFETY: all that the messages point to outlives the call and has the size that is told.
        let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), first, count, 0) };
        u64::try_from(sent).unwrap_or(0)
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        assert_eq!(rustix::net::send(&self.0, frame, SendFlags::empty()).unwrap(), frame.len());
    }

    /// The frames that have come and that `wanted` picks, with the tags that they had; those on
    /// their way are waited for a moment.
    pub fn seen(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive() {
            if wanted(&frame) {
                frames.push(frame);
            }
        }
        frames
    }

    /// One frame. The kernel takes the outer tag off and tells it beside the frame
    /// (PACKET_AUXDATA of packet(7)).
    fn receive(&self) -> Option<Vec<u8>> {
        let (mut frame, mut beside) = (vec![0; 4096], [0u64; 16]);
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all zero is a message without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = beside.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&beside) as _;
        // SAFETY: all that the message points to outlives the call and has the size that is told.
        let count = unsafe { libc::recvmsg(self.0.as_raw_fd(), &mut message, 0) };
        frame.truncate(usize::try_from(count).ok()?);
        // SAFETY: the kernel filled the buffer, which is aligned and still there.
        let header = unsafe { libc::CMSG_FIRSTHDR(&message).as_ref() }?;
        assert_eq!((header.cmsg_level, header.cmsg_type), (libc::SOL_PACKET, libc::PACKET_AUXDATA));
        // SAFETY: of this type there is one tpacket_auxdata behind the header.
        let told =
            unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
        if told.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
            let tag = [told.tp_vlan_tpid.to_be_bytes(), told.tp_vlan_tci.to_be_bytes()].concat();
            frame.splice(TAG_AT..TAG_AT, tag);
        }
        Some(frame)
    }
}

static ON: libc::c_int = 1;

/// All frames of an interface (packet(7)).
struct Interface(libc::sockaddr_ll);

impl Interface {
    fn named(name: &str) -> Self {
        let name = CString::new(name).unwrap();
        // SAFETY: a C string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert_ne!(index, 0, "no interface {name:?}");
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        Self(address)
    }
}

// SAFETY: pointer and size are those of a sockaddr_ll that lives as long as `self`.
unsafe impl SocketAddrArg for Interface {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(
            *const rustix::net::addr::SocketAddrOpaque,
            rustix::net::addr::SocketAddrLen,
        ) -> R,
    ) -> R {
        f((&raw const self.0).cast(), size_of::<libc::sockaddr_ll>() as _)
    }
}

/// The address of an interface, as `ip link` shows it.
pub fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> =
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// An IPv4 packet (RFC 791).
pub fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// A UDP datagram without a checksum (RFC 768).
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let header = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&header, payload].concat()
}

/// A TCP segment in an IPv4 packet, with right checksums (RFC 9293).
pub fn tcp(from: SocketAddrV4, to: SocketAddrV4, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.port(), to.port()].map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, flags, 16, 0, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = checksum(&with_pseudo_header(*from.ip(), *to.ip(), &segment));
    segment[16..18].copy_from_slice(&sum);
    ipv4(6, *from.ip(), *to.ip(), &segment)
}

/// A TCP segment behind what its checksum covers besides it.
fn with_pseudo_header(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> Vec<u8> {
    let length = (segment.len() as u16).to_be_bytes();
    [&from.octets()[..], &to.octets(), &[0, 6], &length, segment].concat()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
