//! Statistics as they were recorded: listings to the byte, but rates whose figures hang on when the
//! kernel's two-second tick fell are compared by their size.

use serde::Deserialize;
use uvs_uvsadm::proc::{self, Proc};

use crate::Stop;
use crate::packet::Packet;
use crate::rig::{CLIENT_SIDE, Rig};

/// How far a rate may be from the recorded one: a quarter, for the first tick of the recorded
/// kernel may have come right after the first packet or two seconds later.
const RATE_PART: u64 = 4;

/// Packets of a series have this many bytes of payload: 100 with their headers, as the recorded
/// rates of bytes and packets tell.
const PAYLOAD: usize = 72;

/// One look in a series of rates.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Series {
    /// Seconds since the first packet.
    t: f64,
    /// Packets sent by then.
    sent: u32,
    text: String,
}

/// `-L --stats`.
pub(crate) fn stats(rig: &Rig, expected: &str) -> Result<(), Stop> {
    let got = rig.list("-Ln --stats --exact")?;
    same(expected, &got)
}

/// `-L --rate`.
pub(crate) fn rate(rig: &Rig, expected: &str) -> Result<(), Stop> {
    let got = rig.list("-Ln --rate --exact")?;
    same(expected, &got)
}

fn same(expected: &str, got: &str) -> Result<(), Stop> {
    match expected == got {
        true => Ok(()),
        false => Err(Stop::Differs(format!("expected\n{expected}came\n{got}"))),
    }
}

/// Sends packets evenly, each of a client of its own, and looks at the rates in between.
pub(crate) fn series(rig: &mut Rig, service: &str, series: &[Series]) -> Result<(), Stop> {
    let malformed = || Stop::Malformed(format!("the service {service}"));
    let destination = service.rsplit(' ').next().and_then(|end| end.parse().ok());
    let destination = destination.ok_or_else(malformed)?;
    let (mut sent, mut at) = (0, 0);
    for look in series {
        let until = (look.t * 1000.0) as u32;
        let more = look.sent - sent;
        for number in 0..more {
            let source = ([172, 16, 0, 1], 1024 + (sent + number) as u16).into();
            let packet = Packet { protocol: "udp", source, destination, flags: None };
            rig.frame(CLIENT_SIDE, &packet.frame_with(&[0; PAYLOAD])?);
            let due = at + (until - at) * (number + 1) / more;
            rig.pass_until(due);
        }
        rig.pass_until(until);
        (sent, at) = (look.sent, until);
        about(&look.text, &rig.list("-Ln --rate --exact")?)?;
    }
    Ok(())
}

/// Compares word by word: numbers by their size, everything else as it is.
fn about(expected: &str, got: &str) -> Result<(), Stop> {
    let near = |(wanted, came): (&str, &str)| match (wanted.parse::<u64>(), came.parse::<u64>()) {
        (Ok(wanted), Ok(came)) => wanted.abs_diff(came) * RATE_PART <= wanted.max(came),
        _ => wanted == came,
    };
    let (wanted, came) = (expected.split_whitespace(), got.split_whitespace());
    match wanted.clone().count() == came.clone().count() && wanted.zip(came).all(near) {
        true => Ok(()),
        false => Err(Stop::Differs(format!("expected about\n{expected}came\n{got}"))),
    }
}

/// /proc/net/ip_vs_stats.
pub(crate) fn totals(rig: &Rig, expected: &str) -> Result<(), Stop> {
    same(expected, &proc::stats(Proc::Stats, &rig.director().traffic()))
}
