//! The loop: waits for datagrams, completed writes, questions, signals and deadlines, and feeds the node
//! (X07, X08, X23, V17, V29).
//!
//! Nothing in it waits for anything but the poll: disks, devices, clients and the journal have threads of
//! their own. The watchdogs are fed from here and only from here, after every round, so they show progress
//! and nothing else.

use super::apply::Reader;
use super::clock;
use super::control::{Control, Question};
use super::events::News;
use super::fence_history::Key;
use super::fencer::Order;
use super::hands::Hands;
use super::holds::Holds;
use super::management;
use super::pressure::Lack;
use super::profile::Chooser;
use super::record::Recorder;
use super::request::{Answer, Request};
use super::resources::Resources;
use super::transport::Network;
use super::volumes::Volumes;
use super::wake::Wake;
use super::writer::Progress;
use crate::agent::beats::Beats;
use crate::agent::notify::Notify;
use crate::agent::watchdog::Watchdog;
use crate::alerts::raised::Alerts;
use crate::node_site::network::Cards;
use bulkhead_core::id::NodeId;
use bulkhead_core::link::frame::DATAGRAM_MAX;
use bulkhead_core::monitor::pair::Role;
use bulkhead_core::node::machine::Node;
use bulkhead_core::node::message::Office;
use bulkhead_core::node::words::{Command, Event};
use bulkhead_core::register::acceptor::PersistId;
use bulkhead_core::resource::tenure::{self, Tenure};
use bulkhead_core::time::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The longest wait: bounds how seldom the watchdogs are fed.
const TICK: Duration = Duration::from_millis(100);
/// Datagrams taken from one network in one round: a flood on one cannot starve the other, or the clock.
const DATAGRAMS_AT_ONCE: usize = 64;
/// Questions answered in one round.
const QUESTIONS_AT_ONCE: usize = 4;
/// Health checks that show no progress for this long hang: the default of `WatchdogSec=` in the unit.
const HEALTH_MAX: Duration = Duration::from_secs(60);
/// A round that took longer than this is worth a line in the log.
const STALL: Duration = Duration::from_millis(500);
/// A clean stop gives its roles back within this time, or leaves them to expire.
const STOP_MAX: Duration = Duration::from_millis(4500);
/// Of that, what belongs to its roles may take this long to stop.
const RESOURCES_STOP_MAX: Duration = Duration::from_millis(3000);

/// A node and all it needs. Made by [`super::start::start`].
#[derive(Debug)]
pub struct Agent {
    pub(super) node: Node,
    /// What it is told and does, when that is to be recorded.
    pub(super) record: Option<Recorder>,
    pub(super) hands: Hands,
    /// Its copy of its pair's mirror group; `None`: it keeps none.
    pub(super) volumes: Option<Volumes>,
    pub(super) control: Control,
    pub(super) wake: Wake,
    pub(super) signals: UnixStream,
    pub(super) vital: Vital,
    pub(super) lacks: Vec<Lack>,
    /// What is wrong and stays so.
    pub(super) alerts: Alerts,
    /// What an operator was asked about again.
    pub(super) holds: Holds,
    /// Its cards: what they lack changes.
    pub(super) cards: Option<Cards>,
    pub(super) started: Instant,
    pub(super) takeover: Duration,
    /// When the node was asked to stop.
    pub(super) stopping: Option<Instant>,
    /// It was asked to stop, and its roles were given back.
    pub(super) given_back: bool,
    pub(super) resources: Resources,
    pub(super) chooser: Chooser,
    pub(super) tenure: Tenure,
    pub(super) reader: Reader,
    /// Names the time since this machine came up.
    pub(super) boot: String,
    /// Held for as long as the agent runs.
    #[expect(dead_code, reason = "its lock is what counts")]
    pub(super) lock: std::fs::File,
}

/// What is fed by progress.
#[derive(Debug)]
pub struct Vital {
    pub(super) watchdog: Option<Watchdog>,
    pub(super) notify: Notify,
    /// Of the health checks, when they run beside the loop.
    pub(super) health: Option<Beats>,
}

