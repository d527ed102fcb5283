//! Asks a running engine, over its socket.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uvs_uvsadm::api::{
    Change, Config, Conn, Outcome, Refused, Service, Settings, Traffic, Version,
};

use crate::api::{Counters, Reloaded};

/// Why the engine did not do or tell what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no engine answers on {}: {source}; `uvs run --config uvs.toml` starts one", path.display())]
    NoEngine {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("no permission to use {}; run as root or as whom uvs.toml's [api] names", .0.display())]
    NotAllowed(PathBuf),
    /// A change was refused.
    #[error("{}", .0.error)]
    Refused(Refused),
    /// The engine says no.
    #[error("{0}")]
    Told(String),
    /// The answer is not what this version of uvs expects.
    #[error("the engine's answer is not understood ({0}); are uvs and the engine of one version?")]
    Answer(String),
}

/// A client of the engine that listens on a socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// A client for the engine on this socket; nothing is connected yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Services, servers and statistics.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; so in the other methods.
    pub fn services(&self) -> Result<Vec<Service>, ClientError> {
        self.get("/v1/services")
    }

    /// The connection table, whole: for small ones.
    pub fn connections(&self) -> Result<Vec<Conn>, ClientError> {
        let mut conns = Vec::new();
        self.each_connection(|conn| {
            conns.push(conn);
            ControlFlow::Continue(())
        })?;
        Ok(conns)
    }

    /// The connection table, a connection after another, until `each` breaks off. However large
    /// the table is, no more than a piece of it is kept.
    pub fn each_connection(
        &self,
        mut each: impl FnMut(Conn) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let request = request(Method::GET, "/v1/connections", Bytes::new())?;
        runtime()?.block_on(async {
            let response = self.send(request).await?;
            let status = response.status();
            let mut body = response.into_body();
            if status != StatusCode::OK {
                return Err(refusal(&collect(body).await?));
            }
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(answer)?.into_data() else { continue };
                rest.extend_from_slice(&data);
                let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                for line in rest[..end].split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
                    if each(parse(line)?).is_break() {
                        return Ok(());
                    }
                }
                rest.drain(..end);
            }
            Ok(())
        })
    }

    /// Table size, timeouts and settings.
    pub fn settings(&self) -> Result<Settings, ClientError> {
        self.get("/v1/settings")
    }

    /// What became of every frame.
    pub fn counters(&self) -> Result<Counters, ClientError> {
        self.get("/v1/counters")
    }

    /// Totals and rates over all services.
    pub fn traffic(&self) -> Result<Traffic, ClientError> {
        self.get("/v1/traffic")
    }

    /// Makes all the changes, or none.
    pub fn change(&self, changes: &[Change]) -> Result<Outcome, ClientError> {
        parse(&self.ask(Method::POST, "/v1/changes", Some(&changes))?)
    }

    /// Makes those of the changes that can be made, and says which cannot.
    pub fn change_each(&self, changes: &[Change]) -> Result<Outcome, ClientError> {
        parse(&self.ask(Method::POST, "/v1/changes?mode=each", Some(&changes))?)
    }

    /// What [`change_each`](Self::change_each) would do.
    pub fn trial(&self, changes: &[Change]) -> Result<Outcome, ClientError> {
        parse(&self.ask(Method::POST, "/v1/changes?mode=dry-run", Some(&changes))?)
    }

    /// The whole configuration.
    pub fn config(&self) -> Result<Config, ClientError> {
        self.get("/v1/config")
    }

    /// Makes the whole configuration what `wanted` says, as one change or not at all.
    pub fn replace(&self, wanted: &Config) -> Result<Outcome, ClientError> {
        parse(&self.ask(Method::PUT, "/v1/config", Some(wanted))?)
    }

    /// Waits for another version of the configuration than `after`, half a minute at most; says
    /// which there is.
    pub fn watch(&self, after: u64) -> Result<u64, ClientError> {
        let Version { version } = self.get(&format!("/v1/watch?after={after}"))?;
        Ok(version)
    }

    /// Whether somebody listens, and may be asked.
    pub fn probe(&self) -> Result<(), ClientError> {
        let stream = std::os::unix::net::UnixStream::connect(&self.path);
        stream.map(drop).map_err(|source| self.unreachable(source))
    }

    /// Has the engine read its file of services again.
    pub fn reload(&self) -> Result<Reloaded, ClientError> {
        parse(&self.ask(Method::POST, "/v1/reload", None::<&()>)?)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.ask(Method::GET, path, None::<&()>)?)
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(answer)?;
        let request = request(method, path, Bytes::from(body.unwrap_or_default()))?;
        runtime()?.block_on(async {
            let response = self.send(request).await?;
            let status = response.status();
            let body = collect(response.into_body()).await?;
            if status == StatusCode::OK { Ok(body) } else { Err(refusal(&body)) }
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let stream = tokio::net::UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(answer)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(answer)
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(self.path.clone()),
            _ => ClientError::NoEngine { path: self.path.clone(), source },
        }
    }
}

fn answer(error: impl std::fmt::Display) -> ClientError {
    ClientError::Answer(error.to_string())
}

fn runtime() -> Result<tokio::runtime::Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(answer)
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "uvs")
        .header("content-type", "application/json")
        .body(Full::new(body))
        .map_err(answer)
}

async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    Ok(body.collect().await.map_err(answer)?.to_bytes())
}

fn refusal(body: &Bytes) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(refused) => ClientError::Refused(refused),
        Err(_) => ClientError::Told(String::from_utf8_lossy(body).into_owned()),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(answer)
}
