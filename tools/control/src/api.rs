//! The API: HTTP and JSON on a Unix socket.
//!
//! ```text
//! GET  /v1/services      [Service]      services, servers, statistics
//! GET  /v1/connections   Conn ...       the connection table: a line of JSON each, as it is read
//! GET  /v1/settings      Settings       table size, timeouts, settings
//! GET  /v1/traffic       Traffic        totals and rates over all services that ever were
//! GET  /v1/counters      Counters       what became of every frame
//! POST /v1/changes       [Change]       all of them or none; 409 and Refused when one is refused
//! POST /v1/reload                       reads uvs.toml's rules and the file of services again
//! ```
//!
//! The bodies are those of [`uvs_uvsadm::api`]. The socket is the owner's alone (mode 0600).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::{Bytes, Frame};
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uvs_engine::counters::Totals;
use uvs_engine::proto::tcp;
use uvs_engine::snapshot::Rules;
use uvs_uvsadm::api::{ApiError, Change, Service, Setting, Settings, Timeouts, Traffic};

use crate::conns;
use crate::control::{ChangeError, Control};

/// Largest body that is read, in bytes.
const MAX_BODY: usize = 64 << 20;

/// Pieces of a listing that wait for a client to read them.
const CHUNKS: usize = 4;

/// The priority of a listing (as of nice(1)): where it has to share a core with a busy worker, it
/// gets about a quarter.
const LISTING_NICE: i32 = 5;

/// What became of every frame (INV-4), as [`Totals`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames received.
    pub rx: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Received frames sent on.
    pub tx: u64,
    /// Bytes sent on.
    pub tx_bytes: u64,
    /// Frames that wait for an Ethernet address.
    pub waiting: u64,
    /// Frames whose bytes went on in others: fragments in their packets, packets in fragments.
    #[serde(default)]
    pub merged: u64,
    /// Frames that were made of parts of packets.
    #[serde(default)]
    pub parted: u64,
    /// Frames that the engine made itself.
    pub originated: u64,
    /// Frames handed to the host, by reason; reasons without a frame are left out.
    pub to_host: BTreeMap<String, u64>,
    /// Frames dropped, by reason; reasons without a frame are left out.
    pub drops: BTreeMap<String, u64>,
    /// Each worker's share, worker 0 first.
    #[serde(default)]
    pub workers: Vec<WorkerCounters>,
}

/// One worker's share of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCounters {
    /// Frames received.
    pub rx: u64,
    /// Received frames sent on.
    pub tx: u64,
}

impl From<&Totals> for WorkerCounters {
    fn from(totals: &Totals) -> Self {
        Self { rx: totals.rx, tx: totals.tx }
    }
}

impl Counters {
    /// Frames handed to the host.
    pub fn host_frames(&self) -> u64 {
        self.to_host.values().sum()
    }

    /// Frames dropped.
    pub fn dropped_frames(&self) -> u64 {
        self.drops.values().sum()
    }

    /// Whether `rx + parted = tx + to_host + sum(drops) + merged + waiting`.
    pub fn balanced(&self) -> bool {
        let gone = self.tx + self.host_frames() + self.dropped_frames() + self.merged;
        self.rx + self.parted == gone + self.waiting
    }
}

impl From<&Totals> for Counters {
    fn from(totals: &Totals) -> Self {
        let some = |(name, count): (&str, u64)| (count > 0).then(|| (name.to_owned(), count));
        Self {
            rx: totals.rx,
            rx_bytes: totals.rx_bytes,
            tx: totals.tx,
            tx_bytes: totals.tx_bytes,
            waiting: totals.waiting,
            merged: totals.merged,
            parted: totals.parted,
            originated: totals.originated,
            to_host: totals.to_host.iter().filter_map(|(r, n)| some((r.as_str(), *n))).collect(),
            drops: totals.drops.iter().filter_map(|(r, n)| some((r.as_str(), *n))).collect(),
            workers: Vec::new(),
        }
    }
}

/// Why changes were not made; none of them was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which change, from 0.
    pub change: usize,
    /// Why.
    pub error: ApiError,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// How many changes it took.
    pub changes: usize,
}

/// The API's routes.
pub fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/connections", get(connections))
        .route("/v1/settings", get(settings))
        .route("/v1/traffic", get(traffic))
        .route("/v1/counters", get(counters))
        .route("/v1/changes", post(changes))
        .route("/v1/reload", post(reload))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(control)
}

async fn services(State(control): State<Control>) -> Json<Vec<Service>> {
    Json(control.services().iter().map(Service::from).collect())
}

