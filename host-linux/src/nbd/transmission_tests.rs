//! Every rule about a request, against a model that knows only the specification's sentences; and the frames
//! of answers, read back as a client would.

use super::*;
use crate::nbd::export::Geometry;
use crate::nbd::wire::take::Take;
use proptest::prelude::*;

const SIZE: u64 = 1 << 30;

fn session(block_min: u32) -> Session {
    let geometry = Geometry::new(SIZE, block_min, 4096).unwrap();
    Session { geometry, structured: true, contexts: Chosen::default().with(Context::Allocation) }
}

fn header(flags: u16, command: u16, offset: u64, length: u32) -> Header {
    Header { flags, command, cookie: 7, offset, length }
}

/// The error number that a request is refused with, or 0.
fn refused(header: &Header, session: &Session) -> u32 {
    match judge(header, session) {
        Verdict::Submit(_) | Verdict::Leave => 0,
        Verdict::Answer { answer, .. } => answer.err().map_or(0, |failed| failed.errno.number()),
        Verdict::TooLong => 1000,
    }
}

#[test]
fn each_command_becomes_its_request_with_its_flags() {
    let request = |flags, command| match judge(&header(flags, command, 4096, 512), &session(512)) {
        Verdict::Submit(work) => work.request(Vec::new()),
        other @ (Verdict::Answer { .. } | Verdict::Leave | Verdict::TooLong) => panic!("{other:?}"),
    };
    let span = Span { offset: 4096, length: 512 };
    assert_eq!(request(5, 0), Request::Read { span });
    assert_eq!(request(0, 1), Request::Write { offset: 4096, data: Vec::new(), durable: false });
    assert_eq!(request(1, 1), Request::Write { offset: 4096, data: Vec::new(), durable: true });
    assert_eq!(request(1, 4), Request::Trim { span, durable: true });
    assert_eq!(request(1, 5), Request::Cache { span });
    let zeroes = |durable, allocated, fast| Request::WriteZeroes { span, durable, allocated, fast };
    assert_eq!(request(1, 6), zeroes(true, false, false));
    assert_eq!(request(2, 6), zeroes(false, true, false));
    assert_eq!(request(16, 6), zeroes(false, false, true));
    assert_eq!(request(0, 7), Request::Status { span, extents_max: EXTENTS_MAX });
    assert_eq!(request(8, 7), Request::Status { span, extents_max: 1 });
    let flush = judge(&header(1, 3, 0, 0), &session(512));
    assert!(matches!(flush, Verdict::Submit(work) if work.request(Vec::new()) == Request::Flush));
    assert_eq!(judge(&header(0, 2, 0, 0), &session(512)), Verdict::Leave);
}

#[test]
fn nothing_is_written_to_a_read_only_export() {
    let mut session = session(1);
    session.geometry = session.geometry.read_only(true);
    let errors = [0, 1, 3, 4, 5, 6, 7].map(|command| {
        let length = if command == 3 { 0 } else { 512 };
        refused(&header(0, command, 0, length), &session)
    });
    assert_eq!(errors, [0, 1, 0, 1, 0, 1, 0]);
}

#[test]
fn nothing_to_do_is_done_and_needs_no_export() {
    for command in [0, 1, 4, 5, 6] {
        let verdict = judge(&header(0, command, SIZE, 0), &session(512));
        assert!(matches!(verdict, Verdict::Answer { answer: Ok(()), payload: 0, .. }), "{command}");
    }
    assert_eq!(refused(&header(0, 7, 0, 0), &session(1)), 22);
}

/// A client's view of frames: chunks as (type, flags, data), or one simple reply.
fn chunks(frames: &[Frame]) -> Vec<(u16, u16, Vec<u8>)> {
    let bytes = bytes(frames);
    let (mut take, mut chunks) = (Take(&bytes), Vec::new());
    while !take.is_empty() {
        assert_eq!(take.u32(), Some(0x668e_33ef));
        let (flags, kind) = (take.u16().unwrap(), take.u16().unwrap());
        assert_eq!(take.u64(), Some(7));
        let length = take.u32().unwrap() as usize;
        let (data, rest) = take.0.split_at(length);
        chunks.push((kind, flags, data.to_vec()));
        take.0 = rest;
    }
    chunks
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    let body = |body: &Body| match body {
        Body::None => Vec::new(),
        Body::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Body::Zeroes(count) => vec![0; *count as usize],
    };
    frames.iter().flat_map(|frame| [frame.head.to_vec(), body(&frame.body)]).flatten().collect()
}

