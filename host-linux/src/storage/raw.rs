//! The parts of the storage engine that the compiler cannot check: memory that the kernel reads and writes,
//! the queues it shares with us, and a lock that has no safe wrapper. Everything else stands on what is safe
//! here.
//!
//! JUSTIFICATION: `io_uring` takes addresses and works on them after the call has returned, so the memory
//! behind them must stay, and must not be looked at, until its completion: who owns a [`Job`] owns its
//! memory, and the queue owns the jobs that are under way. Direct input and output needs aligned memory.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use super::job::{Job, Work};
use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::io::Errno;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of a block, of memory as of a disk.
pub const BLOCK: usize = bulkhead_core::log::BLOCK_LEN;

/// Blocks of memory, aligned, of which each belongs to one [`Span`] at most.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    layout: Layout,
    map: Mutex<Map>,
}

/// Which blocks of an arena belong to a span.
#[derive(Debug)]
struct Map {
    /// One entry a block. Invariant: true exactly when a span covers it.
    taken: Vec<bool>,
    /// Invariant: so many are false.
    free: usize,
    /// Invariant: no block before this one is free.
    low: usize,
}

impl Map {
    /// Takes blocks that follow each other. Large spans are taken from the other end than small ones, so that
    /// these leave no holes too small for those.
    fn take(&mut self, blocks: usize) -> Option<usize> {
        let Self { taken, free, low } = self;
        if blocks == 0 || *free < blocks {
            return None;
        }
        let above = taken.get(*low..)?;
        let is_free = |part: &[bool]| part.iter().all(|one| !one);
        let behind = |place: usize| low.saturating_add(place);
        let first = match blocks {
            1 => above.iter().position(|one| !one).map(behind)?,
            ..LARGE => above.windows(blocks).position(is_free).map(behind)?,
            LARGE.. => last_free(taken, blocks)?,
        };
        taken.get_mut(first..first.checked_add(blocks)?)?.fill(true);
        *free = free.saturating_sub(blocks);
        if blocks == 1 {
            *low = first.saturating_add(1);
        }
        Some(first)
    }

    fn give(&mut self, first: usize, blocks: usize) {
        if let Some(part) = self.taken.get_mut(first..first.saturating_add(blocks)) {
            part.fill(false);
            self.free = self.free.saturating_add(blocks);
            self.low = self.low.min(first);
        }
    }
}

// SAFETY: the memory is reached through spans only, which never overlap, and the map of them has a lock.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// `None` when the system has no such memory.
    pub fn new(blocks: usize) -> Option<Arc<Self>> {
        let layout = Layout::from_size_align(blocks.checked_mul(BLOCK)?, BLOCK).ok()?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the layout has a size.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let map = Mutex::new(Map { taken: vec![false; blocks], free: blocks, low: 0 });
        Some(Arc::new(Self { base, layout, map }))
    }

    /// Takes blocks that follow each other; `None` when nowhere so many are free.
    pub fn take(self: &Arc<Self>, blocks: usize) -> Option<Span> {
        let first = self.map().take(blocks)?;
        Some(Span { arena: Arc::clone(self), first, blocks })
    }

    /// How many blocks are free.
    pub fn free(&self) -> usize {
        self.map().free
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, as the kernel wants to know it.
    const fn vector(&self) -> libc::iovec {
        libc::iovec { iov_base: self.base.as_ptr().cast(), iov_len: self.layout.size() }
    }
}

/// Spans from this size on are large.
const LARGE: usize = 16;

