//! The Ethernet MAC: its queues, for [`bulkhead_witness::mac`].

use bulkhead_witness::mac::Queues;

use super::register::Block;

// SAFETY: LM3S6965 data sheet, table 3-1: Ethernet controller.
const ETHERNET: Block = unsafe { Block::at(0x4004_8000) };
const STATUS: usize = 0x000;
const MASK: usize = 0x004;
const RECEIVE: usize = 0x008;
const TRANSMIT: usize = 0x00c;
const DATA: usize = 0x010;
const ADDRESS_LOW: usize = 0x014;
const ADDRESS_HIGH: usize = 0x018;
const THRESHOLD: usize = 0x01c;
const MANAGEMENT_DIVIDER: usize = 0x024;
const PACKETS: usize = 0x034;
const REQUEST: usize = 0x038;

const ALL_EVENTS: u32 = 0x7f;
const EVENT_RECEIVED: u32 = 1;
const RECEIVE_ON: u32 = 1;
/// Frames whose checksum is wrong never reach the queue.
const RECEIVE_GOOD_ONLY: u32 = 1 << 3;
const RECEIVE_FORGET: u32 = 1 << 4;
/// On, padded to 60 bytes, with a checksum, both directions at once.
const TRANSMIT_ALL: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 4;
/// A frame begins to leave when it is asked for, not when so much of it is written.
const THRESHOLD_OFF: u32 = 0x3f;
/// 50 MHz / (2 × (9 + 1)) = 2.5 MHz, the most that the PHY takes.
const DIVIDER: u32 = 9;
const PACKETS_COUNT: u32 = 0x3f;
const REQUEST_SEND: u32 = 1;

/// The longest frame kept takes 50 us at 100 Mbit/s, and 500 us at 10; a read takes at least 60 ns.
const READS_MAX: u32 = 20_000;

/// The queues of the MAC.
#[derive(Debug)]
pub struct Ethernet(());

impl Ethernet {
    /// Starts to hear what is sent to `address`, and to everybody.
    pub fn start(address: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = address;
        ETHERNET.write(RECEIVE, RECEIVE_FORGET);
        ETHERNET.write(MASK, 0);
        ETHERNET.write(STATUS, ALL_EVENTS);
        ETHERNET.write(MANAGEMENT_DIVIDER, DIVIDER);
        ETHERNET.write(ADDRESS_LOW, u32::from_le_bytes([a, b, c, d]));
        ETHERNET.write(ADDRESS_HIGH, u32::from_le_bytes([e, f, 0, 0]));
        ETHERNET.write(THRESHOLD, THRESHOLD_OFF);
        ETHERNET.write(TRANSMIT, TRANSMIT_ALL);
        ETHERNET.write(RECEIVE, RECEIVE_ON | RECEIVE_GOOD_ONLY);
        Self(())
    }
}

/// The next frame ends a sleep.
pub fn listen() {
    ETHERNET.write(MASK, EVENT_RECEIVED);
}

/// A frame came: that was heard. Whoever reads it asks to be told of the next one.
pub fn heard() {
    ETHERNET.write(MASK, 0);
    ETHERNET.write(STATUS, EVENT_RECEIVED);
}

impl Queues for Ethernet {
    fn has_frame(&mut self) -> bool {
        ETHERNET.read(PACKETS) & PACKETS_COUNT != 0
    }

    fn pop(&mut self) -> u32 {
        ETHERNET.read(DATA)
    }

    fn forget(&mut self) {
        ETHERNET.write(RECEIVE, RECEIVE_FORGET);
        ETHERNET.write(RECEIVE, RECEIVE_ON | RECEIVE_GOOD_ONLY);
    }

    fn is_free(&mut self) -> bool {
        (0..READS_MAX).any(|_| ETHERNET.read(REQUEST) & REQUEST_SEND == 0)
    }

    fn push(&mut self, word: u32) {
        ETHERNET.write(DATA, word);
    }

    fn send(&mut self) {
        ETHERNET.write(REQUEST, REQUEST_SEND);
    }
}
