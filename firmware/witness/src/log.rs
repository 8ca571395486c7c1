//! The log: defmt frames into a ring, and from there to the log's serial line as fast as that takes them.
//!
//! Nothing waits for the line. A frame that finds no room is dropped whole, and counted (rule 25 of the
//! house).

use core::cell::{Cell, RefCell};

use bulkhead_witness::frames::Frames;
use critical_section::{Mutex, RestoreState};

use crate::board::here::uart::Uart;

// Each frame says when it was written: seconds since the start.
defmt::timestamp!("{=u64:us}", crate::board::here::clock::now().as_micros());

/// Bytes of frames that wait for the line: a twentieth of a second of it.
const WAITING_MAX: usize = 640;

static FRAMES: Mutex<RefCell<Frames<WAITING_MAX>>> = Mutex::new(RefCell::new(Frames::new()));
static ENCODER: Mutex<RefCell<defmt::Encoder>> = Mutex::new(RefCell::new(defmt::Encoder::new()));
static LINE: Mutex<RefCell<Option<Uart>>> = Mutex::new(RefCell::new(None));
/// While a frame is written: how to end its critical section.
static RESTORE: Mutex<Cell<Option<RestoreState>>> = Mutex::new(Cell::new(None));

/// Gives the log its line.
pub fn start(line: Uart) {
    critical_section::with(|section| *LINE.borrow_ref_mut(section) = Some(line));
}

/// Sends what the line takes now.
pub fn pump() {
    critical_section::with(|section| {
        let (mut frames, mut line) = (FRAMES.borrow_ref_mut(section), LINE.borrow_ref_mut(section));
        if let Some(line) = line.as_mut() {
            frames.drain(|byte| line.offer(byte));
        }
    });
}

/// Sends everything, and waits for it: before a reset. Bounded by what the line takes for a full ring.
pub fn finish() {
    critical_section::with(|section| {
        let (mut frames, mut line) = (FRAMES.borrow_ref_mut(section), LINE.borrow_ref_mut(section));
        if let Some(line) = line.as_mut() {
            frames.drain(|byte| embedded_io::Write::write(line, &[byte]).is_ok());
            let _ = embedded_io::Write::flush(line);
        }
    });
}

/// Frames lost since this was asked last.
pub fn lost() -> u32 {
    critical_section::with(|section| FRAMES.borrow_ref_mut(section).take_lost())
}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` masks interrupts on this one core until `release`, so frames cannot interleave; defmt
// calls neither twice in a row.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: ended in `release`, which defmt calls in the same place.
        let restore = unsafe { critical_section::acquire() };
        critical_section::with(|section| {
            RESTORE.borrow(section).set(Some(restore));
            let mut frames = FRAMES.borrow_ref_mut(section);
            frames.begin();
            ENCODER.borrow_ref_mut(section).start_frame(|bytes| frames.write(bytes));
        });
    }

    unsafe fn flush() {}

    unsafe fn release() {
        let restore = critical_section::with(|section| {
            let mut frames = FRAMES.borrow_ref_mut(section);
            ENCODER.borrow_ref_mut(section).end_frame(|bytes| frames.write(bytes));
            frames.end();
            RESTORE.borrow(section).take()
        });
        if let Some(restore) = restore {
            // SAFETY: what `acquire` began.
            unsafe { critical_section::release(restore) };
        }
    }

    unsafe fn write(bytes: &[u8]) {
        critical_section::with(|section| {
            let mut frames = FRAMES.borrow_ref_mut(section);
            ENCODER.borrow_ref_mut(section).write(bytes, |bytes| frames.write(bytes));
        });
    }
}
