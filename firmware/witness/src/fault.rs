//! Panics and faults: logged, counted across the reset that follows, and then the reset (F13).

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use bulkhead_witness::survivor::{Start, Survivor, WORDS};
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m_rt::exception;

use crate::board::here;
use crate::stack;

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

/// Something failed already in this start.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Remembers the failure, says what it was, and starts anew. One that fails in turn, while it is told, is
/// told no more.
fn fail(is_fault: bool, tell: impl FnOnce()) -> ! {
    cortex_m::interrupt::disable();
    if !FAILED.swap(true, Ordering::Relaxed) {
        write(Survivor::recall(read()).unwrap_or_default().fail(is_fault));
        tell();
        crate::log::finish();
    }
    here::reset()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(false, || match info.location() {
        Some(at) => defmt::error!(
            "panic: {} at {=str}:{=u32}",
            defmt::Display2Format(&info.message()),
            at.file(),
            at.line()
        ),
        None => defmt::error!("panic: {}", defmt::Display2Format(&info.message())),
    })
}

// SAFETY: never returns, and touches only what is made for it.
#[exception(trampoline = false)]
unsafe fn HardFault() -> ! {
    fail(true, || match stack::place() {
        Some([at, from]) => defmt::error!("fault at {=u32:#010x}, called from {=u32:#010x}", at, from),
        None if stack::is_out() => defmt::error!("fault: the stack ran out"),
        None => defmt::error!("fault in a handler"),
    })
}
