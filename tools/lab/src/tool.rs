//! The lab's own small programs, as commands: `uvs lab echo ...` and so on.

use std::io;
use std::process::ExitCode;

use clap::Subcommand;

use crate::{
    DecapJob, EchoJob, Error, HttpJob, LabName, Tally, UdpJob, UmlJob, decapsulate, grave,
    http_get, udp_ask, udp_echo, uml_run,
};

/// What a lab runs inside its namespaces besides nginx and curl; a program that makes labs offers
/// these under its subcommand `lab`.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Run a command in a kernel of its own that has IPVS (user-mode-linux).
    #[command(after_help = UML_EXAMPLES)]
    Uml(UmlJob),
    /// Answer UDP with the server's name and what was sent.
    #[command(hide = true)]
    Echo(EchoJob),
    /// Take a tunnel apart, into a TUN device.
    #[command(hide = true)]
    Decap(DecapJob),
    /// Send HTTP requests and print the tally as JSON.
    #[command(hide = true)]
    Http(HttpJob),
    /// Send UDP datagrams to echo servers and print the tally as JSON.
    #[command(hide = true)]
    Udp(UdpJob),
    /// Remove a lab when the process that holds our standard input is gone.
    #[command(hide = true)]
    Undertaker {
        /// The lab's name.
        name: LabName,
    },
}

const UML_EXAMPLES: &str = "\
Examples:
  uvs lab uml -- ipvsadm -L -n                  the real kernel's IPVS, real ipvsadm
  uvs lab uml --seconds 60 -- sh -c 'ipvsadm -R < services.rules && ipvsadm -S -n'
  uvs lab uml -- uvs compare --generate         uvs against the kernel, where the host has no ip_vs

It boots Debian's user-mode-linux in about four seconds, on the files of this host, as root: /run,
/mnt, /var/tmp and /dev/shm are its own, everything else is the host's, and what is written there
stays. The command has the folder and the environment of this one, no standard input, one
processor, a network of its own with nothing but lo, BPF, and no AF_XDP. Its output and its exit
code are passed on; 124 says that its time was over, 125 that it did not come to run.";

/// The exit code when the command's time was over, as of timeout(1).
const TIMED_OUT: u8 = 124;

/// The exit code when it never ran, as of timeout(1).
const NOT_RUN: u8 = 125;

impl Tool {
    /// Runs it to its end; servers run until they are killed.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Uml(job) => return Ok(uml(&job)),
            Self::Echo(job) => udp_echo(&job),
            Self::Decap(job) => decapsulate(&job),
            Self::Http(job) => print(&http_get(&job)),
            Self::Udp(job) => print(&udp_ask(&job)?),
            Self::Undertaker { name } => grave::keep_watch(name),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

fn uml(job: &UmlJob) -> ExitCode {
    match uml_run(job, &mut io::stdout(), &mut io::stderr()) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("uvs lab uml: {error}");
            let over = matches!(error, Error::TimedOut { .. });
            if over { TIMED_OUT } else { NOT_RUN }.into()
        }
    }
}

fn print(tally: &Tally) -> Result<(), Error> {
    println!("{}", serde_json::to_string(tally).expect("a tally has only plain fields"));
    Ok(())
}
