//! Why a port cannot be opened, in words: what is wrong and what to do about it.

use std::io;

use super::ethtool;

/// A port was not opened; nothing of it is left on the host.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The process lacks capabilities.
    #[error(
        "not allowed to open the interfaces: {missing} missing; run uvs as root or give the \
         binary the capabilities with `setcap {setcap}+ep`"
    )]
    Capabilities {
        /// Their names, `CAP_NET_ADMIN` for example.
        missing: String,
        /// The same as setcap(8) wants them.
        setcap: String,
    },
    /// There is no such interface.
    #[error("there is no interface {0}; `ip link` lists those there are")]
    NoLink(String),
    /// No link or more than there is room for.
    #[error("uvs works on 1 to {max} interfaces, not on {0}", max = crate::link::MAX_LINKS)]
    LinkCount(usize),
    /// No worker at all.
    #[error("uvs needs at least one worker")]
    NoWorker,
    /// AF_XDP needs a queue of every link for each worker.
    #[error(
        "{link} has {queues} queue(s) for {workers} workers; run {queues} worker(s), or give it \
         more with `ethtool -L {link} combined {workers}` (a veth: rx {workers} tx {workers})"
    )]
    Queues {
        /// The interface.
        link: String,
        /// Queues that both directions have.
        queues: u32,
        /// Workers asked for.
        workers: usize,
    },
    /// Somebody's XDP program is attached.
    #[error(
        "{link} already has an XDP program ({program}, id {id}); take it off with `ip link set \
         dev {link} xdp off` or use port mode raw"
    )]
    HasProgram {
        /// The interface.
        link: String,
        /// The program's name.
        program: String,
        /// The program's id, as in `bpftool prog`.
        id: u32,
    },
    /// Frames of this MTU do not fit a buffer.
    #[error(
        "{link} has MTU {mtu}, {mode} takes {max} at most; lower it with `ip link set dev {link} \
         mtu {max}`"
    )]
    Mtu {
        /// The interface.
        link: String,
        /// Its MTU in bytes.
        mtu: u16,
        /// The largest that fits, in bytes.
        max: u16,
        /// The port mode.
        mode: &'static str,
    },
    /// The limit of locked memory is too low for the rings.
    #[error(
        "{bytes} bytes of memory cannot be locked, the limit is {limit}; raise it with `ulimit \
         -l unlimited` (systemd: LimitMEMLOCK=infinity) or give uvs CAP_IPC_LOCK"
    )]
    Memlock {
        /// What the port needs.
        bytes: u64,
        /// What RLIMIT_MEMLOCK allows.
        limit: u64,
    },
    /// The kernel did not take the steering program.
    #[error("the kernel refused the steering program: {0}")]
    Program(#[from] libbpf_rs::Error),
    /// AF_XDP was asked for and none of its ways works.
    #[error("AF_XDP does not run here: {}", .0.join("; "))]
    AfXdp(Vec<String>),
    /// Something else that the kernel refused.
    #[error("{link}: {doing}: {source}")]
    Kernel {
        /// The interface.
        link: String,
        /// What was tried.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn kernel(link: &str, doing: &'static str, source: io::Error) -> Self {
        Self::Kernel { link: link.to_owned(), doing, source }
    }
}

/// Capabilities that opening a port takes, with their bit numbers (`linux/capability.h`).
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39)];
const SYS_ADMIN: u32 = 21;
const IPC_LOCK: u32 = 14;

/// The capabilities that the process lacks for a port of any mode.
pub fn missing_capabilities() -> Vec<&'static str> {
    missing_of(effective())
}

pub(super) fn check_capabilities() -> Result<(), OpenError> {
    let missing = missing_capabilities();
    if missing.is_empty() {
        return Ok(());
    }
    let setcap = NEEDED.map(|(name, _)| name.to_lowercase()).join(",");
    Err(OpenError::Capabilities { missing: missing.join(", "), setcap })
}

fn missing_of(held: u64) -> Vec<&'static str> {
    let has = |bit: u32| held & (1 << bit) != 0;
    // CAP_SYS_ADMIN includes what CAP_BPF was split from.
    let allowed = |name: &str, bit| has(bit) || (name == "CAP_BPF" && has(SYS_ADMIN));
    NEEDED.iter().filter(|(name, bit)| !allowed(name, *bit)).map(|(name, _)| *name).collect()
}

/// The effective set, from proc_pid_status(5); an unreadable /proc must not stop us: the kernel
/// has the last word anyway.
fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// Checks that `bytes` of ring memory may be locked.
pub(super) fn check_memlock(bytes: u64) -> Result<(), OpenError> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct outlives the call.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0;
    let unbounded = limit.rlim_cur == libc::RLIM_INFINITY || effective() & (1 << IPC_LOCK) != 0;
    if failed || unbounded || bytes <= limit.rlim_cur {
        return Ok(());
    }
    Err(OpenError::Memlock { bytes, limit: limit.rlim_cur })
}

/// Why a native XDP program was not attached to `link`.
pub(super) fn no_native(link: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            format!("{link}'s driver ({}) has no native XDP", driver(link))
        }
        Some(libc::ERANGE | libc::EINVAL | libc::E2BIG) => format!(
            "{link}'s driver ({}) refuses native XDP with the present MTU or offloads ({error})",
            driver(link)
        ),
        _ => format!("{link} takes no native XDP program ({error})"),
    }
}

/// Why an AF_XDP socket was not bound to `queue` of `link`.
pub(super) fn no_socket(link: &str, queue: u32, zero_copy: bool, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) if zero_copy => {
            format!("{link}'s driver ({}) has no zero-copy", driver(link))
        }
        Some(libc::EAFNOSUPPORT) => "this kernel is built without AF_XDP".to_owned(),
        Some(libc::EBUSY) => {
            format!("queue {queue} of {link} is in use by another AF_XDP socket")
        }
        Some(libc::ENETDOWN) => {
            format!("{link} is down, bring it up with `ip link set dev {link} up`")
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            format!("no memory for the rings of {link}, see `ulimit -l` ({error})")
        }
        _ => format!("the kernel refuses a socket on queue {queue} of {link} ({error})"),
    }
}

fn driver(link: &str) -> String {
    ethtool::driver(link).unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_bpf_and_for_nothing_else() {
        assert_eq!(missing_of(0), ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF"]);
        assert_eq!(missing_of(1 << SYS_ADMIN), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert!(missing_of(1 << 12 | 1 << 13 | 1 << 39).is_empty());
    }

    #[test]
    fn an_error_is_a_sentence_with_a_command() {
        let error = OpenError::Queues { link: "eth0".into(), queues: 1, workers: 2 };
        assert!(error.to_string().contains("`ethtool -L eth0 combined 2`"), "{error}");
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        assert!(no_socket("eth0", 1, false, &busy).contains("another AF_XDP socket"));
    }
}
