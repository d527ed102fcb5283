//! Opening AF_XDP for all workers: the program on the links, then the fastest sockets that the
//! drivers give.

use super::lane::{Copying, RING};
use super::{AfXdpPort, SPARE, Share, chunk_size};
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
    let size = chunk_size(links)?;
    let lanes: u32 = queues.iter().sum();
    why::check_memlock(u64::from(lanes * 2 * RING + workers * SPARE) * size as u64)?;

    let mut steering = Steering::load(Programs::Xdp)?;
    let all_native = attach(&mut steering, links, report)?;
    let mut tried = Vec::new();
    let ways = [(Copying::Zero, "AF_XDP zero-copy"), (Copying::Copy, copy_name(all_native))];
    for (copying, mode) in ways {
        if copying == Copying::Zero && !all_native {
            continue;
        }
        match open_ports(links, &queues, workers, copying, mode) {
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

fn copy_name(all_native: bool) -> &'static str {
    if all_native { "AF_XDP copy" } else { "AF_XDP copy (generic XDP)" }
}

fn open_ports(
    links: &[Link],
    queues: &[u32],
    workers: u32,
    copying: Copying,
    mode: &'static str,
) -> Result<Vec<AfXdpPort>, String> {
    (0..workers)
        .map(|worker| AfXdpPort::open(links, queues, &Share { worker, workers }, copying, mode))
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
