//! `bulkhead image disk` and `image inspect DISK`: complete node disks.

use super::Common;
use super::image::{header_json, keys_json, read_app};
use crate::disk::busy::{check_ours_or_empty, claim_disk};
use crate::disk::esp;
use crate::disk::open::{Access, Disk};
use crate::disk::state::{NodeDisk, read_sector};
use crate::failure::Failure;
use crate::image::node_disk::{Contents, Identity, Sizes, lay_out, write};
use crate::image::verify::{ImageFile, verify};
use crate::image::{boot_app, build, keys};
use crate::node_config::schema::NodeConfig;
use crate::node_site::Texts;
use crate::output::{Report, Voice, parse_size, size};
use bulkhead_core::bcb::state::Tries;
use bulkhead_core::block::{BlockSize, Geometry};
use bulkhead_core::container::header::Header;
use bulkhead_core::container::image::SecurityVersion;
use bulkhead_core::container::trust::Trust;
use bulkhead_core::gpt::entries::Table;
use bulkhead_core::gpt::layout::{Layout, Role, Zone};
use bulkhead_core::slot::SlotId;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use uguid::Guid;

/// Make a complete node disk
///
/// Makes a complete node disk: ESP with the boot application, boot control block, both boot
/// slots, infra, guest, and in the militarized zone admin. A file needs no root; nothing is
/// ever mounted. With --seed or --disk-guid the same inputs give the same bytes.
///
/// Examples:
///   bulkhead image disk --out node.disk --size 8G --boot-app BOOTX64.EFI --trust plant.pub \
///       --image node-1.img
///   bulkhead image disk --out /dev/nvme0n1 --yes --boot-app BOOTX64.trusting.EFI --image node-1.img
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct MakeDisk {
    /// A new file, or a block device
    #[arg(long, value_name = "DISK")]
    out: PathBuf,
    /// Size of the disk; only for a file
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// The boot application
    #[arg(long, value_name = "FILE")]
    boot_app: PathBuf,
    /// Public key to put into the boot application; default: the keys it has
    #[arg(long, value_name = "PUB", num_args = 1..)]
    trust: Vec<PathBuf>,
    /// Image for slot A
    #[arg(long, value_name = "IMG")]
    image: PathBuf,
    /// Image for slot B, confirmed like that of slot A; default: slot B is empty
    #[arg(long, value_name = "IMG")]
    image_b: Option<PathBuf>,
    /// Size of the EFI System Partition
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    esp_size: u64,
    /// Size of the boot control block partition
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1M")]
    bcb_size: u64,
    /// Size of each boot slot
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "512M")]
    slot_size: u64,
    /// Size of the infra partition
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1G")]
    infra_size: u64,
    /// Size of the guest partition; default: the rest
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    guest_size: Option<u64>,
    /// Size of the admin partition, with --zone mz
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1G")]
    admin_size: u64,
    /// Zone of the node: mz has an admin partition
    #[arg(long, value_enum, default_value = "dmz")]
    zone: ZoneArg,
    /// How often an unconfirmed image is tried
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=15))]
    tries: u8,
    /// Node configuration to put on the infra partition
    #[arg(long, value_name = "FILE")]
    node_config: Option<PathBuf>,
    /// Configuration of the site to put there too, with the key it names
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Block size of a file: 512 or 4096
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = parse_block_size)]
    sector_size: u32,
    /// GUID of the disk, from which those of its partitions follow; default: random
    #[arg(long, value_name = "GUID", conflicts_with = "seed")]
    disk_guid: Option<Guid>,
    /// Any text from which all GUIDs follow
    #[arg(long, value_name = "TEXT")]
    seed: Option<String>,
    /// Yes, overwrite this block device
    #[arg(long)]
    yes: bool,
    /// Overwrite even what is not Bulkhead's; replace an existing file
    #[arg(long)]
    force: bool,
    /// Check everything and say what would be written
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ZoneArg {
    /// Militarized zone
    Mz,
    /// Demilitarized zone
    Dmz,
}

