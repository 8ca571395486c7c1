//! Reads and writes one device: by `io_uring`, or by threads where there is none. One thread owns it and
//! waits; any thread wakes it (F10 to F13, V13).
//!
//! # When is a write durable?
//!
//! A completion of an ordinary write says that the device has it, perhaps in a cache that loses power. Three
//! ways lead further, and [`Durably`] names them:
//!
//! - `RWF_DSYNC`: the completion comes after the medium has it. Where the device has FUA, and the file's
//!   blocks are in place, the kernel marks the write itself; else it flushes the device's whole cache behind
//!   the write. Only the blocks of this write are promised, which is what the log asks for.
//! - a linked `fdatasync`: the same promise in two steps, the second begun by the kernel, and only when the
//!   write is whole. This is the default. The end of an asynchronous `RWF_DSYNC` write runs on a kernel
//!   thread of ordinary priority, which a busy processor holds up for milliseconds whatever class its owner
//!   has; an `fdatasync` runs on a thread that inherits it, unless it is reset on fork (docs/benchmarks.md).
//! - [`Engine::flush`]: everything whose completion was seen before it was asked for.
//!
//! With none of them is anything promised about writes that are under way at the same time. A failure of any
//! of them is final: the kernel forgets what it could not write, and the next flush succeeds (F5). So the
//! owner gives up the log, and never asks again.

use super::buffers::{Buffer, Piece, Pool};
use super::device::Device;
use super::job::{Done, Durably, Fault, Job, Ticket, Verdict, Work};
use super::raw::{BLOCK, DEPTH, Queue};
use super::threads::Threads;
use crate::cluster::wake::Wake;
use rustix::io::Errno;
use std::os::fd::AsFd as _;
use std::time::Duration;

/// What carries out the jobs.
#[derive(Debug)]
enum Backend {
    Ring(Box<Queue>),
    Threads(Threads),
}

/// How it is to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// The best there is.
    #[default]
    Best,
    /// By threads, to try what happens where there is no `io_uring`.
    Threads,
}

/// Reads and writes one device.
#[derive(Debug)]
pub struct Engine {
    device: Device,
    pool: Pool,
    backend: Backend,
    wake: Wake,
    /// Why it is not the best there is.
    lack: Option<String>,
    /// Attempts whose result was not looked at yet.
    attempts: Vec<(Job, Result<usize, Errno>)>,
    /// What ended without being started.
    stillborn: Vec<Done>,
}

/// Jobs that may be under way at once.
pub const JOBS_MAX: usize = DEPTH;

impl Engine {
    /// An engine for `device`, with memory from `pool`. It stays with the thread that calls this.
    ///
    /// # Errors
    ///
    /// The system has neither a ring nor threads for it.
    pub fn new(device: Device, pool: Pool, means: Means) -> std::io::Result<Self> {
        let wake = Wake::new()?;
        let file = device.file();
        let ring = match means {
            Means::Best => Queue::new(file.clone(), pool.arena().clone(), wake.as_fd()).map_err(|error| {
                format!("no io_uring here ({error}): threads read and write, which costs more processor time")
            }),
            Means::Threads => Err("threads read and write, as was asked for".to_owned()),
        };
        let (backend, lack) = match ring {
            Ok(queue) => {
                let lack = (!queue.has_registered_memory()).then(|| {
                    "memory is not registered with the kernel (Linux before 6.15, or LimitMEMLOCK is too \
                     small): each write costs some more processor time"
                        .to_owned()
                });
                (Backend::Ring(Box::new(queue)), lack)
            }
            Err(lack) => (Backend::Threads(Threads::new(file, wake.clone())?), Some(lack)),
        };
        let (attempts, stillborn) = (Vec::new(), Vec::new());
        Ok(Self { device, pool, backend, wake, lack, attempts, stillborn })
    }

    /// The device.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Its memory.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Wakes [`Self::wait`] from any thread.
    pub fn waker(&self) -> Wake {
        self.wake.clone()
    }

