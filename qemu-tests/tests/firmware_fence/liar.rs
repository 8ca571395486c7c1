//! A member of the site that lies: it has the key and a session with the witness, and asks for what it has no
//! right to.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::fence::words::{Outcome, Plea};
use bulkhead_core::id::{NodeId, Path, SiteId};
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::link::links::{Links, Received, Settings};
use bulkhead_core::link::ring::Pace;
use bulkhead_core::link::suspicion::Limits;
use bulkhead_core::node::message::{Said, decode, encode};
use bulkhead_core::time;

use super::rig::{LONG, WITNESS};

/// Who it is.
pub const LIAR: NodeId = NodeId(4);

pub struct Liar {
    paths: [UdpSocket; 2],
    witness: [u16; 2],
    links: Links<1>,
    began: Instant,
}

impl Liar {
    pub fn new(paths: [UdpSocket; 2], witness: [u16; 2], site: SiteId, key: [u8; 32]) -> Result<Self> {
        paths.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let Timers { heartbeat, slow, silence, stable, .. } = Timers::WIDE;
        let (nonce, key, limits) = (Nonce([4; 16]), SiteKey::new(key), Limits { slow, silence, stable });
        let mut links =
            Links::new(time::Instant::ZERO, Settings { site, me: LIAR, nonce, key, heartbeat, limits });
        links.add(time::Instant::ZERO, WITNESS, Pace::Calm);
        Ok(Self { paths, witness, links, began: Instant::now() })
    }

    /// What the witness answers to this plea, which is repeated until it does.
    pub fn plead(&mut self, plea: Plea) -> Result<Outcome> {
        let (begin, mut again) = (Instant::now(), Instant::now());
        while begin.elapsed() < LONG {
            let now = time::Instant::from_micros(self.began.elapsed().as_micros().try_into()?);
            self.links.judge(now, |_, _| ());
            let mut out: Vec<_> =
                std::iter::from_fn(|| self.links.next_due(now)).map(|out| out.datagram).collect();
            if again <= Instant::now() {
                again = Instant::now().checked_add(Duration::from_millis(300)).context("soon")?;
                out.extend(self.links.seal(WITNESS, &encode(&Said::Plea(plea))));
            }
            for (socket, port) in self.paths.iter().zip(self.witness) {
                out.iter().try_for_each(|bytes| socket.send_to(bytes, ("127.0.0.1", port)).map(drop))?;
            }
            if let Some(outcome) = self.answered(now, &plea) {
                return Ok(outcome);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("the witness did not answer within {LONG:?}: {:?}", self.links.drops())
    }

    fn answered(&mut self, now: time::Instant, plea: &Plea) -> Option<Outcome> {
        for (path, socket) in [Path::One, Path::Two].into_iter().zip(&self.paths) {
            let mut buffer = [0; 2_048];
            while let Ok(count) = socket.recv(&mut buffer) {
                let received = self.links.receive(now, path, buffer.get(..count).unwrap_or_default());
                if let Received::Message { message, .. } = received
                    && let Some(Said::PleaAnswered(reply)) = decode(message)
                    && reply.id == plea.id
                {
                    return Some(reply.outcome);
                }
            }
        }
        None
    }
}