impl Agent {
    /// Runs until asked to stop.
    pub fn run(mut self) {
        let me = self.hands.config.name_of(self.hands.config.local.node);
        let text = format!("{me} started, site {}", self.hands.config.site_name);
        let fields = json!({ "node": self.hands.config.local.node.0, "pid": std::process::id() });
        self.hands.log.say(News::new("started", text, fields));
        self.count_start();
        if self.hands.marks.has_left() {
            let text = format!("{me} takes no part in the cluster: the operator took it out");
            self.hands.log.say(News::new("membership", text, json!({ "what": "left" })));
        } else {
            for office in Office::ALL {
                self.step(Event::Command(Command::Start(office)));
            }
        }
        self.vital.notify.ready();
        let mut last = clock::now();
        while !self.is_over() {
            self.round();
            self.feed();
            self.hands.log.pass_on();
            self.wait();
            self.note_stall(&mut last);
        }
        self.hands.log.say(News::new("stopped", format!("{me} stopped"), json!({})));
        if let Some(watchdog) = self.vital.watchdog.take() {
            // What could not be stopped may run on: the reset ends it, before another node starts it.
            if self.resources.management_is_down() {
                watchdog.disarm();
            }
        }
        self.hands.end();
        self.hands.log.pass_on();
        self.hands.history.finish();
        self.hands.journal.finish(self.hands.log.newest());
    }

    /// A witness tells its nodes how often it started, and how that ended.
    fn count_start(&mut self) {
        if self.node.member().side.is_none()
            && let Some(history) = self.hands.begin(&self.boot)
        {
            self.step(Event::History(history));
        }
    }

    pub(super) fn step(&mut self, event: Event<'_>) {
        let (hands, record) = (&mut self.hands, &mut self.record);
        let (now, told) = (clock::now(), record.as_ref().map(|_| event.clone()));
        self.node.step(now, event, &mut |action| {
            if let Some(record) = record {
                record.did(&action);
            }
            hands.carry_out(action);
        });
        if let (Some(record), Some(told)) = (record, told) {
            record.told(now, told);
        }
        for (plea, asked) in std::mem::take(&mut hands.cuts) {
            // The witness may answer from memory: what it cut was no later start than the one it names.
            let is_newest = |start| self.node.start_of(plea.node).is_none_or(|known| known == start);
            if plea.start.is_none_or(is_newest) {
                self.tenure.step(clock::now(), tenure::Event::Fenced { node: plea.node, asked });
            }
        }
    }

    /// One round: everything that is there now, in bounded portions.
    fn round(&mut self) {
        self.wake.clear();
        let mut buffer = [0; DATAGRAM_MAX + 1];
        for network in 0..self.hands.networks.len() {
            for _ in 0..DATAGRAMS_AT_ONCE {
                let Some(path) = self.hands.networks.get(network).map(Network::path) else { break };
                let received = self.hands.networks.get_mut(network).and_then(|one| one.receive(&mut buffer));
                let Some(bytes) = received else { break };
                self.step(Event::Received { path, bytes });
            }
        }
        match self.hands.writer.as_ref().and_then(super::writer::Writer::progress) {
            Some(Progress::Durable(id)) => self.step(Event::Persisted(PersistId(id))),
            Some(Progress::Failed) => self.step(Event::PersistFailed),
            None => {}
        }
        while let Some((order, ended)) = self.hands.fencer.ended() {
            if let Some((fenced, confirmed)) = self.hands.order_ended(order, &ended) {
                let asked = self.hands.history.asked(Key::Off(fenced));
                if let Some(asked) = asked.filter(|_| confirmed) {
                    self.tenure.step(clock::now(), tenure::Event::Fenced { node: fenced.node, asked });
                }
                self.step(Event::FenceAnswered { fenced, confirmed });
            }
            if let (Order::On(node), Ok(_)) = (order, &ended) {
                let text = format!("{} was switched on", self.hands.config.name_of(node));
                self.hands.log.say(News::new("powered-on", text, json!({ "node": node.0 })));
            }
        }
        while let Some((order, done, why)) = self.hands.switchboard.ended() {
            if let Some(why) = why {
                self.hands.last_error = Some(format!("a relay was not switched: {why}"));
                self.hands.log.say(News::new("relay", format!("a relay failed: {why}"), json!({})));
            }
            self.step(Event::PowerDone { order, done });
        }
        for _ in 0..QUESTIONS_AT_ONCE {
            let Ok(question) = self.control.questions.try_recv() else { break };
            self.answer(question);
        }
        self.take_files();
        self.take_wishes();
        if self.node.deadline().is_some_and(|at| at <= clock::now()) {
            self.step(Event::Timeout);
        }
        self.run_resources();
        self.look_for_alerts();
        if self.stopping.is_none() && self.is_asked_to_stop() {
            self.begin_to_stop();
        }
        self.give_back();
    }

