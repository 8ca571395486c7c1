//! `bulkhead vm console`: this terminal on a guest's console.

use super::vm::GuestArg;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Attach to a guest's console
///
/// Shows what the guest said last and what it says, and types what is typed here. Ctrl-] leaves;
/// the guest goes on. Several may be attached at once. Without a terminal, what comes in by
/// standard input is typed, and the command goes on until the guest is off or it is ended.
///
/// Examples:
///   bulkhead vm console web1
///   echo root | bulkhead vm console web1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Console {
    #[command(flatten)]
    guest: GuestArg,
}

/// Ctrl-]: leaves.
const LEAVE: u8 = 0x1d;

pub(super) fn run(args: &Console) -> Result<Report, Failure> {
    let home = args.guest.home()?;
    let path = home.console();
    let connected = UnixStream::connect(&path).and_then(|stream| Ok((stream.try_clone()?, stream)));
    let (mut reader, writer) = connected.map_err(|error| {
        let what = format!("guest {} has no console: {}: {error}", home.name, path.display());
        Failure::refused(what).left("").next(format!("`bulkhead vm start {}` begins it.", home.name))
    })?;
    let terminal = Raw::begin();
    if terminal.is_some() {
        eprint!("Attached to {}; Ctrl-] leaves.\r\n", home.name);
    }
    let is_raw = terminal.is_some();
    let keys = move || type_all(&writer, is_raw);
    std::thread::Builder::new()
        .name("keys".into())
        .spawn(keys)
        .map_err(|error| Failure::failed(format!("no thread for the keys: {error}")))?;
    let mut out = std::io::stdout();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut bytes) {
        let said = bytes.get(..count).unwrap_or_default();
        if out.write_all(said).and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    drop(terminal);
    eprintln!();
    Ok(Report::new(String::new(), json!({ "ok": true, "name": home.name })))
}

/// Types what comes in, until its end or until who types leaves.
fn type_all(mut console: &UnixStream, is_raw: bool) {
    let mut bytes = [0; 256];
    while let Ok(count @ 1..) = std::io::stdin().read(&mut bytes) {
        let typed = bytes.get(..count).unwrap_or_default();
        let leaves = typed.iter().position(|byte| is_raw && *byte == LEAVE);
        let typed = typed.get(..leaves.unwrap_or(count)).unwrap_or_default();
        if console.write_all(typed).is_err() || leaves.is_some() {
            let _ = console.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A terminal that passes every key on, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let input = std::io::stdin();
        let before = input.is_terminal().then(|| tcgetattr(&input).ok()).flatten()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
