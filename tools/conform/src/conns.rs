//! The table of connections as it was recorded, against the engine's.

use serde::Deserialize;
use uvs_control::conns::listed;
use uvs_uvsadm::api::Conn;

use crate::Stop;
use crate::rig::Rig;

/// Seconds that may have passed in the recorded kernel between the last packet of a connection and
/// the look at it.
const DELAY: u32 = 3;

/// A connection as recorded from /proc/net/ip_vs_conn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ConnSeen {
    proto: String,
    client: String,
    #[serde(rename = "virtual")]
    virtual_end: String,
    dest: String,
    state: String,
    expires: u32,
    /// Name and data of a persistence engine.
    #[serde(default)]
    extra: Vec<String>,
}

impl From<&Conn> for ConnSeen {
    fn from(conn: &Conn) -> Self {
        Self {
            proto: conn.protocol.map_or_else(|| "IP".into(), |protocol| protocol.to_string()),
            client: conn.client.to_string(),
            virtual_end: conn.vip.to_string(),
            dest: conn.dest.to_string(),
            state: conn.state.clone(),
            expires: conn.expires,
            extra: conn.pe.iter().flat_map(|pe| [pe.name.clone(), pe.data.clone()]).collect(),
        }
    }
}

impl ConnSeen {
    /// Whether `got` is this connection, looked at no later than the kernel was.
    fn is(&self, got: &Self) -> bool {
        let named = Self { expires: self.expires, ..got.clone() };
        named == *self && (self.expires..=self.expires + DELAY).contains(&got.expires)
    }
}

/// Compares the whole table, whatever its order.
pub(crate) fn compare(rig: &Rig, expected: &[ConnSeen]) -> Result<(), Stop> {
    let mut got: Vec<ConnSeen> = rig.conns().iter().map(ConnSeen::from).collect();
    for wanted in expected {
        match got.iter().position(|conn| wanted.is(conn)) {
            Some(at) => drop(got.swap_remove(at)),
            None => {
                let stop = format!("connections: expected {wanted:?}, came {got:?}");
                return Err(Stop::Differs(stop));
            }
        }
    }
    match got.first() {
        None => Ok(()),
        Some(extra) => Err(Stop::Differs(format!("a connection too many: {extra:?}"))),
    }
}

/// Compares a listing of connections as text: its lines in any order, their times within reason.
pub(crate) fn compare_text(rig: &Rig, command: &str, expected: &str) -> Result<(), Stop> {
    let arguments = command.strip_prefix("ipvsadm ").unwrap_or(command);
    let got = rig.list(arguments)?;
    let lines = |text: &str| {
        let mut lines: Vec<Line> = text.lines().map(timeless).collect();
        lines.sort();
        lines
    };
    let (wanted, came) = (lines(expected), lines(&got));
    let same = |((wanted, then), (came, now)): (&Line, &Line)| {
        wanted == came && then.zip(*now).is_none_or(|(then, now)| now.saturating_sub(then) <= DELAY)
    };
    if wanted.len() == came.len() && wanted.iter().zip(&came).all(same) {
        return Ok(());
    }
    Err(Stop::Differs(format!("`{command}`: expected\n{expected}came\n{got}")))
}

/// A line without its time to live, and that in seconds.
type Line = (String, Option<u32>);

fn timeless(line: &str) -> Line {
    let time = line.split_whitespace().nth(1).and_then(|time| {
        let (minutes, seconds) = time.split_once(':')?;
        Some((time, minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?))
    });
    match time {
        Some((text, seconds)) => (line.replacen(text, "--:--", 1), Some(seconds)),
        None => (line.to_owned(), None),
    }
}

/// What of the engine's table is listed.
pub(crate) fn of(rig: &Rig) -> Vec<Conn> {
    let now = rig.now();
    rig.table().iter().filter_map(|conn| listed(&conn, now, rig.calls())).collect()
}
