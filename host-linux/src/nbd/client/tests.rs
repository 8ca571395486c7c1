//! Answers in any pieces, and servers that are wrong.

use super::assembly::{Assembly, Awaited, Broken};
use crate::nbd::export::{Answer, Content, Errno, Extent, Failed, Piece, Span};
use crate::nbd::wire::context::Numbers;
use crate::nbd::wire::number::chunk;
use crate::nbd::wire::request::Header;
use crate::nbd::wire::server::{self, Begin, NotAServer, Told};
use proptest::prelude::*;

/// The numbers that a server has chosen.
const SEVEN: Numbers = Numbers { allocation: Some(7), dirty: None };
const SPAN: Span = Span { offset: 100, length: 40 };

fn bytes(byte: u8, length: u32) -> Piece {
    Piece::Bytes(Box::new(vec![byte; length as usize]))
}

/// The content of an answer, as one string of bytes.
fn flat(answer: Answer) -> Result<Vec<u8>, Failed> {
    let Content::Data(pieces) = answer? else { panic!("no data") };
    let one = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Piece::Zeroes(count) => vec![0; *count as usize],
    };
    Ok(pieces.iter().flat_map(one).collect())
}

#[test]
fn pieces_in_any_order_become_the_whole() {
    let mut read = Assembly::new(Awaited::Data(SPAN), SEVEN);
    read.piece(130, 10, bytes(2, 10)).unwrap();
    read.chunk(chunk::HOLE, b"\0\0\0\0\0\0\0\x6e\0\0\0\x14").unwrap();
    read.piece(100, 10, bytes(1, 10)).unwrap();
    read.chunk(chunk::NONE, b"").unwrap();
    let whole = [&[1; 10][..], &[0; 20], &[2; 10]].concat();
    assert_eq!(flat(read.finish().unwrap()), Ok(whole));
}

#[test]
fn a_part_too_much_beside_or_missing_is_a_broken_server() {
    let broken = |pieces: &[(u64, u32)]| {
        let mut read = Assembly::new(Awaited::Data(SPAN), SEVEN);
        let done = pieces.iter().try_for_each(|(at, length)| read.piece(*at, *length, bytes(0, *length)));
        done.and_then(|()| read.finish().map(|_| ())).err().map(|Broken(why)| why)
    };
    assert_eq!(broken(&[(100, 40)]), None);
    assert_eq!(broken(&[(100, 39)]), Some("an answer with a part missing"));
    assert_eq!(broken(&[(100, 20), (119, 21)]), Some("content that came already"));
    assert_eq!(broken(&[(110, 20), (100, 40)]), Some("content that came already"));
    assert_eq!(broken(&[(99, 40)]), Some("content beside what was asked for"));
    assert_eq!(broken(&[(100, 41)]), Some("content beside what was asked for"));
    assert_eq!(broken(&[(u64::MAX, 2)]), Some("content beyond all offsets"));
    assert_eq!(broken(&[(100, 0)]), Some("content beside what was asked for"));
    let mut write = Assembly::new(Awaited::Done, SEVEN);
    assert!(write.piece(100, 1, bytes(0, 1)).is_err());
    assert!(matches!(write.finish(), Ok(Ok(Content::Done))));
    assert!(Assembly::new(Awaited::Extents(SPAN, 9), SEVEN).finish().is_err(), "no extents");
}

#[test]
fn an_error_counts_whatever_else_was_said_and_keeps_its_words() {
    let mut read = Assembly::new(Awaited::Data(SPAN), SEVEN);
    read.piece(100, 40, bytes(1, 40)).unwrap();
    read.chunk(chunk::ERROR, b"\0\0\0\x1c\0\x04full").unwrap();
    read.chunk(0x8002, b"\0\0\0\x05\0\0\0\0\0\0\0\0\0\x64").unwrap();
    let failed = flat(read.finish().unwrap()).unwrap_err();
    assert_eq!(failed, Failed::new(Errno::NoSpace, "the server answered: full (error 28)"));
    let mut odd = Assembly::new(Awaited::Done, SEVEN);
    odd.error(12_345);
    assert!(matches!(odd.finish(), Ok(Err(Failed { errno: Errno::Io, .. }))));
    assert!(Assembly::new(Awaited::Done, SEVEN).chunk(chunk::ERROR, b"\0\0\0\0\0\0").is_err());
    assert!(Assembly::new(Awaited::Done, SEVEN).chunk(chunk::ERROR, b"\0\0\0\x05\0\x09full").is_err());
    assert!(Assembly::new(Awaited::Done, SEVEN).chunk(77, b"").is_err());
}

