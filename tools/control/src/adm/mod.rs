//! uvsadm: ipvsadm's commands, against a running engine.
//!
//! By ipvsadm's own names everything that is printed is ipvsadm's, to the byte. By the name of
//! uvsadm a line of `-R` that fails is named with its number, and the help goes on with what uvs
//! has besides.

mod program;
mod restore;

use std::io::{BufRead, Write};
use std::ops::ControlFlow;

use serde::Serialize;
use uvs_uvsadm::api::{ApiError, Change, Conn, NO_SUCH_SERVICE};
use uvs_uvsadm::names::{Names, Numeric};
use uvs_uvsadm::plan::plan;
use uvs_uvsadm::proc::{self, Proc};
use uvs_uvsadm::{Command, Form, List, help, listing, own_help, parse_with, save, version};

use crate::client::{Client, ClientError};
pub use program::{Kind, Program};

/// ipvsadm's exit code for a listing of what is not there.
const NOT_THERE: u8 = 1;

/// ipvsadm's exit code where there is no IPVS, or not for who asks.
const NO_IPVS: u8 = 2;

/// What ipvsadm says to who is not root.
const NOT_ROOT: &str = "\
Can't initialize ipvs: Permission denied (you must be root)
Are you sure that IP Virtual Server is built in the kernel or as module?";

/// One run of the program: by which name, against which engine, and where it reads and writes.
pub struct Invocation<'a> {
    /// The name that it runs by.
    pub program: &'a Program,
    /// The engine.
    pub client: &'a Client,
    /// Names, where there is no `-n`.
    pub names: &'a dyn Names,
    /// Standard input.
    pub input: &'a mut dyn BufRead,
    /// Standard output.
    pub out: &'a mut dyn Write,
    /// Standard error.
    pub err: &'a mut dyn Write,
    /// Whether plans are coloured: standard output is a terminal.
    pub colour: bool,
}

/// How a command ended that did not succeed.
struct End {
    /// What is to be said; nothing where that was done already.
    message: String,
    code: u8,
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        let (message, code) = match &error {
            ClientError::NoEngine { .. } | ClientError::NotAllowed(_) => {
                (format!("Can't initialize ipvs: {error}"), NO_IPVS)
            }
            _ => (error.to_string(), ApiError::EXIT),
        };
        Self { message, code }
    }
}

