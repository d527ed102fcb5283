//! What holds for the whole machine: kernel, permissions, memory.

use super::report::Finding;
use super::root::Root;

/// A kernel's version, major and minor.
pub type Version = (u32, u32);

/// Attaching the steering program and accounting its maps work as uvs needs it.
const AF_XDP: Version = (5, 11);
/// tcx, by which raw mode keeps the kernel's hands off its frames.
const TCX: Version = (6, 6);
/// XDP_MAX_TX_SKB_BUDGET, by which a wake-up sends more than 32 frames in copy mode.
const SEND_BUDGET: Version = (6, 17);

/// UMEM and rings of one worker on one interface, rounded up, in bytes.
const LOCKED: u64 = 64 << 20;

// Bits of linux/capability.h.
const NET_ADMIN: (&str, u32) = ("CAP_NET_ADMIN", 12);
const NET_RAW: (&str, u32) = ("CAP_NET_RAW", 13);
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const SYS_RESOURCE: u32 = 24;
const BPF: (&str, u32) = ("CAP_BPF", 39);

/// What of the machine decides how the engine can run on any interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's version.
    pub kernel: Version,
    /// AF_XDP can be opened.
    pub af_xdp: bool,
    /// Raw packet sockets with a filter at ingress can be opened.
    pub raw: bool,
}

/// Looks at the machine.
pub fn examine(root: &Root) -> (Machine, Vec<Finding>) {
    let release = root.text("proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = version(&release);
    let capabilities = effective(root);
    let (allowed, permissions) = permissions(capabilities);
    // The kernel lists the socket families that it has.
    let protocols = root.text("proc/net/protocols").unwrap_or_default();
    let family = |name| protocols.lines().any(|line| line.split(' ').next() == Some(name));
    let machine = Machine {
        kernel,
        af_xdp: allowed && kernel >= AF_XDP && family("XDP"),
        raw: allowed && kernel >= TCX && family("PACKET"),
    };
    let mut findings = vec![of_kernel(kernel, &release)];
    if !family("XDP") {
        findings.push(Finding::problem(
            "AF_XDP",
            "the kernel has none (CONFIG_XDP_SOCKETS); uvs falls back to raw packet sockets",
        ));
    }
    findings.push(permissions);
    findings.push(memlock(root, capabilities));
    findings.push(tun(root));
    findings.push(bpf_filesystem(root));
    findings.extend(jit(root));
    findings.extend(kernel_ipvs(root));
    (machine, findings)
}

/// `6.1.0-18-amd64` is (6, 1).
fn version(release: &str) -> Version {
    let digits = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().unwrap_or(0)
    };
    let mut parts = release.split('.');
    (parts.next().map_or(0, digits), parts.next().map_or(0, digits))
}

fn of_kernel(kernel: Version, release: &str) -> Finding {
    if kernel < AF_XDP {
        Finding::problem(
            "kernel",
            format!("{release} is too old: AF_XDP as uvs needs it is in 5.11"),
        )
        .mend("apt install linux-image-amd64 && reboot")
    } else if kernel < TCX {
        Finding::note(
            "kernel",
            format!("{release}: AF_XDP runs; raw packet sockets need 6.6 (tcx)"),
        )
    } else if kernel < SEND_BUDGET {
        Finding::note(
            "kernel",
            format!("{release}: all modes run; from 6.17 on copy mode sends larger batches"),
        )
    } else {
        Finding::ok("kernel", format!("{release}: all modes run"))
    }
}

/// The process's effective capabilities, as bits.
fn effective(root: &Root) -> u64 {
    let status = root.text("proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn has(capabilities: u64, bit: u32) -> bool {
    capabilities >> bit & 1 == 1
}

fn permissions(capabilities: u64) -> (bool, Finding) {
    let missing: Vec<&str> = [NET_ADMIN, NET_RAW, BPF]
        .into_iter()
        // CAP_SYS_ADMIN includes what CAP_BPF was split from.
        .filter(|(name, bit)| {
            !has(capabilities, *bit) && (*name != BPF.0 || !has(capabilities, SYS_ADMIN))
        })
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return (
            true,
            Finding::ok("capabilities", "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF are there"),
        );
    }
    let all = missing.join(", ");
    let names = missing.join(",").to_lowercase();
    let finding =
        Finding::problem("capabilities", format!("{all} missing; run as root or grant them"))
            .mend(format!("sudo setcap {names}+ep $(command -v uvs)"));
    (false, finding)
}

