//! The lines in bytes, and that nothing else is one.

use proptest::prelude::*;

use super::*;

const ACTS: [Act; 3] = [Act::Off, Act::On, Act::Read];
const FOUND: [Found; 4] = [Found::Switched, Found::Off, Found::On, Found::Failed];

fn request(id: u32, outlet: u8, act: Act) -> Request {
    Request { id: RequestId(id), outlet: NonZeroU8::new(outlet).unwrap(), act }
}

/// These lines are in the field, and other people build strips. If this test fails, add a version. The
/// checksums are as Python computes them.
#[test]
fn version_1_never_changes() {
    let off = request(0x00c0_ffee, 3, Act::Off);
    let read = request(0x00c0_ffef, 0xab, Act::Read);
    let lines = [
        (off.encode(), "BS1?00C0FFEE030-A196CC32\n"),
        (Answer { to: off, found: Found::Switched }.encode(), "BS1!00C0FFEE030D9A64BD58\n"),
        (request(u32::MAX, 1, Act::On).encode(), "BS1?FFFFFFFF011-1499F958\n"),
        (read.encode(), "BS1?00C0FFEFABR-F51CADFE\n"),
        (Answer { to: read, found: Found::Off }.encode(), "BS1!00C0FFEFABR078EC1F86\n"),
        (Answer { to: read, found: Found::On }.encode(), "BS1!00C0FFEFABR18A879C85\n"),
        (Answer { to: read, found: Found::Failed }.encode(), "BS1!00C0FFEFABRE3C855F97\n"),
    ];
    for (bytes, golden) in lines {
        assert_eq!(str::from_utf8(&bytes).unwrap(), golden);
    }
}

#[test]
fn another_version_is_named() {
    let mut other = request(7, 1, Act::Read).encode();
    other[2] = b'2';
    let check = hex(crc32c(&other[..16]));
    other[16..24].copy_from_slice(&check);
    assert_eq!(Request::parse(&other), Err(Malformed::OtherVersion(b'2')));
    assert_eq!(Answer::parse(&other), Err(Malformed::OtherVersion(b'2')));
}

/// What a strip must not take, although its checksum is right.
#[test]
fn a_line_without_sense_is_damaged() {
    let good = request(7, 1, Act::Read).encode();
    for (at, byte) in [(0, b'X'), (3, b'!'), (4, b'a'), (13, b'0'), (14, b'2'), (15, b'0')] {
        let mut bad = good;
        bad[at] = byte;
        let check = hex(crc32c(&bad[..16]));
        bad[16..24].copy_from_slice(&check);
        assert_eq!(Request::parse(&bad), Err(Malformed::Damaged), "{at}");
    }
    let answer = Answer { to: request(7, 1, Act::Read), found: Found::Off }.encode();
    assert_eq!(Request::parse(&answer), Err(Malformed::Damaged), "an answer is no request");
    assert_eq!(Answer::parse(&good), Err(Malformed::Damaged), "a request is no answer");
}

#[test]
fn noise_before_a_line_and_lines_without_end_cost_one_line() {
    let mut ear = Ear::default();
    let mut heard = |bytes: &[u8]| -> std::vec::Vec<bool> {
        bytes.iter().filter_map(|byte| ear.hear(*byte)).map(|line| Request::parse(&line).is_ok()).collect()
    };
    let good = request(7, 1, Act::Read).encode();
    assert_eq!(heard(&[&good[..], &good[..]].concat()), [true, true]);
    assert_eq!(heard(&[b"noise", &good[..], &good[..]].concat()), [false, true]);
    assert_eq!(heard(&[&[b'x'; 10_000], &good[..], &good[..]].concat()), [false, true]);
    assert_eq!(heard(&[b"\n", &good[..3], b"\n", &good[..]].concat()), [false, false, true]);
}

proptest! {
    #[test]
    fn what_was_written_is_read(id: u32, outlet in 1..=u8::MAX, act in 0..3_usize, found in 0..4_usize) {
        let to = request(id, outlet, ACTS[act]);
        let answer = Answer { to, found: FOUND[found] };
        prop_assert_eq!(Request::parse(&to.encode()), Ok(to));
        prop_assert_eq!(Answer::parse(&answer.encode()), Ok(answer));
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut ear = Ear::default();
        for line in bytes.iter().filter_map(|byte| ear.hear(*byte)) {
            prop_assert!(Answer::parse(&line).is_err());
        }
        if let Ok(answer) = Answer::parse(&bytes) {
            prop_assert_eq!(&answer.encode()[..], &bytes[..]);
        }
    }

    /// V20, F28: a line that was changed on its way is no acknowledgement: one bit, two, or a burst.
    #[test]
    fn changed_bits_are_never_an_answer(
        id: u32, outlet in 1..=u8::MAX, act in 0..3_usize, found in 0..4_usize,
        first in 0..200_usize, second in 0..200_usize, burst in 1..=u32::MAX,
    ) {
        let good = Answer { to: request(id, outlet, ACTS[act]), found: FOUND[found] }.encode();
        let flip = |bits: &[usize]| {
            let mut bad = good;
            bits.iter().for_each(|bit| bad[bit / 8] ^= 1 << (bit % 8));
            bad
        };
        for bit in 0..200 {
            prop_assert!(Answer::parse(&flip(&[bit])).is_err(), "bit {}", bit);
        }
        prop_assume!(first != second);
        prop_assert!(Answer::parse(&flip(&[first, second])).is_err());
        let set = (0..32).filter(|bit| burst >> bit & 1 == 1);
        let bits: std::vec::Vec<usize> = set.map(|bit| bit + first).filter(|bit| *bit < 200).collect();
        prop_assume!(!bits.is_empty());
        prop_assert!(Answer::parse(&flip(&bits)).is_err());
    }
}
