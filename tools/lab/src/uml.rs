//! A kernel of one's own: Debian's user-mode-linux, which has IPVS with all its schedulers as
//! modules, on the files of this host.
//!
//! It boots in about four seconds and needs no privilege that reading the host's files does not
//! need. Inside, `/run`, `/mnt`, `/var/tmp` and `/dev/shm` are its own and everything else is the
//! host's: what is written there stays. It has one processor and a network of its own, with `lo`.
//! BPF runs there; AF_XDP does not.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::command::{command, find, search_path};
use crate::{Error, Guard};
use clap::Args;

/// The kernel, as the package calls it.
const KERNEL: &str = "linux.uml";

/// What runs first inside.
const INIT: &str = include_str!("uml/init.sh");

/// What ends the kernel together with us.
const KEEP: &str = include_str!("uml/keep.sh");

/// How often what the command printed is passed on.
const LOOK: Duration = Duration::from_millis(20);

/// How long its burial may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `lab uml` is told.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct UmlJob {
    /// Its memory, as the kernel takes it.
    #[arg(long, value_name = "SIZE", default_value = "768M")]
    pub memory: String,
    /// It is killed after so many seconds.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub seconds: u64,
    /// What to run in it, as root, and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl UmlJob {
    /// A command in a kernel as it is without options.
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { memory: "768M".to_owned(), seconds: 300, command }
    }
}

/// Whether such a kernel can be booted here.
///
/// # Errors
///
/// What is missing, and where it is to be had.
pub fn uml_ready() -> Result<(), Error> {
    for (program, package) in [(KERNEL, "user-mode-linux"), ("modprobe", "kmod")] {
        if find(program).is_none() {
            let remedy = format!(
                "apt-get install {package} (Debian has user-mode-linux for amd64 and i386 only)"
            );
            return Err(Error::Missing { what: program.to_owned(), remedy });
        }
    }
    Ok(())
}

/// Boots, runs the command in the folder and with the environment of this process, passes on what
/// it prints, and gives its exit code. However this ends, nothing of it stays.
///
/// # Errors
///
/// What is missing here, why it did not boot, or that its time was over.
pub fn uml_run(job: &UmlJob, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Error> {
    uml_ready()?;
    let folder = Folder::new()?;
    folder.write("init", INIT.as_bytes())?;
    folder.write("command", &script(&job.command)?)?;
    let (mut printed, mut complained) = (folder.relay("out")?, folder.relay("err")?);
    let mut machine = Machine::boot(job, &folder.0)?;
    let deadline = Instant::now() + Duration::from_secs(job.seconds);
    loop {
        // Looked at first: what was printed before the end is passed on after it.
        let ended = machine.0.ended().is_some();
        printed.pass_on(out)?;
        complained.pass_on(err)?;
        if ended {
            return folder.code();
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut { seconds: job.seconds });
        }
        std::thread::sleep(LOOK);
    }
}

/// The running kernel and its keeper.
struct Machine(Guard);

