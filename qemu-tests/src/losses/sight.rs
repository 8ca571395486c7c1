//! A guest's process is asked whether its guest runs: one that is held has no lease, and stands still.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::Pid;
use serde_json::Value;

/// One that does not answer within this time is not known to run: nobody waits for it.
const ANSWERS: Duration = Duration::from_millis(500);
const QUESTION: &[u8] = b"GET /api/v1/vm.info HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n";

/// The process whose guest runs now, by its API; `None`: there is none, or its guest stands still.
#[must_use]
pub fn runs(api: &Path) -> Option<Pid> {
    let mut stream = UnixStream::connect(api).ok()?;
    stream.set_read_timeout(Some(ANSWERS)).ok()?;
    let process = socket_peercred(&stream).ok()?.pid;
    stream.write_all(QUESTION).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let info: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    (info.get("state")? == "Running").then_some(process)
}
