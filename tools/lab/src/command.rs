//! Commands run as children: `ip`, `ethtool`, `sysctl` and whatever runs in a namespace.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Error;

/// Where the programs of the lab are besides PATH, which for a plain user's `su` lacks them.
const SYSTEM_DIRECTORIES: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// PATH with the system's own directories at its end.
pub(crate) fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM_DIRECTORIES}"),
        _ => SYSTEM_DIRECTORIES.to_owned(),
    }
}

/// Where a program is, if it is anywhere on that path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = search_path();
    let mut places = path.split(':').map(|folder| Path::new(folder).join(program));
    places.find(|place| place.is_file())
}

/// A command with nothing on its standard input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path()).stdin(Stdio::null());
    command
}

/// A command that runs in a namespace; its process id is the program's, for `ip` executes it in
/// its own place.
pub(crate) fn command_in(namespace: &str, program: &str) -> Command {
    let mut inside = command("ip");
    inside.args(["netns", "exec", namespace, program]);
    inside
}

/// The command line as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end, however it ends.
pub(crate) fn output(command: &mut Command) -> Result<Output, Error> {
    command.output().map_err(|source| Error::Start { command: line(command), source })
}

/// Runs a command that must succeed and gives its standard output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let output = output(command)?;
    check(line(command), output)
}

/// Runs `lines` as one `ip -batch`, in a namespace if one is given: one process for many changes.
pub(crate) fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<(), Error> {
    let mut ip = command("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    ip.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = |source| Error::Start { command: "ip -batch -".to_owned(), source };
    let mut child = ip.spawn().map_err(started)?;
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    // A batch that fails early closes the pipe; its exit status tells, not the write.
    let _ = stdin.write_all(lines.join("\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(started)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let culprit = failed_line(&stderr).and_then(|number| lines.get(number.checked_sub(1)?));
    let command = match (culprit, namespace) {
        (Some(culprit), Some(namespace)) => format!("ip -n {namespace} {culprit}"),
        (Some(culprit), None) => format!("ip {culprit}"),
        (None, _) => line(&ip),
    };
    check(command, output).map(drop)
}

/// The line number in `ip`'s "Command failed -:3".
fn failed_line(stderr: &str) -> Option<usize> {
    let (_, number) = stderr.rsplit_once("Command failed -:")?;
    number.trim().parse().ok()
}

fn check(command: String, output: Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::Failed { command, status: output.status, stderr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = run(command("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`sh -c echo no such thing"), "{text}");
        assert!(text.contains("exit status: 3: no such thing"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let text = run(&mut command("uvs-no-such-program")).unwrap_err().to_string();
        assert!(text.starts_with("cannot start `uvs-no-such-program`"), "{text}");
    }

    #[test]
    fn the_failed_line_of_a_batch_is_found() {
        let said = "Cannot find device \"eth7\"\nCommand failed -:2\n";
        assert_eq!(failed_line(said), Some(2));
        assert_eq!(failed_line("Cannot open network namespace"), None);
    }
}
