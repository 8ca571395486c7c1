//! A file or block device as an export: plain reads and writes in a few threads, `fdatasync` for durability.
//! Everything that was answered is in the kernel, so a flush on one connection covers all.

use super::export::{Content, Errno, Export, Extent, Failed, Geometry, Piece, Reply, Request, Span};
use crate::failure::Failure;
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate, seek};
use rustix::io::{Errno as Os, ReadWriteFlags, pwritev2};
use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Threads, so many requests at the disk at once.
const THREADS: usize = 4;
/// Zeroes are written in pieces of this size where the file system has no call for them.
const PIECE: usize = 1 << 20;
/// Smaller reads are not worth asking where the holes are.
const HOLES_FROM: u32 = 64 << 10;

/// A file that is exported.
#[derive(Debug)]
pub struct FileExport {
    inner: Arc<Inner>,
    geometry: Geometry,
}

#[derive(Debug)]
struct Inner {
    file: File,
    jobs: Mutex<Jobs>,
    wake: Condvar,
    /// A flush failed: what the kernel had not written it may have forgotten, so nothing is durable any more
    /// until the file is opened anew and its content judged by someone who can.
    lost: AtomicBool,
}

#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<(Request, Reply)>,
    idle: usize,
    over: bool,
}

impl FileExport {
    /// Exports the file or block device at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or there are no threads to serve it.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, Failure> {
        let io = |error: std::io::Error| Failure::io("export", path, &error);
        let file = File::options().read(true).write(!read_only).open(path).map_err(io)?;
        // Also for block devices, whose length in `stat` is 0.
        let size = seek(&file, SeekFrom::End(0)).map_err(|error| io(error.into()))?;
        let odd = |_| Failure::failed(format!("{} has a size that cannot be exported", path.display()));
        let geometry = Geometry::new(size, 1, 4096).map_err(odd)?;
        let inner =
            Inner { file, jobs: Mutex::default(), wake: Condvar::new(), lost: AtomicBool::new(false) };
        let this = Self { inner: Arc::new(inner), geometry: geometry.read_only(read_only).multi_conn(true) };
        for _ in 0..THREADS {
            let inner = Arc::clone(&this.inner);
            let thread = std::thread::Builder::new().name("nbd-file".into()).stack_size(256 << 10);
            thread.spawn(move || inner.run()).map_err(io)?;
        }
        Ok(this)
    }
}

impl Export for FileExport {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit(&self, request: Request, reply: Reply) {
        let mut jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.queue.push_back((request, reply));
        if jobs.idle != 0 {
            self.inner.wake.notify_one();
        }
    }
}

impl Drop for FileExport {
    fn drop(&mut self) {
        let mut jobs = self.inner.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.over = true;
        let left = std::mem::take(&mut jobs.queue);
        drop(jobs);
        self.inner.wake.notify_all();
        // Their replies say that they were given up.
        drop(left);
    }
}

impl Inner {
    fn run(&self) {
        loop {
            let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let (request, reply) = loop {
                if jobs.over {
                    return;
                }
                if let Some(job) = jobs.queue.pop_front() {
                    break job;
                }
                jobs.idle = jobs.idle.saturating_add(1);
                jobs = self.wake.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                jobs.idle = jobs.idle.saturating_sub(1);
            };
            drop(jobs);
            reply.finish(self.carry_out(request));
        }
    }

