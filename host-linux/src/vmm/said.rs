//! What a guest says, for tests on this machine's own KVM.

use super::console::Console;
use super::machine::kvm;
use std::io::Read as _;

/// Whether this machine runs guests; says why not.
pub fn runs_guests() -> bool {
    kvm().inspect_err(|why| println!("skipped: {}", why.what)).is_ok()
}

/// What a guest says.
pub struct Said(pub std::io::PipeReader);

impl Said {
    pub fn new() -> (Self, Console) {
        let (reader, writer) = std::io::pipe().unwrap();
        (Self(reader), Console::to(writer).unwrap())
    }

    /// Its next bytes, as many as these are.
    pub fn hears(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.0.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }
}
