//! The lab's own small programs, as commands: `uvs lab echo ...` and so on.

use clap::Subcommand;

use crate::{
    DecapJob, EchoJob, Error, HttpJob, LabName, Tally, UdpJob, decapsulate, grave, http_get,
    udp_ask, udp_echo,
};

/// What a lab runs inside its namespaces besides nginx and curl; a program that makes labs offers
/// these under its subcommand `lab`.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Answer UDP with the server's name and what was sent.
    Echo(EchoJob),
    /// Take a tunnel apart, into a TUN device.
    Decap(DecapJob),
    /// Send HTTP requests and print the tally as JSON.
    Http(HttpJob),
    /// Send UDP datagrams to echo servers and print the tally as JSON.
    Udp(UdpJob),
    /// Remove a lab when the process that holds our standard input is gone.
    Undertaker {
        /// The lab's name.
        name: LabName,
    },
}

impl Tool {
    /// Runs it to its end; servers run until they are killed.
    pub fn run(self) -> Result<(), Error> {
        match self {
            Self::Echo(job) => udp_echo(&job),
            Self::Decap(job) => decapsulate(&job),
            Self::Http(job) => print(&http_get(&job)),
            Self::Udp(job) => print(&udp_ask(&job)?),
            Self::Undertaker { name } => grave::keep_watch(name),
        }
    }
}

fn print(tally: &Tally) -> Result<(), Error> {
    println!("{}", serde_json::to_string(tally).expect("a tally has only plain fields"));
    Ok(())
}
