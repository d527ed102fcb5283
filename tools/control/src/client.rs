//! Asks a running engine, over its socket.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uvs_uvsadm::api::{Change, Conn, Service, Settings};

use crate::api::{Counters, Refused, Reloaded};

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
    #[error("no permission to use {}; run as root or as the engine's owner", .0.display())]
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

    /// The connection table.
    pub fn connections(&self) -> Result<Vec<Conn>, ClientError> {
        self.get("/v1/connections")
    }

    /// Table size and timeouts.
    pub fn settings(&self) -> Result<Settings, ClientError> {
        self.get("/v1/settings")
    }

    /// What became of every frame.
    pub fn counters(&self) -> Result<Counters, ClientError> {
        self.get("/v1/counters")
    }

    /// Makes all the changes, or none.
    pub fn change(&self, changes: &[Change]) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/changes", Some(&changes)).map(drop)
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
        let answer = |error: &dyn std::fmt::Display| ClientError::Answer(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| answer(&error))?;
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| answer(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "uvs")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| answer(&error))?;
        let (status, body) = runtime.block_on(self.exchange(request))?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(match serde_json::from_slice(&body) {
                Ok(refused) => ClientError::Refused(refused),
                Err(_) => ClientError::Told(String::from_utf8_lossy(&body).into_owned()),
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let answer = |error: hyper::Error| ClientError::Answer(error.to_string());
        let stream = tokio::net::UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(answer)?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(answer)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(answer)?.to_bytes();
        Ok((status, body))
    }

    fn unreachable(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(self.path.clone()),
            _ => ClientError::NoEngine { path: self.path.clone(), source },
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Answer(error.to_string()))
}
