//! `bulkhead logs`: what a part of the site that has no disk for logs says.

use super::Common;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::witness_log::source::{Offer, Source};
use crate::witness_log::{ELF_NEXT, Line, NOTHING_READ, Words};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    Witness(Witness),
}

/// Show the log of a witness on a microcontroller
///
/// Reads the log of a witness from its serial line (the first UART of the board) and shows it, until
/// the stream ends. The board sends numbers; their words are in the ELF file that was flashed to it.
/// A frame that cannot be read is shown as such: the first one, as a rule, was begun before.
///
/// With --serve it passes the raw stream on, so that other programs read it unchanged, such as
/// `defmt-print -e witness.elf tcp --host 127.0.0.1 --port 19021`.
///
/// Examples:
///   bulkhead logs witness --elf witness.elf --serial /dev/ttyUSB0
///   bulkhead logs witness --serial /dev/ttyUSB0 --serve 127.0.0.1:19021
///   qemu-system-arm ... -serial stdio | bulkhead logs witness --elf witness.elf -
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Witness {
    /// The ELF file that was flashed to the board
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// The serial line
    #[arg(long, value_name = "DEVICE", group = "source")]
    serial: Option<PathBuf>,
    /// Its speed in bits per second
    #[arg(long, value_name = "N", default_value = "115200", value_parser = parse_baud)]
    baud: u32,
    /// A program that offers the stream
    #[arg(long, value_name = "HOST:PORT", group = "source")]
    tcp: Option<String>,
    /// A file with the stream, or - for standard input
    #[arg(value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// Offer the raw stream on this address; without --elf it is not shown here
    #[arg(long, value_name = "IP:PORT")]
    serve: Option<SocketAddr>,
}

fn parse_baud(text: &str) -> Result<u32, String> {
    let speed = text.parse().ok().filter(|speed| 0 < *speed);
    speed.ok_or_else(|| "write bits per second, such as 115200".into())
}

/// Unreadable frames in a row after which it is said what that means, as a rule.
const STRANGE: u32 = 8;

pub(super) fn run(verb: &Verb, common: &Common) -> Result<Report, Failure> {
    match verb {
        Verb::Witness(args) => witness(args, common),
    }
}

fn witness(args: &Witness, common: &Common) -> Result<Report, Failure> {
    let source = source(args)?;
    let words = match (&args.elf, args.serve) {
        (Some(elf), _) => Some(Words::read(elf)?),
        (None, Some(_)) => None,
        (None, None) => return Err(Failure::usage("no ELF file is named").left(NOTHING_READ).next(ELF_NEXT)),
    };
    let mut stream = source.open()?;
    let offer = args.serve.map(Offer::listen).transpose()?;
    if let Some((_, bound)) = &offer {
        eprintln!("the raw log is offered at {bound}");
    }
    let mut reader = words.as_ref().map(Words::reader);
    let mut counts = Counts::default();
    let mut buffer = [0; 1024];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ended(&error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if let Some((offer, _)) = &offer {
            offer.send(bytes);
        }
        let mut is_heard = true;
        if let Some(reader) = &mut reader {
            reader.take(bytes, &mut |line| is_heard &= counts.say(&line, common.json));
        }
        if !is_heard {
            break;
        }
    }
    let Counts { read, unreadable, .. } = counts;
    if read == 0 && 0 < unreadable {
        return Err(Failure { exit: Exit::Failed, ..strange(unreadable) });
    }
    Ok(Report::new(String::new(), json!({ "ok": true, "frames": read, "unreadable": unreadable })))
}

fn source(args: &Witness) -> Result<Source, Failure> {
    match (&args.serial, &args.tcp, &args.file) {
        (Some(serial), ..) => Ok(Source::Serial(serial.clone(), args.baud)),
        (None, Some(address), _) => Ok(Source::Tcp(address.clone())),
        (None, None, Some(file)) if file.as_os_str() == "-" => Ok(Source::Stdin),
        (None, None, Some(file)) => Ok(Source::File(file.clone())),
        (None, None, None) => {
            let next = "give `--serial DEVICE`, `--tcp HOST:PORT`, a FILE, or `-` for standard input.";
            Err(Failure::usage("nothing says where the log comes from").left(NOTHING_READ).next(next))
        }
    }
}

fn ended(error: &std::io::Error) -> Failure {
    let next = "is the adapter still plugged in?";
    Failure::failed(format!("the log ended: {error}")).left("What came before is shown.").next(next)
}

fn strange(unreadable: u32) -> Failure {
    let what =
        format!("none of {unreadable} frames could be read: is this the ELF file of the board's firmware?");
    Failure::failed(what).left("All of them are shown as such.").next(ELF_NEXT)
}

#[derive(Default)]
struct Counts {
    read: u32,
    unreadable: u32,
    in_a_row: u32,
}

impl Counts {
    /// Shows a line. `false`: nobody reads what is shown.
    fn say(&mut self, line: &Line, as_json: bool) -> bool {
        match line {
            Line::Said { .. } => (self.read, self.in_a_row) = (self.read.saturating_add(1), 0),
            Line::Unreadable(_) => {
                self.unreadable = self.unreadable.saturating_add(1);
                self.in_a_row = self.in_a_row.saturating_add(1);
                if self.in_a_row == STRANGE {
                    eprint!("{}", strange(STRANGE).text());
                }
            }
        }
        let mut out = std::io::stdout().lock();
        let said = if as_json { writeln!(out, "{}", in_json(line)) } else { writeln!(out, "{line}") };
        said.and_then(|()| out.flush()).is_ok()
    }
}

fn in_json(line: &Line) -> Value {
    match line {
        Line::Said { time, level, text, at } => {
            let (file, number) = at.clone().unzip();
            json!({ "time": time, "level": level, "text": text, "file": file, "line": number })
        }
        Line::Unreadable(count) => json!({ "unreadable": count }),
    }
}
