//! `bulkhead volume attach | detach`: a volume as a block device of this machine, over every node that serves
//! it (S1-27 to S1-29).

use crate::failure::Failure;
use crate::kernel_nbd::{Attached, Device, all_different};
use crate::nbd::uri::Uri;
use crate::output::{Report, size};
use crate::site_config::value::parse_time;
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// Use a volume as a block device of this machine
///
/// Attaches the kernel's NBD client to a volume by way of every URI, and keeps it attached: when a
/// node dies, requests go on over another one, and when it is back, it is used again. A request
/// fails only when no node could carry it out for the time of --patience. Runs until the device is
/// detached; needs root and the kernel module nbd. When this command is ended, the device stays
/// with the connections it has, and they are not renewed any more.
///
/// Example:
///   bulkhead volume attach /dev/nbd0 nbd://10.0.1.1/vm1 nbd://10.0.1.2/vm1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Attach {
    /// The device, such as /dev/nbd0
    #[arg(value_name = "DEVICE")]
    device: Device,
    /// Where the volume is served, as `bulkhead volume show` prints it
    #[arg(value_name = "URI", required = true, value_parser = uri)]
    uris: Vec<Uri>,
    /// How long requests wait while no node serves the volume
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_time)]
    patience: Duration,
}

/// Detach a block device from its volume
///
/// What was written is on the volume. A file system on the device must be unmounted before.
///
/// Example:
///   bulkhead volume detach /dev/nbd0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Detach {
    /// The device, such as /dev/nbd0
    #[arg(value_name = "DEVICE")]
    device: Device,
}

pub(super) fn attach(args: &Attach) -> Result<Report, Failure> {
    all_different(&args.uris)?;
    let mut attached = Attached::new(args.device, &args.uris, args.patience)?;
    eprintln!("{} is attached: {}", args.device, size(attached.size()));
    attached.keep();
    let json = json!({ "ok": true, "device": args.device.to_string() });
    Ok(Report::new(format!("{} was detached\n", args.device), json))
}

pub(super) fn detach(args: &Detach) -> Result<Report, Failure> {
    args.device.detach()?;
    let json = json!({ "ok": true, "device": args.device.to_string() });
    Ok(Report::new(format!("{} is detached\n", args.device), json))
}

fn uri(text: &str) -> Result<Uri, String> {
    text.parse::<Uri>().map_err(|why| why.to_string())
}
