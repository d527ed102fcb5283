//! An engine without ports, its API on a socket, and uvsadm by any of its names.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use uvs_control::access::Access;
use uvs_control::adm::{Invocation, Program};
use uvs_control::api::Socket;
use uvs_control::client::Client;
use uvs_control::config::Config;
use uvs_control::control::Control;
use uvs_control::director::Director;
use uvs_engine::clock::{Clock, Ticks};
use uvs_engine::table::Table;
use uvs_uvsadm::names::Numeric;

pub struct Engine {
    pub control: Control,
    pub client: Client,
    pub path: PathBuf,
}

/// What a command printed, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub code: u8,
    pub out: String,
    pub err: String,
}

impl Engine {
    /// An engine whose socket is called `name`.
    pub fn start(name: &str) -> Self {
        let (table, _) = Table::new(64, 1, Ticks(0)).unwrap();
        Self::over(&table, name)
    }

    /// An engine over a table of connections.
    pub fn over(table: &Arc<Table>, name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uvs-{name}-{}", std::process::id()));
        let config = Config::parse("outside = \"eth0\"", "uvs.toml").unwrap();
        let clock = Clock::manual(Ticks(0));
        let control = Control::without_ports(Director::idle(), table.clone(), clock, config);
        let socket = Socket::open(&path, &Access::default()).unwrap();
        let served = control.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(socket.serve(served, std::future::pending())).unwrap();
        });
        Self { control, client: Client::new(&path), path }
    }

    /// Runs a command line by its first word, with this input.
    pub fn run(&self, line: &str, input: &str) -> Said {
        let mut words = line.split_whitespace().map(str::to_owned);
        let program = Program::called(&words.next().unwrap()).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut invocation = Invocation {
            program: &program,
            client: &self.client,
            names: &Numeric,
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
            colour: false,
        };
        let code = invocation.run(&words.collect::<Vec<_>>());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code, out: text(out), err: text(err) }
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub fn does(&self, line: &str) -> String {
        let said = self.run(line, "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}");
        said.out
    }

    /// Makes the table what these rules say.
    #[track_caller]
    pub fn restore(&self, rules: &str) {
        let said = self.run("ipvsadm-restore", rules);
        assert_eq!(said, Said { code: 0, out: String::new(), err: String::new() });
    }

    /// Sends a request as it is written; returns the status and the body of the answer.
    pub fn ask(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        let length = body.len();
        let head =
            format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }
}
