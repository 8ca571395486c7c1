//! The switch's thread: takes frames from the ports' sockets, keeps delayed ones, hands them out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::fabric::{Counters, Fabric};
use super::{FRAME_MAX, PortId};

/// Delayed frames of the whole switch; more are lost and counted. A gigabit link holds about 80 in 1 ms.
const DELAYED_MAX: usize = 20_000;
/// Frames taken from one port before the next has its turn.
const TURN_MAX: usize = 64;
/// Longest sleep, a guard against a lost wake-up.
const SLEEP_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Worker {
    /// `None` when the worker is told to end.
    news: Option<mpsc::Sender<Link>>,
    bell: UnixDatagram,
    thread: Option<JoinHandle<()>>,
}

/// A port's sockets.
struct Link {
    id: PortId,
    ours: UnixDatagram,
    machine: PathBuf,
}

/// A frame that waits. Ordered by time, then by number, so that equal times keep their order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due: Instant,
    number: u64,
    to: PortId,
    frame: Vec<u8>,
}

struct Loop {
    fabric: Arc<Mutex<Fabric>>,
    news: mpsc::Receiver<Link>,
    bell: UnixDatagram,
    links: Vec<Link>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    number: u64,
}

impl Worker {
    pub(super) fn start(fabric: Arc<Mutex<Fabric>>) -> Result<Self> {
        let (bell, ear) = UnixDatagram::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let (news, inbox) = mpsc::channel();
        let mut work =
            Loop { fabric, news: inbox, bell: ear, links: Vec::new(), delayed: BinaryHeap::new(), number: 0 };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || work.run())?;
        Ok(Self { news: Some(news), bell, thread: Some(thread) })
    }

    /// Adds a port.
    pub(super) fn add(&self, id: PortId, ours: UnixDatagram, machine: PathBuf) -> Result<()> {
        let news = self.news.as_ref().context("the switch is ending")?;
        news.send(Link { id, ours, machine }).ok().context("the switch's thread ended")?;
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        // Fails when the bell has rung so often that it rings still, and when the thread has ended.
        let _ = self.bell.send(&[1]);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.news = None;
        self.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; the network is down either way.
            let _ = thread.join();
        }
    }
}

impl Loop {
    fn run(&mut self) {
        let mut frame = vec![0; FRAME_MAX + 1];
        loop {
            loop {
                match self.news.try_recv() {
                    Ok(link) => self.links.push(link),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            while self.bell.recv(&mut frame).is_ok() {}
            for index in 0..self.links.len() {
                self.serve(index, &mut frame);
            }
            self.hand_out();
            self.sleep();
        }
    }

    fn serve(&mut self, index: usize, buffer: &mut [u8]) {
        for _ in 0..TURN_MAX {
            let Some(link) = self.links.get(index) else { return };
            let (from, Ok(length)) = (link.id, link.ours.recv(buffer)) else { return };
            let frame = buffer.get(..length.min(FRAME_MAX)).unwrap_or_default().to_vec();
            if length > FRAME_MAX {
                self.count(from, |counters| counters.malformed += 1);
                continue;
            }
            let deliveries = self.fabric.lock().unwrap_or_else(PoisonError::into_inner).forward(from, &frame);
            for delivery in deliveries {
                if delivery.after.is_zero() {
                    self.deliver(delivery.to, &frame);
                } else if self.delayed.len() < DELAYED_MAX {
                    self.number += 1;
                    let due = Instant::now() + delivery.after;
                    let (number, to) = (self.number, delivery.to);
                    self.delayed.push(Reverse(Delayed { due, number, to, frame: frame.clone() }));
                } else {
                    self.count(delivery.to, |counters| counters.overflowed += 1);
                }
            }
        }
    }

    fn hand_out(&mut self) {
        while self.delayed.peek().is_some_and(|Reverse(first)| first.due <= Instant::now()) {
            if let Some(Reverse(Delayed { to, frame, .. })) = self.delayed.pop() {
                self.deliver(to, &frame);
            }
        }
    }

    fn deliver(&self, to: PortId, frame: &[u8]) {
        let Some(link) = self.links.iter().find(|link| link.id == to) else { return };
        match link.ours.send_to(frame, &link.machine) {
            Ok(_) => self.count(link.id, |counters| counters.delivered += 1),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.count(link.id, |counters| counters.overflowed += 1);
            }
            // No socket, or nobody behind it.
            Err(_) => self.count(link.id, |counters| counters.absent += 1),
        }
    }

    fn sleep(&self) {
        let until = self.delayed.peek().map(|Reverse(first)| first.due);
        let time =
            until.map_or(SLEEP_MAX, |due| due.saturating_duration_since(Instant::now()).min(SLEEP_MAX));
        let time = Timespec { tv_sec: i64::from(time == SLEEP_MAX), tv_nsec: i64::from(time.subsec_nanos()) };
        let mut sources: Vec<_> =
            self.links.iter().map(|link| PollFd::new(&link.ours, PollFlags::IN)).collect();
        sources.push(PollFd::new(&self.bell, PollFlags::IN));
        // An interrupted sleep is a short one: everything is looked at again.
        let _ = poll(&mut sources, Some(&time));
    }

    fn count(&self, port: PortId, change: impl FnOnce(&mut Counters)) {
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner).count(port, change);
    }
}
