//! What a guest can be asked from outside: HTTP on a Unix socket, for its owner only, with the names of Cloud
//! Hypervisor's API for what there is of it here. Hostile clients cost a slot, never the guest: connections,
//! requests and times are bounded (I11, V16).

use super::begins::Kept;
use super::guest::{Answer, Event, Leave, Order};
use super::snapshot::task::Settings;
use super::snapshot::tracked::Extent;
use super::throttle::Pace;
use crate::failure::{Exit, Failure};
use crate::own_socket;
use bulkhead_core::volume::name::Name;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections at once; others wait.
const CONNECTIONS_MAX: usize = 16;
/// The longest body.
const BODY_MAX: usize = 16 << 10;
/// A request's head must be complete, and a connection without one is kept, for this long.
const PATIENCE: Duration = Duration::from_secs(10);
const STACK: usize = 256 << 10;
/// For how long a guest that is moved may stand still, unless it is said.
pub const DOWNTIME_MS: u64 = 300;
/// Slower moves do not come to an end.
pub const BANDWIDTH_MIN: u64 = 1 << 20;

/// What a path asks, and by which method.
const ROUTES: [(&str, Method, Asks); 15] = [
    ("/api/v1/vmm.ping", Method::GET, Asks::Ping),
    ("/api/v1/vm.info", Method::GET, Asks::Guest(Order::Info)),
    ("/api/v1/vm.counters", Method::GET, Asks::Guest(Order::Counters)),
    ("/api/v1/vm.pause", Method::PUT, Asks::Guest(Order::Pause)),
    ("/api/v1/vm.resume", Method::PUT, Asks::Guest(Order::Resume)),
    ("/api/v1/vm.share", Method::PUT, Asks::Share),
    ("/api/v1/vm.snapshot", Method::PUT, Asks::Snapshot),
    ("/api/v1/vm.cancel-snapshot", Method::PUT, Asks::Guest(Order::Abandon)),
    ("/api/v1/vm.send-migration", Method::PUT, Asks::Leave),
    ("/api/v1/vm.advance-migration", Method::PUT, Asks::Advance),
    ("/api/v1/vm.cancel-migration", Method::PUT, Asks::Guest(Order::Stay)),
    ("/api/v1/vm.reboot", Method::PUT, Asks::Guest(Order::Reboot)),
    ("/api/v1/vm.power-button", Method::PUT, Asks::Guest(Order::PowerButton)),
    ("/api/v1/vm.shutdown", Method::PUT, Asks::Guest(Order::Shutdown)),
    ("/api/v1/vmm.shutdown", Method::PUT, Asks::Guest(Order::Shutdown)),
];

#[derive(Clone)]
enum Asks {
    Ping,
    Guest(Order),
    Share,
    Snapshot,
    Leave,
    Advance,
}

/// The body of `vm.send-migration`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Migration {
    node: String,
    /// The control socket of this node's agent, for a guest that runs without one.
    agent: Option<PathBuf>,
    #[serde(default = "downtime")]
    downtime_ms: u64,
    /// Bytes a second.
    bandwidth: Option<u64>,
    #[serde(default)]
    quick: bool,
    /// What is on its disks goes with it.
    #[serde(default)]
    copy_disks: bool,
    /// It moves with others, as far as `vm.advance-migration` says that is called so, too.
    together: Option<String>,
}

const fn downtime() -> u64 {
    DOWNTIME_MS
}

/// The body of `vm.share`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    percent: u8,
}

/// The body of `vm.snapshot`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    destination_url: String,
    /// The guest ends when it is written.
    #[serde(default)]
    stop: bool,
    /// From now on it is kept what the guest writes.
    #[serde(default)]
    track: bool,
    /// Only what it wrote since this one was taken.
    since: Option<PathBuf>,
}

/// A socket that is served; it is gone when this is dropped.
#[derive(Debug)]
pub struct Api(PathBuf);