impl From<ZoneArg> for Zone {
    fn from(zone: ZoneArg) -> Self {
        match zone {
            ZoneArg::Mz => Self::Mz,
            ZoneArg::Dmz => Self::Dmz,
        }
    }
}

fn parse_block_size(text: &str) -> Result<u32, String> {
    let bytes = text.parse().ok().and_then(BlockSize::from_bytes);
    bytes.map(BlockSize::bytes).ok_or_else(|| "a block has 512 or 4096 bytes".into())
}

/// Everything that goes onto the disk, read and checked before the disk is touched.
struct Prepared {
    boot_app: Vec<u8>,
    image_a: ImageFile,
    image_b: Option<ImageFile>,
    node_config: Option<String>,
    site: Option<Texts>,
    identity: Identity,
    tries: Tries,
}

pub(super) fn run(args: &MakeDisk, common: &Common) -> Result<Report, Failure> {
    let prepared = prepare(args)?;
    let target = Target::open(args)?;
    let sizes = Sizes {
        esp: args.esp_size,
        bcb: args.bcb_size,
        slot: args.slot_size,
        infra: args.infra_size,
        guest: args.guest_size,
        admin: args.admin_size,
    };
    let geometry = target.geometry();
    let table = lay_out(geometry, &sizes, args.zone.into(), prepared.identity)?;
    let layout = Layout::find(&table, geometry.block_size)
        .map_err(|fault| Failure::failed(format!("the disk would have {fault}")))?;
    let trust = check_images(&prepared, &layout, common.voice())?;
    let text = describe(&table, geometry);
    let json = table_json(&table, geometry);
    let path = args.out.display();
    if args.dry_run {
        let text = format!("Would make {path} a node disk. Nothing was written.\n{text}");
        return Ok(Report::new(text, json!({ "ok": true, "dry_run": true, "disk": json })));
    }
    let contents = Contents {
        table: &table,
        identity: prepared.identity,
        boot_app: &prepared.boot_app,
        image_a: &prepared.image_a,
        image_b: prepared.image_b.as_ref(),
        trust: &trust,
        tries: prepared.tries,
        node_config: prepared.node_config.as_deref(),
        site: prepared.site.as_ref(),
    };
    target.write(&contents, common.voice())?;
    let text = format!("{path} is a node disk. Slot a is confirmed and starts first.\n{text}");
    Ok(Report::new(text, json!({ "ok": true, "dry_run": false, "disk": json })))
}

fn prepare(args: &MakeDisk) -> Result<Prepared, Failure> {
    let mut app = read_app(&args.boot_app)?;
    if !args.trust.is_empty() {
        let trust = boot_app::table(keys::read_public(&args.trust, false)?)?;
        app = boot_app::with_trust(&app, &trust, &args.boot_app)?;
    }
    let image_a = ImageFile::open(&args.image)?;
    let image_b = args.image_b.as_deref().map(ImageFile::open).transpose()?;
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        NodeConfig::parse(&text)?;
        Ok(text)
    };
    let node_config = args.node_config.as_ref().map(read).transpose()?;
    let site = args.site.as_deref().map(Texts::read).transpose()?.map(|(texts, _)| texts);
    let identity = match (&args.disk_guid, &args.seed) {
        (Some(guid), _) => Identity(*guid),
        (None, Some(seed)) => Identity::from_seed(seed.as_bytes()),
        (None, None) => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)
                .map_err(|error| Failure::failed(format!("the system has no random numbers: {error}")))?;
            Identity::from_seed(&seed)
        }
    };
    let tries = Tries::new(args.tries).unwrap_or(bulkhead_core::bcb::state::TRIES_DEFAULT);
    Ok(Prepared { boot_app: app, image_a, image_b, node_config, site, identity, tries })
}

