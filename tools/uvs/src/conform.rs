//! `uvs conform`: replays recordings of the kernel's IPVS.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use uvs_conform::{Outcome, run};

use crate::Failure;

/// Replays what is under these paths; shows what differs, then how many passed and failed.
pub fn conform(paths: &[PathBuf], verbose: bool) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let cases = run(paths, |case| {
        let shown = match &case.outcome {
            Outcome::Passed if !verbose => Ok(()),
            Outcome::Passed => writeln!(out, "ok    {case}"),
            outcome => writeln!(out, "FAIL  {case}\n    {outcome}"),
        };
        // Who closes the pipe (`| head`) has seen enough; the exit code still counts.
        drop(shown);
    })?;
    let passed = cases.iter().filter(|case| case.outcome == Outcome::Passed).count();
    let failed = cases.len() - passed;
    let _ = writeln!(out, "{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