/// The kernel counts AF_XDP's memory against the limit, unless CAP_IPC_LOCK lifts it.
fn memlock(root: &Root, capabilities: u64) -> Finding {
    let topic = "memlock";
    let limits = root.text("proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line.and_then(|values| values.split_whitespace().next()).unwrap_or("unknown");
    if soft == "unlimited" {
        return Finding::ok(topic, "locked memory is not limited");
    }
    if has(capabilities, IPC_LOCK) {
        return Finding::ok(topic, "CAP_IPC_LOCK lifts the limit on locked memory");
    }
    if soft.parse::<u64>().is_ok_and(|bytes| bytes >= LOCKED) {
        return Finding::ok(topic, format!("{soft} bytes may be locked"));
    }
    let text = format!(
        "{soft} bytes may be locked, AF_XDP wants {LOCKED} a worker (systemd: LimitMEMLOCK=infinity)"
    );
    match has(capabilities, SYS_RESOURCE) {
        true => Finding::note(topic, format!("{text}; CAP_SYS_RESOURCE may raise it")),
        false => Finding::problem(topic, text),
    }
    .mend("ulimit -l unlimited")
}

fn tun(root: &Root) -> Finding {
    match root.has("dev/net/tun") {
        true => Finding::ok("tun", "/dev/net/tun is there: frames for the host can be given back"),
        false => {
            Finding::problem("tun", "no /dev/net/tun: frames for the host cannot be given back")
                .mend("modprobe tun")
        }
    }
}

fn bpf_filesystem(root: &Root) -> Finding {
    let mounts = root.text("proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("bpf"));
    match mounted {
        true => Finding::ok("bpf fs", "mounted; uvs pins nothing in it"),
        false => Finding::ok("bpf fs", "not mounted; uvs pins nothing and needs none"),
    }
}

fn jit(root: &Root) -> Option<Finding> {
    let off = root.number("proc/sys/net/core/bpf_jit_enable") == Some(0);
    off.then(|| {
        Finding::note("bpf jit", "off: the steering program is interpreted, which is slow")
            .mend("sysctl -w net.core.bpf_jit_enable=1")
    })
}

fn kernel_ipvs(root: &Root) -> Option<Finding> {
    // Three lines of heading, then services.
    let services = root.text("proc/net/ip_vs")?.lines().count().saturating_sub(3);
    (services > 0).then(|| {
        Finding::note(
            "kernel ipvs",
            "the kernel has services too; one VIP in both is served by uvs",
        )
        .mend("ipvsadm -S -n > services && ipvsadm -C")
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::root::fake;
    use super::*;

    const PROTOCOLS: &str = "protocol  size sockets\nPACKET    1664 1\nXDP       1088 0\n";

    fn machine(name: &str, release: &str, caps: &str, locked: &str) -> (Machine, Vec<Finding>) {
        let limits = format!("Limit Soft Hard Units\nMax locked memory  {locked} {locked} bytes\n");
        examine(&fake(
            name,
            &[
                ("proc/sys/kernel/osrelease", release),
                ("proc/self/status", &format!("Name:\tuvs\nCapEff:\t{caps}\n")),
                ("proc/self/limits", &limits),
                ("proc/net/protocols", PROTOCOLS),
                ("proc/mounts", "bpf /sys/fs/bpf bpf rw 0 0\n"),
                ("dev/net/tun", ""),
            ],
        ))
    }

    fn level(findings: &[Finding], topic: &str) -> Option<Level> {
        findings.iter().find(|finding| finding.topic == topic).map(|finding| finding.level)
    }

    #[test]
    fn a_good_machine_has_nothing_to_say_but_ok() {
        let (machine, findings) = machine("good", "6.18.4-amd64\n", "000001ffffffffff", "8388608");
        assert_eq!(machine, Machine { kernel: (6, 18), af_xdp: true, raw: true });
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }

    #[test]
    fn the_kernel_decides_on_modes() {
        let all = "000001ffffffffff";
        let (old, findings) = machine("old", "5.10.0-9", all, "unlimited");
        assert_eq!(
            (old.af_xdp, old.raw, level(&findings, "kernel")),
            (false, false, Some(Level::Problem))
        );
        let (mid, findings) = machine("mid", "6.1.0-18-amd64", all, "unlimited");
        assert_eq!(
            (mid.af_xdp, mid.raw, level(&findings, "kernel")),
            (true, false, Some(Level::Note))
        );
        let (new, findings) = machine("new", "6.12.1", all, "unlimited");
        assert_eq!(
            (new.af_xdp, new.raw, level(&findings, "kernel")),
            (true, true, Some(Level::Note))
        );
        assert_eq!(version("nonsense"), (0, 0));
    }

    #[test]
    fn what_is_missing_is_named_with_the_command() {
        // CAP_NET_RAW and CAP_BPF only.
        let (machine, findings) = machine("caps", "6.18.0", "0000008000002000", "65536");
        assert!(!machine.af_xdp && !machine.raw);
        let finding = findings.iter().find(|finding| finding.topic == "capabilities").unwrap();
        assert!(finding.text.starts_with("CAP_NET_ADMIN missing"));
        assert_eq!(
            finding.command.as_deref(),
            Some("sudo setcap cap_net_admin+ep $(command -v uvs)")
        );
        assert_eq!(level(&findings, "memlock"), Some(Level::Problem));
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_sys_resource_softens_memlock() {
        let bits = 1u64 << 12 | 1 << 13 | 1 << SYS_ADMIN | 1 << SYS_RESOURCE;
        let (machine, findings) = machine("admin", "6.18.0", &format!("{bits:016x}"), "65536");
        assert!(machine.af_xdp);
        assert_eq!(level(&findings, "memlock"), Some(Level::Note));
    }

    #[test]
    fn an_empty_machine_is_a_list_of_problems_not_a_panic() {
        let (machine, findings) =
            examine(&fake("empty", &[("proc/net/ip_vs", "a\nb\nc\nTCP x\n")]));
        assert!(!machine.af_xdp && !machine.raw);
        assert_eq!(level(&findings, "tun"), Some(Level::Problem));
        assert_eq!(level(&findings, "AF_XDP"), Some(Level::Problem));
        assert_eq!(level(&findings, "kernel ipvs"), Some(Level::Note));
    }
}
