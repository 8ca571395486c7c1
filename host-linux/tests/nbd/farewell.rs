//! An export that goes away, and one that does not answer: every request ends in bounded time (I11).

use super::harness::Plant;
use super::raw::{Raw, Simple};
use bulkhead::nbd::export::{Export, Geometry, Reply, Request};
use bulkhead::nbd::limits::Limits;
use bulkhead::nbd::together::together;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keeps what it is asked, and answers when it is told to: a storage that stands still.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<(Request, Reply)>>);

impl Export for Kept {
    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20, 512, 4096).unwrap()
    }

    fn submit(&self, request: Request, reply: Reply) {
        self.0.lock().unwrap().push((request, reply));
    }
}

impl Kept {
    pub fn wait_for(&self, count: usize) {
        let begin = Instant::now();
        while self.0.lock().unwrap().len() < count {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn plant(limits: Limits) -> (Plant, Arc<Kept>) {
    let plant = Plant::empty(limits);
    let kept = Arc::new(Kept::default());
    plant.server.publish("kept", "", Arc::clone(&kept) as Arc<dyn Export>).unwrap();
    (plant, kept)
}

fn second() -> Limits {
    let second = Duration::from_secs(1);
    Limits { answer: second, farewell: second, ..Limits::default() }
}

#[test]
fn a_reply_that_is_dropped_is_an_error_not_a_hang() {
    let (plant, kept) = plant(Limits::default());
    let mut raw = Raw::enter(plant.tcp, "kept");
    raw.request(0, 0, 1, 0, 4096);
    kept.wait_for(1);
    kept.0.lock().unwrap().clear();
    assert_eq!(raw.reply(), Simple { error: 5, cookie: 1 });
    // And one that is none to what was asked does not break the connection.
    raw.request(0, 0, 2, 0, 4096);
    kept.wait_for(1);
    let (_, reply) = kept.0.lock().unwrap().pop().unwrap();
    reply.data(vec![0; 4095]);
    assert_eq!(raw.reply(), Simple { error: 5, cookie: 2 });
    raw.request(0, 0, 3, 511, 512);
    assert_eq!(raw.reply(), Simple { error: 22, cookie: 3 }, "not on its blocks");
}

#[test]
fn answers_come_in_any_order_and_together() {
    let (plant, kept) = plant(Limits::default());
    let mut raw = Raw::enter(plant.tcp, "kept");
    for cookie in 0..100 {
        raw.request(0, 3, cookie, 0, 0);
    }
    kept.wait_for(100);
    let replies: Vec<_> = kept.0.lock().unwrap().drain(..).collect();
    together(|| replies.into_iter().rev().for_each(|(_, reply)| reply.done()));
    let cookies: Vec<_> = (0..100).map(|_| raw.reply().cookie).collect();
    assert_eq!(cookies, (0..100).rev().collect::<Vec<_>>());
}

#[test]
fn requests_beyond_the_bound_wait_in_the_socket() {
    let (plant, kept) = plant(Limits::default());
    let mut raw = Raw::enter(plant.tcp, "kept");
    for cookie in 0..300 {
        raw.request(0, 3, cookie, 0, 0);
    }
    kept.wait_for(256);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(kept.0.lock().unwrap().len(), 256);
    kept.0.lock().unwrap().remove(0).1.done();
    assert_eq!(raw.reply(), Simple { error: 0, cookie: 0 });
    kept.wait_for(256);
    assert!(matches!(kept.0.lock().unwrap()[255], (Request::Flush, _)));
}

#[test]
fn an_export_that_does_not_answer_loses_its_connection_and_no_other() {
    let (plant, kept) = plant(second());
    let mut raw = Raw::enter(plant.tcp, "kept");
    let mut other = Raw::enter(plant.tcp, "kept");
    raw.request(0, 3, 1, 0, 0);
    kept.wait_for(1);
    let begin = Instant::now();
    assert!(raw.closes());
    assert!(begin.elapsed() < Duration::from_secs(5));
    other.request(0, 3, 2, 0, 0);
    kept.wait_for(2);
    // The late answer goes to nobody.
    kept.0.lock().unwrap().drain(..).for_each(|(_, reply)| reply.done());
    assert_eq!(other.reply(), Simple { error: 0, cookie: 2 });
}

#[test]
fn a_withdrawn_export_ends_its_requests_and_its_connections() {
    let (plant, kept) = plant(second());
    let mut idle = Raw::enter(plant.tcp, "kept");
    let mut busy = Raw::enter(plant.tcp, "kept");
    busy.request(0, 3, 1, 0, 0);
    kept.wait_for(1);
    let begin = Instant::now();
    assert!(plant.server.withdraw("kept") && !plant.server.withdraw("kept"));
    assert!(begin.elapsed() < Duration::from_millis(500), "it does not wait");
    assert!(idle.closes());
    busy.request(0, 3, 2, 0, 0);
    assert_eq!(busy.reply(), Simple { error: 108, cookie: 2 }, "nothing new is begun");
    kept.0.lock().unwrap().remove(0).1.done();
    assert_eq!(busy.reply(), Simple { error: 0, cookie: 1 }, "what was begun is answered");
    assert!(busy.closes());
    assert!(begin.elapsed() < Duration::from_secs(6));
    // The name is free again.
    plant.server.publish("kept", "", kept).unwrap();
    Raw::enter(plant.tcp, "kept");
}

#[test]
fn a_server_that_stops_leaves_nobody_waiting() {
    let (plant, kept) = plant(second());
    let mut raw = Raw::enter(plant.tcp, "kept");
    raw.request(0, 3, 1, 0, 0);
    kept.wait_for(1);
    let begin = Instant::now();
    let (socket, tcp) = (plant.unix.clone(), plant.tcp);
    drop(plant);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(raw.closes() && !socket.exists());
    assert!(std::net::TcpStream::connect(tcp).is_err());
}

/// A storage with a defect.
struct Broken;

impl Export for Broken {
    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 20, 512, 4096).unwrap()
    }

    fn submit(&self, _: Request, _: Reply) {
        std::panic::resume_unwind(Box::new("a defect"));
    }
}

#[test]
fn a_storage_that_panics_leaves_nobody_waiting() {
    let plant = Plant::new();
    plant.server.publish("broken", "", Arc::new(Broken)).unwrap();
    let mut raw = Raw::enter(plant.tcp, "broken");
    raw.request(0, 3, 1, 0, 0);
    assert!(raw.closes());
    let mut other = Raw::enter(plant.tcp, "disk");
    other.request(0, 3, 1, 0, 0);
    assert_eq!(other.reply(), Simple { error: 0, cookie: 1 });
}
