//! What a witness of full size costs its processor, in instructions: run by QEMU with `-icount shift=0`,
//! where each instruction takes a nanosecond of the board's clock (X03). No network and no card; not for
//! use.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "it shares the board with the witness, and uses a part of it")]

mod board;
mod fault;
mod log;
mod stack;
mod wake;

use core::time::Duration;

use board::here;
use bulkhead_core::budget::timers::Timers;
use bulkhead_core::id::{Epoch, NodeId, PairId, Path, RegisterId, Side, SiteId};
use bulkhead_core::link::frame::Datagram;
use bulkhead_core::link::key::{Nonce, SiteKey};
use bulkhead_core::link::links::{Links, Settings as LinkSettings};
use bulkhead_core::link::ring::Pace;
use bulkhead_core::link::suspicion::Limits;
use bulkhead_core::node::machine::Witness;
use bulkhead_core::node::message::{Said, encode};
use bulkhead_core::node::settings::{Digest, Member, Settings};
use bulkhead_core::node::words::{Action, Event};
use bulkhead_core::register::ballot::Ballot;
use bulkhead_core::register::message::{Ask, AskId, Lending, Millis, Request, Start};
use bulkhead_core::register::record::{Payload, Record};
use bulkhead_core::register::store::Stored;
use bulkhead_core::register::voters::{Life, Set, Voter, Voters};
use bulkhead_core::time::{Drift, Instant};
use bulkhead_witness::hardware::Watchdog as _;
use bulkhead_witness::{PEERS, REGISTERS};
use cortex_m_rt::entry;
use heapless::Vec;

const SITE: SiteId = SiteId([1; 16]);
const KEY: SiteKey = SiteKey::new([2; 32]);
/// Its own number, above those of its peers.
const WITNESS: NodeId = NodeId(999);
/// How often each is measured.
const ROUNDS: u32 = 1_000;
/// Instructions of a microsecond.
const PER_MICRO: u64 = 1_000;

/// All stay up until the last one is met.
const TIMERS: Timers =
    Timers { slow: Duration::from_secs(600), silence: Duration::from_secs(1_000), ..Timers::DEFAULT };

type BoardWitness = Witness<PEERS, REGISTERS>;
/// A node, as far as the witness sees it.
type Node = Links<1, 0>;

#[entry]
fn main() -> ! {
    static mut ONE: () = ();
    static mut OTHER: () = ();
    stack::switch(costs, ONE, OTHER)
}

extern "C" fn costs(_: &'static mut (), _: &'static mut ()) -> ! {
    let (mut watchdog, _) = wake::wake();
    let now = Instant::from_millis(1_000);
    let mut witness = begin(now);
    witness.link_all(now);
    (0..).take(REGISTERS).for_each(|register| remember(&mut witness, now, RegisterId(register)));
    drop_all(&mut witness, now);
    let mut now = now;
    let met = (1..).take(PEERS).filter_map(|node| {
        // Each asks when it may be asked, too.
        now = now.after(TIMERS.heartbeat.saturating_mul(2));
        meet(&mut witness, now, NodeId(node), &mut watchdog)
    });
    match met.last() {
        Some(last) => measure(&mut witness, last, now, &mut watchdog),
        None => defmt::error!("nobody was met"),
    }
    loop {
        watchdog.feed();
        here::sleep();
    }
}

#[inline(never)]
fn begin(now: Instant) -> BoardWitness {
    let members = (1..).take(PEERS).map(|node: u16| Member {
        node: NodeId(node),
        pair: PairId(node.div_ceil(2)),
        side: Some(if node % 2 == 1 { Side::A } else { Side::B }),
        votes: true,
    });
    let own = Member { node: WITNESS, pair: PairId::EVERY, side: None, votes: true };
    let settings = Settings {
        site: SITE,
        me: WITNESS,
        nonce: Nonce([9; 16]),
        key: KEY,
        members: members.chain([own]).collect(),
        timers: TIMERS,
        drift: Drift::DEFAULT,
        life: Life(1),
        fences: false,
        digest: Digest::default(),
        relays: Vec::new(),
        stores: false,
    };
    let Ok(sound) = BoardWitness::sound(&settings) else { unreachable!("the settings are sound") };
    Witness::begin(now, settings, sound)
}

/// A register with a record, held by the first node of its pair.
#[inline(never)]
fn remember(witness: &mut BoardWitness, now: Instant, register: RegisterId) {
    let holder = NodeId(register.0 | 1);
    let Ok(set) = Set::new(
        [holder, NodeId(holder.0.saturating_add(1)), WITNESS].map(|node| Voter { node, life: Life(1) }),
    ) else {
        return;
    };
    let record = Record {
        epoch: Epoch(3),
        holder: Some(holder),
        voters: Voters::settled(set),
        payload: Payload::new(),
    };
    let attempt = Ballot::new(5, holder);
    let stored = Stored { register, seq: 2, promised: attempt, accepted: Some((attempt, record)) };
    assert!(witness.resume(now, &stored), "there is room for it");
}

