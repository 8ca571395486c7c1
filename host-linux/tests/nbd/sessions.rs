//! Exports that programs take by sessions: not listed, and of a session's connections the newest counts,
//! when all that was asked over the one before is answered (S1-27, I1, F42).

use super::farewell::Kept;
use super::harness::Plant;
use super::raw::{Raw, Simple};
use bulkhead::nbd::export::Export;
use bulkhead::nbd::limits::Limits;
use bulkhead::nbd::turns::session;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn plant() -> (Plant, Arc<Kept>) {
    let plant = Plant::new();
    let kept = Arc::new(Kept::default());
    plant.server.publish_for_sessions("~disk", Arc::clone(&kept) as Arc<dyn Export>).unwrap();
    (plant, kept)
}

/// What `GO` is answered for this export: the last reply.
fn go(raw: &mut Raw, name: &str) -> u32 {
    let length = (name.len() as u32).to_be_bytes();
    raw.option(7, &[&length[..], name.as_bytes(), &[0, 0]].concat());
    loop {
        let (kind, _) = raw.answer();
        if kind != 3 {
            return kind;
        }
    }
}

fn greeted(plant: &Plant) -> Raw {
    let mut raw = Raw::new(plant.tcp);
    raw.say(&3_u32.to_be_bytes());
    raw
}

#[test]
fn they_are_neither_listed_nor_found_without_a_session_nor_the_default() {
    let (plant, _kept) = plant();
    let mut raw = greeted(&plant);
    raw.option(3, b"");
    assert_eq!(raw.answer(), (2, [&[0, 0, 0, 4][..], b"diska disk of the plant"].concat()));
    assert_eq!(raw.answer().0, 1, "there is no other");
    for name in ["~disk", "~disk~", "~disk~0123", &session("disk", 1), &session("~what", 1)] {
        assert_eq!(go(&mut raw, name), 0x8000_0006, "{name} is unknown");
    }
    assert_eq!(go(&mut raw, &session("~disk", 1)), 1);
    assert_eq!(go(&mut greeted(&plant), ""), 1, "the default is what is listed");
}

#[test]
fn a_session_goes_on_when_its_last_connection_has_been_answered() {
    let (plant, kept) = plant();
    let (name, other) = (session("~disk", 1), session("~disk", 2));
    let mut first = Raw::enter(plant.tcp, &name);
    let mut beside = Raw::enter(plant.tcp, &other);
    first.request(0, 3, 1, 0, 0);
    kept.wait_for(1);
    let mut second = greeted(&plant);
    assert_eq!(go(&mut second, &name), 0x8000_0002, "what was asked before is under way");
    assert!(first.closes(), "the newest counts");
    assert_eq!(go(&mut second, &name), 0x8000_0002, "still");
    kept.0.lock().unwrap().remove(0).1.done();
    let begin = Instant::now();
    while go(&mut second, &name) != 1 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    second.request(0, 3, 2, 0, 0);
    beside.request(0, 3, 3, 0, 0);
    kept.wait_for(2);
    kept.0.lock().unwrap().drain(..).for_each(|(_, reply)| reply.done());
    assert_eq!(second.reply(), Simple { error: 0, cookie: 2 });
    assert_eq!(beside.reply(), Simple { error: 0, cookie: 3 }, "another session is not touched");
}

#[test]
fn what_waits_knows_whether_its_client_does() {
    let plant = Plant::empty(Limits::default());
    let kept = Arc::new(Kept::default());
    plant.server.publish("kept", "", Arc::clone(&kept) as Arc<dyn Export>).unwrap();
    let mut polite = Raw::enter(plant.tcp, "kept");
    let mut gone = Raw::enter(plant.tcp, "kept");
    polite.request(0, 3, 1, 0, 0);
    kept.wait_for(1);
    gone.request(0, 3, 2, 0, 0);
    kept.wait_for(2);
    // A client that says that it leaves, and stays for the answers, gets them.
    polite.request(0, 2, 3, 0, 0);
    drop(gone);
    let begin = Instant::now();
    while kept.0.lock().unwrap()[1].1.is_awaited() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(kept.0.lock().unwrap()[0].1.is_awaited());
    // Also while its last requests are not read yet: 256 are under way, and the reader waits for room.
    let mut full = Raw::enter(plant.tcp, "kept");
    (0..300).for_each(|cookie| full.request(0, 3, cookie, 0, 0));
    kept.wait_for(258);
    drop(full);
    while kept.0.lock().unwrap()[257].1.is_awaited() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    kept.0.lock().unwrap().drain(..).for_each(|(_, reply)| reply.done());
    assert_eq!(polite.reply(), Simple { error: 0, cookie: 1 });
}