impl Machine {
    fn boot(job: &UmlJob, folder: &Path) -> Result<Self, Error> {
        let path = folder.join("console");
        let console = File::create(&path).map_err(Error::file(&path))?;
        let errors = console.try_clone().map_err(Error::file(&path))?;
        let mut keep = command("sh");
        keep.args(["-c", KEEP, "sh"]).arg(folder).arg(KERNEL);
        keep.args(["quiet", "loglevel=3", "rootfstype=hostfs", "rootflags=/", "rw", "noreboot"]);
        keep.args(["con=null", "con0=null,fd:1", "ssl=null", "umid=uvs"]);
        keep.arg(format!("mem={}", job.memory));
        keep.arg(format!("init={}", folder.join("init").display()));
        keep.arg(format!("uml_dir={}", folder.display()));
        keep.stdin(Stdio::piped()).stdout(console).stderr(errors);
        Ok(Self(Guard::spawn(&mut keep)?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Let go of, it is buried by its keeper.
        drop(self.0.child().stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while self.0.ended().is_none() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
}

/// Where the host and the kernel inside meet; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only that each number is given out once matters.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("uvs-uml-{}-{number}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Error::file(&path)).map(|()| Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.0.join(name);
        let written = fs::write(&path, bytes)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
        written.map_err(Error::file(path))
    }

    /// What is printed into a file.
    fn relay(&self, name: &str) -> Result<Relay, Error> {
        self.write(name, b"")?;
        let path = self.0.join(name);
        File::open(&path).map_err(Error::file(path)).map(Relay)
    }

    /// How the command ended, if it ran at all.
    fn code(&self) -> Result<u8, Error> {
        let code = fs::read_to_string(self.0.join("code")).unwrap_or_default();
        code.trim().parse().map_err(|_| {
            let console = fs::read(self.0.join("console")).unwrap_or_default();
            Error::Boot(String::from_utf8_lossy(&console).trim().replace('\n', "; "))
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file that grows, from where it was read last.
struct Relay(File);

impl Relay {
    fn pass_on(&mut self, to: &mut dyn Write) -> Result<(), Error> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).map_err(Error::file("what the command printed"))?;
        // Nobody has to listen: the command's exit code counts.
        let _ = to.write_all(&bytes).and_then(|()| to.flush());
        Ok(())
    }
}

/// The command as a script that runs it as it would run here.
fn script(command: &[OsString]) -> Result<Vec<u8>, Error> {
    let folder = std::env::current_dir().map_err(Error::file("."))?;
    let mut script = [b"cd ", &quoted(folder.as_os_str())[..], b" || exit\n"].concat();
    let path = (OsString::from("PATH"), OsString::from(search_path()));
    for (name, value) in std::env::vars_os().chain([path]) {
        if is_identifier(name.as_bytes()) {
            let line = [b"export ", name.as_bytes(), b"=", &quoted(&value), b"\n"].concat();
            script.extend(line);
        }
    }
    script.extend(b"exec");
    for word in command {
        script.extend([&b" "[..], &quoted(word)].concat());
    }
    script.push(b'\n');
    Ok(script)
}

/// The word as a shell takes it for itself.
fn quoted(word: &OsStr) -> Vec<u8> {
    let parts: Vec<&[u8]> = word.as_bytes().split(|byte| *byte == b'\'').collect();
    [b"'", &parts.join(&b"'\\''"[..])[..], b"'"].concat()
}

fn is_identifier(name: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.iter().all(word) && name.first().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Mutex;

    use super::*;

    /// One kernel at a time, for each looks what is left.
    static TURN: Mutex<()> = Mutex::new(());

    /// Boots with a shell's line; `None`, and the reason on stderr, where that cannot be.
    fn shell(line: &str, seconds: u64) -> Option<(Result<u8, Error>, String, String)> {
        if let Err(reason) = uml_ready() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let job = UmlJob { seconds, ..UmlJob::new(["sh", "-c", line]) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = uml_run(&job, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Some((ended, text(out), text(err)))
    }

    /// The folders of this process's kernels, and the processes that were told of one.
    fn left() -> (usize, usize) {
        let prefix = format!("uvs-uml-{}-", std::process::id());
        let entries = |folder: &Path| fs::read_dir(folder).unwrap().flatten();
        let ours = |name: OsString| name.to_string_lossy().starts_with(&prefix);
        let folders = entries(&std::env::temp_dir()).filter(|entry| ours(entry.file_name()));
        let told = |entry: &fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&prefix)
        };
        (folders.count(), entries(Path::new("/proc")).filter(told).count())
    }

    #[test]
    fn words_pass_a_shell_as_they_are() {
        for word in ["", "plain", "it's", "a b\nc", "'$(x)`y`\\'"] {
            let script = [b"printf %s ", &quoted(OsStr::new(word))[..]].concat();
            let script = String::from_utf8(script).unwrap();
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert!(is_identifier(b"_A1") && !is_identifier(b"1A") && !is_identifier(b"a.b"));
    }

    #[test]
    fn a_kernel_with_ipvs_runs_a_command_and_passes_on_what_it_prints() {
        let _turn = TURN.lock().unwrap();
        let line = "pwd; uname -r >&2; test -d /proc/sys/net/ipv4/vs && exit 7";
        let Some((ended, out, err)) = shell(line, 60) else { return };
        assert_eq!(ended.unwrap(), 7, "{out}{err}");
        assert_eq!(out.trim(), std::env::current_dir().unwrap().display().to_string());
        let here = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_ne!(err, here, "it is another kernel");
        assert_eq!(left(), (0, 0));
    }

    #[test]
    fn a_kernel_whose_time_is_over_is_killed_and_leaves_nothing() {
        let _turn = TURN.lock().unwrap();
        let Some((ended, out, _)) = shell("echo begun; sleep 1000", 8) else { return };
        assert!(matches!(ended, Err(Error::TimedOut { seconds: 8 })), "{ended:?}");
        assert_eq!(out, "begun\n", "passed on while it runs");
        assert_eq!(left(), (0, 0));
    }

    #[test]
    fn whoever_holds_a_kernel_takes_it_along() {
        let folder = std::env::temp_dir().join(format!("uvs-keep-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut keep = command("sh");
        keep.args(["-c", KEEP, "sh"])
            .arg(&folder)
            .args(["setsid", "sleep", "1000"])
            .stdin(Stdio::piped());
        let mut keeper = Guard::spawn(&mut keep).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(keeper.ended().is_none() && folder.exists());
        // As when the holder dies, whatever of.
        drop(keeper.child().stdin.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while keeper.ended().is_none() {
            assert!(Instant::now() < deadline, "it lives on");
            std::thread::sleep(LOOK);
        }
        assert!(!folder.exists());
    }
}
