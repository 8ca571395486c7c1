//! The witness on its board, told what another one was told: its card holds the record of a witness on Linux,
//! and what it decides must be the same, step by step (X23). No network, no votes on the card.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "it shares the board with the witness, and uses a part of it")]

mod board;
mod fault;
mod log;
mod stack;
mod wake;

use board::here;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::settings::Unsound;
use bulkhead_core::provision::trace::{Beginning, STEP_HEAD, STEP_MAX, Step, Sum};
use bulkhead_core::provision::{Fault, Head, PEERS_PER_BLOCK, Peer, parse_peers};
use bulkhead_core::register::store::{self, Stored};
use bulkhead_witness::card::{BLOCK, Blocks, Card, Trouble};
use bulkhead_witness::hardware::Watchdog as _;
use cortex_m_rt::entry;
use heapless::Vec;

/// Answers that wait for a write. A board writes at once and has room for two; the disk that was recorded
/// took its time.
const ANSWERS: usize = 8;
/// Inner events of one outer one, as on every witness.
const WORK: usize = 4;

/// Peers and registers of the largest site that is replayed: what else the board has room for is the
/// record's.
const PEERS: usize = 12;
const REGISTERS: usize = 13;

/// The witness of the board, but for its sizes.
type Witness = Node<PEERS, REGISTERS, ANSWERS, 0, WORK>;
type BoardCard = Card<here::ssi::Ssi, here::gpio::Output>;

/// Why nothing can be replayed.
#[derive(Debug)]
enum Unusable {
    Card(Trouble),
    NoRecord,
    Head(Fault),
    Vote(store::Fault),
    Unsound(Unsound),
    Torn,
}

impl From<Trouble> for Unusable {
    fn from(trouble: Trouble) -> Self {
        Self::Card(trouble)
    }
}

#[entry]
fn main() -> ! {
    static mut ONE: () = ();
    static mut OTHER: () = ();
    stack::switch(replay, ONE, OTHER)
}

extern "C" fn replay(_: &'static mut (), _: &'static mut ()) -> ! {
    let (mut watchdog, _) = wake::wake();
    let mut card = Card::new(here::ssi::Ssi::start(), here::gpio::card_select(), here::clock::now);
    match run(&mut card, &mut watchdog) {
        Ok((steps, None)) => defmt::info!("replayed {=u32} steps: all as recorded", steps),
        Ok((_, Some(at))) => defmt::error!("replay: step {=u32} differs from the record", at),
        Err(why) => defmt::error!("replay: no record: {}", defmt::Debug2Format(&why)),
    }
    loop {
        watchdog.feed();
        here::sleep();
    }
}

/// How many steps there are, and which is the first that differs.
fn run(
    card: &mut BoardCard,
    watchdog: &mut here::watchdog::Watchdog,
) -> Result<(u32, Option<u32>), Unusable> {
    card.wake()?;
    card.bus().faster();
    let mut tape = Tape { card, next: 0, block: [0; BLOCK], used: BLOCK };
    let beginning = Beginning::parse(&tape.whole()?).ok_or(Unusable::NoRecord)?;
    let head = Head::parse(&tape.whole()?).map_err(Unusable::Head)?;
    let mut peers = Vec::<Peer, PEERS>::new();
    for block in 0..head.peer_blocks() {
        let left = usize::from(head.peers).saturating_sub(block.saturating_mul(PEERS_PER_BLOCK));
        let parsed = parse_peers(&tape.whole()?, head.seq, left, |peer| {
            let _ = peers.push(peer);
        });
        parsed.map_err(Unusable::Head)?;
    }
    let mut settings = head.settings(1, &peers).map_err(Unusable::Unsound)?;
    settings.nonce = beginning.nonce;
    let sound = Witness::sound(&settings).map_err(Unusable::Unsound)?;
    let mut witness = Witness::begin(beginning.at, settings, sound);
    for _ in 0..beginning.votes {
        let vote = Stored::parse(&tape.whole()?, &head.owner).map_err(Unusable::Vote)?;
        if !witness.resume(beginning.at, &vote) {
            return Err(Unusable::NoRecord);
        }
    }
    witness.link_all(beginning.at);
    let (mut sum, mut steps, mut payload) = (Sum::default(), 0_u32, [0; STEP_MAX]);
    loop {
        watchdog.feed();
        let mut first = [0; STEP_HEAD];
        tape.read(&mut first)?;
        let Some(length) = Step::payload_len(&first) else { return Ok((steps, None)) };
        let payload = payload.get_mut(..length).ok_or(Unusable::Torn)?;
        tape.read(payload)?;
        let step = Step::parse(&first, payload).ok_or(Unusable::Torn)?;
        steps = steps.saturating_add(1);
        witness.step(step.at, step.event, &mut |action| sum.add(&action));
        if sum != step.sum {
            return Ok((steps, Some(steps)));
        }
    }
}

/// The card, read from its beginning on.
struct Tape<'a> {
    card: &'a mut BoardCard,
    next: u32,
    block: [u8; BLOCK],
    used: usize,
}

impl Tape<'_> {
    fn whole(&mut self) -> Result<[u8; BLOCK], Trouble> {
        let mut block = [0; BLOCK];
        self.read(&mut block)?;
        Ok(block)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), Trouble> {
        for place in out {
            if self.used == BLOCK {
                self.card.read(self.next, &mut self.block)?;
                self.next = self.next.saturating_add(1);
                self.used = 0;
            }
            *place = self.block.get(self.used).copied().unwrap_or_default();
            self.used = self.used.saturating_add(1);
        }
        Ok(())
    }
}
