//! How fast this processor verifies: our SHA-256 beside the `sha2` crate's, over the same memory.
//!
//! `cargo run --release -p bulkhead-boot --example sha256_speed`: five paired rounds over 64 MiB, MB/s.

use bulkhead_boot::sha256::{has_instructions, sha256};
use sha2::Digest as _;
use std::time::Instant;

const BYTES: u32 = 64 << 20;

fn main() {
    let memory: Vec<u8> = (0..BYTES).map(|index| index.to_le_bytes()[0]).collect();
    println!("processor has SHA instructions: {}", has_instructions());
    println!("{:>10} {:>10} {:>7}", "ours", "sha2", "ratio");
    for _ in 0..5 {
        let ours = megabytes_per_second(|| sha256(&memory));
        let crates = megabytes_per_second(|| sha2::Sha256::digest(&memory).into());
        println!("{ours:>10.0} {crates:>10.0} {:>7.2}", ours / crates);
    }
}

fn megabytes_per_second(digest: impl Fn() -> [u8; 32]) -> f64 {
    let started = Instant::now();
    std::hint::black_box(digest());
    f64::from(BYTES) / 1e6 / started.elapsed().as_secs_f64()
}
