//! What is asked again must not be overtaken by what was asked before.

use super::pair::{Pair, QUICK, VOLUME, ask, done, eventually, read, write};
use bulkhead::nbd::client::connection::Client;
use bulkhead::nbd::export::{Answer, Asker, Content, Errno, Export as _, Reply};
use bulkhead::nbd::turns::session;
use bulkhead::nbd::uri::Uri;
use bulkhead::volume::route::{Settings, between_nodes};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

fn taken(pair: &Pair, node: usize) -> usize {
    pair.nodes[node].holder.taken.load(Ordering::SeqCst)
}

#[test]
fn nothing_is_asked_again_of_a_node_that_may_still_do_it() {
    let mut pair = Pair::new(Settings { answer: Duration::from_millis(300), ..QUICK });
    let a = pair.client(0);
    pair.lead(1);
    pair.nodes[1].holder.stands_still.store(true, Ordering::SeqCst);
    let first = ask(&a, write(3, 1));
    eventually("it is there", || taken(&pair, 1) == 1);
    // The connection is given up and the next one opened, many times; it must not get its turn.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(taken(&pair, 1), 1, "asked again while it could still be done");
    assert!(pair.route(0).view().waits_because.unwrap().contains("still under way"));
    pair.nodes[1].holder.go_on();
    assert!(matches!(first.recv_timeout(Duration::from_secs(20)).unwrap(), Ok(Content::Done)));
    assert_eq!(taken(&pair, 1), 2, "asked again when the first was through");
    done(&a, write(3, 2));
    assert_eq!(read(&pair.client(1), 3), Ok(2));
}

#[test]
fn a_connection_between_nodes_is_good_for_one_reign() {
    let mut pair = Pair::new(QUICK);
    pair.lead(1);
    let uri = Uri::tcp(pair.nodes[1].tcp, &session(&between_nodes(VOLUME), 77));
    let old = Client::connect(&uri, Duration::from_secs(10)).unwrap();
    done(&old, write(4, 1));
    pair.lead(0);
    let refused = |client: &Client| super::pair::answer(client, write(4, 9)).unwrap_err().errno;
    assert_eq!(refused(&old), Errno::Shutdown);
    pair.lead(1);
    assert_eq!(refused(&old), Errno::Shutdown, "it leads again, but not since this connection began");
    assert_eq!(read(&pair.client(0), 4), Ok(1));
    drop(old);
    let mut new = None;
    eventually("the session goes on", || {
        new = Client::connect(&uri, Duration::from_secs(10)).ok();
        new.is_some()
    });
    done(&new.unwrap(), write(4, 2));
    assert_eq!(read(&pair.client(0), 4), Ok(2));
}

#[test]
fn what_waits_for_a_client_that_has_gone_is_not_done_later() {
    let mut pair = Pair::new(QUICK);
    let gone = pair.client(0);
    let stays = pair.client(0);
    drop(ask(&gone, write(5, 1)));
    let waits = ask(&stays, write(6, 1));
    eventually("both wait", || pair.route(0).view().waiting == 2);
    drop(gone);
    eventually("one is gone", || pair.route(0).view().waiting == 1);
    pair.lead(0);
    assert!(matches!(waits.recv_timeout(Duration::from_secs(20)).unwrap(), Ok(Content::Done)));
    assert_eq!((taken(&pair, 0), read(&stays, 5)), (1, Ok(0)));
}

#[test]
fn what_is_read_after_its_client_has_gone_is_not_sent_on() {
    let mut pair = Pair::new(QUICK);
    pair.lead(1);
    let client = pair.client(0);
    done(&client, write(8, 1));
    let route = std::sync::Arc::clone(&pair.nodes[0].alive.as_ref().unwrap().1);
    let (asker, gone) = Gone::new();
    route.submit(write(8, 9), Reply::to(asker));
    let failed = gone.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(failed.errno, Errno::Shutdown);
    assert_eq!((taken(&pair, 1), read(&client, 8)), (1, Ok(1)));
}

/// A client that has closed its connection.
struct Gone(Sender<Answer>);

impl Gone {
    fn new() -> (Self, Receiver<Answer>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }
}

impl Asker for Gone {
    fn hear(self: Box<Self>, answer: Answer) {
        self.0.send(answer).unwrap();
    }

    fn listens(&self) -> bool {
        false
    }
}
