//! `uvs-lab lab ...`: the lab's own small programs, for labs that no `uvs` binary is there for.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(about = "The small programs of a uvs test lab")]
enum Program {
    /// Run one of the lab's programs.
    #[command(subcommand)]
    Lab(uvs_lab::Tool),
}

fn main() -> ExitCode {
    let Program::Lab(tool) = Program::parse();
    match tool.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("uvs-lab: {error}");
            ExitCode::FAILURE
        }
    }
}
