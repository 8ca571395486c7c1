//! One thing that a disk is to do, and what may come of it.

use super::buffers::{Buffer, Piece};
use super::raw::{BLOCK, Span};
use rustix::io::Errno;
use thiserror::Error;

/// Tells one job from another; its owner chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// When a write counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durably {
    /// When the device has it, perhaps in a cache: a flush must follow.
    No,
    /// When it is on the medium: `RWF_DSYNC`. The kernel uses FUA where the device has it and the file needs
    /// no other change, else it flushes the device's cache after the write.
    Dsync,
    /// When it is on the medium: an `fdatasync`, which the kernel begins when the write is whole. It is the
    /// faster of the two on a busy machine: [`crate::storage::engine`] says why.
    #[default]
    Linked,
}

impl Durably {
    pub(super) fn flags(self) -> i32 {
        match self {
            Self::Dsync => libc::RWF_DSYNC,
            Self::No | Self::Linked => 0,
        }
    }

    pub(super) const fn is_linked(self) -> bool {
        matches!(self, Self::Linked)
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Write { pieces: Vec<Piece>, durably: Durably },
    Read { span: Span },
    Flush,
}

/// A job, with its memory. Who has it may use the memory.
#[derive(Debug)]
pub(super) struct Job {
    pub ticket: Ticket,
    /// The first byte on the file.
    pub at: u64,
    pub work: Work,
    /// Bytes that are done; a multiple of [`BLOCK`].
    pub done: usize,
    /// How often it was begun again without getting on.
    pub tries: u32,
    /// What the write said, while its flush is under way.
    pub wrote: Option<Result<usize, Errno>>,
}

/// What came of a job.
#[derive(Debug)]
pub enum Done {
    /// A write, as durable as it was asked for; or nobody knows what the disk holds there.
    Wrote(Ticket, Result<(), Fault>),
    /// A read. The memory comes back in any case.
    Read(Ticket, Buffer, Result<(), Fault>),
    /// A flush: everything that was written before it was asked for is durable; or nobody knows what is.
    Flushed(Ticket, Result<(), Fault>),
}

/// Why a job was not done. Each is final for the job: of a write or a flush that failed nobody knows what the
/// disk holds, and a later one that succeeds says nothing about it (V13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// No room: the file was not written in full beforehand, or a quota is used up (F12).
    #[error("there is no room left on it ({0})")]
    NoRoom(Errno),
    /// The disk, or what is below it, could not (F10, F11).
    #[error("it could not be read or written ({0})")]
    Device(Errno),
    /// It ends before: a file was truncated (F15).
    #[error("it ends too early: somebody made it smaller")]
    Ended,
    /// The system was busy each time it was asked.
    #[error("the system was busy {TRIES_MAX} times in a row")]
    Busy,
    /// The ring or the threads that would have done it are gone; nobody knows how far it came.
    #[error("the engine that was to do it has failed")]
    Engine,
}

/// How often a job that was interrupted, or met a busy system, is begun again without getting on.
pub const TRIES_MAX: u32 = 100;

/// What to do after one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    /// The rest is to be asked for.
    Again,
    Failed(Fault),
}

impl Job {
    pub(super) const fn new(ticket: Ticket, at: u64, work: Work) -> Self {
        Self { ticket, at, work, done: 0, tries: 0, wrote: None }
    }

    /// The first byte that is not done.
    pub(super) fn offset(&self) -> u64 {
        self.at.saturating_add(u64::try_from(self.done).unwrap_or(u64::MAX))
    }

    /// The bytes of a write that are not done.
    pub(super) fn rest(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = match &self.work {
            Work::Write { pieces, .. } => pieces.as_slice(),
            Work::Read { .. } | Work::Flush => &[],
        };
        let mut skip = self.done;
        let rest = pieces.iter().map(move |piece| {
            let bytes = piece.bytes();
            let (_, rest) = bytes.split_at(skip.min(bytes.len()));
            skip = skip.saturating_sub(bytes.len());
            rest
        });
        rest.filter(|bytes| !bytes.is_empty())
    }

    /// Bytes that are not done.
    pub(super) fn left(&self) -> usize {
        let all = match &self.work {
            Work::Write { pieces, .. } => pieces.iter().map(|piece| piece.bytes().len()).sum(),
            Work::Read { span } => span.bytes().len(),
            Work::Flush => 0,
        };
        all.saturating_sub(self.done)
    }

