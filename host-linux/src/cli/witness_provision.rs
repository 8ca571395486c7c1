//! `bulkhead witness provision`: writes the card of a witness on a microcontroller, and never its votes away.

use super::Common;
use super::witness_show::{PLACES, describe, read_card};
use crate::disk::busy::{Claim, claim_disk, holds, is_removable};
use crate::disk::open::{Access, Disk, Kind};
use crate::failure::Failure;
use crate::image::build::partial;
use crate::output::{Report, Voice, size};
use crate::site_config::value::parse_hardware;
use crate::site_config::{Board, SiteConfig, key};
use crate::witness_card::plan::{Plan, plan, witness};
use crate::witness_card::read::Card;
use crate::witness_card::write::{Change, Step, change, new_steps, settings_steps};
use bulkhead_core::plan::DiskOffset;
use bulkhead_core::provision::{Head, VOTES_AT};
use bulkhead_core::register::store;
use clap::Args;
use serde_json::json;
use std::fs::{File, OpenOptions, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Write the card of a witness on a microcontroller
///
/// Writes everything that the firmware of a witness must know to a card: who it is, its networks,
/// its keys, its nodes, their relays, the timers; all out of the configuration of the site. The
/// card holds the site key: keep it like one. The firmware itself holds no secret.
///
/// A card that this witness used already keeps its votes; only the settings are written anew. What
/// else would be lost is named, and overwritten only with --new --yes.
///
/// Examples:
///   bulkhead witness provision --config site.toml --node w --device /dev/sdX
///   bulkhead witness provision --config site.toml --node w --out card.img --gateway 10.0.1.254
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Provision {
    /// The configuration of the site, such as a node has it
    #[arg(long, value_name = "FILE", env = "BULKHEAD_CONFIG")]
    config: PathBuf,
    /// The witness: its name or its id
    #[arg(long, value_name = "NODE")]
    node: String,
    /// The card: a block device
    #[arg(long, value_name = "DEVICE", required_unless_present = "out", conflicts_with = "out")]
    device: Option<PathBuf>,
    /// An image of a card: a file, made if it is not there
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Address of the board's Ethernet MAC; default: the configuration's, else of site and node
    #[arg(long, value_name = "MAC", value_parser = parse_hardware)]
    hardware: Option<[u8; 6]>,
    /// The way to nodes in other networks; default: the configuration's, else none
    #[arg(long, value_name = "IP")]
    gateway: Option<Ipv4Addr>,
    /// Bits of both networks; default: the configuration's, else 24
    #[arg(long, value_name = "N", value_parser = parse_bits)]
    bits: Option<u8>,
    /// Have the board ask a DHCP server for its first address: that of the configuration
    #[arg(long)]
    dhcp: bool,
    /// Begin anew: a new voter without a past. What the card held is lost
    #[arg(long)]
    new: bool,
    /// Yes, lose what was named; yes, this device is the card
    #[arg(long)]
    yes: bool,
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
}

fn parse_bits(text: &str) -> Result<u8, String> {
    let bits = text.parse().ok().filter(|bits| (1..=30).contains(bits));
    bits.ok_or_else(|| "a network has 1 to 30 bits".into())
}

/// Bytes of an image: a power of two, as emulators want it, with room for all votes.
const IMAGE_LEN: u64 = 8 << 20;
/// Cards of this size exist; larger ones are rather somebody's disk.
const CARD_MAX: u64 = 2 << 40;

pub(super) fn run(args: &Provision, common: &Common) -> Result<Report, Failure> {
    let config = SiteConfig::read(&args.config)?;
    let member = witness(&config, &args.node)?;
    let board = Board {
        dhcp: args.dhcp,
        bits: args.bits.map(|bits| [bits; 2]),
        gateway: args.gateway,
        hardware: args.hardware,
    };
    let plan = plan(&config, member, &board, key::read(&config.local.key_file)?)?;
    let target = Target::open(args)?;
    let found = target.read()?;
    let (change, loss) = change(&found, &plan, config.site, args.new);
    let path = target.path().display().to_string();
    // A card of ours says so itself; of everything else the ends tell.
    let is_ours = found.settings().is_some() || found.owner().is_some() || found.newer().is_some();
    let foreign = if change == Change::New && !is_ours { target.holds()? } else { None };
    let loss = foreign.map(|what| format!("it holds {what}")).or(loss.map(|loss| loss.0));
    if let Some(what) = &loss
        && !(args.new && args.yes)
        && !args.dry_run
    {
        let next = "check that it is the card you mean. `--new --yes` overwrites all it holds: the witness \
                    then is a new voter, which counts once the others know.";
        return Err(Failure::refused(format!("{path} is not empty: {what}")).next(next));
    }
    target.check_device(args)?;
    let (head, steps) = match change {
        Change::Nothing => {
            let text = format!(
                "{path} is the card of {} as the configuration has it. Nothing was written.\n",
                member.name
            );
            return Ok(Report::new(text, json!({ "ok": true, "dry_run": args.dry_run, "done": "nothing" })));
        }
        Change::Settings => settings_steps(found.settings().ok_or_else(lost)?, &plan)?,
        Change::New => new_steps(&plan, config.site, PLACES)?,
    };
    let said = said(change, &path, &member.name, loss.as_deref(), &head);
    let json = json!({
        "ok": true,
        "dry_run": args.dry_run,
        "done": if change == Change::New { "new" } else { "settings" },
        "node": member.id.0,
        "life": head.owner.life.0,
        "seq": head.seq,
        "lost": loss,
    });
    if args.dry_run {
        return Ok(Report::new(format!("Would make: {said}Nothing was written.\n"), json));
    }
    let read_back = target.write(&steps, common.voice())?;
    check(&read_back, &plan, &head).map_err(|failure| failure.left(format!("{path} is not to be used.")))?;
    Ok(Report::new(format!("{said}{}", describe(&read_back, Some(&config))), json))
}

fn lost() -> Failure {
    Failure::failed("the card changed while it was read")
}

fn said(change: Change, path: &str, name: &str, loss: Option<&str>, head: &Head) -> String {
    let mut text = match (change, loss) {
        (Change::New, None) => format!("{path} is the card of {name}, a voter without a past.\n"),
        (Change::New, Some(loss)) => {
            format!("{path} is the card of {name}, a voter without a past; lost: {loss}.\n")
        }
        (Change::Settings | Change::Nothing, _) => {
            format!("{path} has new settings of {name}; its votes are kept.\n")
        }
    };
    let wait = head.old_leases();
    if !wait.is_zero() {
        text.push_str(&format!(
            "  leases were longer once: each start waits {} ms for those\n",
            wait.as_millis()
        ));
    }
    text
}

/// What was read back must be what was to be written.
fn check(found: &Card, plan: &Plan, head: &Head) -> Result<(), Failure> {
    let is_right = found.copies.iter().all(|copy| {
        copy.as_ref().is_ok_and(|copy| {
            copy.head.encode(&copy.secrets) == head.encode(&copy.secrets)
                && copy.secrets.key == plan.key.0
                && copy.peers == plan.peers
        })
    });
    match is_right && found.is_usable() {
        true => Ok(()),
        false => {
            let damage = found.damage.first().cloned().unwrap_or_else(|| "other bytes".into());
            Err(Failure::failed(format!("the card does not keep what is written to it: {damage}"))
                .next("take another card: this one is worn out, or write-protected."))
        }
    }
}

/// Where the card is.
enum Target {
    /// A file that appears only when it is complete.
    NewFile(PathBuf),
    /// A file or a block device that is there, claimed.
    There { disk: Box<Disk>, _claim: Claim },
}

impl Target {
    fn open(args: &Provision) -> Result<Self, Failure> {
        let path = args.device.as_deref().or(args.out.as_deref()).unwrap_or(Path::new(""));
        let found = std::fs::metadata(path);
        let is_device = found.as_ref().is_ok_and(|found| found.file_type().is_block_device());
        match (is_device, args.device.is_some()) {
            (true, false) => {
                let what = format!("{} is a block device", path.display());
                return Err(Failure::usage(what).next("say `--device` if you mean that card."));
            }
            (false, true) => {
                let what = format!("{} is no block device", path.display());
                return Err(
                    Failure::usage(what).next("`lsblk` shows them; `--out` makes an image in a file.")
                );
            }
            (true, true) | (false, false) => {}
        }
        if !is_device && found.is_err() {
            return Ok(Self::NewFile(path.into()));
        }
        let disk = Disk::open(path, if args.dry_run { Access::Read } else { Access::Write })?;
        let needed = VOTES_AT.saturating_add(store::space(PLACES));
        if disk.bytes() < needed {
            let what = format!("{} has {}, a card needs {needed} bytes", path.display(), size(disk.bytes()));
            return Err(Failure::failed(what).next("take a larger one."));
        }
        let claim = claim_disk(&disk)?;
        Ok(Self::There { disk: Box::new(disk), _claim: claim })
    }

    fn path(&self) -> &Path {
        match self {
            Self::NewFile(path) => path,
            Self::There { disk, .. } => &disk.path,
        }
    }

    fn read(&self) -> Result<Card, Failure> {
        match self {
            Self::NewFile(_) => Card::read(PLACES, &mut |_| Ok([0; 512])).map_err(|_| lost()),
            Self::There { disk, .. } => read_card(disk),
        }
    }

    fn holds(&self) -> Result<Option<String>, Failure> {
        match self {
            Self::NewFile(_) => Ok(None),
            Self::There { disk, .. } => holds(disk),
        }
    }

    /// Refuses what looks like somebody's disk.
    fn check_device(&self, args: &Provision) -> Result<(), Failure> {
        let Self::There { disk, .. } = self else { return Ok(()) };
        let looks_fixed = !is_removable(disk) || CARD_MAX < disk.bytes();
        if disk.kind == Kind::Device && looks_fixed && !args.yes && !args.dry_run {
            let what = format!("{} ({}) does not look like a card", disk.path.display(), size(disk.bytes()));
            return Err(Failure::refused(what).next("check that it is the one you mean, then add `--yes`."));
        }
        Ok(())
    }

    /// Carries out the steps, and reads the card back from the medium.
    fn write(&self, steps: &[Step], voice: Voice) -> Result<Card, Failure> {
        match self {
            Self::There { disk, .. } => {
                let left = format!("{} is not to be used before this was repeated.", disk.path.display());
                keep_secret(disk)?;
                carry_out(disk, steps, voice)
                    .and_then(|()| read_card(disk))
                    .map_err(|failure| failure.left(left))
            }
            Self::NewFile(out) => {
                let partial = partial(out);
                let made = make(&partial, steps, voice).and_then(|card| {
                    std::fs::rename(&partial, out).map_err(|error| Failure::io("rename to", out, &error))?;
                    Ok(card)
                });
                made.map_err(|failure| {
                    let _ = std::fs::remove_file(&partial);
                    failure.left(format!("{} was not made.", out.display()))
                })
            }
        }
    }
}

/// An image holds the site key: nobody else may read it.
fn keep_secret(disk: &Disk) -> Result<(), Failure> {
    if disk.kind == Kind::Device {
        return Ok(());
    }
    let set = disk.file().set_permissions(Permissions::from_mode(0o600));
    set.map_err(|error| Failure::io("close to others", &disk.path, &error))
}

fn make(path: &Path, steps: &[Step], voice: Voice) -> Result<Card, Failure> {
    let create = || -> std::io::Result<File> {
        // One that is left over may be open to others.
        let _ = std::fs::remove_file(path);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(IMAGE_LEN)?;
        Ok(file)
    };
    let file = create().map_err(|error| Failure::io("create", path, &error))?;
    let disk = Disk::from_file(file, path, Access::Write, None)?;
    carry_out(&disk, steps, voice)?;
    read_card(&disk)
}

fn carry_out(disk: &Disk, steps: &[Step], voice: Voice) -> Result<(), Failure> {
    let writes = steps.iter().filter(|step| matches!(step, Step::Write(..))).count();
    let bar = voice.bar("writing", u64::try_from(writes).unwrap_or(0).saturating_mul(512));
    for step in steps {
        let done = match step {
            Step::Write(at, block) => {
                bar.inc(512);
                disk.write(DiskOffset(*at), block.as_slice())
            }
            Step::Flush => disk.flush(),
        };
        done.map_err(|error| Failure::io("write", &disk.path, &error))?;
    }
    bar.finish_and_clear();
    Ok(())
}
