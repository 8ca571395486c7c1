//! `bulkhead vmm`: one guest in this process.

use super::Common;
use crate::failure::Failure;
use crate::output::Report;
use crate::vmm::console::Console;
use crate::vmm::description::Description;
use crate::vmm::machine::Machine;
use crate::vmm::vcpu::End;
use clap::Args;
use serde_json::json;
use std::io::{BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Run one guest
///
/// Runs the guest that a file describes, in this process, on KVM. Its serial console is standard
/// input and output; with --json, its output goes to standard error. Ends when the guest is off,
/// and starts it anew when it resets; Ctrl-C ends it at once, as a loss of power would.
///
/// The file:
///
///   version = 1
///   name = "web1"
///   processors = 2
///   memory = "1GiB"
///   kernel = "vmlinuz"
///   initrd = "initrd.img"
///   command_line = "console=ttyS0 root=/dev/vda"
///
///   [[disk]]
///   uri = "nbd+unix:///web1?socket=/run/bulkhead/nbd.sock"
///
/// Examples:
///   bulkhead vmm web1.toml
///   bulkhead vmm web1.toml --once
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Vmm {
    /// What the guest is
    #[arg(value_name = "FILE")]
    description: PathBuf,
    /// End when the guest resets, too
    #[arg(long)]
    once: bool,
}

/// How often it is looked whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes that are typed at once.
const TYPED_MAX: usize = 256;

pub(super) fn run(args: &Vmm, common: &Common) -> Result<Report, Failure> {
    let description = Description::read(&args.description)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    }
    // A guest without one of its threads would be neither running nor gone.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::abort();
    }));
    let console = match common.json {
        true => Console::to(std::io::stderr()),
        false => Console::to(std::io::stdout()),
    };
    let console = console.map_err(|error| Failure::failed(format!("no thread for a console: {error}")))?;
    let typed = typed();
    loop {
        let machine = Machine::start(&description, console.clone(), &[])?;
        let end = until_end(&machine, &typed, &stop);
        drop(machine);
        console.drain();
        match end {
            End::Reset if !args.once => {}
            End::Failed(why) => {
                return Err(Failure::failed(format!("guest {}: {why}", description.name)).left(""));
            }
            End::PowerOff => return Ok(report("off")),
            End::Reset => return Ok(report("reset")),
            End::Stopped => return Ok(report("stopped")),
        }
    }
}

fn report(how: &str) -> Report {
    Report::new(String::new(), json!({ "ok": true, "ended": how }))
}

/// Runs it until it ends or is to stop.
fn until_end(machine: &Machine, typed: &Receiver<u8>, stop: &AtomicBool) -> End {
    let mut waiting: Vec<u8> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Some(end) = machine.wait(LOOK) {
            return end;
        }
        waiting.extend(typed.try_iter().take(TYPED_MAX.saturating_sub(waiting.len())));
        let taken = machine.input(&waiting).min(waiting.len());
        waiting.drain(..taken);
    }
    End::Stopped
}

/// What comes in by standard input, until its end. Nobody waits for its thread.
fn typed() -> Receiver<u8> {
    let (tell, typed) = sync_channel(TYPED_MAX);
    let read = move || {
        BufReader::new(std::io::stdin()).bytes().map_while(Result::ok).all(|byte| tell.send(byte).is_ok())
    };
    // Without it the guest runs all the same.
    let _ = std::thread::Builder::new().name("console".into()).spawn(read);
    typed
}
