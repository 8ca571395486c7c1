//! What no polite client says, byte by byte, and what it is told.

use super::harness::{Plant, SIZE};
use super::raw::{Raw, Simple};
use std::os::unix::fs::FileExt as _;

const UNSUPPORTED: u32 = 0x8000_0001;
const INVALID: u32 = 0x8000_0003;
const UNKNOWN: u32 = 0x8000_0006;
const TOO_BIG: u32 = 0x8000_0009;

#[test]
fn options_that_are_wrong_are_refused_and_the_next_one_is_answered() {
    let plant = Plant::new();
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw.option(77, b"what");
    assert_eq!(raw.answer().0, UNSUPPORTED);
    raw.option(5, b"");
    assert_eq!(raw.answer().0, UNSUPPORTED, "no TLS here");
    raw.option(3, b"x");
    assert_eq!(raw.answer().0, INVALID, "a list takes no data");
    raw.option(9, &[0; 8]);
    assert_eq!(raw.answer().0, INVALID, "structured replies come first");
    raw.option(8, b"");
    assert_eq!(raw.answer().0, 1);
    for data in [&b""[..], &[0, 0, 0, 9, b'a'], &[0, 0, 0, 0, 0, 7], &[0, 0, 0, 0, 0, 0, 0]] {
        raw.option(7, data);
        assert_eq!(raw.answer().0, INVALID, "{data:?}");
    }
    raw.option(7, &[0, 0, 0, 1, b'?', 0, 0]);
    assert_eq!(raw.answer().0, UNKNOWN);
    raw.option(6, &vec![0; 100_000]);
    assert_eq!(raw.answer().0, TOO_BIG);
    raw.option(3, b"");
    assert_eq!(raw.answer(), (2, [&[0, 0, 0, 4][..], b"diska disk of the plant"].concat()));
    assert_eq!(raw.answer().0, 1);
    raw.option(2, b"");
    assert_eq!(raw.answer().0, 1, "an abort is acknowledged");
    assert!(raw.closes());
}

#[test]
fn what_is_not_the_protocol_closes_the_connection() {
    let plant = Plant::new();
    for bytes in [&[0xff; 4][..], b"\0\0\0\x03GET / HTTP/1.1\r\n\r\n", &[0; 300]] {
        let mut raw = Raw::new(plant.tcp);
        raw.say(bytes);
        assert!(raw.closes());
    }
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw.option(1, b"no such export");
    assert!(raw.closes(), "the old way has no words");
    let mut raw = Raw::enter(plant.tcp, "disk");
    raw.request(0, 0, 1, 0, 512);
    assert_eq!(raw.reply(), Simple { error: 0, cookie: 1 });
    raw.take::<512>();
    raw.say(&[7; 28]);
    assert!(raw.closes(), "bad magic");
}

#[test]
fn requests_that_are_wrong_are_refused_and_change_nothing() {
    let plant = Plant::new();
    let file = std::fs::File::options().read(true).write(true).open(plant.path("disk")).unwrap();
    file.write_all_at(&[0x77; 4096], SIZE - 4096).unwrap();
    let mut raw = Raw::enter(plant.tcp, "disk");
    let mut refused = |error: u32, flags: u16, command: u16, offset: u64, length: u32| {
        raw.request(flags, command, 9, offset, length);
        if command == 1 {
            raw.say(&vec![0xee; length as usize]);
        }
        assert_eq!(raw.reply(), Simple { error, cookie: 9 }, "{command} {flags:#x} {offset} {length}");
    };
    let (invalid, no_space) = (22, 28);
    refused(invalid, 0, 99, 0, 0);
    refused(invalid, 1 << 9, 0, 0, 512);
    refused(invalid, 0, 0, SIZE, 1);
    refused(invalid, 0, 0, u64::MAX, 512);
    refused(invalid, 0, 0, 0, u32::MAX);
    refused(no_space, 0, 1, SIZE - 511, 512);
    refused(no_space, 0, 1, u64::MAX - 255, 512);
    refused(no_space, 0, 6, SIZE - 4095, 4096);
    refused(no_space, 0, 6, u64::MAX, u32::MAX);
    refused(invalid, 0, 4, SIZE - 1, 2);
    refused(invalid, 0, 3, 0, 512);
    refused(invalid, 0, 7, 0, 512);
    refused(invalid, 1 << 2, 0, 0, 512);
    let mut end = [0; 4096];
    file.read_exact_at(&mut end, SIZE - 4096).unwrap();
    assert!(end == [0x77; 4096]);
    raw.request(0, 1, 3, SIZE - 512, 512);
    raw.say(&[1; 512]);
    assert_eq!(raw.reply(), Simple { error: 0, cookie: 3 });
    raw.request(0, 2, 0, 0, 0);
    assert!(raw.closes(), "disconnected");
}

#[test]
fn a_disconnect_waits_for_what_is_under_way() {
    let plant = Plant::new();
    let mut raw = Raw::enter(plant.tcp, "disk");
    for cookie in 0..64 {
        raw.request(1, 1, cookie, cookie * 65_536, 65_536);
        raw.say(&[cookie as u8; 65_536]);
    }
    raw.request(0, 2, 0, 0, 0);
    let mut cookies: Vec<_> = (0..64).map(|_| raw.reply().cookie).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, (0..64).collect::<Vec<_>>());
    assert!(raw.closes());
}

#[test]
fn the_old_way_pads_with_zeroes_unless_told_not_to() {
    let plant = Plant::new();
    let mut raw = Raw::new(plant.tcp);
    raw.say(&1_u32.to_be_bytes());
    raw.option(1, b"disk");
    assert_eq!(raw.take(), SIZE.to_be_bytes());
    let flags = u16::from_be_bytes(raw.take());
    assert_eq!(flags, 0b1101_1110_1101, "all but read-only, rotational and resize");
    assert_eq!(raw.take(), [0; 124]);
    raw.request(0, 0, 5, 0, 1);
    assert_eq!(raw.reply(), Simple { error: 0, cookie: 5 });
}
