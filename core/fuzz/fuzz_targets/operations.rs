//! Bytes as events into a node: flash, boot, confirm, rot, and cuts in the middle of all of them.
//! A crash file is a history; each byte is decoded by `support::events::decode`.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::rc::Rc;
use support::Dice;
use support::images::Images;
use support::node::Node;

/// Bytes of a history; longer inputs find nothing new and cost time.
const HISTORY_MAX: usize = 64;

thread_local! {
    static IMAGES: Rc<Images> = Rc::new(Images::new());
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut node = IMAGES.with(Node::new);
    let mut dice = Dice(bytes.iter().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(*byte)));
    for byte in bytes.iter().take(HISTORY_MAX) {
        node = node.after_byte(*byte, &mut dice);
    }
    node.comes_back();
});
