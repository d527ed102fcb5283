//! `uvs stats`: what became of every frame.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use uvs_control::api::Counters;
use uvs_control::client::Client;
use uvs_engine::counters::{DropReason, HostReason};

use crate::{Failure, adm};

/// Prints the running engine's counters.
pub fn stats(json: bool) -> Result<ExitCode, Failure> {
    let counters = Client::new(Path::new(&adm::socket())).counters()?;
    let text = if json { serde_json::to_string_pretty(&counters)? } else { table(&counters) };
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// The equation, and below it every reason that has a frame, in words.
fn table(counters: &Counters) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}\n", equation(counters));
    let meanings = HostReason::ALL.iter().map(|reason| (reason.as_str(), reason.meaning()));
    for (name, meaning) in meanings {
        if let Some(count) = counters.to_host.get(name) {
            let _ = writeln!(text, "{count:>12}  to_host  {name:<22} {meaning}");
        }
    }
    let meanings = DropReason::ALL.iter().map(|reason| (reason.as_str(), reason.meaning()));
    for (name, meaning) in meanings {
        if let Some(count) = counters.drops.get(name) {
            let _ = writeln!(text, "{count:>12}  drop     {name:<22} {meaning}");
        }
    }
    if counters.originated > 0 {
        let _ = writeln!(text, "{:>12}  sent by the engine itself (ICMP)", counters.originated);
    }
    text
}

/// `rx = tx + to_host + drops`, with figures, and those of fragments if there were any.
pub fn equation(counters: &Counters) -> String {
    let Counters { rx, tx, waiting, merged, parted, .. } = counters;
    let (host, drops) = (counters.host_frames(), counters.dropped_frames());
    let more = |count: u64, what| match count {
        0 => String::new(),
        _ => format!(" + {count} {what}"),
    };
    let (waiting, merged) = (more(*waiting, "waiting"), more(*merged, "merged"));
    let parted = more(*parted, "parted");
    let sign = if counters.balanced() { "=" } else { "!=" };
    format!("rx {rx}{parted} {sign} tx {tx} + to_host {host} + drops {drops}{waiting}{merged}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_explains_each_reason() {
        let mut counters = Counters { rx: 5, tx: 3, ..Counters::default() };
        counters.drops.insert("no_dest".into(), 1);
        counters.to_host.insert("icmp".into(), 1);
        let text = table(&counters);
        assert!(text.starts_with("rx 5 = tx 3 + to_host 1 + drops 1\n"), "{text}");
        assert!(text.contains("drop     no_dest                No server"), "{text}");
        counters.tx = 2;
        assert!(equation(&counters).contains("rx 5 != tx 2"));
    }
}
