//! The API: HTTP and JSON on a Unix socket.
//!
//! ```text
//! GET  /v1/services      [Service]      services, servers, statistics
//! GET  /v1/connections   Conn ...       the connection table: a line of JSON each, as it is read
//! GET  /v1/settings      Settings       table size, timeouts, settings
//! GET  /v1/traffic       Traffic        totals and rates over all services that ever were
//! GET  /v1/counters      Counters       what became of every frame
//! GET  /v1/config        Config         the whole configuration, with its version
//! PUT  /v1/config        Config         makes it so, as one change, or not at all: Outcome
//! GET  /v1/watch         Version        answers once the version is another than ?after=
//! POST /v1/changes       [Change]       all of them or none; 409 and Refused when one is refused
//! POST /v1/reload                       reads uvs.toml's rules and the file of services again
//! GET  /v1/openapi.json                 all of this for programs
//! ```
//!
//! The bodies are those of [`uvs_uvsadm::api`]. Whose the socket is says uvs.toml ([`Access`]);
//! who changes something stands in the log.
//!
//! [`Access`]: crate::access::Access

mod body;
mod counters;
mod openapi;
mod socket;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::{Bytes, Frame};
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};
use uvs_engine::snapshot::Rules;
use uvs_uvsadm::api::{
    Change, Config, Conn, Outcome, Refused, Service, Setting, Settings, Traffic, Version,
};

use crate::conns;
use crate::control::Control;
use crate::document;
use body::{Checked, Refusal};
use socket::Peer;

pub use counters::{Counters, WorkerCounters};
pub use openapi::openapi;
pub use socket::{Socket, SocketError};

/// Pieces of a listing that wait for a client to read them.
const CHUNKS: usize = 4;

/// The priority of a listing (as of nice(1)): where it has to share a core with a busy worker, it
/// gets about a quarter.
const LISTING_NICE: i32 = 5;

/// How long a watch waits before it says that nothing has changed.
const WATCH: Duration = Duration::from_secs(30);

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// How many changes it took.
    pub changes: usize,
}

/// What is done with a list of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All are made, or none.
    #[default]
    All,
    /// Each counts for itself: what can be made is, the answer says what cannot.
    Each,
    /// Nothing is made; the answer says what each would do.
    DryRun,
}

/// How changes are to be made.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
struct How {
    /// What is done with them.
    mode: Mode,
}

/// How a configuration is to be replaced.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
struct Trial {
    /// Only say what would be done.
    dry_run: bool,
}

/// What a watch waits for.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct After {
    /// The version that is known already.
    after: u64,
}

/// The API's routes.
pub fn router(control: Control) -> Router {
    Router::new()
        .route("/v1/services", get(services))
        .route("/v1/connections", get(connections))
        .route("/v1/settings", get(settings))
        .route("/v1/traffic", get(traffic))
        .route("/v1/counters", get(counters))
        .route("/v1/config", get(config).put(replace))
        .route("/v1/watch", get(watch))
        .route("/v1/changes", post(changes))
        .route("/v1/reload", post(reload))
        .route("/v1/openapi.json", get(async || ([(CONTENT_TYPE, JSON)], openapi())))
        // `Checked` has a limit of its own, and a sentence for it.
        .layer(DefaultBodyLimit::disable())
        .with_state(control)
}

const JSON: &str = "application/json";

/// Services, servers, statistics.
#[utoipa::path(get, path = "/v1/services", responses((status = 200, body = [Service])))]
async fn services(State(control): State<Control>) -> Json<Vec<Service>> {
    Json(control.services().iter().map(Service::from).collect())
}

/// The connection table: a line of JSON each.
///
/// The listing is written by a thread of its own that steps back for all others, and not before
/// the client has read what came before.
#[utoipa::path(
    get,
    path = "/v1/connections",
    responses((status = 200, body = Conn, content_type = "application/x-ndjson"))
)]
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

/// Table size, timeouts, settings.
#[utoipa::path(get, path = "/v1/settings", responses((status = 200, body = Settings)))]
async fn settings(State(control): State<Control>) -> Json<Settings> {
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
        timeouts: document::timeouts(&timeouts),
        settings: settings.iter().map(setting).collect(),
    })
}

/// Totals and rates over all services that ever were.
#[utoipa::path(get, path = "/v1/traffic", responses((status = 200, body = Traffic)))]
async fn traffic(State(control): State<Control>) -> Json<Traffic> {
    Json(control.traffic())
}

