//! A small HTTP/1.1 client that is sparing with the processor, for throughput; it checks each
//! answer to the last byte.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use crate::{Tally, nginx};

/// Longest head of an answer, in bytes.
const HEAD: usize = 8 << 10;
const CHUNK: usize = 64 << 10;

/// What `lab http` is told.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct HttpJob {
    /// Address and port to ask.
    #[arg(long)]
    pub target: SocketAddrV4,
    /// The page: `/` names the server, `/big` is a megabyte.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// How many requests.
    #[arg(long, default_value_t = 1000)]
    pub requests: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 16)]
    pub connections: usize,
    /// Many requests over one connection, not one.
    #[arg(long)]
    pub keep_alive: bool,
    /// No new request after so many seconds.
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
}

impl HttpJob {
    /// A thousand requests to `/`, each over a connection of its own, 16 at once, within a minute.
    pub fn to(target: SocketAddrV4) -> Self {
        Self {
            target,
            path: "/".to_owned(),
            requests: 1000,
            connections: 16,
            keep_alive: false,
            seconds: 60.0,
        }
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["http".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--target", self.target.to_string());
        option("--path", self.path.clone());
        option("--requests", self.requests.to_string());
        option("--connections", self.connections.to_string());
        option("--seconds", self.seconds.to_string());
        arguments.extend(self.keep_alive.then(|| "--keep-alive".to_owned()));
        arguments
    }

    fn request(&self) -> String {
        let connection = if self.keep_alive { "keep-alive" } else { "close" };
        let (path, host) = (&self.path, self.target);
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n")
    }
}

/// Does the job and counts what became of each request.
pub fn http_get(job: &HttpJob) -> Tally {
    // Relaxed below: each thread only takes numbers, nothing else hangs on them.
    let taken = AtomicU64::new(0);
    let start = Instant::now();
    let limit = Duration::try_from_secs_f64(job.seconds).unwrap_or(Duration::MAX);
    let next = || taken.fetch_add(1, Ordering::Relaxed) < job.requests && start.elapsed() < limit;
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let ask = || ask_all(job, &next);
        let threads: Vec<_> = (0..job.connections).map(|_| scope.spawn(ask)).collect();
        for thread in threads {
            tally.add(thread.join().expect("a client thread does not panic"));
        }
    });
    tally.elapsed = start.elapsed();
    tally
}

/// One thread's share: a connection, or one after another.
fn ask_all(job: &HttpJob, next: &dyn Fn() -> bool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    let request = job.request();
    while next() {
        match ask(job, &request, &mut connection) {
            Ok(Answer { server, bytes }) => tally.right(&server, bytes),
            Err(Failure::Wrong(complaint)) => tally.wrong(|| complaint),
            Err(Failure::Lost(error)) => tally.lost(|| error.to_string()),
        }
    }
    tally
}

struct Answer {
    server: String,
    bytes: usize,
}

#[derive(Debug)]
enum Failure {
    Wrong(String),
    Lost(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

fn wrong<T>(complaint: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Wrong(complaint.into()))
}

/// One request; the connection is put back only after a right answer that keeps it alive.
fn ask(job: &HttpJob, request: &str, slot: &mut Option<Link>) -> Result<Answer, Failure> {
    let mut link = match slot.take() {
        Some(link) => link,
        None => Link::open(job.target)?,
    };
    link.stream.write_all(request.as_bytes())?;
    let head = link.head()?;
    if head.status != 200 {
        return wrong(format!("status {}", head.status));
    }
    link.body(&expected(&job.path, &head.server), head.length)?;
    if job.keep_alive {
        *slot = Some(link);
    } else {
        link.end()?;
    }
    Ok(Answer { server: head.server, bytes: head.length })
}

/// What the page must be, if the lab wrote it.
fn expected(path: &str, server: &str) -> Option<Cow<'static, [u8]>> {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    match path {
        "/" => Some(Cow::Owned(format!("{server}\n").into_bytes())),
        "/big" => Some(Cow::Borrowed(BIG.get_or_init(nginx::big_page))),
        _ => None,
    }
}