/// The listing is written by a thread of its own that steps back for all others, and not before
/// the client has read what came before.
async fn connections(State(control): State<Control>) -> Result<Response, (StatusCode, String)> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let write = move || {
        // Only a wish: without it the workers share their cores with us as equals.
        let _ = setpriority_process(Some(rustix::thread::gettid()), LISTING_NICE);
        let (table, now) = (control.table().clone(), control.clock().now());
        let send = |chunk: Vec<u8>| sender.blocking_send(Bytes::from(chunk)).is_ok();
        conns::walk(&table, now, control.calls(), send);
    };
    let thread = std::thread::Builder::new().name("uvs-listing".into()).spawn(write);
    thread.map_err(|error| {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the engine cannot list connections: {error}"))
    })?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::new(Chunks(receiver))).into_response())
}

/// A body that comes piece by piece.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

async fn settings(State(control): State<Control>) -> Json<Settings> {
    let seconds = |ticks: uvs_engine::clock::Ticks| ticks.to_duration().as_secs() as u32;
    let Rules { timeouts, settings, .. } = control.rules();
    let setting = |(setting, value): (&uvs_engine::settings::Setting, u32)| Setting {
        name: setting.name.to_owned(),
        value,
        default: setting.default,
        min: *setting.range.start(),
        max: *setting.range.end(),
        meaning: setting.meaning.to_owned(),
    };
    Json(Settings {
        table_size: control.table().capacity() as u64,
        timeouts: Timeouts {
            tcp: seconds(timeouts.tcp[usize::from(tcp::ESTABLISHED)]),
            tcp_fin: seconds(timeouts.tcp[usize::from(tcp::FIN_WAIT)]),
            udp: seconds(timeouts.udp),
        },
        settings: settings.iter().map(setting).collect(),
    })
}

async fn traffic(State(control): State<Control>) -> Json<Traffic> {
    Json(control.traffic())
}

async fn counters(State(control): State<Control>) -> Json<Counters> {
    let workers = control.worker_totals().iter().map(WorkerCounters::from).collect();
    Json(Counters { workers, ..Counters::from(&control.totals()) })
}

async fn changes(
    State(control): State<Control>,
    Json(changes): Json<Vec<Change>>,
) -> Result<(), (StatusCode, Json<Refused>)> {
    control.change(&changes).map_err(|error| {
        let (change, error) = match error {
            ChangeError::Refused(change, error) => (change, error),
            ChangeError::Steer(error) => (0, ApiError::not_supported(error.to_string())),
        };
        (StatusCode::CONFLICT, Json(Refused { change, error }))
    })
}

async fn reload(State(control): State<Control>) -> Result<Json<Reloaded>, (StatusCode, String)> {
    let reloaded = control.reload().map(|changes| Json(Reloaded { changes }));
    reloaded.map_err(|sentence| (StatusCode::CONFLICT, sentence))
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another engine answers on it.
    #[error("another engine answers on {0}; stop it, or give this one another `socket`")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} is there and is no socket; remove it, or give the engine another `socket`")]
    NoSocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The API's socket; dropped, its file is gone.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: std::os::unix::net::UnixListener,
}

impl Socket {
    /// Listens on `path`. A socket that a dead engine left is replaced.
    ///
    /// # Errors
    ///
    /// See [`SocketError`].
    pub fn open(path: &Path) -> Result<Self, SocketError> {
        let refused = |source| SocketError::Refused { path: path.to_owned(), source };
        if let Ok(found) = path.symlink_metadata() {
            if !found.file_type().is_socket() {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            if UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(refused)?;
        }
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(refused)?;
        let socket = Self { path: path.to_owned(), listener };
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, owner_only).map_err(refused)?;
        socket.listener.set_nonblocking(true).map_err(refused)?;
        Ok(socket)
    }

    /// Serves the API until `until` is ready.
    ///
    /// # Errors
    ///
    /// The listener's.
    pub async fn serve(
        &self,
        control: Control,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        axum::serve(listener, router(control)).with_graceful_shutdown(until).await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("uvs-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
        let path = path("socket");
        let first = Socket::open(&path).unwrap();
        let second = Socket::open(&path).unwrap_err();
        assert!(matches!(second, SocketError::InUse(_)), "{second}");
        std::mem::forget(Socket {
            path: path.clone(),
            listener: first.listener.try_clone().unwrap(),
        });
        drop(first);
        assert!(!path.exists());

        let dead = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(dead);
        assert!(path.exists(), "as a killed engine leaves it");
        drop(Socket::open(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = path("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::open(&path), Err(SocketError::NoSocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        std::fs::remove_file(&path).unwrap();
    }
}
