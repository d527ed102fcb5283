//! `uvsadm`: ipvsadm's command line against a running engine.

use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use uvs_control::client::{Client, ClientError};
use uvs_uvsadm::api::{ApiError, Conn, NO_SUCH_SERVICE};
use uvs_uvsadm::names::{Names, Numeric, System};
use uvs_uvsadm::{Command, Form, List, help, listing, parse_line, parse_with, save, version};

/// Names the socket when it is not the usual one.
const SOCKET_VARIABLE: &str = "UVS_SOCKET";

/// ipvsadm's exit code for a listing of what is not there.
const NOT_THERE: u8 = 1;

/// Runs one command line, without the program's name, and says how it ended.
pub fn uvsadm(arguments: &[String]) -> ExitCode {
    let client = Client::new(Path::new(&socket()));
    match parse_with(arguments, &System::load()) {
        Ok(command) => end(run(&client, command)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit)
        }
    }
}

/// The running engine's socket.
pub fn socket() -> OsString {
    let named = std::env::var_os(SOCKET_VARIABLE);
    named.unwrap_or_else(|| uvs_control::config::DEFAULT_SOCKET.into())
}

fn end(result: Result<(), End>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(End { message, code }) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

/// A command that did not succeed.
struct End {
    message: String,
    code: u8,
}

impl From<ClientError> for End {
    fn from(error: ClientError) -> Self {
        Self { message: error.to_string(), code: ApiError::EXIT }
    }
}

fn run(client: &Client, command: Command) -> Result<(), End> {
    let text = match command {
        Command::Change(change) => return Ok(client.change(&[change])?),
        Command::Restore => return restore(client, io::stdin().lock()),
        Command::Save { numeric } => save(&client.services()?, &*names(numeric)),
        Command::List(list) => show(client, &list)?,
        Command::Help => help("uvsadm"),
        Command::Version => version().to_owned(),
    };
    // A closed pipe is no failure of the listing.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn show(client: &Client, list: &List) -> Result<String, End> {
    let names = names(list.numeric);
    match list.form {
        Form::Connections | Form::ConnectionsWithPe => {
            connections(client, list, &*names).map(|()| String::new())
        }
        Form::Timeouts => Ok(listing::timeouts(&client.settings()?)),
        _ => {
            let (settings, services) = (client.settings()?, client.services()?);
            let missing = || End { message: NO_SUCH_SERVICE.to_owned(), code: NOT_THERE };
            listing::services(list, &settings, &services, &*names).ok_or_else(missing)
        }
    }
}

/// Prints connections as they come: the table may be larger than memory.
fn connections(client: &Client, list: &List, names: &dyn Names) -> Result<(), End> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut begun = false;
    let mut print = |conn: Option<Conn>| {
        let header = || listing::connections_header(list);
        let mut text = if begun { String::new() } else { header() };
        begun = true;
        text.extend(conn.map(|conn| listing::connection(list, &conn, names)));
        // A closed pipe is no failure of the listing.
        match out.write_all(text.as_bytes()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    client.each_connection(|conn| print(Some(conn)))?;
    let _ = print(None);
    Ok(())
}

fn names(numeric: bool) -> Box<dyn Names> {
    if numeric { Box::new(Numeric) } else { Box::new(System::load()) }
}

/// `-R`: runs the lines one by one, as ipvsadm does: a line that cannot be read ends it, one that
/// the engine refuses does not; the last line's exit code counts.
fn restore(client: &Client, input: impl BufRead) -> Result<(), End> {
    let names = System::load();
    let mut last = Ok(());
    for (number, text) in (1..).zip(input.lines()) {
        let unreadable = |error: io::Error| End { message: error.to_string(), code: 2 };
        let unparsed = |error: uvs_uvsadm::RuleError| End { message: error.to_string(), code: 2 };
        let Some(command) =
            parse_line(number, &text.map_err(unreadable)?, &names).map_err(unparsed)?
        else {
            continue;
        };
        if let Err(End { message, .. }) = &last {
            eprintln!("{message}");
        }
        last = run(client, command)
            .map_err(|end| End { message: format!("line {number}: {}", end.message), ..end });
    }
    last
}
