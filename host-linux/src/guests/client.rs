//! Asks a guest by its API.

use crate::failure::{Exit, Failure};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// The longest answer.
const ANSWER_MAX: usize = 1 << 20;

/// Why there was no answer that helps.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody serves the socket, or not to the end: the guest does not run.
    Off,
    /// It was asked, and this came of it.
    Failed(Failure),
}

/// Asks for `what`, such as `vm.info`, and waits so long for the answer.
///
/// # Errors
///
/// The guest does not run, does not answer, or did not do it.
pub fn ask(socket: &Path, method: Method, what: &str, patience: Duration) -> Result<Value, NoAnswer> {
    ask_with(socket, method, what, &Value::Null, patience)
}

/// As [`ask`], and says this with it.
///
/// # Errors
///
/// As [`ask`].
pub fn ask_with(
    socket: &Path,
    method: Method,
    what: &str,
    body: &Value,
    patience: Duration,
) -> Result<Value, NoAnswer> {
    let failed = |why: String| NoAnswer::Failed(Failure::failed(format!("{}: {why}", socket.display())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        let Ok(stream) = UnixStream::connect(socket).await else { return Err(NoAnswer::Off) };
        let exchange = exchange(stream, method, what, body);
        let within = tokio::time::timeout(patience, exchange).await;
        let silent = || failed(format!("no answer to {what} within {} s", patience.as_secs()));
        let (status, body) = within.map_err(|_| silent())?.map_err(|_| NoAnswer::Off)?;
        let value = if body.is_empty() { Value::Null } else { parse(&body).map_err(failed)? };
        match status {
            status if status.is_success() => Ok(value),
            StatusCode::SERVICE_UNAVAILABLE => Err(NoAnswer::Off),
            status => Err(NoAnswer::Failed(told(status, &value))),
        }
    })
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    stream: UnixStream,
    method: Method,
    what: &str,
    body: &Value,
) -> Result<(StatusCode, Bytes), Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let body = Full::new(Bytes::from(body));
    let request = Request::builder().method(method).uri(format!("/api/v1/{what}")).header("Host", "guest");
    let response = sender.send_request(request.body(body)?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("its answer is no JSON: {error}"))
}

/// The failure that an answer tells of.
fn told(status: StatusCode, value: &Value) -> Failure {
    let text = |key: &str| value.pointer(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let what = match text("/error/what") {
        what if what.is_empty() => format!("the guest answers {status}"),
        what => what,
    };
    let mut failure = Failure::failed(what).left(text("/error/left")).next(text("/error/next"));
    match status {
        StatusCode::CONFLICT => failure.exit = Exit::Refused,
        StatusCode::BAD_REQUEST => failure.exit = Exit::Usage,
        _ => {}
    }
    failure
}
