//! Networks that cut and change: what arrives is the beginning of what was sent on that stream, and nothing
//! else (F36, F39, V5).

use super::proxy::{Harm, Proxy};
use super::site::{Node, Place, SOON, millis};
use super::traffic::{check, frame, life, next};
use super::veiled::veiled;
use bulkhead::replication::hello::Refusal;
use bulkhead::replication::tally::End;
use bulkhead::replication::words::{News, Settings, Timing};
use bulkhead_core::id::NodeId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lives of one end's streams. The other end's begin behind it.
const ENDS: u64 = 1 << 20;

/// What one end saw.
#[derive(Debug, Default)]
struct Seen {
    met: u64,
    frames: u64,
}

/// Sends numbered frames on each stream that is met, as fast as they are taken, and checks all that is told:
/// met and gone alternate; between them come the frames of one stream, from the first on, each as it was
/// sent.
fn run(node: &Node, mine: u64, done: &AtomicBool, met: &AtomicU64) -> Seen {
    let mut seen = Seen::default();
    let (mut stream, mut sent) = (None, 0);
    let (mut from, mut last, mut came) = (0, 0, 0);
    let begun = Instant::now();
    while !done.load(Ordering::Acquire) {
        assert!(begun.elapsed() < 4 * SOON, "not in time: {seen:?}");
        // Who has sent a lot waits.
        let may_send = stream.is_some() && node.peer().queued < 64 << 10;
        let wait = if may_send { Duration::ZERO } else { millis(2) };
        match node.within(wait) {
            Some(News::Met(_, new)) => {
                assert!(stream.replace(new).is_none(), "met while met");
                seen.met += 1;
                met.fetch_add(1, Ordering::AcqRel);
                (sent, from, came) = (0, 0, 0);
            }
            Some(News::Gone(_)) => assert!(stream.take().is_some(), "gone while gone"),
            Some(News::Frame(_, frame)) => {
                assert!(stream.is_some(), "a frame while gone");
                if came == 0 {
                    from = life(&frame);
                    assert!(last < from, "of stream {from}, after one of {last}");
                    last = from;
                }
                came += 1;
                seen.frames += 1;
                check(&frame, from, came, 12);
            }
            None => {}
        }
        if let Some(stream) = stream.filter(|_| may_send) {
            let frames = (sent + 1..=sent + 3).map(|number| frame(&node.made, mine + seen.met, number, 12));
            node.streams.send(stream, frames.collect());
            sent += 3;
        }
    }
    seen
}

/// Two ends and a network that does this to each connection, until so many streams were met.
fn through(
    (seed, streams): (u64, u64),
    dress: fn(Settings) -> Settings,
    harm: impl Fn(u64) -> Harm + Send + 'static,
) -> (Node, Node, [Seen; 2]) {
    let place = Place::new();
    let timing = Timing { again: (millis(10), millis(20)), ..place.settings(1, 2).timing };
    let high = Node::start(dress(Settings { timing, ..place.settings(2, 2) }));
    let _proxy = Proxy::new(place.at(50), place.of(2)[0], harm);
    // Nobody listens on the second network.
    let peers = vec![(NodeId(2), [place.at(50), place.at(51)])];
    let low = Node::start(dress(Settings { timing, peers, ..place.settings(1, 2) }));
    let (done, met, idle) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let seen = std::thread::scope(|scope| {
        let one = scope.spawn(|| run(&low, 0, &done, &idle));
        let two = scope.spawn(|| run(&high, ENDS, &done, &met));
        let begun = Instant::now();
        while met.load(Ordering::Acquire) < streams && !one.is_finished() && !two.is_finished() {
            let views = || [&low, &high].map(|node| node.streams.view());
            assert!(begun.elapsed() < 4 * SOON, "seed {seed}: {met:?} streams in time: {:?}", views());
            std::thread::sleep(millis(10));
        }
        done.store(true, Ordering::Release);
        [one.join().unwrap(), two.join().unwrap()]
    });
    (low, high, seen)
}

