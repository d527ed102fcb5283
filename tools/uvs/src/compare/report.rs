//! What came of it, for people and as JSON.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::decode::Field;
use super::rates::Rates;
use super::tables::Tables;

/// A new connection that went to different servers.
#[derive(Debug, Serialize)]
pub struct Pick {
    /// The client and the service.
    pub flow: String,
    /// The server in the kernel, if one was chosen.
    pub kernel: Option<String>,
    /// The server in uvs.
    pub uvs: Option<String>,
}

/// What one frame led to, where it is not the same.
#[derive(Debug, Serialize)]
pub struct Frames {
    /// The frame's number, from 1.
    pub step: usize,
    /// What it was.
    pub what: String,
    /// Where it left, or did not.
    pub side: &'static str,
    /// The fields that differ in the first pair that differs.
    pub fields: Vec<Field>,
    /// The kernel's frames, in hexadecimal.
    pub kernel: Vec<String>,
    /// uvs's.
    pub uvs: Vec<String>,
}

/// All of it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Frames that both got.
    pub sent: usize,
    /// Frames that left the kernel.
    pub kernel_frames: usize,
    /// Frames that left uvs.
    pub uvs_frames: usize,
    /// First packets of connections.
    pub picks: usize,
    /// Those that went to different servers.
    pub picks_differ: Vec<Pick>,
    /// What led to different frames.
    pub frames_differ: Vec<Frames>,
    /// The connection tables.
    pub tables: Option<Tables>,
    /// The rates, if they were measured.
    pub rates: Option<Rates>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether anything differs; rates always do.
    pub fn differs(&self) -> bool {
        let tables = self.tables.iter().any(|tables| !tables.differ.is_empty());
        tables || !self.picks_differ.is_empty() || !self.frames_differ.is_empty()
    }

    /// As a table, and of each kind of difference the first so many.
    pub fn text(&self, most: usize) -> String {
        let mut text = self.table();
        for pick in self.picks_differ.iter().take(most) {
            let Pick { flow, kernel, uvs } = pick;
            let _ = writeln!(text, "\npick of {flow}: kernel {}, uvs {}", or(kernel), or(uvs));
        }
        for frames in self.frames_differ.iter().take(most) {
            let Frames { step, what, side, fields, kernel, uvs } = frames;
            let _ = writeln!(text, "\nframe {step}, {what}, to the {side}:");
            if kernel.len() != uvs.len() {
                let _ = writeln!(text, "  frames: kernel {}, uvs {}", kernel.len(), uvs.len());
            }
            for Field { field, kernel, uvs } in fields {
                let _ = writeln!(text, "  {field}: kernel {}, uvs {}", or(kernel), or(uvs));
            }
        }
        for differs in self.tables.iter().flat_map(|tables| &tables.differ).take(most) {
            let (kernel, uvs) = (or(&differs.kernel), or(&differs.uvs));
            let _ = writeln!(text, "\n{}: kernel {kernel}, uvs {uvs}", differs.connection);
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    fn table(&self) -> String {
        let mut text = format!("{:<26} {:>12} {:>12} {:>12}\n", "", "kernel", "uvs", "differ");
        let mut row = |name: &str, kernel: &dyn fmt::Display, uvs: &dyn fmt::Display, differ| {
            let differ = Option::<usize>::map_or(differ, String::new(), |count| count.to_string());
            let _ = writeln!(text, "{name:<26} {kernel:>12} {uvs:>12} {differ:>12}");
        };
        row("frames in", &self.sent, &self.sent, None);
        let differ = Some(self.frames_differ.len());
        row("frames out", &self.kernel_frames, &self.uvs_frames, differ);
        row("picks", &self.picks, &self.picks, Some(self.picks_differ.len()));
        if let Some(tables) = &self.tables {
            row("connections", &tables.kernel, &tables.uvs, Some(tables.differ.len()));
        }
        if let Some(Rates { kernel, uvs }) = &self.rates {
            let whole = |figure: f64| format!("{figure:.0}");
            let fine = |figure: f64| format!("{figure:.2}");
            let pairs = (whole(kernel.connections), whole(uvs.connections));
            row("new connections a second", &pairs.0, &pairs.1, None);
            row("packets a second", &whole(kernel.packets), &whole(uvs.packets), None);
            row("processor us a packet", &fine(kernel.processor), &fine(uvs.processor), None);
        }
        text
    }
}

fn or(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_difference_counts_and_is_shown() {
        let none = Report { sent: 3, ..Report::default() };
        assert!(!none.differs());
        let field = Field { field: "ipv4.ttl".into(), kernel: Some("63".into()), uvs: None };
        let frames = Frames {
            step: 7,
            what: "a SYN".into(),
            side: "servers",
            fields: vec![field],
            kernel: vec!["00".into()],
            uvs: vec![],
        };
        let report = Report { frames_differ: vec![frames], ..Report::default() };
        assert!(report.differs());
        let text = report.text(10);
        assert!(text.contains("frame 7, a SYN, to the servers:\n  frames: kernel 1, uvs 0\n"));
        assert!(text.contains("  ipv4.ttl: kernel 63, uvs none\n"), "{text}");
        let pick =
            Pick { flow: "a to b".into(), kernel: Some("s1".into()), uvs: Some("s2".into()) };
        let report = Report { picks_differ: vec![pick], ..Report::default() };
        assert!(report.differs() && report.text(1).contains("pick of a to b: kernel s1, uvs s2"));
        assert!(!report.text(0).contains("pick of"));
    }
}
