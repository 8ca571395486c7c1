//! The disks of a guest where it leaves: all of them once while it runs, without their holes, and again what
//! is written meanwhile.

use super::super::broken::Broken;
use super::ask;
use super::piece::{Content as On, DATA_MAX, Piece};
use crate::failure::Failure;
use crate::nbd::export::{Content, Errno, Extent, Piece as Part, Request, Span};
use crate::vmm::changes::{Blocks, Looking};
use crate::vmm::disk::{Disk, Server};
use crate::vmm::snapshot::format::{Kind, Writer};
use crate::vmm::snapshot::{Progress, Watch};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that is away is waited for so long: shorter than the other node waits for us.
const AWAY: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(100);
/// What is asked about at once, and how many parts of it.
const WINDOW: u64 = 1 << 30;
const EXTENTS_MAX: usize = 1024;
/// What is looked at at once, to find what is zero.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// The disks that a guest may write to; what it writes is kept until this is dropped.
#[derive(Debug)]
pub struct Sources(Vec<Source>);

#[derive(Debug)]
struct Source {
    disk: Disk,
    number: u32,
    looking: Looking,
    /// A connection of its own, while the guest has none.
    spare: Option<Arc<Server>>,
}

/// What was written to each of them.
#[derive(Debug)]
pub struct Rewritten(Vec<Blocks>);

impl Rewritten {
    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(Blocks::bytes).sum()
    }

    /// These, too.
    pub fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(blocks, other)| blocks.join(other));
    }
}

impl Sources {
    /// From now on it is kept what is written to them.
    #[must_use]
    pub fn begin(disks: &[Disk]) -> Self {
        let writable = (0..).zip(disks).filter(|(_, disk)| !disk.is_read_only());
        let source = |(number, disk): (u32, &Disk)| {
            let looking = Looking::begin(disk.changes(), disk.size());
            Source { disk: disk.clone(), number, looking, spare: None }
        };
        Self(writable.map(source).collect())
    }

    /// What was written since this was asked last.
    #[must_use]
    pub fn take(&self) -> Rewritten {
        Rewritten(self.0.iter().map(|source| source.looking.take()).collect())
    }

    /// Writes all of them.
    ///
    /// # Errors
    ///
    /// One cannot be read, or those of the output.
    pub fn write<W: Write>(&mut self, out: &mut Writer<W>, progress: &mut Watch<'_>) -> Result<(), Broken> {
        let total = self.0.iter().map(|source| source.disk.size()).sum();
        let mut before = 0_u64;
        for source in &mut self.0 {
            source.all(out, &mut |done| progress(Progress { done: before.saturating_add(done), total }))?;
            before = before.saturating_add(source.disk.size());
        }
        Ok(())
    }

    /// Writes these of them as they are now.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_again<W: Write>(
        &mut self,
        blocks: &Rewritten,
        out: &mut Writer<W>,
        progress: &mut Watch<'_>,
    ) -> Result<(), Broken> {
        let (total, mut done) = (blocks.bytes(), 0_u64);
        for (source, blocks) in self.0.iter_mut().zip(&blocks.0) {
            for (offset, length) in blocks.runs() {
                source.copy(offset, length, out, &mut |_| progress(Progress { done, total }))?;
                done = done.saturating_add(length);
                progress(Progress { done, total })?;
            }
        }
        Ok(())
    }
}

/// Who hears how many bytes of a disk are done, and may end it by an error.
type Done<'a> = dyn FnMut(u64) -> std::io::Result<()> + 'a;

impl Source {
    fn all<W: Write>(&mut self, out: &mut Writer<W>, done: &mut Done<'_>) -> Result<(), Broken> {
        let (size, block) = (self.disk.size(), u64::from(self.disk.block()));
        let mut at = 0_u64;
        while at < size {
            let length = u32::try_from(size.saturating_sub(at).min(WINDOW)).unwrap_or(u32::MAX);
            let span = Span { offset: at, length };
            let asked = Request::Status { span, extents_max: EXTENTS_MAX };
            let known = match self.ask(&asked, &mut || done(at))? {
                Content::Extents(extents) => extents,
                Content::Done | Content::Data(_) => Vec::new(),
            };
            let all = Extent { length, hole: false, zero: false, dirty: false };
            // A server that says nothing of it has data there.
            let known = if known.is_empty() { vec![all] } else { known };
            let (begun, mut end) = (at, at);
            for extent in known {
                end = end.saturating_add(extent.length.into()).min(span.end());
                // Whole blocks: of one that is zero in part all is read.
                if extent.zero {
                    let over = end.checked_rem(block).filter(|_| end != size).unwrap_or(0);
                    let to = end.saturating_sub(over);
                    self.zeroes(at, to.saturating_sub(at), out)?;
                    at = at.max(to);
                } else {
                    let to = end.next_multiple_of(block).min(size);
                    while at < to {
                        let length = to.saturating_sub(at).min(DATA_MAX as u64);
                        self.copy(at, length, out, &mut |_| done(at))?;
                        at = at.saturating_add(length);
                        done(at)?;
                    }
                }
            }
            if at == begun {
                let why = "its server says nothing of what is on it";
                return Err(self.unreadable(why));
            }
            // Who waits for the rest hears that there is somebody.
            out.out().flush()?;
            done(at)?;
        }
        Ok(())
    }