impl Invocation<'_> {
    /// Runs a command line, without the program's name; returns the exit code.
    pub fn run(&mut self, arguments: &[String]) -> u8 {
        let ended = match self.program.kind {
            Kind::Save => self.save_script(arguments),
            Kind::Restore => self.restore_script(),
            Kind::Ipvsadm | Kind::Uvsadm => self.line(arguments),
        };
        self.end(ended)
    }

    fn end(&mut self, ended: Result<(), End>) -> u8 {
        let Err(End { message, code }) = ended else { return 0 };
        if !message.is_empty() {
            let _ = writeln!(self.err, "{message}");
        }
        code
    }

    fn line(&mut self, arguments: &[String]) -> Result<(), End> {
        self.allowed()?;
        let command = parse_with(arguments, self.names)
            .map_err(|error| End { message: error.told(&self.program.name), code: error.exit })?;
        match command {
            Command::Restore { dry_run } => {
                let lines = restore::lines(self.input)?;
                self.restore(&lines, dry_run)
            }
            command => self.command(command),
        }
    }

    /// Who may not ask is told so before anything else, even the help; where there is no engine,
    /// what needs none is done.
    fn allowed(&self) -> Result<(), End> {
        match (self.client.probe(), self.program.kind) {
            (Err(error @ ClientError::NotAllowed(_)), Kind::Uvsadm) => Err(error.into()),
            (Err(ClientError::NotAllowed(_)), _) => {
                Err(End { message: NOT_ROOT.to_owned(), code: NO_IPVS })
            }
            _ => Ok(()),
        }
    }

    fn command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Change { change, dry_run: false } => {
                self.client.change(&[change])?;
                Ok(())
            }
            Command::Change { change, dry_run: true } => self.trial(&[change], |_| None),
            Command::Save { numeric } => {
                let text = save(&self.client.services()?, self.names(numeric));
                self.print(&text)
            }
            Command::List(list) => self.list(&list),
            Command::Help => {
                let own =
                    if self.program.kind == Kind::Uvsadm { own_help() } else { String::new() };
                self.print(&(help(&self.program.name) + &own))
            }
            Command::Version => self.print(version()),
            // `line` and `restore` have seen to it.
            Command::Restore { .. } => Ok(()),
        }
    }

    /// Says what the changes would do, and which would be refused; `number` is a change's line.
    fn trial(
        &mut self,
        changes: &[Change],
        number: impl Fn(usize) -> Option<usize>,
    ) -> Result<(), End> {
        let outcome = self.client.trial(changes)?;
        let text = plan(&outcome.changes, self.names, self.colour);
        let refused = self.refuse(&outcome.refused, changes.len(), number);
        if changes.len() > 1 || refused.is_ok() {
            self.print(&text)?;
        }
        refused
    }

    fn names(&self, numeric: bool) -> &dyn Names {
        if numeric { &Numeric } else { self.names }
    }

    /// A closed pipe is no failure of the listing.
    fn print(&mut self, text: &str) -> Result<(), End> {
        let _ = self.out.write_all(text.as_bytes());
        Ok(())
    }

    fn list(&mut self, list: &List) -> Result<(), End> {
        match list.form {
            Form::Connections | Form::ConnectionsWithPe => self.connections(list),
            Form::Timeouts => {
                let settings = self.client.settings()?;
                match list.json {
                    true => self.json(&settings.timeouts),
                    false => self.print(&listing::timeouts(&settings)),
                }
            }
            Form::Daemon if list.json => self.json::<[(); 0]>(&[]),
            // There is none.
            Form::Daemon => Ok(self.client.probe()?),
            _ => self.services(list),
        }
    }

    fn services(&mut self, list: &List) -> Result<(), End> {
        let (settings, services) = (self.client.settings()?, self.client.services()?);
        let missing = || End { message: NO_SUCH_SERVICE.to_owned(), code: NOT_THERE };
        if list.json {
            return self.json(&listing::chosen(list, &services).ok_or_else(missing)?);
        }
        let text = listing::services(list, &settings, &services, self.names);
        self.print(&text.ok_or_else(missing)?)
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), End> {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.print(&(text + "\n"))
    }

    /// Prints connections as they come: the table may be larger than memory.
    fn connections(&mut self, list: &List) -> Result<(), End> {
        let Self { client, names, out, .. } = self;
        let mut before = match list.json {
            true => "[\n  ".to_owned(),
            false => listing::connections_header(list),
        };
        client.each_connection(|conn| {
            let text = match list.json {
                true => serde_json::to_string(&conn).unwrap_or_default(),
                false => listing::connection(list, &conn, *names),
            };
            let printed = out.write_all((std::mem::take(&mut before) + &text).as_bytes());
            if list.json {
                before = ",\n  ".to_owned();
            }
            broken_off(printed.is_err())
        })?;
        let rest = match (list.json, before.starts_with('[')) {
            (true, true) => "[]\n".to_owned(),
            (true, false) => "\n]\n".to_owned(),
            (false, _) => before,
        };
        self.print(&rest)
    }
}

fn broken_off(broken: bool) -> ControlFlow<()> {
    if broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Prints a file of IPVS's under /proc/net as it would be of this engine.
///
/// # Errors
///
/// The engine's.
pub fn proc(client: &Client, file: Proc, out: &mut dyn Write) -> Result<(), ClientError> {
    // A closed pipe is no failure of the listing.
    match file {
        Proc::Services => {
            let (settings, services) = (client.settings()?, client.services()?);
            let _ = out.write_all(proc::services(&settings, &services).as_bytes());
        }
        Proc::App => {
            let (services, mut ftp) = (client.services()?, 0);
            client.each_connection(|conn| {
                ftp += usize::from(proc::is_of_ftp(&conn, &services));
                ControlFlow::Continue(())
            })?;
            let _ = out.write_all(proc::app(ftp).as_bytes());
        }
        Proc::Conns | Proc::ConnsSync => {
            let _ = out.write_all(proc::conns_header(file).as_bytes());
            let line = |conn: Conn| proc::conn(file, &conn);
            client.each_connection(|conn| {
                broken_off(out.write_all(line(conn).as_bytes()).is_err())
            })?;
        }
        Proc::Stats | Proc::StatsPercpu => {
            let _ = out.write_all(proc::stats(file, &client.traffic()?).as_bytes());
        }
    }
    Ok(())
}