/// A connection and what came on it that was not consumed yet.
struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Link {
    fn open(target: SocketAddrV4) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target.into(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; CHUNK], start: 0, end: 0 })
    }

    /// Receives more behind what is there; the server's end is an error.
    fn fill(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.end += len;
                Ok(())
            }
        }
    }

    fn head(&mut self) -> Result<Head, Failure> {
        (self.start, self.end) = (0, 0);
        loop {
            self.fill()?;
            let got = &self.buffer[..self.end];
            if let Some(len) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                self.start = len + 4;
                return Head::parse(&got[..len]).map_or_else(|| wrong("not an HTTP answer"), Ok);
            }
            if self.end > HEAD {
                return wrong("the answer's head has no end");
            }
        }
    }

    /// Consumes a body of `length` bytes and compares it with the page, if that is known.
    fn body(&mut self, page: &Option<Cow<'_, [u8]>>, length: usize) -> Result<(), Failure> {
        if page.as_ref().is_some_and(|page| page.len() != length) {
            return wrong(format!("a body of {length} bytes"));
        }
        let mut done = 0;
        loop {
            let got = &self.buffer[self.start..self.end];
            let got = &got[..got.len().min(length - done)];
            if page.as_ref().is_some_and(|page| page[done..done + got.len()] != *got) {
                return wrong(format!("another body, from byte {done} on"));
            }
            done += got.len();
            if done == length {
                return Ok(());
            }
            (self.start, self.end) = (0, 0);
            self.fill()?;
        }
    }

    /// Waits for the server's FIN, so that closing is tested as well.
    fn end(&mut self) -> Result<(), Failure> {
        match self.stream.read(&mut self.buffer)? {
            0 => Ok(()),
            more => wrong(format!("{more} bytes behind the body")),
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    server: String,
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let (version, rest) = lines.next()?.split_once(' ')?;
        let status = rest.get(..3)?.parse().ok()?;
        let (mut length, mut server) = (None, String::new());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("x-server") {
                server = value.trim().to_owned();
            }
        }
        version.starts_with("HTTP/1.").then_some(Self { status, length: length?, server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tool;
    use clap::Parser;
    use proptest::prelude::*;
    use std::net::TcpListener;

    #[derive(Parser)]
    struct Program {
        #[command(subcommand)]
        tool: Tool,
    }

    /// What becomes of one request that is answered with `text`.
    fn answered_with(text: &'static str) -> Tally {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(target) = listener.local_addr().unwrap() else {
            unreachable!("bound to an IPv4 address")
        };
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        let tally = http_get(&HttpJob { requests: 1, ..HttpJob::to(target) });
        server.join().unwrap();
        tally
    }

    #[test]
    fn a_right_answer_is_counted_for_its_server() {
        let tally = answered_with(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Server: server 2\r\n\r\nserver 2\n",
        );
        assert_eq!((tally.answers["server 2"], tally.bytes), (1, 9));
        assert!(tally.is_clean());
    }

    #[test]
    fn wrong_and_lost_are_told_apart() {
        let other = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Server: server 2\r\n\r\nserver 3\n";
        assert_eq!(answered_with(other).wrong, 1);
        assert_eq!(answered_with("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").wrong, 1);
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Server: server 2\r\n\r\nserv";
        assert_eq!(answered_with(short).lost, 1);
        assert_eq!(answered_with("").lost, 1);
    }

    #[test]
    fn the_command_line_says_the_whole_job() {
        let target = "10.77.0.1:80".parse().unwrap();
        let path = "/big".to_owned();
        let job = HttpJob { path, keep_alive: true, seconds: 1.5, ..HttpJob::to(target) };
        let words = ["lab".to_owned()].into_iter().chain(job.arguments());
        assert_eq!(parsed(words), job);
    }

    #[test]
    fn the_command_line_has_the_same_defaults() {
        let words = ["lab", "http", "--target", "10.77.0.1:80"].map(str::to_owned);
        assert_eq!(parsed(words), HttpJob::to("10.77.0.1:80".parse().unwrap()));
    }

    fn parsed(words: impl IntoIterator<Item = String>) -> HttpJob {
        let Tool::Http(job) = Program::parse_from(words).tool else { panic!("not http") };
        job
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(bytes: Vec<u8>, text in "HTTP/1.1 \\PC{0,8}\r\n\\PC{0,40}") {
            Head::parse(&bytes);
            Head::parse(text.as_bytes());
        }
    }
}