    /// Starts and stops what the boot profile and the roles of this instant ask for.
    fn run_resources(&mut self) {
        let now = clock::now();
        if let Some(outcome) = self.chooser.look(&self.node, now, &self.hands.config) {
            let (row, start) = (outcome.row, outcome.profile.text());
            let text = format!("boot profile {row}: {start}");
            self.hands.log.say(News::new("profile", text, json!({ "row": row })));
        }
        management::look(&mut self.tenure, now, &self.node, &self.hands.config, self.chooser.outcome());
        let management = self.tenure.manages() && self.stopping.is_none();
        let infrastructure = self.chooser.outcome().is_some();
        self.resources.round(now, infrastructure, management, &mut self.hands.log);
    }

    fn is_asked_to_stop(&mut self) -> bool {
        let mut byte = [0; 1];
        self.signals.read(&mut byte).is_ok_and(|len| 0 < len)
    }

    /// Gives back what it holds, so that the others need not wait for a lease to end.
    fn begin_to_stop(&mut self) {
        self.stopping = Some(clock::now());
        let _ = self.volumes.as_mut().map(Volumes::leave_guests);
        self.vital.notify.stopping();
        self.hands.log.say(News::new("stopping", "asked to stop: giving its roles back", json!({})));
    }

    /// The roles go back once nothing that belongs to them runs here any more, or the time is over: then they
    /// expire, and who is next waits for as long as a stop may take.
    fn give_back(&mut self) {
        let Some(since) = self.stopping.filter(|_| !self.given_back) else { return };
        let late = RESOURCES_STOP_MAX <= clock::now().since(since);
        if self.resources.management_is_down() || late {
            self.given_back = true;
            for office in Office::ALL {
                self.step(Event::Command(Command::Stop(office)));
            }
        }
    }

    fn is_over(&self) -> bool {
        let now = clock::now();
        let holds = |office| self.node.post(office).and_then(|post| post.seat().holds(now)).is_some();
        let given_back = self.given_back && !Office::ALL.into_iter().any(holds);
        self.stopping.is_some_and(|since| STOP_MAX <= now.since(since) || given_back)
    }

    /// Feeds the watchdogs: the round is over, and what the node says it is, it may be. A node whose lease
    /// has ended and that still calls itself master is not fed, nor one whose health checks hang: they are to
    /// be reset.
    fn feed(&mut self) {
        let now = clock::now();
        let overdue = |office| {
            let post = self.node.post(office);
            post.is_some_and(|post| post.pair().role() == Role::Master && post.seat().holds(now).is_none())
        };
        if Office::ALL.into_iter().any(overdue) && self.node.deadline().is_some_and(|at| TICK < now.since(at))
        {
            return;
        }
        if self.vital.health.as_ref().is_some_and(|beats| HEALTH_MAX < beats.silent_for()) {
            return;
        }
        if self.resources.is_overdue(now) {
            // A restart of the agent would feed the device again: only the reset helps.
            self.vital.notify.alive();
            return;
        }
        if let Some(watchdog) = &mut self.vital.watchdog {
            watchdog.feed();
        }
        self.vital.notify.alive();
    }