/// A disk that would not start its own images is not made. Answers with the keys it will trust.
fn check_images(prepared: &Prepared, layout: &Layout, voice: Voice) -> Result<Trust, Failure> {
    let trust: Trust = boot_app::trust_of(&prepared.boot_app)
        .map_err(|why| Failure::failed(format!("the boot application cannot be used: {why}")))?;
    if trust.keys.is_empty() {
        return Err(Failure::failed("the boot application trusts no key, so no image would ever start")
            .next("give the public key with `--trust NAME.pub`."));
    }
    let floor_b = prepared.image_a.header.image.security;
    let images = [
        (SlotId::A, Some(&prepared.image_a), SecurityVersion(0)),
        (SlotId::B, prepared.image_b.as_ref(), floor_b),
    ];
    for (slot, image, floor) in images {
        let Some(image) = image else { continue };
        let bar = voice.bar("verifying", image.header.payload_len);
        let mut read = |at: u64, buffer: &mut [u8]| image.read(at, buffer);
        let capacity = layout.slot(slot).capacity;
        let verified = verify(&mut read, &trust, capacity, floor, &mut |count| bar.inc(count));
        bar.finish_and_clear();
        verified.map_err(|why| {
            Failure::refused(format!("{} would not start from slot {slot}: {why}", image.path.display()))
                .next("`bulkhead image inspect` shows its key; `--trust` adds one, `--slot-size` makes room.")
        })?;
    }
    Ok(trust)
}

/// Where the disk goes.
enum Target {
    /// A file that appears only when it is complete.
    File { out: PathBuf, bytes: u64, block_size: BlockSize },
    /// A block device, claimed.
    Device { disk: Box<Disk>, _claim: crate::disk::busy::Claim },
}

impl Target {
    fn open(args: &MakeDisk) -> Result<Self, Failure> {
        let is_device = std::fs::metadata(&args.out)
            .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type()));
        if !is_device {
            return Self::file(args);
        }
        let disk = Disk::open(&args.out, if args.dry_run { Access::Read } else { Access::Write })?;
        if args.size.is_some() {
            return Err(Failure::usage(format!("{} has a size of its own", args.out.display()))
                .next("leave out `--size`."));
        }
        let claim = claim_disk(&disk)?;
        if !args.force {
            check_ours_or_empty(&disk)?;
        }
        if !args.yes && !args.dry_run {
            let what = format!("{} ({}) would be overwritten", args.out.display(), size(disk.bytes()));
            return Err(Failure::refused(what).next("check that it is the disk you mean, then add `--yes`."));
        }
        Ok(Self::Device { disk: Box::new(disk), _claim: claim })
    }

    fn file(args: &MakeDisk) -> Result<Self, Failure> {
        let bytes = args.size.ok_or_else(|| {
            Failure::usage("a file needs a size").next("add `--size`, such as `--size 8G`.")
        })?;
        if args.out.exists() && !args.force {
            return Err(Failure::refused(format!("{} exists already", args.out.display()))
                .next("choose another name, or replace it with `--force`."));
        }
        let block_size = BlockSize::from_bytes(args.sector_size).unwrap_or(BlockSize::B512);
        Ok(Self::File { out: args.out.clone(), bytes, block_size })
    }

    fn geometry(&self) -> Geometry {
        match self {
            Self::File { bytes, block_size, .. } => Geometry::from_bytes(*block_size, *bytes),
            Self::Device { disk, .. } => disk.geometry,
        }
    }

    fn write(self, contents: &Contents<'_>, voice: Voice) -> Result<(), Failure> {
        match self {
            Self::Device { disk, .. } => write(&disk, contents, voice),
            Self::File { out, bytes, block_size } => {
                let partial = build::partial(&out);
                let result = write_file(&partial, bytes, block_size, contents, voice).and_then(|()| {
                    std::fs::rename(&partial, &out).map_err(|error| Failure::io("rename to", &out, &error))
                });
                result.map_err(|failure| {
                    let _ = std::fs::remove_file(&partial);
                    failure.left(format!("{} was not made.", out.display()))
                })
            }
        }
    }
}

