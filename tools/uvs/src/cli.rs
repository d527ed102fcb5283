//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory, Parser, Subcommand, ValueEnum};
use uvs_uvsadm::proc::Proc;
use uvs_uvsadm::{Described, Need, words};

use crate::{Failure, compare, demo, doctor, mirror, set, sim};

/// Linux Virtual Server as a userspace packet engine.
#[derive(Debug, Parser)]
#[command(name = "uvs", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  uvs doctor --interface eth0        will AF_XDP run here, and what mends it
  uvs demo                           a network of namespaces, real servers, every mode
  uvs run --config uvs.toml          the engine, in the foreground
  uvs adm -A -t 10.0.0.1:80 -s wlc   what ipvsadm does, against the running engine
  uvs adm -L -n --stats
  uvs set expire_nodest_conn 1       what sysctl net.ipv4.vs does
  uvs compare                        the kernel's IPVS and uvs, frame by frame
  uvs mirror --from-kernel --follow  what programs the kernel's IPVS drives uvs
  uvs sim                            all schedulers against a workload, in simulated time
  uvs conform cases/                 replay recordings of the kernel's IPVS";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the engine in the foreground.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// The engine's configuration.
        #[arg(long, short, value_name = "FILE", default_value = "uvs.toml")]
        config: PathBuf,
        /// Keep the same services in the kernel's IPVS, which serves them once uvs is gone.
        #[arg(long)]
        kernel_fallback: bool,
    },
    /// ipvsadm's command line against the running engine; also as `uvsadm` (see `uvs adm -h`).
    #[command(disable_help_flag = true)]
    Adm {
        /// As ipvsadm takes them. UVS_SOCKET names the engine's socket.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Give the same frames to the kernel's IPVS and to uvs, and show where they differ.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(compare::Options),
    /// Replay recordings of the kernel's IPVS through the engine.
    Conform {
        /// Recordings, or folders of them.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Show what passed as well.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Show every mode at work: a network of namespaces, real servers, real traffic.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(demo::Options),
    /// Say whether and how uvs will run here, and what mends each problem.
    #[command(after_help = "Examples:\n  uvs doctor\n  uvs doctor --interface eth0 --json")]
    Doctor(doctor::Options),
    /// Make the kernel's IPVS hold what uvs holds, or the other way, or show where they differ.
    #[command(after_help = MIRROR_EXAMPLES)]
    Mirror(mirror::Options),
    /// List, show or change the running engine's settings: IPVS's sysctls, and uvs's own.
    #[command(after_help = SET_EXAMPLES)]
    Set(set::Options),
    /// Compare schedulers against a workload, in simulated time: balance, waiting, disruption.
    #[command(after_help = SIM_EXAMPLES)]
    Sim(Box<sim::Options>),
    /// Show what became of every frame, by the running engine's own counters.
    Stats {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what IPVS has under /proc/net, of the running engine: for monitoring.
    #[command(after_help = "Example:\n  uvs proc ip_vs_stats")]
    Proc {
        /// Which file.
        #[arg(value_name = "FILE")]
        file: ProcFile,
    },
    /// Print the API's OpenAPI description.
    Openapi,
    /// Print shell completions.
    #[command(after_help = "Example:\n  uvs completions bash > /etc/bash_completion.d/uvs")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
        /// For which name of the program.
        #[arg(default_value = "uvs")]
        program: Page,
    },
    /// Print the man page.
    #[command(after_help = "Example:\n  uvs man uvsadm | man -l -")]
    Man {
        /// Of which name of the program.
        #[arg(default_value = "uvs")]
        program: Page,
    },
    /// Run a command in a kernel of its own that has IPVS (`uvs lab uml -- COMMAND`).
    Lab {
        /// Which.
        #[command(subcommand)]
        tool: uvs_lab::Tool,
    },
}

const DEMO_EXAMPLES: &str = "\
Examples:
  uvs demo                     every mode over AF_XDP and over raw packet sockets
  uvs demo --mode nat --keep   leave the network of one mode up, to play with
  uvs demo --down              take down what --keep left";

const COMPARE_EXAMPLES: &str = "\
Examples:
  uvs compare                                      every scheduler, every method
  uvs compare --services services.rules --pcap day.pcap --json
  uvs lab uml -- uvs compare --port raw            where the host has no ip_vs

Two directors in namespaces of their own, alike from outside, get each frame one after the other;
compared are the frames that leave them, byte for byte but for what the kernel draws at random,
the servers of new connections, and the connection tables. The exit code is 1 if any of that
differs, 2 if they cannot be compared. Rates are measured afterwards, over the first TCP service;
the processor's time is all that the machine did meanwhile, sending included.";

const MIRROR_EXAMPLES: &str = "\
Examples:
  uvs mirror --from-kernel --follow   keepalived, or whatever programs the kernel's IPVS, drives uvs
  uvs mirror --to-kernel              once; only what differs is sent
  uvs mirror --diff                   what --to-kernel would change, as lines of ipvsadm's; exits 1
                                      if that is anything
  uvs mirror --from-kernel --dry-run --json

Services, servers and timeouts are mirrored; not settings, connections, statistics, and the timeouts
of a service's own, which the kernel does not have. Servers that serve come before those that go. A
change that is refused takes the rest of its service with it, nothing else; the next run mends it.
UVS_SOCKET names the engine's socket. See also `uvs run --kernel-fallback`.";

const SET_EXAMPLES: &str = "\
Examples:
  uvs set                                  every setting, its value, its default, its meaning
  uvs set conn_reuse_mode                  one of them
  uvs set expire_nodest_conn 1             change one
  uvs set sloppy_tcp=1 drop_packet=3       change several: all of them, or none
  uvs set --json

What is set so holds until the engine stops, or reads uvs.toml again (SIGHUP), whose [settings]
are for good.";

const SIM_EXAMPLES: &str = "\
Examples:
  uvs sim                                                all schedulers, a standard workload
  uvs sim --scheduler wlc,sed,nq --servers '4*weight=1,speed=1' --servers 'weight=3,speed=3'
  uvs sim --scheduler sh,mh,mh:port+fallback --leave 100:3 --join 200:3
  uvs sim --clients uniform --lifetime exp --rate 200 --for 600 --plots plots/
  uvs sim --scenario web.toml --csv > web.csv

Fields of --servers: weight (1), speed of a worker (1), workers (8), upper and lower thresholds
(none); NUMBER* before them for several that are alike, a semicolon between groups.

A scenario file has the same fields; options count before it:
  rate = 120                  # and for, clients, population, skew, destinations, lifetime,
  for = 300                   # mean-lifetime, shape, inactive, seed
  schedulers = [\"wlc\", \"mh:port\"]
  [[servers]]
  count = 4
  weight = 1
  speed = 1.5
  [[steps]]                   # as --leave and --join
  at = 100
  leave = 3

A connection that comes takes a free worker of its server or waits in line, first come first
served; a worker serves it for its lifetime divided by the worker's speed. It is active until its
end, and inactive for some time after it, as in IPVS.";

const RUN_EXAMPLES: &str = "\
Example of a uvs.toml (only `outside` is needed):
  outside = \"eth0\"             # the interface, or the clients' side of two
  inside = \"eth1\"              # the servers' side; leave out for a one-arm director
  queues = 2                   # a worker for each queue
  cores = [2, 3]               # the workers' cores
  mode = \"auto\"                # auto, afxdp or raw
  busy = false                 # true: idle workers spin instead of sleeping
  connections = 1048576        # capacity of the connection table
  services = \"services.rules\"  # as ipvsadm-save writes it

  [api]
  socket = \"/run/uvs.sock\"     # where uvsadm asks
  mode = \"0660\"               # \"0600\" if not given: its owner's alone
  group = \"uvs\"               # or owner, each by name or by number

  [settings]                   # `uvs set` lists them
  conn_reuse_mode = 1
  [timeouts]                   # seconds, as of ipvsadm --set
  tcp = 900
  tcpfin = 120
  udp = 300
  [[marks]]                    # firewall marks, at most 1,024; the first that matches decides
  destination = \"10.0.0.1\"     # or source, each an address or a network
  protocol = \"tcp\"             # tcp, udp or sctp
  ports = \"8000-8099\"          # of the destination
  interface = \"eth0\"           # where the packet came in
  mark = 7

SIGHUP reads services, settings, timeouts and marks again and makes them as the files say; the rest
of uvs.toml counts at the next start. SIGTERM and Ctrl-C stop the engine.";

/// A file under /proc/net by its name.
#[derive(Clone, Copy, Debug)]
pub struct ProcFile(pub Proc);

impl ValueEnum for ProcFile {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [ProcFile; 6] = {
            let [a, b, c, d, e, f] = Proc::ALL;
            [ProcFile(a), ProcFile(b), ProcFile(c), ProcFile(d), ProcFile(e), ProcFile(f)]
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()))
    }
}