fn state(seed: u64, connection: u64) -> u64 {
    let mut state = (seed + connection).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    next(&mut state);
    next(&mut state)
}

#[test]
fn a_stream_that_is_cut_anywhere_delivers_its_beginning_alone() {
    cut_anywhere((1, 60), |clear| clear);
}

#[test]
fn an_encrypted_stream_that_is_cut_anywhere_does_so_too() {
    cut_anywhere((3, 40), veiled);
}

fn cut_anywhere(rounds: (u64, u64), dress: fn(Settings) -> Settings) {
    let (low, high, seen) = through(rounds, dress, move |connection| {
        let mut state = state(rounds.0, connection);
        // Short ones, too: a cut in the middle of the handshake, of a head, of a tag.
        let bytes = match next(&mut state) % 4 {
            0 => next(&mut state) % 400,
            1 => next(&mut state) % 20_000,
            _ => next(&mut state) % 300_000,
        };
        let way = usize::from(next(&mut state).is_multiple_of(2));
        let mut harm = Harm::default();
        harm.cut[way] = Some(bytes);
        harm
    });
    assert!(seen.iter().all(|seen| 500 < seen.frames), "{seen:?}");
    // Only cuts: nothing that arrived was wrong.
    for node in [low, high] {
        let view = node.streams.view();
        assert!(view.peers[0].ends.keys().all(|end| [End::Left, End::Failed].contains(end)), "{view:?}");
        assert!(!view.refused.contains_key(&Refusal::Key), "{view:?}");
    }
}

/// One bit of a connection is changed on its way: early, soon or later.
fn one_bit(seed: u64, connection: u64) -> Harm {
    let mut state = state(seed, connection);
    let at = match next(&mut state) % 4 {
        0 => next(&mut state) % 200,
        1 => next(&mut state) % 5_000,
        _ => next(&mut state) % 100_000,
    };
    let (bit, way) = (next(&mut state) as u8, usize::from(next(&mut state).is_multiple_of(2)));
    let mut harm = Harm::default();
    harm.flip[way] = Some((at, bit));
    harm
}

/// F39: no bit that is changed on the way is in a frame that is delivered, or in the next one.
#[test]
fn a_changed_bit_ends_the_stream() {
    let (low, high, seen) = through((2, 60), |clear| clear, |connection| one_bit(2, connection));
    assert!(seen.iter().all(|seen| 500 < seen.frames), "{seen:?}");
    for node in [low, high] {
        let ends = node.peer().ends;
        let found = ends.get(&End::Changed).copied().unwrap_or(0);
        assert!(10 < found, "{ends:?}");
        assert!(!ends.contains_key(&End::Malformed) && !ends.contains_key(&End::Sums), "{ends:?}");
    }
}

/// The same of an encrypted one: TLS notices it, at one end or at both, or the handshake comes to nothing; or
/// it is a bit that TLS ignores (RFC 8446, section 5.1: the version of a record), and the stream is cut then.
#[test]
fn a_changed_bit_ends_an_encrypted_stream() {
    let (low, high, seen) = through((4, 40), veiled, |connection| {
        let mut harm = one_bit(4, connection);
        harm.cut = harm.flip.map(|flip| flip.map(|(at, _)| at + (1 << 20)));
        harm
    });
    assert!(seen.iter().all(|seen| 300 < seen.frames), "{seen:?}");
    let nodes = [low, high].map(|node| (node.peer().ends, node.streams.view().refused));
    let changed: u64 = nodes.iter().filter_map(|(ends, _)| ends.get(&End::Changed)).sum();
    let refused: u64 = nodes.iter().filter_map(|(_, refused)| refused.get(&Refusal::Tls)).sum();
    assert!(20 < changed && 3 < refused, "{nodes:?}");
    let wrong = |(ends, _): &(std::collections::BTreeMap<End, u64>, _)| {
        ends.contains_key(&End::Malformed) || ends.contains_key(&End::Sums)
    };
    assert!(!nodes.iter().any(wrong), "{nodes:?}");
}
