//! Two stacks: the program's, which lies at the bottom of the memory, and a small one for interrupts and
//! faults (F13).
//!
//! A program whose stack runs out faults, for there is no memory below it. Were that stack the processor's
//! only one, the fault would find no room for its own frame and the processor would lock up; so the handlers
//! have another one. Interrupts do not interrupt each other here, so what it must hold is one of them and a
//! fault.

use core::arch::asm;
use core::ptr::addr_of;

unsafe extern "C" {
    /// The top of the program's stack (memory.x).
    static _program_stack: u8;
    /// The bottom of the memory, where it ends (memory.x).
    static _program_stack_end: u8;
}

/// What a frame that the processor keeps at a fault needs, and the function that was called last.
const LEAST: usize = 256;

/// What stands in a stack where it was never used: as cortex-m-rt paints one.
const PAINT: u32 = 0xcccc_cccc;
const WORD: usize = size_of::<u32>();

/// Goes on with `program` on the program's stack, which is told of its memory; the stack in use becomes that
/// of the handlers.
pub fn switch<T, U>(
    program: extern "C" fn(&'static mut T, &'static mut U) -> !,
    one: &'static mut T,
    two: &'static mut U,
) -> ! {
    paint();
    // SAFETY: the top of memory that nothing else uses becomes the stack of a function that never returns,
    // and nothing of the present frame is used any more. The main stack stays as it is, for the handlers
    // alone.
    unsafe {
        asm!(
            "msr psp, {top}",
            "movs {top}, #2",
            "msr control, {top}",
            "isb",
            "bx {program}",
            top = in(reg) addr_of!(_program_stack),
            program = in(reg) program,
            in("r0") one,
            in("r1") two,
            options(noreturn)
        )
    }
}

/// Paints the program's stack before the program is on it.
fn paint() {
    for word in words() {
        // SAFETY: memory that nobody uses yet: the stack in use is that of the handlers, the variables lie
        // above both (memory.x).
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(word).write_volatile(PAINT) };
    }
}

/// Bytes of the program's stack that were never used since the start, and how many it has.
pub fn unused() -> [usize; 2] {
    // SAFETY: aligned, and memory that is there. What the program writes meanwhile is not looked at: it is at
    // the other end.
    let is_paint =
        |word: &usize| unsafe { core::ptr::with_exposed_provenance::<u32>(*word).read_volatile() == PAINT };
    [words().take_while(is_paint).count(), words().count()].map(|words| words.saturating_mul(WORD))
}

/// The addresses of its words, from its end, where memory begins, to its top.
fn words() -> impl Iterator<Item = usize> {
    (addr_of!(_program_stack_end).addr()..addr_of!(_program_stack).addr()).step_by(WORD)
}

/// Whether the program's stack has run out.
pub fn is_out() -> bool {
    let end = addr_of!(_program_stack_end).addr();
    let stack = usize::try_from(cortex_m::register::psp::read()).unwrap_or(usize::MAX);
    stack < end.saturating_add(LEAST)
}

/// Where the program was when a fault came, and from where that was called; `None` when the fault's frame
/// could not be kept, or a handler failed.
pub fn place() -> Option<[u32; 2]> {
    const RETURNS_TO_PROGRAM: u32 = 1 << 11;
    // SAFETY: the processor's own register, read.
    let is_program = unsafe { (*cortex_m::peripheral::SCB::PTR).icsr.read() } & RETURNS_TO_PROGRAM != 0;
    if is_out() || !is_program {
        return None;
    }
    let frame =
        core::ptr::with_exposed_provenance::<u32>(usize::try_from(cortex_m::register::psp::read()).ok()?);
    // SAFETY: the processor has pushed eight words where this points: r0 to r3, r12, lr, pc, xpsr. It is in
    // the program's stack, as was asked above, and aligned.
    Some(unsafe { [frame.add(6).read_volatile(), frame.add(5).read_volatile()] })
}