/// What became of every frame.
#[utoipa::path(get, path = "/v1/counters", responses((status = 200, body = Counters)))]
async fn counters(State(control): State<Control>) -> Json<Counters> {
    let workers = control.worker_totals().iter().map(WorkerCounters::from).collect();
    Json(Counters { workers, ..Counters::from(&control.totals()) })
}

/// The whole configuration, with its version (`ETag` as well).
#[utoipa::path(get, path = "/v1/config", responses((status = 200, body = Config)))]
async fn config(State(control): State<Control>) -> Response {
    let config = control.document();
    let tag = format!("\"{}\"", config.version.unwrap_or_default());
    ([(ETAG, tag)], Json(config)).into_response()
}

/// Makes the configuration what the body says, as one change or not at all.
#[utoipa::path(
    put,
    path = "/v1/config",
    params(Trial, ("If-Match" = Option<String>, Header, description = "The version, as its ETag")),
    request_body = Config,
    responses(
        (status = 200, body = Outcome),
        (status = 409, body = Refused),
        (status = 412, description = "The configuration is of another version", body = String),
        (status = 422, description = "The body has another shape", body = String),
    )
)]
async fn replace(
    State(control): State<Control>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(trial): Query<Trial>,
    headers: HeaderMap,
    Checked(mut wanted): Checked<Config>,
) -> Result<Json<Outcome>, Refusal> {
    if let Some(tag) = headers.get(IF_MATCH) {
        wanted.version = version(tag.to_str().unwrap_or_default())?;
    }
    let outcome = control.replace(&wanted, trial.dry_run)?;
    if !trial.dry_run {
        log(&peer, outcome.changes.len(), outcome.version);
    }
    Ok(Json(outcome))
}

/// The version of an `If-Match`; `*` is any.
fn version(tag: &str) -> Result<Option<u64>, Refusal> {
    match tag.trim_start_matches("W/").trim_matches('"') {
        "*" => Ok(None),
        number => number.parse().map(Some).map_err(|_| {
            let sentence = format!("If-Match is {tag}; it has to be a version, as in \"5\"");
            Refusal::Told(StatusCode::BAD_REQUEST, sentence)
        }),
    }
}

/// Answers with the version once it is another than the one that is known, or after half a minute.
#[utoipa::path(get, path = "/v1/watch", params(After), responses((status = 200, body = Version)))]
async fn watch(
    State(control): State<Control>,
    Query(After { after }): Query<After>,
) -> Json<Version> {
    let mut versions = control.watch();
    let changed = versions.wait_for(|version| *version != after);
    // Neither the end of the wait nor that of the engine is an error of the request.
    let _ = tokio::time::timeout(WATCH, changed).await;
    let version = *versions.borrow();
    Json(Version { version })
}

/// Makes changes, as `mode` says.
#[utoipa::path(
    post,
    path = "/v1/changes",
    params(How),
    request_body = [Change],
    responses(
        (status = 200, body = Outcome),
        (status = 409, body = Refused),
        (status = 422, description = "The body has another shape", body = String),
    )
)]
async fn changes(
    State(control): State<Control>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(how): Query<How>,
    Checked(changes): Checked<Vec<Change>>,
) -> Result<Json<Outcome>, Refusal> {
    let outcome = match how.mode {
        Mode::All => Outcome { version: control.change(&changes)?, ..Outcome::default() },
        Mode::Each => control.change_each(&changes)?,
        Mode::DryRun => return Ok(Json(control.trial(&changes))),
    };
    log(&peer, changes.len() - outcome.refused.len(), outcome.version);
    Ok(Json(outcome))
}

/// Reads uvs.toml's rules and the file of services again.
#[utoipa::path(
    post,
    path = "/v1/reload",
    responses((status = 200, body = Reloaded), (status = 409, body = String))
)]
async fn reload(
    State(control): State<Control>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Reloaded>, Refusal> {
    let told = |sentence| Refusal::Told(StatusCode::CONFLICT, sentence);
    let changes = control.reload().map_err(told)?;
    let version = *control.watch().borrow();
    log(&peer, changes, version);
    Ok(Json(Reloaded { changes }))
}

fn log(peer: &Peer, changes: usize, version: u64) {
    tracing::info!("{changes} changes by {peer}; the configuration is of version {version}");
}