/// Where the last run of so many free blocks begins, seen from the end in one pass.
fn last_free(taken: &[bool], blocks: usize) -> Option<usize> {
    let mut run = 0_usize;
    for (at, is_taken) in taken.iter().enumerate().rev() {
        run = if *is_taken { 0 } else { run.saturating_add(1) };
        if run == blocks {
            return Some(at);
        }
    }
    None
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this layout; every span kept the arena alive, so there is none.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Blocks of an arena that follow each other and belong to nobody else. What was in them before is still in
/// them.
#[derive(Debug)]
pub struct Span {
    arena: Arc<Arena>,
    first: usize,
    blocks: usize,
}

impl Span {
    /// How many blocks.
    pub const fn blocks(&self) -> usize {
        self.blocks
    }

    /// What is in them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: inside the arena, by `take`; nobody else has these blocks, so nobody changes them while
        // `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(), self.len()) }
    }

    /// What is to be in them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len()) }
    }

    const fn len(&self) -> usize {
        self.blocks.saturating_mul(BLOCK)
    }

    fn start(&self) -> *mut u8 {
        self.arena.base.as_ptr().wrapping_add(self.first.saturating_mul(BLOCK))
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.arena.map().give(self.first, self.blocks);
    }
}

/// A ring of the kernel, for one file and one arena. It stays with the thread that made it.
pub struct Queue {
    ring: IoUring,
    slots: Vec<Option<Slot>>,
    wake: std::os::fd::OwnedFd,
    has_fixed: bool,
    file: Arc<File>,
    arena: Arc<Arena>,
    _here: PhantomData<*const ()>,
}

struct Slot {
    job: Job,
    /// Where its memory is. Stays here until the kernel is done.
    vectors: Vec<libc::iovec>,
}

/// Jobs that may be under way at once.
pub const DEPTH: usize = 64;
/// Marks the completion of the poll of the waker.
const WAKE: u64 = u64::MAX;
/// Marks the completion of the flush that follows a write.
const FLUSH: u64 = 1 << 32;

