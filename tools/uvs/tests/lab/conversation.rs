//! A long-lived HTTP connection that knows which server it talks to.

use std::io::{Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A keep-alive connection through the service to one server.
pub struct Conversation {
    stream: TcpStream,
    /// Who answers, such as `server 1`.
    pub server: String,
}

impl Conversation {
    /// Connects and asks once, which tells the server.
    pub fn open(target: SocketAddrV4) -> Result<Self, String> {
        let wait = Duration::from_secs(5);
        let stream = TcpStream::connect_timeout(&target.into(), wait).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(wait)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut conversation = Self { stream, server: String::new() };
        conversation.server = conversation.ask("/")?.1;
        Ok(conversation)
    }

    /// The client's end.
    pub fn client(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// One request; the body's length and the name of the server that sent it.
    pub fn ask(&mut self, path: &str) -> Result<(usize, String), String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.receive(&mut bytes)?;
        };
        let text = String::from_utf8(bytes[..head].to_vec()).map_err(|e| e.to_string())?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let length: usize =
            field("Content-Length: ").and_then(|n| n.parse().ok()).ok_or("no length")?;
        let server = field("X-Server: ").ok_or("no server")?.to_owned();
        while bytes.len() < head + length {
            self.receive(&mut bytes)?;
        }
        let body = &bytes[head..];
        let right = match path {
            "/" => body == format!("{server}\n").as_bytes(),
            // The megabyte page repeats the numbers up to 250.
            _ => body.len() == 1 << 20 && (0..).zip(body).all(|(n, b)| (n % 251) as u8 == *b),
        };
        let status = text.starts_with("HTTP/1.1 200 ");
        if right && status { Ok((length, server)) } else { Err(format!("wrong answer: {text}")) }
    }

    fn receive(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk).map_err(|error| error.to_string())? {
            0 => Err("the connection was closed".to_owned()),
            count => {
                bytes.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// Conversations that go on until they are ended, a thread each.
pub struct Conversations {
    stop: Arc<AtomicBool>,
    clients: Vec<SocketAddr>,
    running: Vec<(Arc<AtomicU64>, JoinHandle<Ended>)>,
}

/// How a conversation ended.
#[derive(Debug)]
pub struct Ended {
    /// Who answered.
    pub server: String,
    /// The client's end of the connection.
    pub client: SocketAddr,
    /// How many right answers there were.
    pub answers: u64,
    /// The longest time from a request to its answer.
    pub longest: Duration,
    /// What broke it, if anything did.
    pub broken: Option<String>,
}

impl Conversations {
    /// Lets each conversation ask for the pages `/` and, every eighth of them, `/big`.
    pub fn start(conversations: Vec<Conversation>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let talk = |(number, conversation)| {
            let (stop, answers) = (stop.clone(), Arc::new(AtomicU64::new(0)));
            let path = if number % 8 == 7 { "/big" } else { "/" };
            let counted = answers.clone();
            (answers, std::thread::spawn(move || go_on(conversation, path, &stop, &counted)))
        };
        let clients = conversations.iter().map(Conversation::client).collect();
        let running = conversations.into_iter().enumerate().map(talk).collect();
        Self { stop, clients, running }
    }

    /// The client's end of each.
    pub fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Answers so far, of each.
    pub fn answers(&self) -> Vec<u64> {
        // Relaxed: a number for itself.
        self.running.iter().map(|(answers, _)| answers.load(Ordering::Relaxed)).collect()
    }

    /// Ends them all.
    pub fn end(self) -> Vec<Ended> {
        // Relaxed: the flag stands for itself; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        self.running.into_iter().map(|(_, thread)| thread.join().unwrap()).collect()
    }
}

fn go_on(mut talk: Conversation, path: &str, stop: &AtomicBool, answers: &AtomicU64) -> Ended {
    let (mut longest, mut broken) = (Duration::ZERO, None);
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        match talk.ask(path) {
            Ok((_, server)) if server == talk.server => {}
            Ok((_, server)) => broken = Some(format!("{server} answers for {}", talk.server)),
            Err(reason) => broken = Some(reason),
        }
        longest = longest.max(start.elapsed());
        if broken.is_some() {
            break;
        }
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
    let answers = answers.load(Ordering::Relaxed);
    Ended { client: talk.client(), server: talk.server, answers, longest, broken }
}