fn write_file(
    path: &Path,
    bytes: u64,
    block_size: BlockSize,
    contents: &Contents<'_>,
    voice: Voice,
) -> Result<(), Failure> {
    let create = || {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(bytes)?;
        Ok::<File, std::io::Error>(file)
    };
    let file = create().map_err(|error| Failure::io("create", path, &error))?;
    let disk = Disk::from_file(file, path, Access::Write, Some(block_size))?;
    write(&disk, contents, voice)
}

fn describe(table: &Table, disk: Geometry) -> String {
    let mut text =
        format!("  disk {}, {} blocks of {} bytes\n", table.disk_guid, disk.blocks, disk.block_size.bytes());
    for partition in &table.partitions {
        let at = size(partition.extent.first().byte_offset(disk.block_size));
        let len = size(partition.extent.bytes(disk.block_size));
        text.push_str(&format!(
            "  {:>2}  {:<8} at {at:<12} {len}\n",
            partition.index.saturating_add(1),
            partition.name.to_string()
        ));
    }
    text
}

fn table_json(table: &Table, disk: Geometry) -> serde_json::Value {
    let role =
        |type_guid: Guid| Role::ALL.into_iter().find(|role| role.type_guid() == type_guid).map(Role::name);
    let partition = |partition: &bulkhead_core::gpt::entries::Partition| {
        json!({
            "number": partition.index.saturating_add(1),
            "name": partition.name.to_string(),
            "role": role(partition.type_guid),
            "type_guid": partition.type_guid.to_string(),
            "guid": partition.unique_guid.to_string(),
            "offset": partition.extent.first().byte_offset(disk.block_size),
            "bytes": partition.extent.bytes(disk.block_size),
        })
    };
    json!({
        "guid": table.disk_guid.to_string(),
        "block_bytes": disk.block_size.bytes(),
        "blocks": disk.blocks,
        "partitions": table.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

/// What a disk holds.
pub(super) fn inspect(path: &Path) -> Result<Report, Failure> {
    let disk = Disk::open(path, Access::Read)?;
    let node = NodeDisk::read(&disk)?;
    let table = &node.table.table;
    let mut text = format!(
        "{} is a node disk; {}.\n{}",
        path.display(),
        node.table.state,
        describe(table, disk.geometry)
    );
    let mut slots = serde_json::Map::new();
    for slot in SlotId::ALL {
        let header = read_sector(&disk, node.layout.slot(slot).image).map(|sector| Header::parse(&sector));
        let (line, json) = match header {
            Some(Ok(header)) => {
                let image = header.image;
                let line = format!("holds version {} (security version {})", image.version, image.security);
                (line, header_json(&header))
            }
            Some(Err(fault)) => (format!("holds no image: {fault}"), serde_json::Value::Null),
            None => ("could not be read".to_owned(), serde_json::Value::Null),
        };
        text.push_str(&format!("  slot {slot} {line}; not verified\n"));
        slots.insert(slot.to_string(), json);
    }
    let app = esp::read_boot_app(&disk, &node.layout.esp).map_err(|why| why.to_string());
    let trust = app.and_then(|app| boot_app::trust_of(&app));
    let (line, keys) = match &trust {
        Ok(trust) => (format!("trusts {} keys", trust.keys.len()), keys_json(&trust.keys)),
        Err(why) => (format!("cannot be used: {why}"), Vec::new()),
    };
    text.push_str(&format!("  boot application {line}\n"));
    let state = node.table.state.to_string();
    let json = json!({
        "ok": true,
        "kind": "disk",
        "disk": table_json(table, disk.geometry),
        "table_state": state,
        "images": slots,
        "keys": keys,
    });
    Ok(Report::new(text, json))
}