impl Queue {
    /// A ring for `file` that writes from `arena` and reads into it, and is woken by `wake`.
    ///
    /// # Errors
    ///
    /// The kernel has no such ring, or does not allow it.
    pub fn new(file: Arc<File>, arena: Arc<Arena>, wake: BorrowedFd<'_>) -> std::io::Result<Self> {
        let entries = u32::try_from(DEPTH.saturating_mul(2)).unwrap_or(u32::MAX);
        // Completions are made when this thread asks for them, and never interrupt it (6.1 and later).
        let quiet = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        let ring = match quiet {
            Ok(ring) => ring,
            Err(_) => IoUring::new(entries)?,
        };
        let missing = || std::io::Error::from(std::io::ErrorKind::Unsupported);
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(missing());
        }
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE, opcode::PollAdd::CODE];
        if !needed.iter().all(|code| probe.is_supported(*code)) {
            return Err(missing());
        }
        let wake = wake.try_clone_to_owned()?;
        ring.submitter().register_files(&[file.as_raw_fd(), wake.as_raw_fd()])?;
        let knows = [opcode::ReadvFixed::CODE, opcode::WritevFixed::CODE];
        let mut has_fixed = knows.iter().all(|code| probe.is_supported(*code));
        if has_fixed {
            // SAFETY: the arena is in `self`, whose drop leaks it while something is under way.
            has_fixed = unsafe { ring.submitter().register_buffers(&[arena.vector()]) }.is_ok();
        }
        let slots = std::iter::repeat_with(|| None).take(DEPTH).collect();
        let mut queue = Self { ring, slots, wake, has_fixed, file, arena, _here: PhantomData };
        queue.listen();
        Ok(queue)
    }

    /// Whether the kernel knows the memory beforehand, and need not look up its pages each time.
    pub const fn has_registered_memory(&self) -> bool {
        self.has_fixed
    }

    /// How many jobs are under way.
    pub fn under_way(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// Queues a job; it is sent with the next [`Self::wait`] or [`Self::send`].
    ///
    /// # Errors
    ///
    /// There is no room: the job is given back.
    pub fn start(&mut self, job: Job) -> Result<(), Job> {
        let Some(at) = self.slots.iter().position(Option::is_none) else { return Err(job) };
        let queue = self.ring.submission();
        if queue.capacity().saturating_sub(queue.len()) < 2 {
            return Err(job);
        }
        drop(queue);
        let vectors = vectors(&job);
        let mark = u64::try_from(at).unwrap_or(FLUSH);
        let entries = self.entries(&job, &vectors, mark);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some(Slot { job, vectors });
        }
        for entry in entries.into_iter().flatten() {
            // SAFETY: the vectors and the memory they name are in the slot until its completion is taken, by
            // `take` or, when we are dropped, by nobody. Moving the slot moves neither. Room was asked for.
            let _ = unsafe { self.ring.submission().push(&entry) };
        }
        Ok(())
    }

    fn entries(&self, job: &Job, vectors: &[libc::iovec], mark: u64) -> [Option<squeue::Entry>; 2] {
        let at = job.offset();
        let (start, count) = (vectors.as_ptr(), u32::try_from(vectors.len()).unwrap_or(0));
        let datasync = || opcode::Fsync::new(Fixed(0)).flags(FsyncFlags::DATASYNC).build();
        match &job.work {
            Work::Write { durably, .. } => {
                let write = if self.has_fixed {
                    let write = opcode::WritevFixed::new(Fixed(0), start, count, 0).offset(at);
                    write.rw_flags(durably.flags()).build()
                } else {
                    let write = opcode::Writev::new(Fixed(0), start, count).offset(at);
                    write.rw_flags(durably.flags()).build()
                };
                let write = write.user_data(mark);
                if !durably.is_linked() {
                    return [Some(write), None];
                }
                // The flush runs when all of the write is done, and not at all otherwise.
                let flush = datasync().user_data(mark | FLUSH);
                [Some(write.flags(squeue::Flags::IO_LINK)), Some(flush)]
            }
            Work::Read { .. } => {
                let read = if self.has_fixed {
                    opcode::ReadvFixed::new(Fixed(0), start, count, 0).offset(at).build()
                } else {
                    opcode::Readv::new(Fixed(0), start, count).offset(at).build()
                };
                [Some(read.user_data(mark)), None]
            }
            Work::Flush => [Some(datasync().user_data(mark)), None],
        }
    }

    /// Sends what is queued.
    ///
    /// # Errors
    ///
    /// The kernel refuses the ring itself.
    pub fn send(&mut self) -> std::io::Result<()> {
        forgive(self.ring.submit())
    }

    /// Sends what is queued, and waits for a completion or a wake-up, so long at most. Returns whether it was
    /// woken.
    ///
    /// # Errors
    ///
    /// The kernel refuses the ring itself.
    pub fn wait(
        &mut self,
        most: Duration,
        done: &mut Vec<(Job, Result<usize, Errno>)>,
    ) -> std::io::Result<bool> {
        let begun = std::time::Instant::now();
        loop {
            if self.ring.completion().is_empty() || !self.ring.submission().is_empty() {
                let time = Timespec::from(most.saturating_sub(begun.elapsed()));
                let arguments = SubmitArgs::new().timespec(&time);
                forgive(self.ring.submitter().submit_with_args(1, &arguments))?;
            }
            let completions: Vec<_> =
                self.ring.completion().map(|one| (one.user_data(), one.result())).collect();
            let (mut is_woken, before, came) = (false, done.len(), completions.len());
            for (mark, result) in completions {
                if mark == WAKE {
                    is_woken = true;
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                    self.listen();
                } else if let Some((job, result)) = self.take(mark, result) {
                    done.push((job, result));
                }
            }
            // A write whose flush is still to come is nobody's news.
            if is_woken || before != done.len() || came == 0 {
                return Ok(is_woken);
            }
        }
    }

    /// The job of a completion, once nothing of it is under way.
    fn take(&mut self, mark: u64, result: i32) -> Option<(Job, Result<usize, Errno>)> {
        let slot = self.slots.get_mut(usize::try_from(mark & !FLUSH).ok()?)?;
        let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(result.saturating_neg()));
        let is_flush = mark & FLUSH != 0;
        let Slot { job, vectors } = slot.as_mut()?;
        let is_linked = matches!(&job.work, Work::Write { durably, .. } if durably.is_linked());
        if is_linked && !is_flush {
            // Its flush is still to come: what the write said is kept, and its vectors are of no more use.
            job.wrote = Some(result);
            vectors.clear();
            return None;
        }
        let Slot { mut job, .. } = slot.take()?;
        let left = job.left();
        let result = match (job.wrote.take(), result) {
            (None, result) => result,
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(wrote)), Ok(_)) => Ok(wrote),
            // A write that was not whole took its flush with it.
            (Some(Ok(wrote)), Err(Errno::CANCELED)) if wrote < left => Ok(wrote),
            // A flush is not asked for twice (V13).
            (Some(Ok(_)), Err(Errno::INTR | Errno::AGAIN)) => Err(Errno::IO),
            (Some(Ok(_)), Err(error)) => Err(error),
        };
        Some((job, result))
    }

    fn listen(&mut self) {
        let readable = u32::from(libc::POLLIN.unsigned_abs());
        let entry = opcode::PollAdd::new(Fixed(1), readable).build().user_data(WAKE);
        if self.ring.submission().is_full() {
            let _ = self.send();
        }
        // SAFETY: a poll takes no memory.
        let _ = unsafe { self.ring.submission().push(&entry) };
    }
}

