//! The other end of the control socket: what the commands use to talk to the agent.

use super::request::Request;
use crate::failure::Failure;
use crate::site_config::SiteConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An answer is awaited this long: longer than the agent's own patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any answer has.
const ANSWER_MAX: u64 = 16 << 20;
/// The socket's name in the state directory.
const SOCKET: &str = "control.sock";

/// Where the agent is: `--socket`, else `--config`, else the state directory.
///
/// # Errors
///
/// The configuration file cannot be used.
pub fn socket(socket: Option<&Path>, config: Option<&Path>, state: &Path) -> Result<PathBuf, Failure> {
    match (socket, config) {
        (Some(socket), _) => Ok(socket.into()),
        (None, Some(config)) => Ok(SiteConfig::read(config)?.local.socket),
        (None, None) => Ok(state.join(SOCKET)),
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// No agent serves the socket.
    pub fn connect(path: &Path) -> Result<Self, Failure> {
        Self::connect_for(path, PATIENCE)
    }

    /// The same for who waits less long for each answer.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect_for(path: &Path, patience: Duration) -> Result<Self, Failure> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| {
            let what = format!("no agent answers at {}: {error}", path.display());
            let next = "start it with `bulkhead agent --config FILE`, or name its socket with --socket.";
            Failure::failed(what).left("").next(next)
        })?;
        Ok(Self { stream: BufReader::new(stream), path: path.into() })
    }

    /// Asks, and waits for what stands under this key of the answer.
    ///
    /// # Errors
    ///
    /// The agent refused, did not answer, or answered something else.
    pub fn ask_for<T: DeserializeOwned>(&mut self, request: &Request, key: &str) -> Result<T, Failure> {
        let answer = self.ask(request)?;
        serde_json::from_value(answer.get(key).cloned().unwrap_or_default()).map_err(|error| {
            Failure::failed(format!("the agent at {} says no `{key}`: {error}", self.path.display()))
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The agent refused, or did not answer.
    pub fn ask(&mut self, request: &Request) -> Result<Value, Failure> {
        self.send(request)?;
        let answer = self.line()?.ok_or_else(|| self.lost("it closed the connection"))?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        let word = |key: &str| {
            answer.pointer(&format!("/error/{key}")).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let what = word("what");
        let failure = match word("kind").as_str() {
            "refused" => Failure::refused(what),
            "usage" => Failure::usage(what),
            _ => Failure::failed(what),
        };
        let left = Some(word("left")).filter(|left| !left.is_empty());
        Err(failure.left(left.unwrap_or_else(|| "Nothing was changed.".into())).next(word("next")))
    }

    /// Asks for a stream of lines; [`Self::line`] reads them.
    ///
    /// # Errors
    ///
    /// The agent did not take the request.
    pub fn follow(&mut self, request: &Request) -> Result<(), Failure> {
        self.send(request)?;
        let unlimited = self.stream.get_ref().set_read_timeout(None);
        unlimited.map_err(|error| self.lost(&error.to_string()))
    }

    /// The next line; `None` when the agent closed the connection.
    ///
    /// # Errors
    ///
    /// It did not come in time, or is no JSON.
    pub fn line(&mut self) -> Result<Option<Value>, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(ANSWER_MAX).read_until(b'\n', &mut line);
        read.map_err(|error| self.lost(&error.to_string()))?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| self.lost(&format!("its answer is no JSON: {error}")))
    }

    fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).unwrap_or_default();
        line.push(b'\n');
        let sent = self.stream.get_mut().write_all(&line);
        sent.map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::failed(format!("the agent at {} does not answer: {why}", self.path.display())).left("")
    }
}
