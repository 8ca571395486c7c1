//! The disks of a guest at the node that it comes to: what comes is written there, and durable before this
//! node says that it has all of the guest. What was on them is not written over, unless it came by an attempt
//! to move this guest that did not come to its end.

use super::ask;
use super::partial::Partial;
use super::piece::{Content as On, Piece};
use crate::failure::Failure;
use crate::nbd::client::connection::Client;
use crate::nbd::client::negotiate::Refused;
use crate::nbd::export::{Content, Export as _, Request, Span};
use crate::nbd::uri::Uri;
use crate::vmm::description::{self, Description};
use crate::vmm::lease::Lease;
use std::io::{Error, Result as IoResult};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a connection may take to be made, and an answer to come: shorter than the other node waits.
const PATIENCE: Duration = Duration::from_secs(25);
/// A volume that was made is exported within this time.
const EXPORTED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// What is made durable at once: what is left at the end, while the guest stands still, is little.
const DIRTY_MAX: u64 = 32 << 20;
/// What is asked about at once, and what is filled with zeroes.
const WINDOW: u64 = 1 << 30;
const ZEROES_MAX: u64 = 32 << 20;
const EXTENTS_MAX: usize = 1024;

/// The disks that come with a guest.
#[derive(Debug)]
pub struct Targets {
    /// By their numbers; `None`: it does not come.
    disks: Vec<Option<Target>>,
    /// What is noted of them, and where.
    noted: Option<(PathBuf, Partial)>,
    /// Why one of them is not what it is to be.
    failed: Option<Failure>,
}

#[derive(Debug)]
struct Target {
    client: Client,
    uri: Uri,
    /// Bytes that are not known to be durable.
    dirty: u64,
}

impl Targets {
    /// Looks for the disks as they are described here; they are to have so many bytes. It is noted at `noted`
    /// that they come from this node, before anything is written.
    ///
    /// # Errors
    ///
    /// One is not served, not as large, or has something on it: nothing was written.
    pub fn open(
        described: &Description,
        sizes: &[Option<u64>],
        lease: Option<&Lease>,
        (noted, node): (Option<&Path>, &str),
    ) -> Result<Self, Failure> {
        let kinds = described.disks.iter().map(|disk| disk.is_read_only);
        if !kinds.eq(sizes.iter().map(Option::is_none)) {
            return Err(Failure::refused("other disks come than the guest has here"));
        }
        let come = || described.disks.iter().filter(|disk| !disk.is_read_only);
        let partial = Partial::begin(node, come().map(|disk| disk.content.to_string()).collect());
        let before = noted.map(Partial::load).transpose()?.flatten();
        let is_ours = before.is_some_and(|before| before.disks == partial.disks);
        let open = |(disk, size): (&description::Disk, &Option<u64>)| {
            let target = size.map(|size| Target::open(disk, size, lease)).transpose()?;
            match &target {
                Some(target) if !is_ours && !target.is_empty()? => Err(target.has_something()),
                Some(_) | None => Ok(target),
            }
        };
        let disks = described.disks.iter().zip(sizes).map(open).collect::<Result<_, _>>()?;
        noted.map_or(Ok(()), |path| partial.save(path))?;
        Ok(Self { disks, noted: noted.map(|path| (path.to_owned(), partial)), failed: None })
    }

    /// Writes a part of one, as it came.
    ///
    /// # Errors
    ///
    /// It was not written: [`Self::failed`] says why.
    pub fn put(&mut self, bytes: &[u8]) -> IoResult<()> {
        let piece = Piece::parse(bytes).and_then(|piece| {
            let number = usize::try_from(piece.disk).ok()?;
            Some((piece, self.disks.get_mut(number)?.as_mut()?))
        });
        let Some((piece, target)) = piece else { return Err(Error::other("a part of no disk came")) };
        target.put(&piece).map_err(|why| {
            let text = why.what.clone();
            self.failed = Some(why);
            Error::other(text)
        })
    }

    /// All of them is durable.
    ///
    /// # Errors
    ///
    /// One does not say so.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.disks.iter_mut().flatten().try_for_each(Target::flush)?;
        self.note(true)
    }

    /// The guest was not given: what is on them is nobody's.
    pub fn abandon(&mut self) {
        // If it cannot be noted, who begins the guest is told to look where it came from.
        let _ = self.note(false);
    }

    /// Why one of them is not what it is to be, if that is so.
    pub fn failed(&mut self) -> Option<Failure> {
        self.failed.take()
    }

    fn note(&mut self, is_whole: bool) -> Result<(), Failure> {
        let Some((path, partial)) = &mut self.noted else { return Ok(()) };
        partial.whole = is_whole;
        partial.save(path)
    }
}

