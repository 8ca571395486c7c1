//! The kernel's own timer over this process: at its instant the kernel ends the process, whatever that does
//! or cannot do. Behind whoever holds a guest in time, should its thread hang or wait for a processor (I5,
//! V23).
//!
//! JUSTIFICATION for `unsafe`: no crate here has POSIX timers that send a signal; a timer that is read, such
//! as a `timerfd`, needs a thread that runs.
#![allow(unsafe_code, reason = "see JUSTIFICATION above")]

use bulkhead_core::time::Instant;
use std::io::{Error, Result};
use std::ptr::{null_mut, with_exposed_provenance_mut};

/// A timer that ends this process. It is none when this is dropped.
#[derive(Debug)]
pub struct Deadline {
    /// The kernel's name for it: a `timer_t`, which is a number that looks like an address.
    timer: usize,
}

impl Deadline {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// The system has no more timers.
    pub fn new() -> Result<Self> {
        // SAFETY: a `sigevent` is numbers and an unused pointer; zeroes are a value of it.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut timer: libc::timer_t = null_mut();
        // SAFETY: both are ours for as long as the call takes. The kernel needs nothing of this process when
        // the timer fires: nobody handles SIGKILL.
        let made = unsafe { libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut timer) };
        done(made)?;
        Ok(Self { timer: timer.expose_provenance() })
    }

    /// Ends this process at this instant of [`clock`](crate::cluster::clock), in place of any set before: at
    /// once, if that is over.
    ///
    /// # Errors
    ///
    /// The system does not do it. It never said so of a timer that it made.
    pub fn set(&self, at: Instant) -> Result<()> {
        // 0 would be none.
        self.change(at.as_micros().max(1))
    }

    /// Sets it to no instant.
    ///
    /// # Errors
    ///
    /// As [`Self::set`].
    pub fn clear(&self) -> Result<()> {
        self.change(0)
    }

    fn change(&self, micros: u64) -> Result<()> {
        let end = |_| Error::from(std::io::ErrorKind::InvalidInput);
        let it_value = libc::timespec {
            tv_sec: (micros / 1_000_000).try_into().map_err(end)?,
            tv_nsec: (micros % 1_000_000).saturating_mul(1000).try_into().map_err(end)?,
        };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::itimerspec { it_interval, it_value };
        // SAFETY: the timer is one that the kernel made for `self` and that is deleted with it alone.
        let set = unsafe {
            let timer = with_exposed_provenance_mut(self.timer);
            libc::timer_settime(timer, libc::TIMER_ABSTIME, &raw const value, null_mut())
        };
        done(set)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // SAFETY: as above; nobody has it any more.
        unsafe { libc::timer_delete(with_exposed_provenance_mut(self.timer)) };
    }
}

fn done(result: i32) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
