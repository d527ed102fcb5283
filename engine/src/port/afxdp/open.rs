//! Opening AF_XDP for all workers: the program on the links, then the fastest sockets that the
//! drivers give.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::lane::{Copying, RING};
use super::{AfXdpPort, LARGEST_MTU, SPARE, Share, Way, chunk_size, large_link};
use crate::link::{Link, LinkId};
use crate::port::hook::{XdpMode, xdp_program};
use crate::port::steer::{Programs, QUEUES_PER_LINK, Steering};
use crate::port::{OpenError, ethtool, why};

/// Opens a port for each worker; `report` gets what was tried and why it was not taken.
pub(in crate::port) fn open(
    links: &[Link],
    workers: u32,
    report: &mut Vec<String>,
) -> Result<(Vec<AfXdpPort>, Steering), OpenError> {
    for link in links {
        refuse_other_program(link)?;
    }
    let queues = usable_queues(links, workers)?;
    let programs = programs(links, in_parts())?;
    let size = chunk_size(links);
    let lanes: u32 = queues.iter().sum();
    why::check_memlock(u64::from(lanes * 2 * RING + workers * SPARE) * size as u64)?;

    let mut steering = Steering::load(programs)?;
    let all_native = attach(&mut steering, links, report)?;
    let mut tried = Vec::new();
    let ways = [(Copying::Zero, "AF_XDP zero-copy"), (Copying::Copy, copy_name(all_native))];
    for way @ (copying, mode) in ways {
        if copying == Copying::Zero && !all_native {
            continue;
        }
        match open_ports(links, &queues, workers, way) {
            Ok(ports) => {
                connect(&steering, &ports, links, &queues)?;
                report.extend(tried);
                report.push(format!("{mode}: taken"));
                return Ok((ports, steering));
            }
            Err(reason) => tried.push(format!("{mode}: {reason}")),
        }
    }
    Err(OpenError::AfXdp(report.drain(..).chain(tried).collect()))
}

/// The program for frames in several descriptors where a link has such, and the kernel too.
fn programs(links: &[Link], in_parts: bool) -> Result<Programs, OpenError> {
    match large_link(links) {
        None => Ok(Programs::Xdp),
        Some(_) if in_parts => Ok(Programs::XdpFrags),
        Some(link) => Err(OpenError::Mtu {
            link: link.name.clone(),
            mtu: link.mtu,
            max: LARGEST_MTU,
            mode: "AF_XDP before Linux 6.6",
        }),
    }
}

/// Whether this kernel's AF_XDP sockets take frames in several descriptors. One that does not know
/// the flag says so before it looks for the interface; one without AF_XDP is told of later.
fn in_parts() -> bool {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW, 0) };
    if fd < 0 {
        return true;
    }
    // SAFETY: a new descriptor, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_SG,
        sxdp_ifindex: 0,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: the address outlives the call and has the size that is told.
    let bound = unsafe {
        let size = size_of::<libc::sockaddr_xdp>() as u32;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    bound == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}

fn copy_name(all_native: bool) -> &'static str {
    if all_native { "AF_XDP copy" } else { "AF_XDP copy (generic XDP)" }
}

fn open_ports(
    links: &[Link],
    queues: &[u32],
    workers: u32,
    way: Way,
) -> Result<Vec<AfXdpPort>, String> {
    (0..workers)
        .map(|worker| AfXdpPort::open(links, queues, &Share { worker, workers }, way))
        .collect()
}

/// Hangs up the program, natively where the driver can; says whether all could.
fn attach(
    steering: &mut Steering,
    links: &[Link],
    report: &mut Vec<String>,
) -> Result<bool, OpenError> {
    let mut all_native = true;
    for (at, link) in links.iter().enumerate() {
        let id = LinkId(at as u8);
        let Err(error) = steering.attach_xdp(link, id, XdpMode::Native) else {
            continue;
        };
        // Somebody was faster than the check.
        refuse_other_program(link)?;
        all_native = false;
        report.push(format!("AF_XDP native: {}", why::no_native(&link.name, &error)));
        steering
            .attach_xdp(link, id, XdpMode::Generic)
            .map_err(|error| OpenError::kernel(&link.name, "attaching the XDP program", error))?;
    }
    Ok(all_native)
}

fn connect(
    steering: &Steering,
    ports: &[AfXdpPort],
    links: &[Link],
    queues: &[u32],
) -> Result<(), OpenError> {
    for (worker, port) in ports.iter().enumerate() {
        let mut lanes = port.lanes.iter();
        for (at, (link, &count)) in links.iter().zip(queues).enumerate() {
            // The order in which `AfXdpPort::open` made them.
            for queue in (worker as u32..count).step_by(ports.len()) {
                let lane = lanes.next().expect("a lane for each queue");
                steering.connect(LinkId(at as u8), queue, lane.fd()).map_err(|error| {
                    OpenError::kernel(&link.name, "putting the socket in the XSKMAP", error)
                })?;
            }
        }
    }
    Ok(())
}

fn refuse_other_program(link: &Link) -> Result<(), OpenError> {
    match xdp_program(link.ifindex) {
        Ok(Some((id, program))) => {
            Err(OpenError::HasProgram { link: link.name.clone(), program, id })
        }
        _ => Ok(()),
    }
}

/// Receive queues of each link: all of them, since a frame on one that nobody has would go to
/// the kernel.
fn usable_queues(links: &[Link], workers: u32) -> Result<Vec<u32>, OpenError> {
    links
        .iter()
        .map(|link| {
            let queues = ethtool::queues(&link.name)
                .map_err(|error| OpenError::kernel(&link.name, "asking for its queues", error))?;
            let both = queues.rx.min(queues.tx);
            if both < workers || queues.rx > QUEUES_PER_LINK {
                return Err(OpenError::Queues {
                    link: link.name.clone(),
                    queues: both,
                    workers: workers as usize,
                });
            }
            Ok(queues.rx)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Forwards;

    fn link(mtu: u16) -> Link {
        let (name, addresses) = ("eth0".to_owned(), Vec::new());
        Link { ifindex: 1, name, mac: [0; 6], mtu, addresses, forwards: Forwards::ALL }
    }

    #[test]
    fn a_large_mtu_takes_a_kernel_that_has_several_descriptors_a_frame() {
        assert_eq!(programs(&[link(1500), link(3818)], false).unwrap(), Programs::Xdp);
        assert_eq!(programs(&[link(1500), link(3819)], true).unwrap(), Programs::XdpFrags);
        let error = programs(&[link(1500), link(9000)], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "eth0 has MTU 9000, AF_XDP before Linux 6.6 takes 3818 at most; lower it with `ip link \
             set dev eth0 mtu 3818`"
        );
    }
}