impl Target {
    fn open(described: &description::Disk, size: u64, lease: Option<&Lease>) -> Result<Self, Failure> {
        let uri = match (&described.content, lease) {
            (description::Content::Served(uri), _) => uri.clone(),
            // Not by the guest's right: it has none yet.
            (description::Content::Volume(name), Some(lease)) => lease.volume(name),
            (description::Content::Volume(name), None) => {
                let what = format!("the disk is volume {name} of an agent, and the guest runs alone");
                return Err(Failure::refused(what).next("name a `uri` in its [[disk]]."));
            }
        };
        let wrong = |why: &dyn std::fmt::Display| Failure::failed(format!("the disk {uri}: {why}"));
        let begun = Instant::now();
        let client = loop {
            match Client::connect(&uri, PATIENCE) {
                Ok(client) => break client,
                // It was made a moment ago, perhaps.
                Err(Refused::Denied(..)) if lease.is_some() && begun.elapsed() < EXPORTED => {
                    std::thread::sleep(LOOK);
                }
                Err(why) => {
                    let next = "see that it is served there; a guest that is described there before it comes \
                                has its disks where that description says.";
                    return Err(wrong(&why).next(next));
                }
            }
        };
        let geometry = client.geometry();
        if geometry.size() != size {
            let why = format!("it has {} bytes, and {size} are to come", geometry.size());
            return Err(wrong(&why).next("make it of that size."));
        }
        if geometry.is_read_only() || !client.can_flush() {
            return Err(wrong(&"its server lets nobody write, or makes nothing durable"));
        }
        Ok(Self { client, uri, dirty: 0 })
    }

    fn ask(&self, request: Request) -> Result<Content, Failure> {
        ask(|request, reply| self.client.submit(request, reply), request).map_err(|failed| {
            let what = format!("the disk {} cannot be written there: {}", self.uri, failed.why);
            Failure::failed(what).next("look at its server; then try again.")
        })
    }

    /// Calls `see` with each part of these bytes that may not be zero.
    fn look(
        &self,
        offset: u64,
        length: u64,
        see: &mut dyn FnMut(Span) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut at, end) = (offset, offset.saturating_add(length));
        while at < end {
            let length = u32::try_from(end.saturating_sub(at).min(WINDOW)).unwrap_or(u32::MAX);
            let span = Span { offset: at, length };
            let known = match self.ask(Request::Status { span, extents_max: EXTENTS_MAX })? {
                Content::Extents(extents) if !extents.is_empty() => extents,
                // A server that says nothing of it may have anything there.
                Content::Extents(_) | Content::Done | Content::Data(_) => {
                    see(span)?;
                    at = span.end();
                    continue;
                }
            };
            for extent in known {
                let to = at.saturating_add(extent.length.into()).min(span.end());
                let length = u32::try_from(to.saturating_sub(at)).unwrap_or(u32::MAX);
                if !extent.zero && length != 0 {
                    see(Span { offset: at, length })?;
                }
                at = to;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, Failure> {
        let mut is_empty = true;
        self.look(0, self.client.geometry().size(), &mut |_| {
            is_empty = false;
            Ok(())
        })?;
        Ok(is_empty)
    }

    fn has_something(&self) -> Failure {
        let what = format!("the disk {} there has something on it, or its server does not say", self.uri);
        let next = "what is needed nowhere else: make it anew, and as large; else name another one in the \
                    guest's description there.";
        Failure::refused(what).left("Nothing was written there.").next(next)
    }

    fn put(&mut self, piece: &Piece<'_>) -> Result<(), Failure> {
        let length = match piece.content {
            On::Data(data) => u64::try_from(data.len()).unwrap_or(u64::MAX),
            On::Zeroes(count) => count,
        };
        let size = self.client.geometry().size();
        if piece.offset.checked_add(length).is_none_or(|end| size < end) {
            let what = format!("more comes than the disk {} has room for", self.uri);
            return Err(Failure::failed(what));
        }
        match piece.content {
            On::Data(data) => {
                let request = Request::Write { offset: piece.offset, data: data.to_vec(), durable: false };
                self.ask(request)?;
                self.dirty = self.dirty.saturating_add(length);
            }
            On::Zeroes(count) => self.clear(piece.offset, count)?,
        }
        if self.dirty < DIRTY_MAX { Ok(()) } else { self.flush() }
    }

    /// Has these bytes be zero; what is so already is left.
    fn clear(&mut self, offset: u64, length: u64) -> Result<(), Failure> {
        let mut cleared = 0_u64;
        self.look(offset, length, &mut |span| {
            let mut at = span.offset;
            while at < span.end() {
                let length = u32::try_from(span.end().saturating_sub(at).min(ZEROES_MAX)).unwrap_or(u32::MAX);
                let span = Span { offset: at, length };
                self.ask(Request::WriteZeroes { span, durable: false, allocated: false, fast: false })?;
                at = span.end();
                cleared = cleared.saturating_add(length.into());
            }
            Ok(())
        })?;
        self.dirty = self.dirty.saturating_add(cleared);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.ask(Request::Flush)?;
        self.dirty = 0;
        Ok(())
    }
}