    /// How it works, in a few words, for a log line and `status`.
    pub fn means(&self) -> &'static str {
        match (&self.backend, self.device.is_direct()) {
            (Backend::Ring(_), true) => "io_uring, past the page cache",
            (Backend::Ring(_), false) => "io_uring, through the page cache",
            (Backend::Threads(_), true) => "threads, past the page cache",
            (Backend::Threads(_), false) => "threads, through the page cache",
        }
    }

    /// What it lacks here, and what that costs; `None` when it lacks nothing.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref().or_else(|| self.device.lack())
    }

    /// How many more jobs may be started.
    pub fn room(&self) -> usize {
        JOBS_MAX.saturating_sub(self.under_way())
    }

    /// How many jobs are under way.
    pub fn under_way(&self) -> usize {
        let started = match &self.backend {
            Backend::Ring(queue) => queue.under_way(),
            Backend::Threads(threads) => threads.under_way(),
        };
        started.saturating_add(self.attempts.len()).saturating_add(self.stillborn.len())
    }

    /// Writes `pieces`, one behind the other, from `block` of the device on.
    pub fn write(&mut self, ticket: Ticket, block: u64, pieces: Vec<Piece>, durably: Durably) {
        let blocks = pieces.iter().map(Piece::blocks).sum();
        self.begin(ticket, block, blocks, Work::Write { pieces, durably });
    }

    /// Fills `buffer` from `block` of the device on.
    pub fn read(&mut self, ticket: Ticket, block: u64, buffer: Buffer) {
        let span = buffer.into_span();
        self.begin(ticket, block, span.blocks(), Work::Read { span });
    }

    /// Makes durable what was written, as far as its completion was seen before.
    pub fn flush(&mut self, ticket: Ticket) {
        self.begin(ticket, 0, 0, Work::Flush);
    }

    /// Sends what was asked for to the kernel now, and not with the next [`Self::wait`].
    ///
    /// # Errors
    ///
    /// The ring has failed. Nobody knows what became of what is under way.
    pub fn send(&mut self) -> std::io::Result<()> {
        match &mut self.backend {
            Backend::Ring(queue) => queue.send(),
            Backend::Threads(_) => Ok(()),
        }
    }

    /// Waits until something is done, or somebody wakes it, so long at most; tells what is done. Returns
    /// whether it may have been woken.
    ///
    /// # Errors
    ///
    /// The ring has failed. Nobody knows what became of what is under way.
    pub fn wait(&mut self, most: Duration, done: &mut Vec<Done>) -> std::io::Result<bool> {
        let most = if self.stillborn.is_empty() { most } else { Duration::ZERO };
        let is_woken = match &mut self.backend {
            Backend::Ring(queue) => queue.wait(most, &mut self.attempts)?,
            Backend::Threads(threads) => threads.wait(most, &mut self.attempts)?,
        };
        let mut is_again = false;
        for (mut job, result) in std::mem::take(&mut self.attempts) {
            match job.judge(result) {
                Verdict::Whole => done.push(job.end(Ok(()))),
                Verdict::Failed(fault) => done.push(job.end(Err(fault))),
                Verdict::Again => {
                    self.start(job);
                    is_again = true;
                }
            }
        }
        done.append(&mut self.stillborn);
        if is_again {
            self.send()?;
        }
        Ok(is_woken)
    }

    fn begin(&mut self, ticket: Ticket, block: u64, blocks: usize, work: Work) {
        let job = |at| Job::new(ticket, at, work);
        match self.device.byte_of(block, blocks) {
            Some(at) => self.start(job(at)),
            None => self.stillborn.push(job(0).end(Err(Fault::Ended))),
        }
    }

    fn start(&mut self, job: Job) {
        let refused = match &mut self.backend {
            Backend::Ring(queue) => queue.start(job),
            Backend::Threads(threads) => threads.start(job),
        };
        if let Err(job) = refused {
            self.stillborn.push(job.end(Err(Fault::Busy)));
        }
    }
}

const _: () = assert!(BLOCK.is_power_of_two(), "direct input and output needs it");

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
