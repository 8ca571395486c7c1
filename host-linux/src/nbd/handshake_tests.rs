//! Stories of clients on their way to an export, and clients that send anything at all.

use super::*;
use crate::nbd::wire::number::{OPTION_MAGIC, OPTION_REPLY_MAGIC};
use proptest::prelude::*;
use std::cell::Cell;

/// Two exports, and so many seats.
struct Two {
    seats: Cell<usize>,
    encryption: Encryption,
}

impl Catalogue for Two {
    type Ticket = ();

    fn list(&self) -> Vec<(String, String)> {
        vec![("a".into(), "first".into()), ("b".into(), String::new())]
    }

    fn look(&self, name: &str) -> Option<Entry> {
        let geometry = Geometry::new(1 << 20, 512, 4096).unwrap();
        let canonical = if name.is_empty() { "a" } else { name };
        let found = ["a", "b"].contains(&canonical);
        found.then(|| Entry { canonical: canonical.into(), description: String::new(), geometry })
    }

    fn admit(&self, _: &str) -> Result<(), Denied> {
        let seats = self.seats.get();
        self.seats.set(seats.saturating_sub(1));
        if seats == 0 { Err(Denied::Full) } else { Ok(()) }
    }

    fn encryption(&self) -> Encryption {
        self.encryption
    }
}

