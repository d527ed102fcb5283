//! What of a command line's output has to be equal, and in which sense.

use super::Record;
use super::shell::Ran;

/// What the recorded machine's modprobe said, before ipvsadm said anything.
const MODPROBE: &str = "modprobe: ";

/// Of what sync daemons there are, ipvsadm says so.
const RUNNING_DAEMON: &str = " sync daemon (mcast=";

/// How a listing begins, or what stands in its header, that shows times to live or figures, which
/// move on every two seconds.
const TIMED: [&str; 5] = ["IPVS connection", "Pro FromIP", "InBytes", "InBPS", "Incoming"];

/// Whether all is as recorded.
pub(super) fn same(record: &Record, ran: &Ran) -> bool {
    let of_ipvsadm = |line: &&str| !line.starts_with(MODPROBE);
    let recorded: String = record.stderr.split_inclusive('\n').filter(of_ipvsadm).collect();
    let text = record.stdout == ran.out
        || in_the_kernels_order(record) && sorted(&record.stdout) == sorted(&ran.out);
    record.rc == ran.code && recorded == ran.err && text
}

/// The kernel lists connections, and services where ipvsadm does not sort them, in the order of its
/// hash tables, which depends on its size and on a number that it draws at boot.
fn in_the_kernels_order(record: &Record) -> bool {
    let connections = record.stdout.starts_with("IPVS connection");
    connections || record.cmd.contains("--nosort") || record.cmd.contains("/proc/net/")
}

/// A listing with its services, each with its servers, in an order of their own.
fn sorted(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ->") => block.push_str(line),
            _ => blocks.push(line.to_owned()),
        }
    }
    blocks.sort();
    blocks
}

/// Whether it depends on the time at which it was asked for.
pub(super) fn shows_time(record: &Record) -> bool {
    TIMED.iter().any(|word| record.stdout.contains(word))
}

/// What uvs does not have yet, where that is why it differs.
pub(super) fn unsupported(record: &Record, ran: &Ran) -> Option<String> {
    if ran.err.contains("is not supported by uvs yet") {
        return Some(ran.err.trim_end().to_owned());
    }
    let daemon = record.stdout.contains(RUNNING_DAEMON);
    daemon.then(|| "a sync daemon that runs".to_owned())
}
