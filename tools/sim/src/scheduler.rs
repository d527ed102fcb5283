//! Which scheduler, with which flags.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uvs_sched::{Flags, Name, Scheduler, Servers, Twos};

use crate::error::Wrong;

/// A scheduler and its flags, as `mh` or `mh:port+fallback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The scheduler.
    pub name: Name,
    /// What ipvsadm's `-b` sets.
    pub flags: Flags,
}

impl Choice {
    /// Every scheduler, without flags.
    pub fn all() -> Vec<Self> {
        Name::ALL.iter().map(|name| Self { name: *name, flags: Flags::default() }).collect()
    }

    /// Several, with commas between them; `all` is every one.
    ///
    /// # Errors
    ///
    /// What is no scheduler, or no flag of it.
    pub fn list(text: &str) -> Result<Vec<Self>, Wrong> {
        let mut list = Vec::new();
        for word in text.split(',') {
            match word.trim() {
                "all" => list.extend(Self::all()),
                word => list.push(word.parse()?),
            }
        }
        Ok(list)
    }

    /// Whether a pick depends on the flow alone, as long as the list stays: the picks of a client
    /// before and after a change of the list can be compared.
    pub fn hashes(self) -> bool {
        matches!(self.name, Name::Sh | Name::Dh | Name::Mh)
    }

    /// The scheduler over a list.
    pub(crate) fn build(self, servers: Servers, seed: u64) -> Scheduler {
        match self.name {
            Name::Twos => Scheduler::Twos(Twos::with_seed(servers, seed)),
            name => Scheduler::build(name, servers, self.flags),
        }
    }

    fn set(&mut self, flag: &str) -> Result<(), Wrong> {
        // ipvsadm calls them sh-port and mh-port.
        let plain = flag.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        match plain.unwrap_or(flag) {
            _ if !self.name.has_flags() => return Err(Wrong::Flagless { name: self.name }),
            "port" => self.flags.port = true,
            "fallback" => self.flags.fallback = true,
            _ => return Err(Wrong::Flag { name: self.name, flag: flag.to_owned() }),
        }
        Ok(())
    }
}

impl FromStr for Choice {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let (name, flags) = text.split_once(':').map_or((text, None), |(n, f)| (n, Some(f)));
        let mut choice = Self { name: name.parse()?, flags: Flags::default() };
        for flag in flags.iter().flat_map(|flags| flags.split('+')) {
            choice.set(flag)?;
        }
        Ok(choice)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = match (self.flags.port, self.flags.fallback) {
            (false, false) => "",
            (true, false) => ":port",
            (false, true) => ":fallback",
            (true, true) => ":port+fallback",
        };
        f.pad(&format!("{}{flags}", self.name))
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for text in ["wlc", "mh:port", "sh:fallback", "mh:port+fallback"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!("sh:sh-port".parse::<Choice>().unwrap().to_string(), "sh:port");
        let names: Vec<String> =
            Choice::list("wlc, mh:port").unwrap().iter().map(Choice::to_string).collect();
        assert_eq!(names, ["wlc", "mh:port"]);
        assert_eq!(Choice::list("all").unwrap().len(), Name::ALL.len());
    }

    #[test]
    fn what_there_is_not_is_named() {
        let wrong = |text| Choice::list(text).unwrap_err().to_string();
        assert!(wrong("wlc,best").starts_with("unknown scheduler 'best'; there are rr wrr"));
        assert!(wrong("").starts_with("unknown scheduler ''"));
        assert_eq!(wrong("wlc:port"), "wlc has no flags; sh and mh have port and fallback");
        assert_eq!(wrong("mh:fast"), "mh has no flag 'fast'; it has port and fallback");
        assert_eq!(wrong("mh:sh-port"), "mh has no flag 'sh-port'; it has port and fallback");
    }
}
