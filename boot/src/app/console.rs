//! Lines on the firmware's console: few, because it is slow.

use bulkhead_core::boot::explain::Explanation;

/// Prints a line that starts with our name.
macro_rules! say {
    ($($text:tt)*) => { uefi::println!("bulkhead-boot: {}", format_args!($($text)*)) };
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
