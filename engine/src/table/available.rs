//! How much memory the process may take: what the machine has left, and what its control groups
//! allow.

/// Bytes that can be had without swapping; `u64::MAX` when nobody says.
pub(super) fn available() -> u64 {
    if cfg!(any(loom, miri)) {
        return u64::MAX;
    }
    least(&|path| std::fs::read_to_string(path).ok())
}

/// The least of all that limit it, as the files that `read` gives say.
fn least(read: &impl Fn(&str) -> Option<String>) -> u64 {
    let machine = read("/proc/meminfo").and_then(|text| of_machine(&text));
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let room = groups.lines().filter_map(|line| of_groups(line, &mounts, read));
    room.chain(machine).min().unwrap_or(u64::MAX)
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.saturating_mul(1024))
}

/// The files of one hierarchy of control groups.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The row of `memory.stat` with page cache that the kernel drops before it refuses memory.
    cache: &'static str,
}

/// Control groups of the second version (cgroup-v2.rst).
const V2: Files = Files { limit: "memory.max", usage: "memory.current", cache: "inactive_file " };

/// And of the first (cgroup-v1/memory.rst).
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};

/// What the group of a line of `/proc/self/cgroup` and the groups above it leave.
fn of_groups(line: &str, mounts: &str, read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let (files, path) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        ["0", "", path] => (V2, path),
        [_, controllers, path] if controllers.split(',').any(|name| name == "memory") => (V1, path),
        _ => return None,
    };
    let v2 = files.limit == V2.limit;
    let (root, point) = mounts.lines().find_map(|mount| memory_mount(mount, v2))?;
    // Seen from inside of a container, the mount may begin at the group itself.
    let mut below = path.strip_prefix(root).unwrap_or("").trim_matches('/');
    let mut room = None;
    loop {
        let group = if below.is_empty() { point.to_owned() } else { format!("{point}/{below}") };
        room = room.into_iter().chain(of_group(&group, &files, read)).min();
        if below.is_empty() {
            return room;
        }
        below = below.rsplit_once('/').map_or("", |(above, _)| above);
    }
}

/// What a group leaves; nothing when it sets no limit.
fn of_group(group: &str, files: &Files, read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let number = |file: &str| read(&format!("{group}/{file}"))?.trim().parse::<u64>().ok();
    let limit = number(files.limit)?;
    let stat = read(&format!("{group}/memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|row| row.strip_prefix(files.cache)?.trim().parse().ok());
    let usage = number(files.usage).unwrap_or(0).saturating_sub(cache.unwrap_or(0));
    Some(limit.saturating_sub(usage))
}

/// Root and mount point of a line of `/proc/self/mountinfo`, if it is a hierarchy with the memory
/// controller (proc_pid_mountinfo(5)).
fn memory_mount(line: &str, v2: bool) -> Option<(&str, &str)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let wanted = match (filesystem.next()?, filesystem.nth(1)) {
        ("cgroup2", _) => v2,
        ("cgroup", Some(options)) => !v2 && options.split(',').any(|option| option == "memory"),
        _ => false,
    };
    wanted.then_some((root, point))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:  8000 kB\nMemFree:  1 kB\nMemAvailable:    4000 kB\n";

    /// What is left when these files are all that there are.
    fn least_of(files: &[(&str, &str)]) -> u64 {
        least(&|path| {
            let (_, text) = files.iter().find(|(name, _)| *name == path)?;
            Some((*text).to_owned())
        })
    }

    #[test]
    fn without_groups_it_is_what_the_machine_has() {
        assert_eq!(least_of(&[("/proc/meminfo", MEMINFO)]), 4_096_000);
        assert_eq!(least_of(&[("/proc/meminfo", "nonsense")]), u64::MAX);
        assert_eq!(least_of(&[]), u64::MAX);
    }

    const V2_MOUNT: &str = "22 1 8:1 / / rw - ext4 /dev/vda rw\n\
        30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_second_version_counts_every_group_above() {
        let with = |limit, above| {
            least_of(&[
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/mountinfo", V2_MOUNT),
                ("/proc/self/cgroup", "0::/system.slice/uvs.service\n"),
                ("/sys/fs/cgroup/system.slice/uvs.service/memory.max", limit),
                ("/sys/fs/cgroup/system.slice/uvs.service/memory.current", "700000\n"),
                (
                    "/sys/fs/cgroup/system.slice/uvs.service/memory.stat",
                    "anon 400000\ninactive_file 200000\nactive_file 100000\n",
                ),
                ("/sys/fs/cgroup/system.slice/memory.max", above),
                ("/sys/fs/cgroup/system.slice/memory.current", "900000\n"),
            ])
        };
        assert_eq!(with("1000000\n", "max\n"), 500_000, "page cache can be dropped");
        assert_eq!(with("1000000\n", "1000000\n"), 100_000, "the group above has less");
        assert_eq!(with("max\n", "max\n"), 4_096_000);
        assert_eq!(with("1000\n", "max\n"), 0);
    }

    const V1_MOUNTS: &str = "31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        35 31 0:32 ROOT /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_first_version_has_other_names() {
        let with = |root, path: &str, group: &str| {
            let at = |file| format!("/sys/fs/cgroup/memory{group}/{file}");
            least_of(&[
                ("/proc/meminfo", MEMINFO),
                ("/proc/self/mountinfo", &V1_MOUNTS.replace("ROOT", root)),
                ("/proc/self/cgroup", &format!("8:cpu:/\n4:memory:{path}\n0::/\n")),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                (&at("memory.limit_in_bytes"), "3000000\n"),
                (&at("memory.usage_in_bytes"), "1000000\n"),
                (&at("memory.stat"), "inactive_file 5\ntotal_inactive_file 10\n"),
            ])
        };
        assert_eq!(with("/", "/box/one", "/box/one"), 2_000_010);
        assert_eq!(with("/docker/7", "/docker/7/one", "/one"), 2_000_010, "inside a container");
        assert_eq!(with("/docker/7", "/elsewhere", "/other"), 4_096_000);
    }
}