/// What is due is not sent.
fn drop_all(witness: &mut BoardWitness, now: Instant) {
    for _ in 0..PEERS {
        witness.step(now, Event::Timeout, &mut |_| {});
    }
}

/// A session between the witness and a node.
#[inline(never)]
fn meet(
    witness: &mut BoardWitness,
    now: Instant,
    me: NodeId,
    watchdog: &mut here::watchdog::Watchdog,
) -> Option<Node> {
    watchdog.feed();
    let Timers { heartbeat, slow, silence, stable, .. } = TIMERS;
    let [low, high] = me.0.to_le_bytes();
    let mut nonce = [7; 16];
    nonce[..2].copy_from_slice(&[low, high]);
    let settings = LinkSettings {
        site: SITE,
        me,
        nonce: Nonce(nonce),
        key: KEY,
        heartbeat,
        limits: Limits { slow, silence, stable },
    };
    let mut node = Node::new(now, settings);
    node.add(now, WITNESS, Pace::Close);
    for _ in 0..8 {
        let mut answers = Vec::<Datagram, 8>::new();
        while let Some(out) = node.next_due(now) {
            witness.step(now, Event::Received { path: Path::One, bytes: &out.datagram }, &mut |action| {
                if let Action::Send { to, datagram, .. } = action
                    && to == me
                {
                    let _ = answers.push(datagram);
                }
            });
        }
        for answer in &answers {
            let _ = node.receive(now, Path::One, answer);
        }
        if node.contacted(WITNESS) && witness.links().contacted(me) && answers.is_empty() {
            return Some(node);
        }
    }
    None
}

#[inline(never)]
fn measure(
    witness: &mut BoardWitness,
    mut node: Node,
    now: Instant,
    watchdog: &mut here::watchdog::Watchdog,
) {
    let key = KEY.between(NodeId(1), NodeId(2));
    let tag = mean(watchdog, || {
        let begun = here::clock::now();
        core::hint::black_box(key.tag(core::hint::black_box(&[7; 61])));
        here::clock::now().since(begun)
    });
    let deadline = mean(watchdog, || {
        let begun = here::clock::now();
        core::hint::black_box(witness.deadline());
        here::clock::now().since(begun)
    });
    let idle = mean(watchdog, || timed(witness, now, Event::Timeout));
    defmt::info!("a tag {=u32}, deadline {=u32}, a timeout with nothing due {=u32}", tag, deadline, idle);
    let mut at = now;
    let beat = mean(watchdog, || {
        at = at.after(Duration::from_millis(75));
        let mut spent = Duration::ZERO;
        while let Some(out) = node.next_due(at) {
            spent = timed(witness, now, Event::Received { path: Path::One, bytes: &out.datagram });
        }
        spent
    });
    let body = Ask::Renew(Lending { length: Millis(600), start: Start(0x0102_0304_0506_0708) });
    let request = Request { register: RegisterId(127), ask: AskId(0x0102_0304), body };
    let message = encode(&Said::Request(request));
    let mut copy = Datagram::new();
    let lease = mean(watchdog, || {
        let Ok(datagram) = node.seal(WITNESS, &message) else { return Duration::ZERO };
        copy = datagram;
        timed(witness, now, Event::Received { path: Path::One, bytes: &copy })
    });
    let second = mean(watchdog, || timed(witness, now, Event::Received { path: Path::Two, bytes: &copy }));
    defmt::info!(
        "a heartbeat received {=u32}, a lease renewed and answered {=u32}, its copy {=u32}",
        beat,
        lease,
        second
    );
}

fn timed(witness: &mut BoardWitness, now: Instant, event: Event<'_>) -> Duration {
    let begun = here::clock::now();
    witness.step(now, event, &mut |action| {
        core::hint::black_box(&action);
    });
    here::clock::now().since(begun)
}

/// Instructions of one time, on average: the clock counts microseconds.
fn mean(watchdog: &mut here::watchdog::Watchdog, mut what: impl FnMut() -> Duration) -> u32 {
    let mut sum = Duration::ZERO;
    for _ in 0..ROUNDS {
        watchdog.feed();
        sum = sum.saturating_add(what());
    }
    let all = u64::try_from(sum.as_micros()).unwrap_or(u64::MAX).saturating_mul(PER_MICRO);
    u32::try_from(all.checked_div(ROUNDS.into()).unwrap_or_default()).unwrap_or(u32::MAX)
}
