//! Panics and faults: logged, counted across the reset that follows, and then the reset (F13).

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use bulkhead_witness::survivor::{Start, Survivor, WORDS};
use cortex_m_rt::{ExceptionFrame, exception};

use crate::board::here;

/// Memory that no start clears.
struct Kept(UnsafeCell<MaybeUninit<[u32; WORDS]>>);

// SAFETY: one core; it is touched at the start, and by handlers that never return.
unsafe impl Sync for Kept {}

#[unsafe(link_section = ".uninit.kept")]
static KEPT: Kept = Kept(UnsafeCell::new(MaybeUninit::uninit()));

/// What is remembered of earlier starts, and why this one came about. Asked once, at the start.
pub fn wake() -> (Survivor, Start) {
    let (survivor, start) = Survivor::wake(read());
    write(survivor);
    (survivor, start)
}

fn read() -> [u32; WORDS] {
    // SAFETY: valid and aligned; nobody writes meanwhile. Memory holds something even where the compiler has
    // written nothing, any bits are words, and a volatile read takes them as they are.
    unsafe { KEPT.0.get().cast::<[u32; WORDS]>().read_volatile() }
}

fn write(survivor: Survivor) {
    // SAFETY: valid and aligned; nobody reads meanwhile.
    unsafe { KEPT.0.get().write_volatile(MaybeUninit::new(survivor.words())) }
}

/// Starts anew, for a reason that the log has.
pub fn start_anew() -> ! {
    write(Survivor::recall(read()).unwrap_or_default().wish());
    crate::log::finish();
    here::reset()
}

/// Remembers the failure and starts anew.
fn fail(is_fault: bool) -> ! {
    write(Survivor::recall(read()).unwrap_or_default().fail(is_fault));
    crate::log::finish();
    here::reset()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Nothing may interrupt it, and a second panic inside must not come back here for ever: the watchdog ends
    // that.
    cortex_m::interrupt::disable();
    match info.location() {
        Some(at) => defmt::error!(
            "panic: {} at {=str}:{=u32}",
            defmt::Display2Format(&info.message()),
            at.file(),
            at.line()
        ),
        None => defmt::error!("panic: {}", defmt::Display2Format(&info.message())),
    }
    fail(false)
}

// SAFETY: never returns, and touches only what is made for it.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    cortex_m::interrupt::disable();
    defmt::error!("fault at {=u32:#010x}, called from {=u32:#010x}", frame.pc(), frame.lr());
    fail(true)
}
