//! Bytes into `support::parsers::gpt_header`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::parsers::gpt_header(bytes));
