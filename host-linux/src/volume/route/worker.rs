//! The thread of a route: hands over what waited, opens and closes the connection, and answers what nobody
//! could carry out in time. It never waits for a node: connections are opened by a thread each.

use super::front::{Begun, Shared, State, end};
use super::queue::Entry;
use super::way::Target;
use crate::nbd::client::connection::Client;
use crate::nbd::export::Errno;
use crate::nbd::turns::session;
use crate::nbd::uri::Uri;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests handed over before it looks again who leads.
const AT_ONCE: usize = 64;
/// While requests come: how often the clock is looked at, and who leads is asked, though news should have
/// come.
const LOOK: Duration = Duration::from_millis(250);
const NOBODY: &str = "no node of the pair leads, as far as this one knows";

/// What is to be done without holding the state.
#[derive(Default)]
struct Round {
    late: Vec<Entry>,
    left: Vec<Entry>,
    closed: Option<Arc<Client>>,
    opened: Option<(u64, SocketAddr)>,
    begun: Vec<Begun>,
}

/// Until the route goes away.
pub fn run(shared: &Arc<Shared>) {
    let mut come = 0;
    loop {
        let target = shared.target();
        let mut state = shared.lock();
        state.handing_over = false;
        state.asleep = false;
        if state.over {
            return close(state.queue.take_all(), state.ways.close());
        }
        let now = Instant::now();
        let round = plan(shared, &mut state, target, now);
        if round.is_empty() {
            if !std::mem::take(&mut state.news) {
                // It sleeps only if nothing came since the last look: a stream of requests need not wake it.
                state.asleep = state.queue.is_empty() && state.queue.come() == come;
                come = state.queue.come();
                let until = next_look(shared, &state, now);
                drop(shared.wait(state, until));
            }
            continue;
        }
        state.handing_over = !round.begun.is_empty();
        let why = state.why.clone();
        drop(state);
        for late in round.late {
            give_up(shared, late, &why);
        }
        // Nobody hears it.
        drop(round.left);
        drop(round.closed);
        if let Some((number, to)) = round.opened {
            open(shared, number, to);
        }
        for begun in round.begun {
            shared.carry_out(begun);
        }
    }
}

impl Round {
    fn is_empty(&self) -> bool {
        self.late.is_empty()
            && self.left.is_empty()
            && self.closed.is_none()
            && self.opened.is_none()
            && self.begun.is_empty()
    }
}

fn plan(shared: &Shared, state: &mut State, target: Target, now: Instant) -> Round {
    let next = shared.after(now, shared.settings.retry);
    let mut round = Round { late: state.queue.take_late(now), ..Round::default() };
    if state.sweep_from <= now {
        state.sweep_from = next;
        round.left = state.queue.take_left();
    }
    round.closed = state.ways.close_unfit(target, now.checked_sub(shared.settings.idle));
    if state.queue.waiting() == 0 {
        if round.late.is_empty() {
            state.why.clear();
        }
        return round;
    }
    if target == Target::Nowhere {
        state.why = NOBODY.into();
    }
    round.opened = state.ways.open(target, now, next);
    if let Some((_, to)) = round.opened
        && (state.why.is_empty() || state.why == NOBODY)
    {
        state.why = format!("there is no connection to {to} yet");
    }
    while round.begun.len() < AT_ONCE {
        let Some(ticket) = state.queue.first_waiting() else { break };
        let Some(entry) = state.queue.get(ticket) else { break };
        if !entry.reply.is_awaited() {
            round.left.extend(state.queue.take(ticket));
            continue;
        }
        let beyond = end(&entry.request);
        if state.ways.is_too_small(target, beyond) {
            // The volume may have grown since; a connection keeps what it was told.
            if !std::mem::replace(&mut entry.renewed, true) {
                round.closed = state.ways.close();
                break;
            }
        }
        let beyond = if entry.renewed { 0 } else { beyond };
        let Some(way) = state.ways.find(target, beyond) else { break };
        let trusted = state.ways.is_trusted(&way);
        if !state.ways.try_once(&way, now, next) {
            break;
        }
        round.begun.extend(state.begin(ticket, way, now));
        if !trusted {
            break;
        }
    }
    round
}

/// When to look again without news.
fn next_look(shared: &Shared, state: &State, now: Instant) -> Option<Instant> {
    let soon = |time| Some(shared.after(now, time));
    let waiting = if state.queue.waiting() == 0 { None } else { soon(shared.settings.retry) };
    let busy = if state.asleep { None } else { soon(LOOK) };
    let idle = state.ways.last_used().map(|used| shared.after(used, shared.settings.idle));
    let idle = idle.map(|idle| idle.max(shared.after(now, LOOK)));
    [waiting, busy, idle, state.queue.deadline()].into_iter().flatten().min()
}

fn open(shared: &Arc<Shared>, number: u64, to: SocketAddr) {
    let own = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("route-open".into()).stack_size(256 << 10);
    let opened = thread.spawn(move || {
        let uri = Uri::tcp(to, &session(&own.name, own.session));
        let client = Client::connect_as(&uri, &own.here.wish(), own.settings.answer);
        finish_opening(&own, number, client.map_err(|why| format!("{to}: {why}")));
    });
    if let Err(error) = opened {
        finish_opening(shared, number, Err(format!("no thread to reach {to}: {error}")));
    }
}

fn finish_opening(shared: &Shared, number: u64, client: Result<Client, String>) {
    let mut state = shared.lock();
    let client = match client {
        Ok(client) => Some(Arc::new(client)),
        Err(why) => {
            state.why = why;
            None
        }
    };
    let unwanted = state.ways.opened(number, client, Instant::now());
    shared.tell(&mut state);
    drop(state);
    drop(unwanted);
}

fn give_up(shared: &Shared, entry: Entry, why: &str) {
    let time = shared.settings.patience.as_millis();
    let state = match entry.is_untouched() {
        true => "nothing of it was done",
        false => "it may or may not be done",
    };
    let why = if entry.waited { why } else { "the node that leads has it, and does not answer" };
    entry.reply.fail(Errno::Io, format!("not answered for {time} ms: {why}; {state}"));
}

fn close(entries: Vec<Entry>, client: Option<Arc<Client>>) {
    for entry in entries {
        entry.reply.fail(Errno::Shutdown, "this volume goes away");
    }
    drop(client);
}
