//! A lab's name, `uvs<pid>-<n>`: who made it, and which of the maker's labs it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where labs keep their files; like the namespaces under /run/netns it is gone after a reboot.
const RUN: &str = "/run";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The name of one lab; its namespaces are called `<name>-client`, `<name>-director` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabName {
    maker: u32,
    number: u32,
}

impl LabName {
    /// A name that this process has not given out yet.
    pub(crate) fn next() -> Self {
        // Relaxed: only that each number is given out once matters.
        Self { maker: std::process::id(), number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// The process that made the lab.
    pub fn maker(self) -> u32 {
        self.maker
    }

    /// Whether the process that made the lab lives.
    pub(crate) fn maker_lives(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.maker)).unwrap_or_default();
        // "7 (name) S ...", where a name may hold anything; a zombie is only not collected yet.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    /// The lab's folder: configs, pages and logs of its servers.
    pub fn folder(self) -> PathBuf {
        Path::new(RUN).join(self.to_string())
    }

    /// Where the folders of all labs are, among others'.
    pub(crate) fn folders() -> &'static Path {
        Path::new(RUN)
    }

    /// The lab to which a namespace belongs, if it belongs to any.
    pub(crate) fn of_namespace(namespace: &str) -> Option<Self> {
        let (name, host) = namespace.rsplit_once('-')?;
        (!host.is_empty()).then(|| name.parse().ok()).flatten()
    }
}

impl fmt::Display for LabName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uvs{}-{}", self.maker, self.number)
    }
}

impl FromStr for LabName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("uvs").and_then(|rest| rest.split_once('-'));
        let number = |text: &str| text.parse::<u32>().ok();
        digits
            .and_then(|(maker, n)| Some(Self { maker: number(maker)?, number: number(n)? }))
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| format!("`{text}` is not a lab's name, like uvs1234-0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_reads_back(maker: u32, number: u32) {
            let name = LabName { maker, number };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(LabName::of_namespace(&format!("{name}-server1")), Some(name));
        }

        #[test]
        fn nothing_else_is_a_name(text in "\\PC{0,20}") {
            if let Ok(name) = text.parse::<LabName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn foreign_namespaces_are_left_alone() {
        for foreign in ["uvs", "uvs1-client", "uvs-1-0-client", "uvs01-0-x", "cni-1-2", "uvs1-0-"] {
            assert_eq!(LabName::of_namespace(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn names_are_given_out_once() {
        assert_ne!(LabName::next(), LabName::next());
        assert!(LabName::next().maker_lives());
    }
}
