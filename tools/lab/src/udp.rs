//! A UDP client: datagrams from many source ports to the echo servers, none sent twice.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args;

use crate::{Error, Tally};

/// What `lab udp` is told.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct UdpJob {
    /// Address and port of the echo.
    #[arg(long)]
    pub target: SocketAddr,
    /// How many datagrams.
    #[arg(long, default_value_t = 1000)]
    pub datagrams: u64,
    /// From how many source ports, each a flow of its own.
    #[arg(long, default_value_t = 64)]
    pub flows: usize,
    /// How long the answers of a round may take, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub patience: u64,
}

impl UdpJob {
    /// A thousand datagrams of 64 flows, with a second for each answer.
    pub fn to(target: impl Into<SocketAddr>) -> Self {
        Self { target: target.into(), datagrams: 1000, flows: 64, patience: 1000 }
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["udp".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--target", self.target.to_string());
        option("--datagrams", self.datagrams.to_string());
        option("--flows", self.flows.to_string());
        option("--patience", self.patience.to_string());
        arguments
    }
}

/// Does the job: round by round, one datagram of each flow, then the answers to them.
pub fn udp_ask(job: &UdpJob) -> Result<Tally, Error> {
    let flows: Vec<UdpSocket> = (0..job.flows.max(1))
        .map(|_| open(job))
        .collect::<io::Result<_>>()
        .map_err(Error::socket(format!("open {} UDP sockets to {}", job.flows, job.target)))?;
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut number = 0;
    while number < job.datagrams {
        let round: Vec<_> = flows.iter().zip(number..job.datagrams).collect();
        number += round.len() as u64;
        let sent: Vec<_> =
            round.iter().map(|(flow, n)| flow.send(payload(*n).as_bytes())).collect();
        let deadline = Instant::now() + Duration::from_millis(job.patience);
        for ((flow, n), sent) in round.into_iter().zip(sent) {
            match sent.and_then(|_| answer(flow, n, deadline)) {
                Ok(Some((server, bytes))) => tally.right(&server, bytes),
                Ok(None) => tally.wrong(|| format!("datagram {n} came back changed")),
                Err(error) => tally.lost(|| format!("datagram {n}: {error}")),
            }
        }
    }
    tally.elapsed = start.elapsed();
    Ok(tally)
}

/// A connected socket takes answers from the address that was asked and from no other.
fn open(job: &UdpJob) -> io::Result<UdpSocket> {
    let any = match job.target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(job.target)?;
    Ok(socket)
}

fn payload(number: u64) -> String {
    format!("datagram {number}")
}

/// The server's name and the answer's length; late answers to earlier datagrams are passed over,
/// they were counted as lost.
fn answer(flow: &UdpSocket, number: u64, deadline: Instant) -> io::Result<Option<(String, usize)>> {
    let mut buffer = [0; 256];
    loop {
        // Zero would be for ever; the last of a round still take what has come by now.
        let left = deadline.saturating_duration_since(Instant::now());
        flow.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let len = flow.recv(&mut buffer)?;
        let text = std::str::from_utf8(&buffer[..len]).unwrap_or_default();
        let Some((server, echoed)) = text.split_once(": datagram ") else { return Ok(None) };
        match echoed.parse::<u64>() {
            Ok(echoed) if echoed == number => return Ok(Some((server.to_owned(), len))),
            Ok(echoed) if echoed < number => {}
            _ => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// A server that gives each datagram to `reply` and sends back what that makes of it.
    fn served(datagrams: u64, reply: impl Fn(&str) -> Vec<String> + Send + 'static) -> Tally {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            for _ in 0..datagrams {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                for text in reply(std::str::from_utf8(&buffer[..len]).unwrap()) {
                    socket.send_to(text.as_bytes(), from).unwrap();
                }
            }
            socket
        });
        udp_ask(&UdpJob { target, datagrams, flows: 4, patience: 200 }).unwrap()
    }

    #[test]
    fn echoes_are_right_answers() {
        let tally = served(10, |text| vec![format!("server 1: {text}")]);
        assert_eq!((tally.answers["server 1"], tally.requests), (10, 10));
    }

    #[test]
    fn changed_and_missing_answers_are_told_apart() {
        let tally = served(4, |text| match text {
            "datagram 1" => vec![],
            "datagram 2" => vec!["server 1: datagram two".to_owned()],
            _ => vec![format!("server 1: {text}")],
        });
        assert_eq!((tally.answered(), tally.wrong, tally.lost), (2, 1, 1));
    }
}
