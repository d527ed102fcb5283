//! The userspace virtual server: one binary, which is `uvsadm` when it is called so, or by
//! ipvsadm's names.

mod adm;
mod cli;
mod compare;
mod conform;
mod demo;
mod doctor;
mod mirror;
mod run;
mod set;
mod sim;
mod stats;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use uvs_control::adm::Program;

use crate::cli::{Cli, Verb};

/// What ends a command: a sentence for the user.
#[derive(Debug)]
pub struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Failure {
    /// The exit code of a comparison that could not be made, as of diff(1): 1 says that something
    /// differs.
    fn trouble(self) -> ExitCode {
        eprintln!("uvs: {}", self.0);
        ExitCode::from(2)
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    if let Some(program) = Program::called(&program) {
        return adm::uvsadm(&program, &arguments.collect::<Vec<_>>());
    }
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(Failure(sentence)) => {
            eprintln!("uvs: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.verb {
        Verb::Run { config, kernel_fallback } => run::run(&config, kernel_fallback),
        Verb::Adm { arguments } => Ok(adm::uvsadm(&Program::uvsadm("uvs adm"), &arguments)),
        Verb::Compare(options) => Ok(compare::compare(&options).unwrap_or_else(Failure::trouble)),
        Verb::Conform { paths, verbose } => conform::conform(&paths, verbose),
        Verb::Demo(options) => demo::demo(&options),
        Verb::Doctor(options) => {
            let report = doctor::run(&options);
            let text = if options.json { report.json() } else { report.to_string() };
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            Ok(report.exit_code().into())
        }
        Verb::Mirror(options) => mirror::mirror(&options),
        Verb::Set(options) => set::set(&options),
        Verb::Sim(options) => sim::sim(&options),
        Verb::Stats { json } => stats::stats(json),
        Verb::Proc { file } => adm::proc(file.0),
        Verb::Openapi => {
            let _ = writeln!(std::io::stdout(), "{}", uvs_control::api::openapi());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Completions { shell, program } => cli::completions(shell, program),
        Verb::Man { program } => cli::man(program),
        Verb::Lab { tool } => Ok(tool.run()?),
    }
}