fn two(seats: usize) -> Two {
    Two { seats: Cell::new(seats), encryption: Encryption::Missing }
}

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap();
    [&OPTION_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// What the server said, as text: one word an answer.
fn words(mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<20>() {
        assert_eq!(head[..8], OPTION_REPLY_MAGIC.to_be_bytes());
        let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let length = field(16) as usize;
        let kind = match field(12) {
            answer::ACK => "ack",
            answer::SERVER => "server",
            answer::INFO => ["export", "name", "description", "blocks"][rest[1] as usize],
            answer::META_CONTEXT => "context",
            answer::UNSUPPORTED => "unsupported",
            answer::INVALID => "invalid",
            answer::UNKNOWN => "unknown",
            answer::TLS_REQUIRED => "tls-required",
            answer::POLICY => "policy",
            answer::TOO_BIG => "too-big",
            _ => "?",
        };
        words.push(format!("{}:{kind}", field(8)));
        bytes = &rest[length..];
    }
    words
}

/// Sends options to a fresh handshake, and tells what became of it: what was said, and how it entered.
fn check(options: &[Vec<u8>], expected: &str) -> Option<Session> {
    check_at(&two(1), options, expected)
}

fn check_at(catalogue: &Two, options: &[Vec<u8>], expected: &str) -> Option<Session> {
    let mut handshake = Handshake::default();
    handshake.sent(18);
    let all = [&3_u32.to_be_bytes()[..], &options.concat()].concat();
    let progress = handshake.receive(&all, catalogue);
    let mut said = words(handshake.output());
    let session = match progress {
        Progress::Stay => None,
        Progress::Leave => {
            said.push("leaves".into());
            None
        }
        Progress::Secure => {
            said.push("secures".into());
            None
        }
        Progress::Enter(session, ()) => Some(session),
    };
    assert_eq!(said.join(" "), expected);
    session
}

fn name(name: &str, rest: &[u8]) -> Vec<u8> {
    [&u32::try_from(name.len()).unwrap().to_be_bytes()[..], name.as_bytes(), rest].concat()
}

#[test]
fn a_client_lists_asks_and_enters() {
    let contexts = name("a", b"\0\0\0\x01\0\0\0\x0fbase:allocation");
    let session = check(
        &[
            option(8, b""),
            option(3, b""),
            option(6, &name("b", b"\0\x01\0\x03")),
            option(10, &contexts),
            option(7, &name("", b"\0\x01\0\x01")),
        ],
        "8:ack 3:server 3:server 3:ack 6:export 6:blocks 6:ack 10:context 10:ack \
         7:export 7:blocks 7:name 7:ack",
    );
    let session = session.unwrap();
    // The default export is the one the context was chosen for, under its own name.
    assert!(session.structured && session.contexts == Chosen::default().with(Context::Allocation));
}

#[test]
fn a_context_holds_for_its_own_export_only_and_the_last_choice_counts() {
    let chosen = name("a", b"\0\0\0\x01\0\0\0\x0fbase:allocation");
    let none = name("a", b"\0\0\0\0");
    let other = check(
        &[option(8, b""), option(10, &chosen), option(7, &name("b", b"\0\0"))],
        "8:ack 10:context 10:ack 7:export 7:blocks 7:ack",
    );
    assert!(other.unwrap().contexts.is_empty());
    let unchosen = check(
        &[option(8, b""), option(10, &chosen), option(10, &none), option(7, &name("a", b"\0\0"))],
        "8:ack 10:context 10:ack 10:ack 7:export 7:blocks 7:ack",
    );
    assert!(unchosen.unwrap().contexts.is_empty());
    // In a list no query means everything, in a choice nothing; a namespace is a wish only in a list.
    let base = name("a", b"\0\0\0\x01\0\0\0\x05base:");
    check(
        &[option(8, b""), option(9, &none), option(9, &base), option(10, &base)],
        "8:ack 9:context 9:context 9:ack 9:context 9:ack 10:ack",
    );
    let both = name("a", b"\0\0\0\x02\0\0\0\x10x-bulkhead:dirty\0\0\0\x0fbase:allocation");
    let both = check(
        &[option(8, b""), option(10, &both), option(7, &name("a", b"\0\0"))],
        "8:ack 10:context 10:context 10:ack 7:export 7:blocks 7:ack",
    );
    assert!(both.unwrap().contexts.iter().eq(Context::ALL));
}

#[test]
fn what_is_refused_leaves_the_client_where_it_was() {
    let session = check(
        &[
            option(10, &name("a", b"\0\0\0\0")),
            option(5, b""),
            option(99, b"x"),
            option(7, &name("c", b"\0\0")),
            option(7, b"x"),
            option(6, &vec![0; OPTION_MAX]),
            option(7, &name("a", b"\0\0")),
        ],
        "10:invalid 5:unsupported 99:unsupported 7:unknown 7:invalid 6:too-big 7:export 7:blocks 7:ack",
    );
    assert!(!session.unwrap().structured);
}

#[test]
fn a_full_house_says_so_and_the_client_may_ask_again() {
    let catalogue = two(0);
    let mut handshake = Handshake::default();
    handshake.sent(18);
    let go = option(7, &name("a", b"\0\0"));
    let progress = handshake.receive(&[&3_u32.to_be_bytes()[..], &go].concat(), &catalogue);
    assert!(matches!(progress, Progress::Stay));
    assert_eq!(words(handshake.output()), ["7:policy"]);
    catalogue.seats.set(1);
    assert!(matches!(handshake.receive(&go, &catalogue), Progress::Enter(_, ())));
}

#[test]
fn what_is_said_beyond_the_handshake_is_kept_for_the_export() {
    let mut handshake = Handshake::default();
    let all = [&0_u32.to_be_bytes()[..], &option(1, b"a"), b"request"].concat();
    let progress = handshake.receive(&all, &two(1));
    assert!(matches!(progress, Progress::Enter(Session { structured: false, .. }, ())));
    assert_eq!(handshake.output().len(), 18 + 10 + 124);
    assert_eq!(handshake.rest(), b"request");
}

#[test]
fn those_who_leave_or_speak_another_language_go() {
    check(&[option(2, b"whatever")], "2:ack leaves");
    check(&[option(1, b"c")], "leaves");
    check(&[option(1, &vec![b'a'; OPTION_MAX])], "leaves");
    check(&[b"GET / HTTP/1.1\r\n".to_vec()], "leaves");
    check(&[[&OPTION_MAGIC.to_be_bytes()[..], &[0, 0, 0, 6], &[0xff; 4]].concat()], "leaves");
    let flags = Handshake::default().receive(&8_u32.to_be_bytes(), &two(1));
    assert!(matches!(flags, Progress::Leave));
}

#[test]
fn a_flood_of_questions_waits_for_its_answers_to_be_taken_and_ends() {
    let mut handshake = Handshake::default();
    let catalogue = two(1);
    let lists = option(3, b"").repeat(200);
    assert!(matches!(handshake.receive(&3_u32.to_be_bytes(), &catalogue), Progress::Stay));
    let mut rounds = 0;
    let mut progress = Progress::Stay;
    while matches!(progress, Progress::Stay) && rounds < 10_000 {
        rounds += 1;
        // Like the door: nothing is read while something is to be sent.
        let more: &[u8] = if handshake.output().is_empty() { &lists } else { &[] };
        handshake.sent(OUTPUT_MAX / 2);
        progress = handshake.receive(more, &catalogue);
        assert!(handshake.output().len() <= OUTPUT_MAX + 1024);
        assert!(handshake.input.len() <= 2 * lists.len());
    }
    assert!(matches!(progress, Progress::Leave), "{OPTIONS_MAX} questions are enough");
}

/// V43: a server that wants TLS tells nothing to whoever has not begun it.
#[test]
fn where_tls_is_required_nothing_is_told_in_the_clear() {
    let required = || Two { encryption: Encryption::Required, ..two(1) };
    let early = [
        option(3, b""),
        option(6, &name("a", b"\0\0")),
        option(7, &name("a", b"\0\0")),
        option(8, b""),
        option(77, b""),
        option(6, b"malformed"),
    ];
    let told = "3:tls-required 6:tls-required 7:tls-required 8:tls-required 77:tls-required 6:tls-required";
    check_at(&required(), &early, told);
    check_at(&required(), &[option(1, b"a")], "leaves");
    check_at(&required(), &[option(2, b"")], "2:ack leaves");
    check_at(&required(), &[option(5, b"x"), option(5, b"")], "5:tls-required 5:ack secures");
    check(&[option(5, b"")], "5:unsupported");
}

/// What was agreed in the clear counts no more, and what follows `STARTTLS` in the clear is nobody's
/// (CVE-2021-3716).
#[test]
fn what_was_said_in_the_clear_is_forgotten() {
    for encryption in [Encryption::Offered, Encryption::Required] {
        let catalogue = || Two { encryption, ..two(1) };
        for injected in [&b"I"[..], &option(8, b""), b"\x16\x03\x01"] {
            check_at(&catalogue(), &[option(5, b""), injected.to_vec()], "5:ack leaves");
            let mut handshake = Handshake::default();
            handshake.sent(18);
            let start = [&3_u32.to_be_bytes()[..], &option(5, b"")].concat();
            assert!(matches!(handshake.receive(&start, &catalogue()), Progress::Secure));
            assert!(matches!(handshake.receive(injected, &catalogue()), Progress::Leave));
        }
    }
    let catalogue = Two { encryption: Encryption::Offered, ..two(1) };
    let mut handshake = Handshake::default();
    handshake.sent(18);
    let start = [&3_u32.to_be_bytes()[..], &option(8, b""), &option(5, b"")].concat();
    assert!(matches!(handshake.receive(&start, &catalogue), Progress::Secure));
    assert_eq!(words(handshake.output()), ["8:ack", "5:ack"]);
    handshake.sent(40);
    handshake.secured();
    let go = [option(5, b""), option(7, &name("a", b"\0\0"))].concat();
    let Progress::Enter(session, ()) = handshake.receive(&go, &catalogue) else { panic!("it enters") };
    assert!(!session.structured, "structured replies were agreed on in the clear");
    assert_eq!(words(handshake.output())[0], "5:invalid");
}

/// What a client might send: sense and nonsense.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        Just(name("a", b"\0\0")),
        Just(name("b", b"\0\0\0\x01\0\0\0\x0fbase:allocation")),
        Just(vec![0; OPTION_MAX + 5]),
    ];
    let one = prop_oneof![
        8 => (0_u32..12, data).prop_map(|(kind, data)| option(kind, &data)),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    (0_u32..4, prop::collection::vec(one, 0..12))
        .prop_map(|(flags, options)| [&flags.to_be_bytes()[..], &options.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_in_any_pieces_are_answered_alike(
        bytes in anything(),
        cuts in prop::collection::vec(1_usize..50, 1..40),
    ) {
        let mut whole = Handshake::default();
        let end = whole.receive(&bytes, &two(9));
        let mut parts = Handshake::default();
        let catalogue = two(9);
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        let mut last = Progress::Stay;
        while matches!(last, Progress::Stay) && !rest.is_empty() {
            let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            last = parts.receive(piece, &catalogue);
            rest = later;
            prop_assert!(parts.input.len() <= OPTION_MAX + 50);
        }
        prop_assert_eq!(whole.output(), parts.output());
        prop_assert_eq!(std::mem::discriminant(&end), std::mem::discriminant(&last));
        let kept = [&parts.rest()[..], rest].concat();
        if matches!(end, Progress::Enter(..)) {
            prop_assert_eq!(whole.rest(), kept);
        }
    }
}
