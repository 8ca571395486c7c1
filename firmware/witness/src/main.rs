//! The witness as a program for a board: starts the hardware, and runs the loop.
#![no_std]
#![no_main]

mod board;
mod fault;
mod log;
mod stack;
mod wake;

use core::convert::Infallible;
use core::time::Duration;

use board::here;
use bulkhead_core::fence::strip::line::Counters;
use bulkhead_core::node::health::History;
use bulkhead_core::node::machine::Witness;
use bulkhead_core::node::settings::Unsound;
use bulkhead_core::node::words::Note;
use bulkhead_core::provision::{Head, Peer};
use bulkhead_core::time::Instant;
use bulkhead_witness::card::{Card, Trouble};
use bulkhead_witness::hardware::{Both, Watchdog as _};
use bulkhead_witness::mac::Mac;
use bulkhead_witness::network::{Buffers, Leased, Neighbour, Network, Sockets};
use bulkhead_witness::records;
use bulkhead_witness::settings::{self, Unfit};
use bulkhead_witness::shell::{News, Shell};
use bulkhead_witness::store::{Store, Unusable};
use bulkhead_witness::strip::Strip;
use bulkhead_witness::{PEERS, REGISTERS};
use cortex_m_rt::entry;
use heapless::Vec;

type BoardCard = Card<here::ssi::Ssi, here::gpio::Output>;
type BoardNetwork = Network<Mac<here::ethernet::Ethernet>>;
type BoardShell<'a> = Shell<'a, Mac<here::ethernet::Ethernet>, BoardCard, PEERS, REGISTERS>;
type BoardWitness = Witness<PEERS, REGISTERS>;
type BoardStore = Store<BoardCard, REGISTERS>;

/// How often the counters are logged.
const REPORT: Duration = Duration::from_secs(10);
/// How long a witness that cannot vote waits before it looks at its card again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

#[entry]
fn main() -> ! {
    static mut SOCKETS: Sockets = Sockets::new();
    static mut NEIGHBOURS: [Neighbour; PEERS] = [[None; 2]; PEERS];
    stack::switch(witness, SOCKETS, NEIGHBOURS)
}

extern "C" fn witness(sockets: &'static mut Sockets, neighbours: &'static mut [Neighbour; PEERS]) -> ! {
    let (mut watchdog, survivor) = wake::wake();
    let (failures, silent) = (survivor.failures, survivor.silent);
    let card = Card::new(here::ssi::Ssi::start(), here::gpio::card_select(), here::clock::now);
    let history = History { starts: 0, failures, silent };
    let Err(why) = serve(card, history, Buffers { sockets, neighbours }, &mut watchdog);
    defmt::error!("no witness: {}. Looking again in 5 s", defmt::Debug2Format(&why));
    wait(&mut watchdog, LOOK_AGAIN);
    fault::start_anew()
}

/// Why this start makes no witness.
#[derive(Debug)]
#[expect(dead_code, reason = "read by the log, through Debug")]
enum NoWitness {
    Card(Trouble),
    Settings(Unfit),
    Votes(Unusable),
    Unsound(Unsound),
    /// The votes are of a witness with room for longer records.
    Larger,
}

/// Reads everything from the card, counts the start, and serves until the card fails.
fn serve(
    mut card: BoardCard,
    history: History,
    buffers: Buffers,
    watchdog: &mut here::watchdog::Watchdog,
) -> Result<Infallible, NoWitness> {
    let blocks = card.wake().map_err(NoWitness::Card)?;
    card.bus().faster();
    let mut peers = Vec::<Peer, PEERS>::new();
    let head = settings::load(&mut card, &mut peers).map_err(NoWitness::Settings)?;
    let number = settings::next_start(&mut card, &head.owner).map_err(NoWitness::Settings)?;
    let node = head.owner.node.0;
    let count = peers.len();
    defmt::info!(
        "card: {=u32} blocks, node {=u16}, {=usize} peers, start {=u64}",
        blocks,
        node,
        count,
        number
    );
    if !head.old_leases().is_zero() {
        defmt::info!("leases are shorter than before: waiting {=u64} ms", millis(head.old_leases()));
        wait(watchdog, head.old_leases());
    }
    let book = records::open(&mut card, here::clock::now(), &head.owner, number).map_err(NoWitness::Card)?;
    check(&head, number, &peers)?;
    let mut witness = begin(&head, number, &peers);
    witness.link_all(here::clock::now());
    let mut store = open_votes(card, &head, &mut witness)?;
    let now = here::clock::now();
    let mut network = open_network(now, &head, number, buffers);
    let strip = Strip::new(here::uart::StripLine::start(), number);
    let mut outlets = Both { relays: here::gpio::relays(), strip };
    let mut shell = Shell::new(&mut network, &mut store, &mut witness, &peers, &mut outlets, book);
    let starts = u32::try_from(number).unwrap_or(u32::MAX);
    shell.remember(now, History { starts, ..history }, &mut |news| tell(&news));
    run(shell, watchdog)
}

/// The network. Apart, as it is made from parts that are large.
#[inline(never)]
fn open_network(now: Instant, head: &Head, number: u64, buffers: Buffers) -> BoardNetwork {
    let mac = Mac::new(here::ethernet::Ethernet::start(head.hardware));
    Network::new(now, mac, head, number, buffers)
}

