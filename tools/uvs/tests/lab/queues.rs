//! Two queues on every interface of the director, and which frame comes to which.

use rustix::thread::{CpuSet, sched_setaffinity};
use uvs_lab::{Arms, Host, LabOptions, Method};

use super::Lab;

/// A lab whose director has two queues on every interface.
pub fn two_queues(arms: Arms, method: Method) -> Option<Lab> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("skipped: two workers need two cores");
        return None;
    }
    Lab::with(LabOptions { arms, method, queues: 2, ..LabOptions::default() })
}

/// Which queue of an interface of the director gets a frame: that of the first set (a bit a core)
/// in which the core is on which it is sent.
pub fn queues_by_core(lab: &Lab, interface: &str, sets: [u32; 2]) {
    for (queue, set) in sets.iter().enumerate() {
        let file = format!("/sys/class/net/director-{interface}/queues/tx-{queue}/xps_cpus");
        let write = format!("echo {set:x} > {file}");
        lab.network.run_in(Host::Switch, "sh", &["-c", &write]).unwrap();
    }
}

/// Bits of the cores that there are, as far as `of` has them.
pub fn cores(of: u32) -> u32 {
    let count = cores_present();
    of & if count < 32 { (1 << count) - 1 } else { u32::MAX }
}

fn cores_present() -> u32 {
    let present = std::fs::read_to_string("/sys/devices/system/cpu/present").unwrap();
    let last = present.trim().rsplit(['-', ',']).next().unwrap();
    last.parse::<u32>().unwrap() + 1
}

/// Keeps this thread on one core.
pub fn stay_on(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).unwrap();
}
