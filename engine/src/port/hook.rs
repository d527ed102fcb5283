//! Where a steering program hangs on a link, and how it comes off again: by itself.
//!
//! XDP and tcx hooks are bpf links: the kernel takes them off when the last descriptor is closed,
//! however the process ends. Kernels before 6.6 have no tcx; there a tc filter does the work. It
//! is removed on drop, and one that a killed process left behind lets every frame pass two seconds
//! later (see `steer.bpf.c`) and is removed by the next start.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use libbpf_sys as sys;

/// A program on a link, as long as this lives.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what closing it does")]
pub(super) enum Hook {
    Link(OwnedFd),
    Filter(Filter),
}

/// How an XDP program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum XdpMode {
    /// By the driver, before there is an skb.
    Native,
    /// By the stack, on any device.
    Generic,
}

/// Attaches an XDP program to an interface.
pub(super) fn xdp(program: BorrowedFd<'_>, ifindex: u32, mode: XdpMode) -> io::Result<Hook> {
    let flags = match mode {
        XdpMode::Native => sys::XDP_FLAGS_DRV_MODE,
        XdpMode::Generic => sys::XDP_FLAGS_SKB_MODE,
    };
    link(program, ifindex, sys::BPF_XDP, flags)
}

/// Attaches a program to an interface's tc ingress, by a tcx link (kernel 6.6).
pub(super) fn tcx(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<Hook> {
    link(program, ifindex, sys::BPF_TCX_INGRESS, 0)
}

fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    place: sys::bpf_attach_type,
    flags: u32,
) -> io::Result<Hook> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as _,
        flags,
        ..Default::default()
    };
    // SAFETY: the options outlive the call and carry their own size.
    let fd = unsafe { sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, place, &options) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a new descriptor, owned by nobody else.
    Ok(Hook::Link(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The id and name of the XDP program that an interface has, of whatever mode.
pub(super) fn xdp_program(ifindex: u32) -> io::Result<Option<(u32, String)>> {
    let mut id = 0;
    // SAFETY: `id` outlives the call.
    let result = unsafe { sys::bpf_xdp_query_id(ifindex as i32, 0, &mut id) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok((id != 0).then(|| (id, program_name(id).unwrap_or_default())))
}

fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: no pointers.
    let fd = unsafe { sys::bpf_prog_get_fd_by_id(id) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a new descriptor, owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = sys::bpf_prog_info::default();
    let mut size = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: both outlive the call; all zero asks for nothing that needs memory of ours.
    let result = unsafe { sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &mut info, &mut size) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    let name = info.name.map(|byte| byte as u8);
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Where our filter stands among those of an interface ("uv" in ASCII): a fixed place, so that a
/// stale one is found again.
const PRIORITY: u32 = 0x7576;
const HANDLE: u32 = 1;
/// Our filter's program, as the kernel reports it.
const FILTER: &str = "uvs_tc";

/// A tc filter at an interface's clsact qdisc.
#[derive(Debug)]
pub(super) struct Filter {
    ifindex: i32,
    made_qdisc: bool,
}

impl Filter {
    /// Attaches `program`, in place of one that a killed uvs left.
    pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<Hook> {
        let ifindex = ifindex as i32;
        let made_qdisc = create_qdisc(ifindex)?;
        // From here on dropping it undoes what was done.
        let filter = Self { ifindex, made_qdisc };
        if let Some(program) = filter.present()
            && program_name(program)? != FILTER
        {
            std::mem::forget(filter);
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        filter.detach();
        let mut options = place();
        options.prog_fd = program.as_raw_fd();
        // SAFETY: both structs outlive the call and carry their sizes.
        match unsafe { sys::bpf_tc_attach(&hook(ifindex, sys::BPF_TC_INGRESS), &mut options) } {
            0 => Ok(Hook::Filter(filter)),
            error => Err(io::Error::from_raw_os_error(-error)),
        }
    }

    /// The id of the program at our place.
    fn present(&self) -> Option<u32> {
        let mut options = place();
        let hook = hook(self.ifindex, sys::BPF_TC_INGRESS);
        // SAFETY: as in `attach`.
        let result = unsafe { sys::bpf_tc_query(&hook, &mut options) };
        (result == 0).then_some(options.prog_id)
    }

    fn detach(&self) {
        // SAFETY: as in `attach`. A filter that is not there is what we want.
        unsafe { sys::bpf_tc_detach(&hook(self.ifindex, sys::BPF_TC_INGRESS), &place()) };
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.detach();
        if self.made_qdisc {
            // SAFETY: as in `attach`. Both directions together mean the qdisc itself.
            unsafe {
                let both = sys::BPF_TC_INGRESS | sys::BPF_TC_EGRESS;
                sys::bpf_tc_hook_destroy(&mut hook(self.ifindex, both));
            }
        }
    }
}

/// Makes the clsact qdisc; false when there was one.
fn create_qdisc(ifindex: i32) -> io::Result<bool> {
    // SAFETY: the hook outlives the call and carries its size.
    match unsafe { sys::bpf_tc_hook_create(&mut hook(ifindex, sys::BPF_TC_INGRESS)) } {
        0 => Ok(true),
        error if -error == libc::EEXIST => Ok(false),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

fn hook(ifindex: i32, attach_point: sys::bpf_tc_attach_point) -> sys::bpf_tc_hook {
    let sz = size_of::<sys::bpf_tc_hook>() as _;
    sys::bpf_tc_hook { sz, ifindex, attach_point, ..Default::default() }
}

fn place() -> sys::bpf_tc_opts {
    sys::bpf_tc_opts {
        sz: size_of::<sys::bpf_tc_opts>() as _,
        handle: HANDLE,
        priority: PRIORITY,
        ..Default::default()
    }
}

/// How often the heart beats; the filter waits for twenty beats.
const BEAT: Duration = Duration::from_millis(100);

/// Tells the tc filter that this process lives, until dropped.
#[derive(Debug)]
pub(super) struct Heart {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    /// Starts to beat into `map`; the first beat is done when this returns.
    pub(super) fn start(map: MapHandle) -> io::Result<Self> {
        beat(&map);
        let (stop, stopped) = channel();
        let thread =
            Builder::new().name("uvs-heartbeat".to_owned()).spawn(move || run(&map, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(map: &MapHandle, stopped: &Receiver<()>) {
    while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
        beat(map);
    }
}

fn beat(map: &MapHandle) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct outlives the call. The clock is that of bpf_ktime_get_ns.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let nanoseconds = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    // A beat that is lost is made good by the next.
    let _ = map.update(&0u32.to_ne_bytes(), &nanoseconds.to_ne_bytes(), MapFlags::ANY);
}