impl Drop for Api {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Api {
    /// Serves the socket at `path`; what is asked goes to `tell`.
    ///
    /// # Errors
    ///
    /// The path cannot be used, or another guest serves it.
    pub fn serve(path: &Path, tell: Sender<Event>) -> Result<Self, Failure> {
        let listener = listen(path)?;
        let failed = |error: std::io::Error| Failure::io("serve", path, &error);
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(failed)?;
        let thread = std::thread::Builder::new().name("api".into()).stack_size(STACK);
        thread.spawn(move || runtime.block_on(accept(listener, tell))).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

/// Opens a socket of a guest.
///
/// # Errors
///
/// The path cannot be used, or somebody serves it.
pub fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |error: std::io::Error| {
        let next = "choose a path below 100 bytes in a directory that this user can write to.";
        Failure::io("open the socket", path, &error).next(next)
    };
    own_socket::listen(path).map_err(failed)?.ok_or_else(|| {
        let what = format!("another guest serves {}", path.display());
        Failure::refused(what).next("end it first, or choose another path.")
    })
}

async fn accept(listener: UnixListener, tell: Sender<Event>) {
    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else { return };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, tell.clone(), slot));
            }
            // No file descriptors, most likely: do not spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: tokio::net::UnixStream, tell: Sender<Event>, slot: OwnedSemaphorePermit) {
    let service = hyper::service::service_fn(move |request| {
        let tell = tell.clone();
        async move { Ok::<_, Infallible>(answer(request, &tell).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A client that breaks off is its own business.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
    drop(slot);
}

async fn answer(request: Request<Incoming>, tell: &Sender<Event>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(PATIENCE, Limited::new(body, BODY_MAX).collect()).await;
    let Ok(Ok(body)) = body else {
        return refuse(StatusCode::BAD_REQUEST, &Failure::usage("the body is too long, or was broken off"));
    };
    let path = head.uri.path();
    let Some((_, method, asks)) = ROUTES.iter().find(|(route, ..)| *route == path) else {
        let next = "docs/guests.md lists what there is.";
        let what = format!("nothing is at {path}");
        return refuse(StatusCode::NOT_FOUND, &Failure::usage(what).next(next));
    };
    if head.method != method {
        let what = format!("{path} takes {method}, not {}", head.method);
        return refuse(StatusCode::METHOD_NOT_ALLOWED, &Failure::usage(what));
    }
    let order = match asks {
        Asks::Ping => return respond(StatusCode::OK, &ping()),
        Asks::Guest(order) => Ok(order.clone()),
        Asks::Share => share(&body.to_bytes()),
        Asks::Snapshot => snapshot(&body.to_bytes()),
        Asks::Leave => migration(&body.to_bytes()),
        Asks::Advance => advance(&body.to_bytes()),
    };
    match order {
        Err(failure) => refuse(status_of(&failure), &failure),
        Ok(order) => match ask(order, tell).await {
            Some(Ok(Value::Null)) => respond(StatusCode::NO_CONTENT, &Value::Null),
            Some(Ok(value)) => respond(StatusCode::OK, &value),
            Some(Err(failure)) => refuse(status_of(&failure), &failure),
            None => refuse(StatusCode::SERVICE_UNAVAILABLE, &Failure::failed("the guest ends")),
        },
    }
}

/// What the body of `vm.share` asks for.
fn share(body: &[u8]) -> Result<Order, Failure> {
    let next = "say {\"percent\": 40}.";
    let wrong = |why: String| Failure::usage(format!("the body of vm.share: {why}")).next(next);
    let Share { percent } = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    match (Pace::LEAST..=100).contains(&percent) {
        true => Ok(Order::Share(percent)),
        false => Err(wrong(format!("`percent` is {} to 100", Pace::LEAST))),
    }
}

/// What the body of `vm.snapshot` asks for.
fn snapshot(body: &[u8]) -> Result<Order, Failure> {
    let next = "say {\"destination_url\": \"file:///an/absolute/path\"}, or \"own:NAME\" in its place.";
    let wrong = |why: String| Failure::usage(format!("the body of vm.snapshot: {why}")).next(next);
    let asked: Destination = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let url = &asked.destination_url;
    let to = match url.strip_prefix("own:") {
        Some(name) => Kept::Own(Name::new(name).map_err(|why| wrong(format!("`{name}`: {why}")))?),
        None => {
            let path = url.strip_prefix("file://").map(PathBuf::from);
            let path = path.filter(|path| path.is_absolute());
            Kept::File(path.ok_or_else(|| wrong(format!("`{url}` is no file")))?)
        }
    };
    let extent = match (asked.since, asked.track) {
        (Some(since), _) if !since.is_absolute() => {
            return Err(wrong(format!("`since`, `{}`, is no absolute path", since.display())));
        }
        (Some(since), _) => Extent::Since(since),
        (None, true) => Extent::Tracked,
        (None, false) => Extent::All,
    };
    Ok(Order::Snapshot(Settings { to, extent, is_end: asked.stop }))
}

/// What the body of `vm.send-migration` asks for.
fn migration(body: &[u8]) -> Result<Order, Failure> {
    let next = "say {\"node\": \"b1\"}; docs/guests.md has all of it.";
    let wrong = |why: String| Failure::usage(format!("the body of vm.send-migration: {why}")).next(next);
    let asked: Migration = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let Migration { node, agent, downtime_ms, bandwidth, quick, copy_disks, together } = asked;
    if bandwidth.is_some_and(|bandwidth| bandwidth < BANDWIDTH_MIN) {
        return Err(wrong(format!("`bandwidth` is at least {BANDWIDTH_MIN} bytes a second")));
    }
    let downtime = Duration::from_millis(downtime_ms);
    if copy_disks && together.is_some() {
        return Err(wrong("guests that move together move without their disks".into()));
    }
    let (is_quick, with_disks) = (quick, copy_disks);
    Ok(Order::Leave(Leave { node, agent, downtime, bandwidth, is_quick, with_disks, together }))
}

/// What the body of `vm.advance-migration` asks for.
fn advance(body: &[u8]) -> Result<Order, Failure> {
    let next = "`bulkhead vm migrate --all` says it.";
    let wrong = |error| Failure::usage(format!("the body of vm.advance-migration: {error}")).next(next);
    serde_json::from_slice(body).map(Order::Advance).map_err(wrong)
}

fn ping() -> Value {
    json!({ "version": env!("CARGO_PKG_VERSION"), "build_version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id() })
}

/// What came of an order; `None`: the guest ends.
async fn ask(order: Order, tell: &Sender<Event>) -> Option<Result<Value, Failure>> {
    let (hear, heard) = oneshot::channel();
    let answer = Answer::new(move |answer| {
        // Who asked may have gone.
        let _ = hear.send(answer);
    });
    tell.send(Event::Asked(order, answer)).ok()?;
    heard.await.ok()
}

const fn status_of(failure: &Failure) -> StatusCode {
    match failure.exit {
        Exit::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Exit::Usage => StatusCode::BAD_REQUEST,
        Exit::Refused => StatusCode::CONFLICT,
    }
}

fn refuse(status: StatusCode, failure: &Failure) -> Response<Full<Bytes>> {
    respond(status, &failure.json())
}

fn respond(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let body = if value.is_null() { String::new() } else { value.to_string() };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if !value.is_null() {
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    }
    response
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