    /// Writes what is there now: 1 MiB at most, in whole blocks.
    fn copy<W: Write>(
        &mut self,
        offset: u64,
        length: u64,
        out: &mut Writer<W>,
        done: &mut Done<'_>,
    ) -> Result<(), Broken> {
        let span = Span { offset, length: u32::try_from(length).unwrap_or(u32::MAX) };
        let read = self.ask(&Request::Read { span }, &mut || done(offset))?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        let parts = if let Content::Data(parts) = read { parts } else { Vec::new() };
        for part in parts {
            match part {
                Part::Bytes(part) => bytes.extend_from_slice((*part).as_ref()),
                Part::Zeroes(count) => {
                    let behind = bytes.len().saturating_add(usize::try_from(count).unwrap_or(0));
                    bytes.resize(behind.min(DATA_MAX), 0);
                }
            }
        }
        if u64::try_from(bytes.len()).ok() != Some(length) {
            return Err(self.unreadable("its server answers with less than it was asked for"));
        }
        let mut at = offset;
        for (is_zero, run) in runs(&bytes) {
            let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
            match is_zero {
                true => self.zeroes(at, count, out)?,
                false => self.put(at, On::Data(run), out)?,
            }
            at = at.saturating_add(count);
        }
        Ok(())
    }

    fn zeroes<W: Write>(&self, offset: u64, count: u64, out: &mut Writer<W>) -> std::io::Result<()> {
        if count == 0 { Ok(()) } else { self.put(offset, On::Zeroes(count), out) }
    }

    fn put<W: Write>(&self, offset: u64, content: On<'_>, out: &mut Writer<W>) -> std::io::Result<()> {
        let piece = Piece { disk: self.number, offset, content };
        let data = if let On::Data(data) = content { data } else { &[] };
        out.put(Kind::Disk, &[&piece.head(), data])
    }

    /// Asks the guest's own server, if it has one; `look` is asked now and then whether to go on.
    fn ask(
        &mut self,
        request: &Request,
        look: &mut dyn FnMut() -> std::io::Result<()>,
    ) -> Result<Content, Broken> {
        let begun = Instant::now();
        loop {
            let mut why = "nobody serves it".to_owned();
            if let Some(server) = self.server() {
                match ask(|request, reply| server.submit(request, reply), request.clone()) {
                    Ok(content) => return Ok(content),
                    Err(failed) if server.is_over() || failed.errno == Errno::Shutdown => {
                        (why, self.spare) = (failed.why, None);
                    }
                    Err(failed) => return Err(self.unreadable(&failed.why)),
                }
            }
            if AWAY < begun.elapsed() {
                return Err(self.unreadable(&why));
            }
            look()?;
            std::thread::sleep(AGAIN);
        }
    }

    fn server(&mut self) -> Option<Arc<Server>> {
        if let Some(session) = self.disk.session() {
            self.spare = None;
            return Some(session);
        }
        self.spare = self.spare.take().filter(|spare| !spare.is_over());
        if self.spare.is_none() {
            self.spare = self.disk.connect().map(Arc::new);
        }
        self.spare.clone()
    }

    fn unreadable(&self, why: &str) -> Broken {
        let what = format!("the disk {} cannot be read: {why}", self.disk.uri());
        Broken::Here(Failure::failed(what).next("look at its server; then try again."))
    }
}

/// Parts that are zero or not, in blocks of 64 KiB.
fn runs(bytes: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let is_zero = |block: &[u8]| ZEROES.starts_with(block);
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let first = rest.chunks(ZEROES.len()).next().map(is_zero)?;
        let same = rest.chunks(ZEROES.len()).take_while(|block| is_zero(block) == first);
        let (run, behind) = rest.split_at_checked(same.map(<[u8]>::len).sum())?;
        rest = behind;
        Some((first, run))
    })
}
