//! The UEFI application.
fn main() {}
