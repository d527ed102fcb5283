//! How much memory this process may still take, by the limits of its control groups.
//!
//! The engine itself looks at what the machine has; in a container that is not the bound.

use std::fs;
use std::path::{Path, PathBuf};

use uvs_engine::table::{CapacityError, Table};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The files of a group's limit, its use, and what of that can be given back.
struct Files {
    limit: &'static str,
    used: &'static str,
    reclaimable: &'static str,
}

const V2: Files =
    Files { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// Whether a table fits into the limits of this process's control groups.
///
/// # Errors
///
/// [`CapacityError::Memory`].
pub(crate) fn check(table: &Table) -> Result<(), CapacityError> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let available = available(&groups, Path::new(ROOT));
    fits(table.capacity() as u64, table.memory(), available.unwrap_or(u64::MAX))
}

fn fits(capacity: u64, need: u64, available: u64) -> Result<(), CapacityError> {
    if need <= available {
        return Ok(());
    }
    let fits = u128::from(capacity) * u128::from(available) / u128::from(need.max(1));
    Err(CapacityError::Memory { capacity, need, available, fits: fits as u64 })
}

/// What the tightest of the groups in /proc/self/cgroup's text leaves; `None` without a limit.
fn available(groups: &str, root: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if number == "0" && controllers.is_empty() {
            // Beside version 1 groups, those of version 2 are mounted apart.
            let mounts = [root.to_owned(), root.join("unified")];
            return mounts.iter().filter_map(|mount| tightest(mount, path, &V2)).min();
        }
        let memory = controllers.split(',').any(|controller| controller == "memory");
        if memory { tightest(&root.join("memory"), path, &V1) } else { None }
    });
    limits.min()
}

/// What a group and the groups around it leave. In a container, the group's path is sometimes the
/// host's and does not exist; then the mount itself is the group.
fn tightest(mount: &Path, path: &str, files: &Files) -> Option<u64> {
    let group: PathBuf = mount.join(path.trim_start_matches('/'));
    let around = group.ancestors().take_while(|group| group.starts_with(mount));
    around.filter_map(|group| left(group, files)).min()
}

fn left(group: &Path, files: &Files) -> Option<u64> {
    let number = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // `max` and version 1's huge number are no limits.
    let limit = number(files.limit).filter(|limit| *limit < 1 << 62)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == files.reclaimable { value.parse().ok() } else { None }
    });
    let used = number(files.used).unwrap_or(0).saturating_sub(reclaimable.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of groups that is removed at the end.
    struct Groups(PathBuf);

    impl Groups {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("uvs-{name}-{}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Groups {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let groups = Groups::new(
            "v2",
            &[
                ("memory.max", "9000\n"),
                ("pod/memory.max", "1000\n"),
                ("pod/memory.current", "700\n"),
                ("pod/memory.stat", "anon 1\ninactive_file 200\n"),
                ("pod/uvs/memory.max", "max\n"),
            ],
        );
        assert_eq!(available("0::/pod/uvs\n", &groups.0), Some(500));
        assert_eq!(available("0::/elsewhere\n", &groups.0), Some(9000), "the mount's own");
        assert_eq!(available("", &groups.0), None);
    }

    #[test]
    fn groups_of_version_1_count_as_well() {
        let groups = Groups::new(
            "v1",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/uvs/memory.limit_in_bytes", "4096\n"),
                ("memory/uvs/memory.usage_in_bytes", "96\n"),
                ("unified/memory.max", "max"),
            ],
        );
        assert_eq!(available("5:cpu,memory:/uvs\n2:cpu:/x\n0::/uvs\n", &groups.0), Some(4000));
        assert_eq!(available("5:cpu,memory:/\n", &groups.0), None);
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused_with_one_that_would() {
        assert!(fits(100, 1000, 1000).is_ok());
        let error = fits(100, 20_000_000, 10_000_000).unwrap_err().to_string();
        assert!(error.contains("at most 50, or"), "{error}");
    }
}
