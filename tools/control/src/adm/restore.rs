//! `-R`, and what Debian's ipvsadm-save and ipvsadm-restore do.

use std::io::BufRead;

use uvs_uvsadm::api::{ApiError, Change, Refused};
use uvs_uvsadm::{Command, RuleError, read_line, save};

use super::{End, Invocation, Kind};

/// Changes that are sent at once: far less than a request may hold.
const AT_ONCE: usize = 100_000;

/// ipvsadm-save's exit code for an option that it does not know.
const USAGE: u8 = 1;

/// ipvsadm's exit code for input that cannot be read.
const UNREADABLE: u8 = 2;

/// The lines of standard input, to its end.
pub(super) fn lines(input: &mut dyn BufRead) -> Result<Vec<String>, End> {
    let mut bytes = Vec::new();
    let unreadable = |error: std::io::Error| End { message: error.to_string(), code: UNREADABLE };
    input.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

impl Invocation<'_> {
    /// Runs lines one after another, as ipvsadm does: one that cannot be read ends it, one that the
    /// engine refuses does not; the last one's exit code counts. Changes are made together, once
    /// the lines are over or one asks for something else; each counts for itself.
    pub(super) fn restore(&mut self, lines: &[String], dry_run: bool) -> Result<(), End> {
        let mut pending: Vec<(usize, Change)> = Vec::new();
        let mut last = Ok(());
        for (number, text) in (1..).zip(lines) {
            let command = match read_line(text, self.names) {
                Ok(None) => continue,
                Ok(Some(command)) => command,
                Err(error) => {
                    last = self.changes(&mut pending, dry_run, last);
                    self.end(last);
                    let message = match self.program.kind {
                        Kind::Uvsadm => RuleError::new(number, text, &error).to_string(),
                        _ => error.told(&self.program.name),
                    };
                    return Err(End { message, code: error.exit });
                }
            };
            match command {
                Command::Change { change, .. } => pending.push((number, change)),
                Command::Restore { .. } => {
                    let _ = self.changes(&mut pending, dry_run, last);
                    return self.line(&["-n".to_owned()]);
                }
                command => {
                    let before = self.changes(&mut pending, dry_run, last);
                    self.end(before);
                    last = self.command(command);
                }
            }
            if pending.len() == AT_ONCE && !dry_run {
                last = self.changes(&mut pending, dry_run, last);
            }
        }
        self.changes(&mut pending, dry_run, last)
    }

    /// Makes the changes of so many lines; how the last one ended, or what was before if there is
    /// none.
    fn changes(
        &mut self,
        pending: &mut Vec<(usize, Change)>,
        dry_run: bool,
        last: Result<(), End>,
    ) -> Result<(), End> {
        if pending.is_empty() {
            return last;
        }
        self.end(last);
        let (numbers, changes): (Vec<usize>, Vec<Change>) = pending.drain(..).unzip();
        let number = |change: usize| numbers.get(change).copied();
        if dry_run {
            return self.trial(&changes, number);
        }
        let refused = self.client.change_each(&changes)?.refused;
        self.refuse(&refused, changes.len(), number)
    }

    /// Says which of so many changes were refused, and whether the last one was.
    pub(super) fn refuse(
        &mut self,
        refused: &[Refused],
        count: usize,
        number: impl Fn(usize) -> Option<usize>,
    ) -> Result<(), End> {
        for Refused { change, error } in refused {
            let place = match (self.program.kind, number(*change)) {
                (Kind::Uvsadm, Some(number)) => format!("line {number}: "),
                _ => String::new(),
            };
            let _ = writeln!(self.err, "{place}{error}");
        }
        match refused.last() {
            Some(last) if last.change + 1 == count => {
                Err(End { message: String::new(), code: ApiError::EXIT })
            }
            _ => Ok(()),
        }
    }

    /// ipvsadm-save: `-n` is all that it takes, and what is no option it does not see.
    pub(super) fn save_script(&mut self, arguments: &[String]) -> Result<(), End> {
        let other = |argument: &String| argument.starts_with('-') && argument != "-n";
        if arguments.iter().any(other) {
            let name = self.program.base();
            let message = format!(
                "{name}: Script to save the IPVS table to stdout.\n   \
                 With the -n option, prints out the table in numeric format."
            );
            return Err(End { message, code: USAGE });
        }
        self.allowed()?;
        let numeric = arguments.iter().any(|argument| argument == "-n");
        let text = save(&self.client.services()?, self.names(numeric));
        self.print(&text)
    }

    /// ipvsadm-restore: takes out comments, clears the table, and restores.
    pub(super) fn restore_script(&mut self) -> Result<(), End> {
        let mut lines = lines(self.input)?;
        lines.retain(|line| !line.starts_with('#'));
        let cleared = self.line(&["-C".to_owned()]);
        self.end(cleared);
        self.allowed()?;
        self.restore(&lines, false)
    }
}