    fn carry_out(&self, request: Request) -> Result<Content, Failed> {
        match request {
            Request::Read { span } => return self.read(span).map(Content::Data),
            Request::Status { span, extents_max } => {
                return Ok(Content::Extents(self.extents(span, extents_max)));
            }
            Request::Write { offset, data, durable } => self.write(offset, &data, durable)?,
            Request::Flush => self.flush(true)?,
            Request::Trim { span, durable } => {
                // A hint: a file system that cannot has done enough.
                let _ = self.allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, span);
                self.flush(durable)?;
            }
            Request::WriteZeroes { span, durable, allocated, fast } => {
                let how = match allocated {
                    true => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                    false => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                };
                match self.allocate(how, span) {
                    Ok(()) => {}
                    Err(Os::OPNOTSUPP | Os::NOSYS | Os::INVAL) if fast => {
                        return Err(Failed::new(Errno::Unsupported, "zeroes are not fast on this file"));
                    }
                    Err(Os::OPNOTSUPP | Os::NOSYS | Os::INVAL) => self.write_zeroes(span)?,
                    Err(error) => return Err(failed("write zeroes", error.into())),
                }
                self.flush(durable)?;
            }
            Request::Cache { span } => {
                let _ =
                    fadvise(&self.file, span.offset, NonZeroU64::new(span.length.into()), Advice::WillNeed);
            }
        }
        Ok(Content::Done)
    }

    fn read(&self, span: Span) -> Result<Vec<Piece>, Failed> {
        let whole = Extent { length: span.length, hole: false, zero: false, dirty: false };
        let extents = if span.length < HOLES_FROM { vec![whole] } else { self.extents(span, 64) };
        let mut pieces = Vec::with_capacity(extents.len().saturating_add(1));
        let mut at = span.offset;
        let told: u64 = extents.iter().map(|one| u64::from(one.length)).sum();
        // Beyond so many holes, the rest is read as it is.
        let rest = u32::try_from(u64::from(span.length).saturating_sub(told)).unwrap_or(0);
        let rest = Extent { length: rest, hole: false, zero: false, dirty: false };
        for extent in extents.into_iter().chain([rest]).filter(|one| one.length != 0) {
            if extent.zero {
                pieces.push(Piece::Zeroes(extent.length));
            } else {
                let mut bytes = vec![0; usize::try_from(extent.length).unwrap_or(usize::MAX)];
                self.file.read_exact_at(&mut bytes, at).map_err(|error| failed("read", error))?;
                pieces.push(Piece::Bytes(Box::new(bytes)));
            }
            at = at.saturating_add(u64::from(extent.length));
        }
        Ok(pieces)
    }

    fn write(&self, offset: u64, mut data: &[u8], durable: bool) -> Result<(), Failed> {
        let flags = if durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        self.intact(durable)?;
        let mut at = offset;
        while !data.is_empty() {
            match pwritev2(&self.file, &[IoSlice::new(data)], at, flags) {
                Ok(0) => return Err(failed("write", std::io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    data = data.get(count..).unwrap_or_default();
                    at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(Os::INTR) => {}
                Err(error) => {
                    // It may be the sync that failed.
                    if durable {
                        self.lost.store(true, Ordering::SeqCst);
                    }
                    return Err(failed("write", error.into()));
                }
            }
        }
        Ok(())
    }

    fn write_zeroes(&self, span: Span) -> Result<(), Failed> {
        let zeroes = vec![0; PIECE.min(usize::try_from(span.length).unwrap_or(PIECE))];
        let mut at = span.offset;
        while let Some(left) = span.end().checked_sub(at).filter(|left| *left != 0) {
            let count = usize::try_from(left).unwrap_or(PIECE).min(zeroes.len());
            self.write(at, zeroes.get(..count).unwrap_or_default(), false)?;
            at = at.saturating_add(u64::try_from(count).unwrap_or(left));
        }
        Ok(())
    }

    fn flush(&self, wanted: bool) -> Result<(), Failed> {
        self.intact(wanted)?;
        if !wanted {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| {
            self.lost.store(true, Ordering::SeqCst);
            failed("flush", error)
        })
    }

    /// Nothing is promised durable after a flush has failed.
    fn intact(&self, durable: bool) -> Result<(), Failed> {
        match durable && self.lost.load(Ordering::SeqCst) {
            true => Err(Failed::new(Errno::Io, "an earlier flush failed: nothing is durable any more")),
            false => Ok(()),
        }
    }

    fn allocate(&self, how: FallocateFlags, span: Span) -> Result<(), Os> {
        loop {
            match fallocate(&self.file, how, span.offset, span.length.into()) {
                Err(Os::INTR) => {}
                done => return done,
            }
        }
    }

    /// Data and holes of `span`. A file system that does not know says data.
    fn extents(&self, span: Span, max: usize) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut at = span.offset;
        while at < span.end() && extents.len() < max {
            let data = match seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => data.min(span.end()),
                Err(Os::NXIO) => span.end(),
                Err(_) => at,
            };
            let (end, hole) = match at < data {
                true => (data, true),
                // What is data is so at least for its first byte, or nobody knows.
                false => (seek(&self.file, SeekFrom::Hole(at)).unwrap_or(span.end()), false),
            };
            let end = if end <= at { span.end() } else { end.min(span.end()) };
            let length = u32::try_from(end.saturating_sub(at)).unwrap_or(u32::MAX);
            extents.push(Extent { length, hole, zero: hole, dirty: false });
            at = end;
        }
        extents
    }
}

/// What the system said, in the protocol's numbers.
fn failed(what: &str, error: std::io::Error) -> Failed {
    let errno = match Os::from_io_error(&error) {
        Some(Os::NOSPC | Os::DQUOT | Os::FBIG) => Errno::NoSpace,
        Some(Os::PERM | Os::ACCESS | Os::ROFS | Os::BADF) => Errno::Permission,
        Some(_) | None => Errno::Io,
    };
    Failed::new(errno, format!("cannot {what}: {error}"))
}
