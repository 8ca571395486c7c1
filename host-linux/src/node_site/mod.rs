//! The site on a node that boots from its boot partition: its configuration and its key stand on the infra
//! partition beside who the node is, so that one image serves every node of every site (S1-03, S1-15).
//!
//! [`Texts`] are what stands there; [`prepare`] makes of them what the agent starts with: the cards get their
//! addresses, the votes their partition, and the files for the other commands land in the run directory.
//!
//! Reading order: here, then [`network`].

pub mod network;

use crate::disk::busy::partition_device;
use crate::disk::open::{Access, Disk};
use crate::disk::state::NodeDisk;
use crate::failure::Failure;
use crate::guests::home::GUESTS;
use crate::node_config::record::{Kind, TEXT_MAX};
use crate::node_config::schema::NodeConfig;
use crate::node_config::store;
use crate::site_config::{SiteConfig, WatchdogDevice, key};
use bulkhead_core::gpt::layout::Layout;
use network::Cards;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration in the run directory: `bulkhead status --config /run/bulkhead/site.toml`.
const FILE: &str = "site.toml";
/// The key beside it.
const KEY_FILE: &str = "site.key";
/// What the agent writes while it runs. All that must outlive a reset is on the infra partition.
const STATE: &str = "cluster";
/// Where the other commands look without being told.
const SOCKET: &str = "control.sock";
/// A node's own watchdog was armed by its init and must be fed: this long without food resets the node.
const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(5);

/// The site as it stands on an infra partition.
#[derive(Clone, PartialEq, Eq)]
pub struct Texts {
    /// The configuration, with the places that every node has.
    pub site: String,
    /// The site key.
    key: String,
}

/// What volumes hold must outlive a reset; what a node with a boot partition has in `state` does not.
fn outlives(config: &SiteConfig) -> Result<(), Failure> {
    let Some(storage) = &config.local.storage else { return Ok(()) };
    let lost =
        [&storage.log, &storage.volumes].into_iter().find(|path| path.starts_with(&config.local.state));
    let Some(lost) = lost else { return Ok(()) };
    let what = format!("{} would be in memory on a node that boots from its boot partition", lost.display());
    let next = "name `log` and `volumes` of [local.storage] outside of `state`.";
    Err(Failure::failed(what).left("Nothing was written.").next(next))
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Texts").field("site", &self.site).finish_non_exhaustive()
    }
}

impl Texts {
    /// Reads the configuration at `path` and the key it names, for the node that its `local.node` names.
    ///
    /// # Errors
    ///
    /// Either cannot be used, or is too long for its place.
    pub fn read(path: &Path) -> Result<(Self, SiteConfig), Failure> {
        let mut config = SiteConfig::read(path)?;
        let key = key::read(&config.local.key_file)?.text();
        config.local.key_file = KEY_FILE.into();
        outlives(&config)?;
        config.local.state = STATE.into();
        config.local.socket = SOCKET.into();
        config.local.guests = GUESTS.into();
        config.local.device = None;
        let site = config.to_toml();
        if TEXT_MAX < site.len() {
            let what =
                format!("{} has {} bytes, at most {TEXT_MAX} fit on a node", path.display(), site.len());
            return Err(Failure::failed(what).next("shorten names and options."));
        }
        Ok((Self { site, key }, config))
    }

    /// Puts both on a disk: first the key, so that no configuration ever stands there without one.
    ///
    /// # Errors
    ///
    /// The disk did not take them.
    pub fn write(&self, disk: &Disk, layout: &Layout) -> Result<u64, Failure> {
        store::write(disk, layout, Kind::Key, &self.key)?;
        store::write(disk, layout, Kind::Site, &self.site)
    }

    /// What stands on a disk; `None` when no site was ever given to it.
    ///
    /// # Errors
    ///
    /// What stands there is damaged.
    pub fn on(disk: &Disk, layout: &Layout) -> Result<Option<Self>, Failure> {
        let Some(site) = store::text(disk, layout, Kind::Site)? else { return Ok(None) };
        let key = store::text(disk, layout, Kind::Key)?;
        let key = key.ok_or_else(|| Failure::failed("the disk holds a site and no site key"))?;
        Ok(Some(Self { site, key }))
    }
}

/// What a node runs its part of the site with.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub config: SiteConfig,
    /// The node's cards: not all may have come up.
    pub cards: Cards,
}

/// Makes this machine, which booted from `disk`, ready to run its part of the site; `None` when it has no
/// site. Files land in `run`; `watchdog` is fed unless the site names one.
///
/// # Errors
///
/// It has a site and cannot run it: what is wrong.
pub fn prepare(disk: &Path, run: &Path, watchdog: Option<PathBuf>) -> Result<Option<Prepared>, Failure> {
    let disk = Disk::open(disk, Access::Read)?;
    let layout = NodeDisk::read(&disk)?.layout;
    let Some(texts) = Texts::on(&disk, &layout)? else { return Ok(None) };
    let node = store::text(&disk, &layout, Kind::Node)?.map(|text| NodeConfig::parse(&text)).transpose()?;
    let cards = Cards::bring_up(node.as_ref().map_or(&[], |node| &node.network));
    let file = run.join(FILE);
    let mut config = SiteConfig::parse(&file, &texts.site)?;
    let start = layout.infra.extent.first().byte_offset(layout.block_size);
    let device = partition_device(&disk, start);
    config.local.device = Some(device.ok_or_else(|| {
        let what = format!("the kernel does not show the infra partition of {}", disk.path.display());
        Failure::failed(what)
    })?);
    config.watchdog =
        config.watchdog.or(watchdog.map(|device| WatchdogDevice { device, timeout: WATCHDOG_TIMEOUT }));
    let written = std::fs::create_dir_all(run)
        .and_then(|()| private(&run.join(KEY_FILE), &texts.key))
        .and_then(|()| private(&file, &config.to_toml()));
    written.map_err(|error| Failure::io("write the site's files to", run, &error))?;
    Ok(Some(Prepared { config, cards }))
}

/// A file that only its owner reads, also when there was another.
fn private(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::EXAMPLE;

    /// S4-07: what volumes hold is not put where a reset loses it.
    #[test]
    fn volumes_are_not_kept_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("site.toml");
        key::generate(&directory.path().join("site.key")).unwrap();
        let read = |storage: &str| {
            let text = EXAMPLE.replacen("#[local.storage]", storage, 1).replacen("#nbd = ", "nbd = ", 1);
            std::fs::write(&path, text).unwrap();
            Texts::read(&path).map(|(_, config)| config.local.storage).map_err(|failure| failure.what)
        };
        let table = |keys: &str| format!("[local.storage]\nlog = \"/dev/log\"\n{keys}\n#");
        assert!(read(&table("")).unwrap_err().contains("/var/lib/bulkhead/volumes would be in memory"));
        let kept = read(&table("volumes = \"/srv/volumes\"")).unwrap().unwrap();
        assert_eq!(
            (kept.log.as_path(), kept.volumes.as_path()),
            (Path::new("/dev/log"), Path::new("/srv/volumes"))
        );
        assert_eq!(read("#").unwrap(), None);
    }
}
