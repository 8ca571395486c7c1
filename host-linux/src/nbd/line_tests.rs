//! One connection over a socket pair: what is sent arrives, whoever sends it; what is bounded is bounded.

use super::*;
use crate::nbd::limits::REQUEST_MAX;
use crate::nbd::seats::Seats;
use crate::nbd::socket::Peer;
use crate::nbd::together::together;
use crate::nbd::transmission::Body;
use crate::nbd::wire::reply::Head;
use std::io::Read as _;
use std::os::unix::net::UnixStream;

fn line(limits: Limits) -> (Arc<Line>, UnixStream, Arc<Pool>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let pool = Arc::new(Pool::new(limits.shared_bytes));
    let seat = Arc::new(Seats::new(1, 1)).take(Peer::Unix).unwrap();
    (Arc::new(Line::new(Socket::Unix(ours), limits, Arc::clone(&pool), seat)), theirs, pool)
}

fn slot(line: &Line, bytes: u64) -> Slot {
    match line.admit(bytes) {
        Admission::Go(slot) => slot,
        other @ (Admission::Farewell(_) | Admission::Over) => panic!("{other:?}"),
    }
}

fn bytes(count: usize, byte: u8) -> Vec<Frame> {
    let head = Head::from_slice(&[byte; 4]).unwrap();
    vec![Frame { head, body: Body::Bytes(Box::new(vec![byte; count])) }]
}

fn sender(line: &Arc<Line>) -> std::thread::JoinHandle<()> {
    let line = Arc::clone(line);
    std::thread::spawn(move || line.go_on())
}

#[test]
fn what_many_threads_answer_arrives_whole_and_unmixed_at_a_slow_client() {
    let (line, mut client, pool) = line(Limits::default());
    let own = sender(&line);
    let threads: Vec<_> = (1..=8_u8)
        .map(|byte| {
            let line = Arc::clone(&line);
            std::thread::spawn(move || {
                for round in 0..20_usize {
                    let count = 1000 + round * 9_000;
                    let slot = slot(&line, 200_000);
                    let mut frames = bytes(count, byte);
                    frames.push(Frame { head: Head::new(), body: Body::Zeroes(70_000) });
                    line.answer(slot, frames);
                }
            })
        })
        .collect();
    let mut rounds = [0_usize; 9];
    for _ in 0..160 {
        let mut head = [0; 4];
        client.read_exact(&mut head).unwrap();
        let round = &mut rounds[usize::from(head[0])];
        let mut body = vec![0; 1000 + *round * 9_000];
        client.read_exact(&mut body).unwrap();
        assert!(body.iter().all(|byte| *byte == head[0]));
        let mut zeroes = vec![1; 70_000];
        client.read_exact(&mut zeroes).unwrap();
        assert!(zeroes.iter().all(|byte| *byte == 0));
        *round += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    line.drain();
    assert_eq!(pool.free(), Limits::default().shared_bytes);
    line.end(End::Left);
    own.join().unwrap();
}

#[test]
fn memory_is_borrowed_beyond_the_own_share_and_given_back() {
    let (line, _client, pool) = line(Limits::default());
    let all = pool.free();
    let small = slot(&line, OWN_BYTES);
    assert_eq!(pool.free(), all);
    let large = slot(&line, u64::from(REQUEST_MAX));
    assert_eq!(pool.free(), all - u64::from(REQUEST_MAX));
    line.give_up(small);
    assert_eq!(pool.free(), all - u64::from(REQUEST_MAX) + OWN_BYTES);
    line.answer(large, bytes(1, 0));
    assert_eq!(pool.free(), all, "sent at once");
}

#[test]
fn a_client_that_takes_nothing_is_closed_however_long_it_is_given_more() {
    let limits = Limits { stall: Duration::from_millis(100), ..Limits::default() };
    let (line, client, pool) = line(limits);
    let own = sender(&line);
    line.answer(slot(&line, 1 << 20), bytes(1 << 20, 1));
    line.answer(slot(&line, 10), bytes(10, 2));
    line.check(Instant::now());
    assert_eq!(line.ended(), None, "not yet");
    std::thread::sleep(Duration::from_millis(1150));
    line.check(Instant::now());
    assert_eq!(line.ended(), Some(End::Deaf));
    assert_eq!(pool.free(), limits.shared_bytes);
    assert_eq!(line.admit(0), Admission::Over);
    own.join().unwrap();
    drop(client);
}

#[test]
fn what_takes_too_long_ends_it_and_what_does_not_does_not() {
    let soon = Limits::default();
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    let (begun, _a, _) = line(soon);
    begun.receiving(2 << 20);
    begun.check(later(11));
    assert_eq!(begun.ended(), None, "a second more for each MiB");
    begun.check(later(13));
    assert_eq!(begun.ended(), Some(End::Unfinished));

    let (asked, _b, _) = line(soon);
    let first = slot(&asked, 0);
    asked.check(later(24));
    assert_eq!(asked.ended(), None);
    asked.answer(first, bytes(1, 1));
    asked.check(later(60));
    assert_eq!(asked.ended(), None, "answered");
    slot(&asked, 0);
    asked.check(later(26));
    assert_eq!(asked.ended(), Some(End::Unanswered));

    let (idle, _c, _) = line(soon);
    idle.check(later(1_000_000));
    assert_eq!(idle.ended(), None, "silence is no fault");
    idle.withdraw();
    assert_eq!(idle.ended(), Some(End::Withdrawn));

    let (busy, _d, _) = line(soon);
    let first = slot(&busy, 0);
    busy.withdraw();
    assert!(matches!(busy.admit(0), Admission::Farewell(_)));
    assert_eq!(busy.ended(), None);
    busy.answer(first, bytes(1, 1));
    busy.check(later(4));
    assert_eq!(busy.ended(), Some(End::Withdrawn));
}

#[test]
fn a_panic_among_answers_that_leave_together_still_sends_them() {
    let (line, mut client, _) = line(Limits::default());
    let own = Arc::clone(&line);
    let thread = std::thread::spawn(move || {
        together(|| {
            own.answer(slot(&own, 0), bytes(1, 9));
            std::panic::resume_unwind(Box::new(()));
        })
    });
    assert!(thread.join().is_err());
    let mut told = [0; 5];
    client.read_exact(&mut told).unwrap();
    assert_eq!(told, [9; 5]);
}