    /// Looks at the result of an attempt.
    pub(super) fn judge(&mut self, result: Result<usize, Errno>) -> Verdict {
        let got = match result {
            Ok(got) => got,
            // What a flush that was interrupted has lost, the next one does not tell (V13).
            Err(Errno::INTR | Errno::AGAIN) if !matches!(self.work, Work::Flush) => {
                return self.again(Fault::Busy);
            }
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                return Verdict::Failed(Fault::NoRoom(error));
            }
            Err(error) => return Verdict::Failed(Fault::Device(error)),
        };
        if self.left() <= got {
            return Verdict::Whole;
        }
        // Part of a block is asked for again: direct input and output goes by blocks.
        let whole = got.saturating_sub(got.checked_rem(BLOCK).unwrap_or(0));
        if whole == 0 {
            return self.again(Fault::Ended);
        }
        self.done = self.done.saturating_add(whole);
        self.tries = 0;
        Verdict::Again
    }

    fn again(&mut self, otherwise: Fault) -> Verdict {
        self.tries = self.tries.saturating_add(1);
        let is_end = otherwise == Fault::Ended && 2 <= self.tries;
        if is_end || TRIES_MAX <= self.tries { Verdict::Failed(otherwise) } else { Verdict::Again }
    }

    /// What its owner is told.
    pub(super) fn end(self, result: Result<(), Fault>) -> Done {
        match self.work {
            Work::Write { .. } => Done::Wrote(self.ticket, result),
            Work::Read { span } => Done::Read(self.ticket, Buffer::from(span), result),
            Work::Flush => Done::Flushed(self.ticket, result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffers::Pool;
    use super::*;

    fn write(blocks: &[usize]) -> Job {
        let pool = Pool::new(16 * BLOCK).unwrap();
        let piece = |(fill, count): (u8, &usize)| {
            let mut buffer = pool.take(*count).unwrap();
            buffer.bytes_mut().fill(fill);
            buffer.keep().piece()
        };
        let pieces = (1..).zip(blocks).map(piece).collect();
        Job::new(Ticket(1), 8192, Work::Write { pieces, durably: Durably::Dsync })
    }

    /// F1: what is asked for again begins where the first attempt certainly ended.
    #[test]
    fn a_short_write_goes_on_at_a_block_and_ends_whole() {
        let mut job = write(&[1, 2]);
        assert_eq!(job.judge(Ok(BLOCK + BLOCK + 512)), Verdict::Again);
        assert_eq!(job.offset(), 8192 + 8192);
        let rest: Vec<_> = job.rest().map(|bytes| (bytes.first().copied(), bytes.len())).collect();
        assert_eq!(rest, [(Some(2), BLOCK)]);
        assert_eq!(job.judge(Ok(BLOCK)), Verdict::Whole);
    }

    /// F11, F12, F15, V13: each has its name, and a busy system is asked again and not for ever.
    #[test]
    fn every_failure_has_its_name() {
        let failed = |error| write(&[1]).judge(Err(error));
        for error in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert_eq!(failed(error), Verdict::Failed(Fault::NoRoom(error)));
        }
        for error in [Errno::IO, Errno::NXIO, Errno::CANCELED, Errno::INVAL] {
            assert_eq!(failed(error), Verdict::Failed(Fault::Device(error)));
        }
        let mut job = write(&[1]);
        assert_eq!(job.judge(Ok(0)), Verdict::Again);
        assert_eq!(job.judge(Ok(100)), Verdict::Failed(Fault::Ended));
        let mut flush = Job::new(Ticket(1), 0, Work::Flush);
        assert_eq!(flush.judge(Err(Errno::INTR)), Verdict::Failed(Fault::Device(Errno::INTR)), "V13");
        let mut job = write(&[1]);
        let verdicts: Vec<_> = (0..TRIES_MAX).map(|_| job.judge(Err(Errno::INTR))).collect();
        let (last, before) = verdicts.split_last().unwrap();
        assert!(before.iter().all(|verdict| *verdict == Verdict::Again));
        assert_eq!(*last, Verdict::Failed(Fault::Busy));
    }
}
