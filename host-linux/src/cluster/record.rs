//! A record of all that a witness is told and of a sum of what it does, to be replayed on a microcontroller
//! (X22, X23). For developers: `BULKHEAD_RECORD=FILE bulkhead witness ...`. The file holds the site key.

use crate::failure::Failure;
use bulkhead_core::id::{NodeId, PairId};
use bulkhead_core::link::key::SiteKey;
use bulkhead_core::node::settings::Settings;
use bulkhead_core::node::words::{Action, Event};
use bulkhead_core::provision::trace::{Beginning, END, Step, Sum};
use bulkhead_core::provision::{Address, Head, Local, PEERS_PER_BLOCK, Peer, Secrets, encode_peers};
use bulkhead_core::register::store::{Owner, Stored};
use bulkhead_core::time::Instant;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// The variable that names the file.
pub const VARIABLE: &str = "BULKHEAD_RECORD";

/// A record that is being written. It ends with the first thing that cannot be recorded.
#[derive(Debug)]
pub struct Recorder {
    file: BufWriter<File>,
    sum: Sum,
    is_whole: bool,
}

impl Recorder {
    /// Begins a record at `path` of a witness that begins `at` this time, with these settings and votes.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or the settings are not a witness's.
    pub fn begin(
        path: &Path,
        at: Instant,
        settings: &Settings,
        key: [u8; 32],
        votes: &[Stored],
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("cannot record to {}: {error}", path.display()))
        };
        let owner = Owner { site: settings.site, node: settings.me, life: settings.life };
        let nowhere = Address { host: [0; 4], port: 1 };
        let others = settings.members.iter().filter(|member| member.node != settings.me);
        let peers: Vec<Peer> =
            others.map(|member| Peer { member: *member, outlet: None, paths: [nowhere; 2] }).collect();
        let head = head(settings, owner, key, u16::try_from(peers.len()).map_err(|error| failed(&error))?);
        let votes_len = u16::try_from(votes.len()).map_err(|error| failed(&error))?;
        let beginning = Beginning { votes: votes_len, at, nonce: settings.nonce };
        let secrets = Secrets { key, secret: [0; 32] };
        let blocks = [beginning.encode(), head.encode(&secrets)];
        let peers = peers.chunks(PEERS_PER_BLOCK).map(|peers| encode_peers(head.seq, peers));
        let votes = votes.iter().map(|stored| stored.encode(&owner));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = BufWriter::new(file.map_err(|error| failed(&error))?);
        for block in blocks.into_iter().chain(peers).chain(votes) {
            file.write_all(&block).map_err(|error| failed(&error))?;
        }
        Ok(Self { file, sum: Sum::default(), is_whole: true })
    }

    /// One more action of the step under way.
    pub fn did(&mut self, action: &Action) {
        self.sum.add(action);
    }

    /// The step under way is over. What cannot be written ends the record; the witness goes on.
    pub fn told(&mut self, at: Instant, event: Event<'_>) {
        if !self.is_whole {
            return;
        }
        let step = Step { at, event, sum: self.sum }.encode();
        self.is_whole = step.is_some_and(|step| self.file.write_all(step.written()).is_ok());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.file.write_all(&END).and_then(|()| self.file.flush());
    }
}

fn head(settings: &Settings, owner: Owner, key: [u8; 32], peers: u16) -> Head {
    let me = settings.members.iter().find(|member| member.node == settings.me);
    let local = Local { host: None, port: 1 };
    let NodeId(node) = settings.me;
    let [low, high] = node.to_le_bytes();
    Head {
        seq: 1,
        owner,
        pair: me.map_or(PairId(0), |me| me.pair),
        peers,
        key: SiteKey::new(key),
        secret: SiteKey::new([0; 32]),
        hardware: [2, 0, 0, 0, low, high],
        paths: [local; 2],
        gateway: None,
        timers: settings.timers,
        drift: settings.drift,
        digest: settings.digest,
        old_lease: Duration::ZERO,
    }
}
