//! HTTP by real curl: many requests by one process, a connection each.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Tally;

/// Requests at once.
const PARALLEL: &str = "32";

/// The arguments for `requests` requests to the page `/`, each over a connection of its own.
pub(crate) fn arguments(target: SocketAddr, requests: u64) -> Vec<String> {
    let url = format!("http://{target}/?[1-{requests}]");
    let fixed = [
        ["--silent", "--show-error"],
        ["--parallel", "--parallel-immediate"],
        ["--parallel-max", PARALLEL],
        ["--connect-timeout", "5"],
        ["--max-time", "20"],
        ["--header", "Connection: close"],
        ["--write-out", "status %{http_code}\\n"],
    ];
    fixed.concat().into_iter().map(str::to_owned).chain([url]).collect()
}

/// Reads what curl printed: for each request the page, if one came, and a status line.
pub(crate) fn read(requests: u64, stdout: &str, stderr: &str, elapsed: Duration) -> Tally {
    let mut tally = Tally::default();
    let (mut good, mut bad) = (0, 0);
    for line in stdout.lines() {
        match line.strip_prefix("status ") {
            Some("200") => good += 1,
            Some("000") => {}
            Some(_) => bad += 1,
            None if line.starts_with("server ") => tally.right(line, line.len() + 1),
            None => {}
        }
    }
    // A page without a good status, or the other way round, is not a right answer.
    let wrong = bad + u64::abs_diff(good, tally.answered());
    // Between its messages a parallel curl draws its progress meter, silent or not.
    let mut said = stderr.lines().filter(|line| line.starts_with("curl: "));
    let first = said.next().unwrap_or("a status that is not 200");
    let complaint = || first.to_owned();
    (0..wrong).for_each(|_| tally.wrong(complaint));
    let left = requests.saturating_sub(tally.requests);
    (0..left).for_each(|_| tally.lost(complaint));
    tally.elapsed = elapsed;
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_by_its_end() {
        let stdout = "server 1\nstatus 200\nserver 2\nserver 1\nstatus 200\nstatus 200\n\
                      <html>\nstatus 503\nstatus 000\n";
        let stderr = "DL% UL%  Dled  Uled\ncurl: (7) Failed to connect\n";
        let tally = read(6, stdout, stderr, Duration::from_secs(1));
        assert_eq!((tally.answers["server 1"], tally.answers["server 2"]), (2, 1));
        assert_eq!((tally.requests, tally.wrong, tally.lost), (6, 1, 2));
        assert_eq!(tally.complaint.as_deref(), Some("curl: (7) Failed to connect"));
    }

    #[test]
    fn a_good_status_without_a_page_is_wrong() {
        let tally = read(1, "status 200\n", "", Duration::ZERO);
        assert_eq!((tally.answered(), tally.wrong, tally.lost), (0, 1, 0));
    }
}