#[test]
fn extents_are_cut_to_what_was_asked_for() {
    let mut status = Assembly::new(Awaited::Extents(SPAN, 2), SEVEN);
    let told = b"\0\0\0\x07\0\0\0\x0a\0\0\0\x03\0\0\0\xff\0\0\0\0\0\0\0\x01\0\0\0\0";
    status.chunk(chunk::BLOCK_STATUS, told).unwrap();
    assert!(status.chunk(chunk::BLOCK_STATUS, told).is_err(), "once");
    let Ok(Ok(Content::Extents(extents))) = status.finish() else { panic!() };
    let extent = |length, hole, zero| Extent { length, hole, zero, dirty: false };
    assert_eq!(extents, [extent(10, true, true), extent(30, false, false)]);
    let refused = |payload: &[u8]| Assembly::new(Awaited::Extents(SPAN, 2), SEVEN).chunk(5, payload).is_err();
    assert!(refused(b"") && refused(b"\0\0\0\x01") && refused(b"\0\0\0\x01\0\0\0\x01"));
    assert!(refused(b"\0\0\0\x07\0\0\0\0\0\0\0\0"));
    let other = b"\0\0\0\x08\0\0\0\x28\0\0\0\0";
    assert!(refused(other), "nobody chose that context");
}

/// What two contexts say is one answer, as far as both of them say something.
#[test]
fn two_contexts_are_put_together() {
    let both = Numbers { allocation: Some(7), dirty: Some(3) };
    let allocation = b"\0\0\0\x07\0\0\0\x0a\0\0\0\x03\0\0\0\x1e\0\0\0\0";
    let dirty = b"\0\0\0\x03\0\0\0\x05\0\0\0\x01\0\0\0\x07\0\0\0\0\0\0\0\x0c\0\0\0\x01";
    let extent = |length, zero, dirty| Extent { length, hole: zero, zero, dirty };
    let all =
        [extent(5, true, true), extent(5, true, false), extent(2, false, false), extent(12, false, true)];
    for (order, max) in
        [([&allocation[..], dirty], 9), ([&dirty[..], allocation], 9), ([allocation, dirty], 3)]
    {
        let mut status = Assembly::new(Awaited::Extents(SPAN, max), both);
        order.into_iter().for_each(|payload| status.chunk(chunk::BLOCK_STATUS, payload).unwrap());
        let Ok(Ok(Content::Extents(extents))) = status.finish() else { panic!() };
        assert_eq!(extents, all[..max.min(4)]);
    }
    let mut half = Assembly::new(Awaited::Extents(SPAN, 9), both);
    half.chunk(chunk::BLOCK_STATUS, allocation).unwrap();
    assert!(half.finish().is_err(), "a server tells all that was chosen");
}

#[test]
fn our_client_says_and_reads_these_bytes() {
    assert_eq!(server::greeting(b"NBDMAGICIHAVEOPT\0\x03"), Ok(3));
    assert_eq!(server::greeting(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0"), Err(NotAServer), "old style");
    assert_eq!(server::option(7, b"x"), b"IHAVEOPT\0\0\0\x07\0\0\0\x01x");
    assert_eq!(server::go("vol"), b"\0\0\0\x03vol\0\x01\0\x03");
    assert_eq!(
        server::contexts("v"),
        b"\0\0\0\x01v\0\0\0\x02\0\0\0\x0fbase:allocation\0\0\0\x10x-bulkhead:dirty"
    );
    let reply = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0";
    assert_eq!(server::option_reply(reply, 7), Ok((1, 0)));
    assert_eq!(server::option_reply(reply, 6), Err(NotAServer));
    let told = b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0";
    assert_eq!(server::told(told), Ok(Told::Blocks { least: 512, preferred: 4096, most: 32 << 20 }));
    assert_eq!(server::told(&told[..13]), Err(NotAServer));
    let header = Header { flags: 1, command: 6, cookie: 0x0102, offset: 4096, length: 512 };
    let said = server::request(&header);
    assert_eq!(said[..], *b"\x25\x60\x95\x13\0\x01\0\x06\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x10\0\0\0\x02\0");
    assert_eq!(Header::parse(&said[..].try_into().unwrap()), Ok(header));
}

/// A chunk's kind, its payload, and the place of its content if it is one with content.
fn piece_or_chunk() -> impl Strategy<Value = (u16, Vec<u8>, u64, u32)> {
    (0_u16..8, prop::collection::vec(any::<u8>(), 0..30), 90_u64..150, 0_u32..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn whatever_a_server_sends_content_is_complete_or_refused(
        chunks in prop::collection::vec(piece_or_chunk(), 0..8),
        begin in prop::array::uniform16(any::<u8>()),
    ) {
        let _ = Begin::parse(&begin);
        let mut read = Assembly::new(Awaited::Data(SPAN), SEVEN);
        for (kind, payload, offset, length) in chunks {
            let kind = if kind == 7 { chunk::ERROR } else { kind };
            let done = match kind {
                chunk::DATA => read.piece(offset, length, bytes(1, length)),
                kind => read.chunk(kind, &payload),
            };
            if done.is_err() {
                return Ok(());
            }
        }
        if let Ok(answer @ Ok(_)) = read.finish() {
            prop_assert_eq!(flat(answer).unwrap().len(), 40);
        }
    }
}
