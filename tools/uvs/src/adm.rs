//! `uvsadm`: ipvsadm's command line against a running engine.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use uvs_control::adm::{self, Invocation, Program};
use uvs_control::client::Client;
use uvs_uvsadm::names::System;
use uvs_uvsadm::proc::Proc;

use crate::Failure;

/// Names the socket when it is not the usual one.
const SOCKET_VARIABLE: &str = "UVS_SOCKET";

/// Runs one command line, without the program's name, and says how it ended.
pub fn uvsadm(program: &Program, arguments: &[String]) -> ExitCode {
    let mut out = BufWriter::new(io::stdout());
    let colour = io::stdout().is_terminal();
    let mut invocation = Invocation {
        program,
        client: &client(),
        names: &System::load(),
        input: &mut io::stdin().lock(),
        out: &mut out,
        err: &mut io::stderr(),
        colour,
    };
    let code = invocation.run(arguments);
    // A closed pipe is no failure of the listing.
    let _ = out.flush();
    ExitCode::from(code)
}

/// Prints a file of IPVS's under /proc/net as it would be of the running engine.
pub fn proc(file: Proc) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::new(io::stdout());
    adm::proc(&client(), file, &mut out)?;
    let _ = out.flush();
    Ok(ExitCode::SUCCESS)
}

/// The running engine's socket.
pub fn socket() -> OsString {
    let named = std::env::var_os(SOCKET_VARIABLE);
    named.unwrap_or_else(|| uvs_control::config::DEFAULT_SOCKET.into())
}

fn client() -> Client {
    Client::new(Path::new(&socket()))
}