/// A name of the program that has a man page and completions.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Page {
    /// `uvs` with its verbs.
    Uvs,
    /// `uvsadm`, and `ipvsadm`.
    Uvsadm,
}

impl Page {
    fn command(self) -> Command {
        match self {
            Self::Uvs => Cli::command(),
            Self::Uvsadm => uvsadm(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Uvs => "uvs",
            Self::Uvsadm => "uvsadm",
        }
    }
}

/// uvsadm's words as a command line of clap's: for its generators alone, for clap would not read
/// them as ipvsadm does.
fn uvsadm() -> Command {
    let argument = |word: Described| {
        let argument = Arg::new(word.long).long(word.long).help(word.about);
        let argument = match word.short {
            Some(letter) => argument.short(letter),
            None => argument,
        };
        match word.value {
            None => argument.action(ArgAction::SetTrue),
            Some(Need::Required) => argument.action(ArgAction::Set),
            Some(Need::Optional) => argument.action(ArgAction::Set).num_args(0..=1),
        }
    };
    Command::new("uvsadm")
        .about("Administers the virtual services of a running uvs, as ipvsadm does those of the kernel")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .after_help(UVSADM_EXAMPLES)
        .args(words().map(argument))
}

const UVSADM_EXAMPLES: &str = "\
Examples:
  uvsadm -A -t 10.0.0.1:80 -s rr                    a service, servers in turn
  uvsadm -a -t 10.0.0.1:80 -r 10.0.1.1 -g           a server by direct routing
  uvsadm -a -t 10.0.0.1:80 -r 10.0.1.2:8080 -m -w 3 a server by NAT, with three shares
  uvsadm -e -t 10.0.0.1:80 -r 10.0.1.1 -w 0         no new connections for that server
  uvsadm -A -t [fd00::1]:443 -s sh -p 600 -M 64     clients of one /64 stay with a server
  uvsadm -L -n --stats                              what was balanced so far
  uvsadm -S -n > rules; uvsadm -R < rules           save and restore
  uvsadm -R --dry-run < rules                       what restoring would do

UVS_SOCKET names the engine's socket, /run/uvs.sock if it is not set. By the name of ipvsadm, of
ipvsadm-save or of ipvsadm-restore the program does and prints what these do.";

/// Prints completions.
pub fn completions(shell: clap_complete::Shell, program: Page) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program.command(), program.name(), &mut script);
    // Who closes the pipe (`| head`) has seen enough.
    let _ = io::stdout().write_all(&script);
    Ok(ExitCode::SUCCESS)
}

/// Prints the man page.
pub fn man(program: Page) -> Result<ExitCode, Failure> {
    clap_mangen::Man::new(program.command()).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn uvsadm_has_completions_and_a_man_page() {
        uvsadm().debug_assert();
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut uvsadm(), "uvsadm", &mut script);
        let mut page = Vec::new();
        clap_mangen::Man::new(uvsadm()).render(&mut page).unwrap();
        for text in [script, page].map(|text| String::from_utf8(text).unwrap().replace('\\', "")) {
            for word in words() {
                assert!(text.contains(&format!("--{}", word.long)), "--{}", word.long);
            }
        }
    }

    #[test]
    fn completions_know_the_settings() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "uvs", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("expire_nodest_conn"), "{shell}");
        }
    }

    #[test]
    fn ipvsadms_options_pass_through() {
        let cli = Cli::parse_from(["uvs", "adm", "-L", "-n", "-c"]);
        assert!(matches!(cli.verb, Verb::Adm { arguments } if arguments == ["-L", "-n", "-c"]));
    }
}