impl Drop for Queue {
    /// Waits for what is under way; if the disk does not answer, its memory stays with the kernel for ever.
    fn drop(&mut self) {
        let begin = std::time::Instant::now();
        let mut done = Vec::new();
        while self.under_way() != 0 && begin.elapsed() < DROP_MAX {
            if self.wait(Duration::from_millis(100), &mut done).is_err() {
                break;
            }
        }
        if self.under_way() != 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(Arc::clone(&self.arena));
            std::mem::forget(Arc::clone(&self.file));
        }
    }
}

/// A stop waits this long for the disk: a clean stop takes 5 s at most (BLACKBOX 6).
pub const DROP_MAX: Duration = Duration::from_secs(2);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

/// A wait that ran out or was interrupted, and a kernel that is busy now, are no failure of the ring.
fn forgive(result: std::io::Result<usize>) -> std::io::Result<()> {
    let passes = [libc::ETIME, libc::EINTR, libc::EAGAIN, libc::EBUSY];
    match result {
        Err(error) if !error.raw_os_error().is_some_and(|code| passes.contains(&code)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The memory of a job, without what is done already.
fn vectors(job: &Job) -> Vec<libc::iovec> {
    let vector =
        |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    match &job.work {
        // The kernel reads it, and no more.
        Work::Write { .. } => job.rest().map(vector).collect(),
        Work::Read { span } => {
            // From the pointer that may be written through.
            let skip = job.done.min(span.len());
            let base = span.start().wrapping_add(skip);
            vec![libc::iovec { iov_base: base.cast(), iov_len: span.len().saturating_sub(skip) }]
        }
        Work::Flush => Vec::new(),
    }
}

/// Locks bytes of a file or device for this open file, not for this process: it ends with the last use of the
/// file, writes under way included, so that whoever gets it next meets no late write of ours. Votes on the
/// same partition have bytes of their own.
///
/// # Errors
///
/// `EAGAIN` when somebody else has some of them.
pub fn lock(file: &File, at: u64, len: u64) -> std::io::Result<()> {
    let signed = |value: u64| libc::off_t::try_from(value).map_err(std::io::Error::other);
    let type_ = libc::c_short::try_from(libc::F_WRLCK).map_err(std::io::Error::other)?;
    let whence = libc::c_short::try_from(libc::SEEK_SET).map_err(std::io::Error::other)?;
    let lock =
        libc::flock { l_type: type_, l_whence: whence, l_start: signed(at)?, l_len: signed(len)?, l_pid: 0 };
    // SAFETY: the descriptor is open, and `lock` is a whole `flock` that lives until the call returns.
    let done = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
