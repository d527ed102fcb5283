//! What the doctor found, and how it reads.

use std::fmt;

use serde::Serialize;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but worth knowing.
    Note,
    /// Stands in the way of something.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was looked at, in a word.
    pub topic: String,
    /// What was found, in a sentence.
    pub text: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(topic: &str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, topic: topic.into(), text: text.into(), command: None }
    }

    /// Worth knowing.
    pub fn note(topic: &str, text: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::ok(topic, text) }
    }

    /// In the way.
    pub fn problem(topic: &str, text: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::ok(topic, text) }
    }

    /// With the command that mends it.
    pub fn mend(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

/// How the engine would take its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// AF_XDP, the NIC writes into the engine's memory.
    ZeroCopy,
    /// AF_XDP, the driver copies.
    Copy,
    /// AF_XDP, the kernel copies after it made a packet of its own.
    Generic,
    /// Packet sockets.
    Raw,
    /// None works.
    No,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ZeroCopy => "AF_XDP zero-copy",
            Self::Copy => "AF_XDP copy",
            Self::Generic => "AF_XDP generic",
            Self::Raw => "raw packet sockets",
            Self::No => "not at all",
        })
    }
}

/// Findings about one thing: the machine, an interface, the real servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The thing.
    pub title: String,
    /// Of an interface: how the engine would run on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// All that the doctor has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Section by section.
    pub sections: Vec<Section>,
    /// Whether uvs can run in some mode on some interface.
    pub can_run: bool,
}

impl Report {
    /// A report of these sections.
    pub fn new(sections: Vec<Section>) -> Self {
        let can_run = sections.iter().any(|s| s.mode.is_some_and(|mode| mode != Mode::No));
        Self { sections, can_run }
    }

    /// What the process ends with: 0 when uvs can run, 1 when it cannot.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.can_run)
    }

    /// The report as JSON, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only plain fields")
    }
}

/// As a table; every command stands on a line of its own, to copy.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = self.sections.iter().flat_map(|section| &section.findings);
        let width = topics.map(|finding| finding.topic.len()).max().unwrap_or(0);
        for section in &self.sections {
            match section.mode {
                Some(mode) => writeln!(f, "{}: {mode}", section.title)?,
                None => writeln!(f, "{}", section.title)?,
            }
            for finding in &section.findings {
                let Finding { level, topic, text, command } = finding;
                writeln!(f, "  {level:<7}  {topic:<width$}  {text}")?;
                if let Some(command) = command {
                    writeln!(f, "  {:<7}  {:<width$}  $ {command}", "", "")?;
                }
            }
            writeln!(f)?;
        }
        match self.can_run {
            true => writeln!(f, "uvs can run here."),
            false => writeln!(f, "uvs cannot run here as it is; see the problems above."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mode: Mode) -> Report {
        let findings = vec![
            Finding::ok("queues", "one"),
            Finding::problem("mtu", "too large").mend("ip link set dev eth0 mtu 1500"),
        ];
        Report::new(vec![Section { title: "eth0".into(), mode: Some(mode), findings }])
    }

    #[test]
    fn the_table_lines_up_and_commands_stand_alone() {
        let expected = "\
eth0: AF_XDP copy
  ok       queues  one
  problem  mtu     too large
                   $ ip link set dev eth0 mtu 1500

uvs can run here.
";
        assert_eq!(report(Mode::Copy).to_string(), expected);
    }

    #[test]
    fn programs_read_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report(Mode::ZeroCopy).json()).unwrap();
        assert_eq!(json["sections"][0]["mode"], "zero-copy");
        assert_eq!(json["sections"][0]["findings"][1]["level"], "problem");
        assert_eq!(json["sections"][0]["findings"][0].get("command"), None);
        assert_eq!(json["can_run"], true);
    }

    #[test]
    fn the_exit_code_says_whether_it_can_run() {
        assert_eq!(report(Mode::Raw).exit_code(), 0);
        assert_eq!(report(Mode::No).exit_code(), 1);
    }
}
