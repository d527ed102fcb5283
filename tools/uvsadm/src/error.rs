//! What is wrong with a command line or a file of rules.

use thiserror::Error;

/// Where ipvsadm sends whoever writes a command line that it cannot read at all.
const TRY_HELP: &str = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";

/// Exit code for a command line that was read and found wrong.
const USAGE: u8 = 2;

/// Exit code for a command line that could not be read.
const UNREADABLE: u8 = 255;

/// A command line that is refused. It displays as what ipvsadm prints on standard error, without
/// the last newline.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ParseError {
    /// What ipvsadm prints.
    pub message: String,
    /// Which argument is at fault (0 is the first after the program's name), if it is one.
    pub arg: Option<usize>,
    /// The exit code: 2, or 255 where the option parser itself gave up.
    pub exit: u8,
    /// True when ipvsadm would accept the line and uvs cannot do it yet.
    pub unsupported: bool,
    /// What is wrong, where ipvsadm's message does not say it.
    reason: Option<String>,
}

impl ParseError {
    /// One sentence that says what is wrong, for a file of rules or a log.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(self.message.trim_end())
    }

    /// What ipvsadm prints when it was called by this name.
    pub fn told(&self, program: &str) -> String {
        match self.message.as_str() {
            TRY_HELP => TRY_HELP.replace("ipvsadm", program),
            message => message.to_owned(),
        }
    }

    /// A line whose parts were read and are wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), arg: None, exit: USAGE, unsupported: false, reason: None }
    }

    /// An argument that the option parser cannot read, or that lacks its value.
    pub(crate) fn unreadable(arg: usize, message: String) -> Self {
        Self { exit: UNREADABLE, ..Self::usage(message) }.at(arg)
    }

    /// A line that does not begin with a command.
    pub(crate) fn no_command(arg: Option<usize>, reason: String) -> Self {
        Self { exit: UNREADABLE, arg, reason: Some(reason), ..Self::usage(TRY_HELP) }
    }

    /// `what` is ipvsadm's, and uvs cannot do it yet; `when` says when.
    pub(crate) fn unsupported(what: impl std::fmt::Display, when: &str) -> Self {
        let message = format!("{what} is not supported by uvs yet: {when}");
        Self { unsupported: true, exit: UNREADABLE, ..Self::usage(message) }
    }

    /// There is a command like `-R` where none may stand.
    pub(crate) fn not_here(what: impl std::fmt::Display) -> Self {
        Self::no_command(Some(0), format!("the '{what}' command cannot stand here"))
    }

    /// The same error, at argument `arg` if that is known.
    pub(crate) fn at(self, arg: impl Into<Option<usize>>) -> Self {
        Self { arg: arg.into(), ..self }
    }
}

/// A line of a file of rules that is refused; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct RuleError {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}
