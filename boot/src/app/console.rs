//! Lines on the firmware's console: few, because it is slow. A console that fails (a serial line that nobody
//! reads) costs its text and nothing else: unlike the macros of `uefi`, which panic, these go on.

use bulkhead_core::boot::explain::Explanation;
use core::fmt::{Arguments, Result, Write};
use uefi::proto::console::text::Output;

/// The firmware's console, which takes everything and prints what it can.
struct Patient<'a>(&'a mut Output);

impl Write for Patient<'_> {
    fn write_str(&mut self, text: &str) -> Result {
        // Firmware reports an error when any of several consoles fails; the others have the text.
        let _ = self.0.write_str(text);
        Ok(())
    }
}

/// Prints, and never fails.
pub(super) fn write(text: Arguments<'_>) {
    uefi::system::with_stdout(|out| {
        let _ = Patient(out).write_fmt(text);
    });
}

/// Prints as `print!` does.
macro_rules! print {
    ($($text:tt)*) => { $crate::app::console::write(format_args!($($text)*)) };
}
pub(super) use print;

/// Prints a line as `println!` does.
macro_rules! println {
    () => { $crate::app::console::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::app::console::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(super) use println;

/// Prints a line that starts with our name.
macro_rules! say {
    ($($text:tt)*) => { $crate::app::console::println!("bulkhead-boot: {}", format_args!($($text)*)) };
}
pub(super) use say;

/// Says why a slot is started, or why none is.
pub(super) fn explain(explanation: &Explanation) {
    if explanation.record_lost {
        say!("both copies of the boot control block are lost; going by the confirmation marks");
    }
    for considered in explanation.considered() {
        say!("{considered}");
    }
}