/// Has the witness go on from the votes on the card. Apart, so that the stack for it is not kept.
#[inline(never)]
fn open_votes(card: BoardCard, head: &Head, witness: &mut BoardWitness) -> Result<BoardStore, NoWitness> {
    let (now, mut count, mut fits) = (here::clock::now(), 0_usize, true);
    let store = Store::open(card, head.owner, |one| {
        count = count.saturating_add(1);
        fits &= witness.resume(now, &one);
    });
    let store = store.map_err(|(_, why)| NoWitness::Votes(why))?;
    defmt::info!("votes: {=usize} registers of {=usize}", count, REGISTERS);
    if fits { Ok(store) } else { Err(NoWitness::Larger) }
}

/// Whether the settings on the card make a witness of this size.
#[inline(never)]
fn check(head: &Head, number: u64, peers: &[Peer]) -> Result<(), NoWitness> {
    let settings = head.settings(number, peers).map_err(NoWitness::Unsound)?;
    BoardWitness::sound(&settings).map(|_| ()).map_err(NoWitness::Unsound)
}

/// The witness without its votes. It is most of the memory, so it is made where it stays, and what it is made
/// from is made again: a result around it would be a copy.
#[inline(never)]
fn begin(head: &Head, number: u64, peers: &[Peer]) -> BoardWitness {
    let settings = head.settings(number, peers);
    let sound = settings.as_ref().ok().and_then(|settings| BoardWitness::sound(settings).ok());
    let (Ok(settings), Some(sound)) = (settings, sound) else {
        unreachable!("the same settings were sound before")
    };
    Witness::begin(here::clock::now(), settings, sound)
}

/// Serves until the card fails, and starts anew then.
fn run(mut shell: BoardShell<'_>, watchdog: &mut here::watchdog::Watchdog) -> ! {
    let mut report_at = here::clock::now().after(REPORT);
    let mut failed_at: Option<Instant> = None;
    loop {
        watchdog.feed();
        let busy = shell.turn(here::clock::now, &mut |news| {
            if let News::CardFailed(_) = news {
                failed_at = Some(here::clock::now());
            }
            tell(&news);
        });
        let now = here::clock::now();
        if report_at <= now {
            report_at = now.after(REPORT);
            report(&mut shell);
        }
        if failed_at.is_some_and(|at| at.after(LOOK_AGAIN) <= now) {
            defmt::error!("starting anew, to look at the card again");
            fault::start_anew()
        }
        if !busy {
            here::ethernet::listen();
            here::sleep();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn wait(watchdog: &mut here::watchdog::Watchdog, time: Duration) {
    let until = here::clock::now().after(time);
    while here::clock::now() < until {
        watchdog.feed();
        here::sleep();
    }
}

#[inline(never)]
fn tell(news: &News) {
    match news {
        News::Note(Note::Peer { node, verdict }) => {
            defmt::info!("node {=u16} is {}", node.0, defmt::Debug2Format(verdict));
        }
        News::CardFailed(trouble) => {
            defmt::error!("the card failed: {}. No votes from now on", defmt::Debug2Format(trouble));
        }
        News::Note(Note::VoterFailed) => defmt::error!("the voter is silent"),
        // What nodes with an office say.
        News::Note(
            Note::Voters { .. }
            | Note::Holder { .. }
            | Note::Activated { .. }
            | Note::Activating { .. }
            | Note::Health { .. }
            | Note::Plea { .. },
        ) => {}
        News::Note(Note::Compared { node, found }) => {
            defmt::info!("node {=u16} was told of its site: {}", node.0, defmt::Debug2Format(found));
        }
        News::Leased(Leased::Host([a, b, c, d])) => {
            defmt::info!("address {=u8}.{=u8}.{=u8}.{=u8} by DHCP", a, b, c, d);
        }
        News::Leased(Leased::Nothing | Leased::NotAsked) => defmt::warn!("no address: asking by DHCP"),
        News::Record(entry) => defmt::info!("power: {}", defmt::Debug2Format(entry)),
    }
}

#[inline(never)]
fn report(shell: &mut BoardShell<'_>) {
    let written = shell.written();
    let voter = shell.witness().voter().map_or(0, |voter| voter.dropped());
    let drops = *shell.witness().links().drops();
    let network = shell.network();
    let (unsent, frames) = (network.dropped(), network.device().counters());
    defmt::info!(
        "votes written {=u32}, questions dropped {=u32}, datagrams unsent {=u32}, log frames lost {=u32}",
        written,
        voter,
        unsent,
        log::lost()
    );
    defmt::info!(
        "frames received {=u32}, sent {=u32}; runts {=u32}, giants {=u32}, out of step {=u32}, stuck {=u32}",
        frames.received,
        frames.sent,
        frames.runts,
        frames.giants,
        frames.out_of_step,
        frames.stuck
    );
    let [unused, stack] = stack::unused();
    defmt::info!("stack: {=usize} of {=usize} bytes were never used", unused, stack);
    let strip = shell.strip();
    if strip != Counters::default() {
        defmt::warn!(
            "power strip: unanswered {=u32}, damaged {=u32}, in another version {=u32}, unasked {=u32}",
            strip.unanswered,
            strip.damaged,
            strip.other_version,
            strip.unasked
        );
    }
    defmt::info!("datagrams dropped: {}", defmt::Debug2Format(&drops));
}
