//! The servers' UDP service: each datagram comes back with the server's name in front.

use std::net::{SocketAddr, UdpSocket};

use clap::Args;

use crate::Error;
use crate::servers::say_ready;

/// What `lab echo` is told.
#[derive(Clone, Debug, Args)]
pub struct EchoJob {
    /// Who answers, such as "server 1".
    #[arg(long)]
    pub name: String,
    /// The addresses to answer on, each one exactly: a reply then leaves from the address that
    /// was asked, also when that is a VIP.
    #[arg(required = true)]
    pub listen: Vec<SocketAddr>,
}

impl EchoJob {
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["echo".to_owned(), "--name".to_owned(), self.name.clone()];
        arguments.extend(self.listen.iter().map(SocketAddr::to_string));
        arguments
    }
}

/// Echoes until it is killed; prints `ready` when all sockets are open.
pub fn udp_echo(job: &EchoJob) -> Result<(), Error> {
    let sockets: Vec<UdpSocket> = job
        .listen
        .iter()
        .map(|address| UdpSocket::bind(address).map_err(Error::socket(format!("bind {address}"))))
        .collect::<Result<_, _>>()?;
    say_ready()?;
    std::thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| echo(socket, &job.name));
        }
    });
    Ok(())
}

fn echo(socket: &UdpSocket, name: &str) {
    let mut buffer = vec![0; 1 << 16];
    let prefix = format!("{name}: ");
    buffer[..prefix.len()].copy_from_slice(prefix.as_bytes());
    loop {
        // Errors here are of one datagram (an ICMP for an earlier answer, one that grew too
        // large): the next one is served.
        if let Ok((len, from)) = socket.recv_from(&mut buffer[prefix.len()..]) {
            let _ = socket.send_to(&buffer[..prefix.len() + len], from);
        }
    }
}