fn work(flags: u16, command: u16, length: u32, structured: bool) -> Work {
    let session = Session { structured, ..session(1) };
    match judge(&header(flags, command, 100, length), &session) {
        Verdict::Submit(work) => work,
        other @ (Verdict::Answer { .. } | Verdict::Leave | Verdict::TooLong) => panic!("{other:?}"),
    }
}

fn pieces() -> Answer {
    let bytes = |byte: u8| Piece::Bytes(Box::new(vec![byte; 10]));
    Ok(Content::Data(vec![bytes(1), Piece::Zeroes(20), bytes(2)]))
}

#[test]
fn a_read_is_told_in_chunks_whole_or_simply() {
    let frames = work(0, 0, 40, true).frames(pieces());
    let data = |offset: u8, byte: u8| [&[0, 0, 0, 0, 0, 0, 0, offset][..], &[byte; 10]].concat();
    let hole = [0, 0, 0, 0, 0, 0, 0, 110, 0, 0, 0, 20].to_vec();
    assert_eq!(chunks(&frames), [(1, 0, data(100, 1)), (2, 0, hole), (1, 1, data(130, 2))]);

    let content = [&[1; 10][..], &[0; 20], &[2; 10]].concat();
    let whole = chunks(&work(4, 0, 40, true).frames(pieces()));
    assert_eq!(whole, [(1, 1, [&[0, 0, 0, 0, 0, 0, 0, 100][..], &content].concat())]);

    let simple = bytes(&work(0, 0, 40, false).frames(pieces()));
    assert_eq!(simple, [&b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x07"[..], &content].concat());
}

#[test]
fn extents_are_told_as_far_as_they_were_asked_for() {
    let extent = |length, hole, zero| Extent { length, hole, zero, dirty: hole };
    let extents = || Ok(Content::Extents(vec![extent(30, true, true), extent(10, false, false)]));
    let told = chunks(&work(0, 7, 40, true).frames(extents()));
    assert_eq!(told, [(5, 1, b"\0\0\0\x01\0\0\0\x1e\0\0\0\x03\0\0\0\x0a\0\0\0\0".to_vec())]);
    let one = chunks(&work(8, 7, 40, true).frames(extents()));
    assert_eq!(one, [(5, 1, b"\0\0\0\x01\0\0\0\x1e\0\0\0\x03".to_vec())]);
}

/// S1-27: each context is told in a chunk of its own, the last one ends the answer, and what is alike in one
/// of them is one extent there.
#[test]
fn every_context_that_was_chosen_is_told() {
    let extent = |length, zero, dirty| Extent { length, hole: zero, zero, dirty };
    let extents = || {
        let all = vec![extent(10, true, true), extent(10, true, false), extent(20, false, false)];
        Ok(Content::Extents(all))
    };
    let allocation = b"\0\0\0\x01\0\0\0\x14\0\0\0\x03\0\0\0\x14\0\0\0\0".to_vec();
    let dirty = b"\0\0\0\x02\0\0\0\x0a\0\0\0\x01\0\0\0\x1e\0\0\0\0".to_vec();
    let both = Chosen::default().with(Context::Dirty).with(Context::Allocation);
    let work = Work { contexts: both, ..work(0, 7, 40, true) };
    assert_eq!(chunks(&work.frames(extents())), [(5, 0, allocation), (5, 1, dirty.clone())]);
    let work = Work { contexts: Chosen::default().with(Context::Dirty), ..work };
    assert_eq!(chunks(&work.frames(extents())), [(5, 1, dirty)]);
}

#[test]
fn an_answer_to_something_else_is_an_error_and_never_breaks_the_stream() {
    let wrong = |answer: Answer, command| chunks(&work(0, command, 40, true).frames(answer))[0].0;
    let short = || Ok(Content::Data(vec![Piece::Zeroes(39)]));
    let long = || Ok(Content::Extents(vec![Extent { length: 41, hole: false, zero: false, dirty: false }]));
    assert_eq!(wrong(short(), 0), chunk::ERROR);
    assert_eq!(wrong(Ok(Content::Data(Vec::new())), 0), chunk::ERROR);
    assert_eq!(wrong(Ok(Content::Done), 0), chunk::ERROR);
    assert_eq!(wrong(long(), 7), chunk::ERROR);
    assert_eq!(wrong(Ok(Content::Extents(Vec::new())), 7), chunk::ERROR);
    assert_eq!(wrong(pieces(), 1), chunk::ERROR);
    assert_eq!(wrong(Ok(Content::Done), 1), chunk::NONE);
}

#[test]
fn errors_are_told_with_their_words_where_there_is_room_for_words() {
    let failed = || Err(Failed::new(Errno::NoSpace, "full"));
    let told = chunks(&work(0, 1, 40, true).frames(failed()));
    assert_eq!(told, [(0x8001, 1, b"\0\0\0\x1c\0\x04full".to_vec())]);
    assert_eq!(bytes(&work(0, 1, 40, false).frames(failed()))[4..8], [0, 0, 0, 28]);
    let novel = Err(Failed::new(Errno::Io, "x".repeat(5000)));
    assert_eq!(chunks(&work(0, 1, 40, true).frames(novel)), [(0x8001, 1, b"\0\0\0\x05\0\0".to_vec())]);
}

/// The specification's rules about errors, one by one, dumber than the code.
fn model(header: &Header, block_min: u64) -> u32 {
    let (command, offset, length) = (header.command, u128::from(header.offset), u128::from(header.length));
    let allowed = [0b101_u16, 1, 0xffff, 1, 1, 1, 0b10011, 0b1001];
    let Some(allowed) = allowed.get(usize::from(command)) else { return 22 };
    if command == 2 {
        return 0;
    }
    if command == 1 && (32 << 20) < length {
        return 1000;
    }
    if header.flags & !allowed != 0 {
        return 22;
    }
    if command == 3 {
        return if offset == 0 && length == 0 { 0 } else { 22 };
    }
    if command == 7 && length == 0 {
        return 22;
    }
    if u128::from(SIZE) < offset + length {
        return if command == 1 || command == 6 { 28 } else { 22 };
    }
    let aligned = offset % u128::from(block_min) == 0 && length % u128::from(block_min) == 0;
    if !aligned || (command == 0 && (32 << 20) < length) { 22 } else { 0 }
}

/// Numbers around every edge.
fn edges() -> impl Strategy<Value = u64> {
    let near = [0, 512, 4096, 32 << 20, SIZE - 512, SIZE, u64::from(u32::MAX), u64::MAX - 512];
    let off = prop::sample::select(vec![0_u64, 1, 2, 511, 512]);
    (prop::sample::select(near.to_vec()), off, any::<bool>())
        .prop_map(|(near, off, up)| if up { near.wrapping_add(off) } else { near.wrapping_sub(off) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn requests_are_refused_exactly_when_the_specification_says(
        flags in prop_oneof![Just(0_u16), 0_u16..32, any::<u16>()],
        command in prop_oneof![0_u16..9, any::<u16>()],
        offset in prop_oneof![edges(), any::<u64>()],
        length in prop_oneof![edges(), any::<u64>()],
        block_min in prop::sample::select(vec![1_u32, 512, 4096]),
    ) {
        let length = u32::try_from(length & u64::from(u32::MAX)).unwrap();
        let header = header(flags, command, offset, length);
        let session = session(block_min);
        let verdict = judge(&header, &session);
        prop_assert_eq!(refused(&header, &session), model(&header, u64::from(block_min)), "{:?}", verdict);
        // V42: what reaches the export lies within it, and what is carried is bounded.
        if let Verdict::Submit(work) = verdict {
            prop_assert!(work.span.offset.checked_add(u64::from(work.span.length)).unwrap() <= SIZE);
            prop_assert!(work.bytes() <= u64::from(REQUEST_MAX));
        }
    }
}
