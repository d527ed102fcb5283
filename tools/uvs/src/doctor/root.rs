//! The machine's files, /proc and /sys; tests bring their own.

use std::fs;
use std::path::{Path, PathBuf};

/// Where /proc, /sys and /dev are.
#[derive(Clone, Debug)]
pub struct Root(pub PathBuf);

impl Root {
    /// A file's text without the space around it; `None` when it cannot be read.
    pub fn text(&self, path: &str) -> Option<String> {
        Some(fs::read_to_string(self.0.join(path)).ok()?.trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    /// The last part of where a link points to.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.0.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The names in a folder; none when there is no such folder.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// The value of an IPv4 setting that holds for an interface: the kernel takes the larger of
    /// its own and the one for all.
    pub fn setting(&self, interface: &str, key: &str) -> u64 {
        let of = |name| self.number(&format!("proc/sys/net/ipv4/conf/{name}/{key}")).unwrap_or(0);
        of(interface).max(of("all"))
    }
}

/// A folder that stands for /, removed with this.
#[cfg(test)]
pub struct Fake(Root);

#[cfg(test)]
impl std::ops::Deref for Fake {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.0
    }
}

#[cfg(test)]
impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.0);
    }
}

/// Makes a folder with these files; a text `-> TARGET` makes a symbolic link.
#[cfg(test)]
pub fn fake(name: &str, files: &[(&str, &str)]) -> Fake {
    let folder = std::env::temp_dir().join(format!("uvs-doctor-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("inside the folder")).expect("a folder");
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, path).expect("a link"),
            None => fs::write(path, text).expect("a file"),
        }
    }
    Fake(Root(folder))
}