    /// Says when this node itself was late: what looks like a lost peer may be a lost processor (X07).
    fn note_stall(&mut self, last: &mut Instant) {
        let now = clock::now();
        let took = now.since(std::mem::replace(last, now));
        if STALL < took {
            let ms = took.as_millis();
            let text = format!("this node itself stood still for {ms} ms");
            self.hands.log.say(News::new(
                "stalled",
                text,
                json!({ "ms": u64::try_from(ms).unwrap_or(u64::MAX) }),
            ));
        }
    }

    /// Waits for something to do.
    fn wait(&mut self) {
        let due = self.node.deadline().map_or(TICK, |at| at.since(clock::now())).min(TICK);
        let timeout = Timespec { tv_sec: 0, tv_nsec: due.subsec_nanos().into() };
        let [one, two] = &self.hands.networks;
        let mut fds = [
            PollFd::new(one, PollFlags::IN),
            PollFd::new(two, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        // A signal ends the wait early, which is harmless.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn answer(&mut self, question: Question) {
        let answer = match &question.request {
            Request::Status => {
                let status = self.status(clock::now());
                Answer::done("status", serde_json::to_value(status).unwrap_or_default())
            }
            // The connection's own thread answers these.
            Request::Events { .. } => Answer::done("events", json!([])),
            Request::ControllerShow => self.controller(),
            Request::ControllerMove { node } => self.move_controller(NodeId(*node)),
            Request::NodeJoin { node } => return self.take_part(NodeId(*node), question, true),
            Request::NodeLeave { node, word } => match self.hold_leave(NodeId(*node), word.as_deref()) {
                Ok(()) => return self.take_part(NodeId(*node), question, false),
                Err(held) => held,
            },
            Request::InfraStart => self.infra(Command::Start(Office::Infra), "started"),
            Request::InfraStop => self.infra(Command::Stop(Office::Infra), "stopped"),
            Request::ResourceCleanup { name } => {
                self.resources.clean_up(clock::now(), name, &mut self.hands.log)
            }
            Request::ConfigApply => return self.read_again(Some(question)),
            Request::FenceHistory => {
                Answer::done("fences", serde_json::to_value(self.hands.history.records()).unwrap_or_default())
            }
            Request::FenceStatus => self.fence_status(),
            Request::FencePower { node, want, reason, operator, word } => {
                let held = self.hold_cut(NodeId(*node), *want, *operator, word.as_deref());
                held.err().unwrap_or_else(|| self.fence_power(NodeId(*node), *want, reason.clone()))
            }
            Request::VolumeList
            | Request::VolumeCreate { .. }
            | Request::VolumeResize { .. }
            | Request::VolumeDelete { .. }
            | Request::VolumeSeal { .. }
            | Request::GuestWanted { .. }
            | Request::VolumeMode { .. }
            | Request::VolumeCache { .. }
            | Request::VolumeLimit { .. }
            | Request::VolumeSecondaryRemove { .. }
            | Request::VolumeSecondaryAdd { .. }
            | Request::VolumeRecover { .. }
            | Request::VolumeScrub
            | Request::VolumePromote { .. } => {
                return self.volume_request(question);
            }
            Request::GuestLease { lease } => self.guest_lease(lease.as_deref()),
            Request::GuestReturn { lease } => self.guest_return(lease),
            Request::GuestHeartbeat { guest, lost_ms, follows } => {
                self.guest_heartbeat(guest, *lost_ms, *follows)
            }
            Request::GuestRoad { node, leased } => self.guest_road(node, *leased),
            Request::GuestKeys { hello, welcome } => self.guest_keys(hello, welcome),
            Request::ForceQuorum { lost } => self.force_quorum(lost),
            Request::ForceShow => self.forcing(),
            Request::FenceConfirm { node, reason } => self.fence_confirm(NodeId(*node), reason.clone()),
        };
        question.answer(answer);
    }

    fn controller(&self) -> Answer {
        let Some(post) = self.node.post(Office::Controller) else {
            return Answer::refused("failed", "a witness does not follow the controller", "ask another node");
        };
        let node = post.pair().master();
        let name = node.map(|node| self.hands.config.name_of(node));
        let left = post.seat().left(clock::now()).map(|left| u64::try_from(left.as_millis()).unwrap_or(0));
        let value = json!({
            "node": node.map(|node| node.0),
            "name": name,
            "epoch": post.epoch().0,
            "leaseLeftMs": left,
        });
        Answer::done("controller", value)
    }

    fn move_controller(&mut self, to: NodeId) -> Answer {
        let config = &self.hands.config;
        let name = config.name_of(to);
        let Some(post) = self.node.post(Office::Controller) else {
            return Answer::refused("failed", "a witness cannot move the controller", "ask another node");
        };
        if config.member(to).is_none_or(|member| member.duty.is_witness()) {
            return Answer::refused(
                "usage",
                format!("{name} cannot be controller"),
                "name a node of a compartment",
            );
        }
        let holds = post.seat().holds(clock::now()).is_some();
        if holds && to == config.local.node {
            return Answer::done("movedTo", json!({ "node": to.0, "name": name }));
        }
        if !holds {
            let now = post.pair().master().map(|node| config.name_of(node));
            let next = match now {
                Some(now) => format!("run it on {now}, which is the controller now"),
                None => "wait until there is one".into(),
            };
            return Answer::refused("refused", "this node is not the designated controller", next);
        }
        if !self.node.links().verdict(to).is_alive() {
            return Answer::refused("refused", format!("{name} is not heard"), "name a node that is up");
        }
        self.step(Event::Command(Command::Move { office: Office::Controller, to }));
        Answer::done("movedTo", json!({ "node": to.0, "name": name }))
    }

    /// Has this node take part in the cluster, or not, also after it was started again. The mark is written
    /// by a thread of its own, which then answers.
    fn take_part(&mut self, node: NodeId, question: Question, part: bool) {
        let config = &self.hands.config;
        let name = config.name_of(node);
        if node != config.local.node {
            let next = format!("run it on {name}: a node joins and leaves by itself");
            return question.answer(Answer::refused("refused", format!("{name} is not this node"), next));
        }
        if self.node.post(Office::Infra).is_none() {
            let what = format!("{name} is a witness: it has no instance");
            return question.answer(Answer::refused(
                "refused",
                what,
                "stop it with SIGTERM if it is not to vote",
            ));
        }
        for office in Office::ALL {
            let command = if part { Command::Start(office) } else { Command::Stop(office) };
            self.step(Event::Command(command));
        }
        let word = if part { "joined" } else { "left" };
        let fields = json!({ "node": node.0, "what": word });
        self.hands.log.say(News::new("membership", format!("{name} {word}"), fields));
        let marks = self.hands.marks.clone();
        let thread = std::thread::Builder::new().name("mark".into()).stack_size(128 << 10);
        // Without a thread nobody answers, and the command says that.
        let _ = thread.spawn(move || {
            question.answer(match marks.set_left(!part) {
                Ok(()) => Answer::done(word, json!({ "node": node.0, "name": name })),
                Err(error) => {
                    let what = format!("{name} {word}, but will not know it after a restart: {error}");
                    Answer::refused("failed", what, "make room in its state directory, and say it again")
                }
            });
        });
    }

    fn infra(&mut self, command: Command, word: &'static str) -> Answer {
        if self.node.post(Office::Infra).is_none() {
            return Answer::refused(
                "refused",
                "a witness has no infra instance",
                "ask a node of a compartment",
            );
        }
        self.step(Event::Command(command));
        Answer::done("infra", word.into())
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
