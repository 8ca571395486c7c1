//! Stories of a node with four resources: order, failures, a stop that fails, what an earlier agent left.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;

const DNS: u8 = 0;
const DHCP: u8 = 1;
const PANEL: u8 = 2;
const GAUGE: u8 = 3;

fn lineup() -> Lineup {
    let of = |kind, order, stop| Settings {
        kind,
        order,
        interval: Duration::from_secs(10),
        stop_timeout: Duration::from_secs(stop),
    };
    let (both, here) = (Kind::Infrastructure, Kind::Management);
    Lineup::new([of(both, 10, 5), of(both, 20, 5), of(here, 30, 7), of(here, 30, 3)]).unwrap()
}

/// A shell whose resources answer at once, unless told otherwise.
struct Shell {
    lineup: Lineup,
    now: Instant,
    runs: BTreeMap<u8, bool>,
    /// What was started (+) and stopped (-), in order.
    done: Vec<(char, u8)>,
    /// Answers that are not [`Answer::Ok`].
    bad: BTreeMap<(u8, Task), Answer>,
}

impl Shell {
    fn new() -> Self {
        let (runs, bad) = (BTreeMap::new(), BTreeMap::new());
        let mut shell = Self { lineup: lineup(), now: Instant::ZERO, runs, done: Vec::new(), bad };
        shell.tell(Event::Timeout);
        shell
    }

    fn tell(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.lineup.step(self.now, event) {
                let Action::Begin { place, task } = action else { continue };
                let answer = self.carry_out(place, task);
                events.push_back(Event::Ended { place, task, answer });
            }
        }
    }

    fn carry_out(&mut self, place: u8, task: Task) -> Answer {
        let answer = self.bad.get(&(place, task)).copied().unwrap_or(Answer::Ok);
        match (task, answer) {
            (Task::Start, Answer::Ok) => {
                self.runs.insert(place, true);
                self.done.push(('+', place));
            }
            (Task::Stop, Answer::Ok) => {
                self.runs.insert(place, false);
                self.done.push(('-', place));
            }
            (Task::Monitor, Answer::Ok) if self.runs.get(&place) != Some(&true) => return Answer::NotRunning,
            (Task::Start | Task::Stop | Task::Monitor, _) => {}
        }
        answer
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.after(Duration::from_secs(1));
            self.tell(Event::Timeout);
        }
    }

    fn want(&mut self, infrastructure: bool, management: bool) -> Vec<(char, u8)> {
        self.tell(Event::Wanted { infrastructure, management });
        std::mem::take(&mut self.done)
    }
}

/// S1-15: started by the profile in order, stopped in the opposite one; only what the profile names.
#[test]
fn they_start_in_order_and_stop_in_the_opposite_one() {
    let mut shell = Shell::new();
    assert_eq!(shell.want(true, false), [('+', DNS), ('+', DHCP)]);
    assert!(shell.lineup.management_is_down());
    assert_eq!(shell.want(true, true), [('+', PANEL), ('+', GAUGE)]);
    assert!(!shell.lineup.management_is_down());
    assert_eq!(shell.want(true, false), [('-', PANEL), ('-', GAUGE)]);
    assert_eq!(shell.want(true, true), [('+', PANEL), ('+', GAUGE)]);
    assert_eq!(shell.want(false, false), [('-', PANEL), ('-', GAUGE), ('-', DHCP), ('-', DNS)]);
}

#[test]
fn one_that_fails_holds_up_the_next_until_it_is_given_up() {
    let mut shell = Shell::new();
    shell.bad.insert((DNS, Task::Start), Answer::Failed);
    assert_eq!(shell.want(true, false), [('-', DNS)], "what failed to start is stopped");
    shell.pass(4);
    assert_eq!(shell.lineup.look(DNS), Some((Mode::Waiting, 1)));
    shell.pass(7);
    assert_eq!(shell.lineup.look(DNS), Some((Mode::GivenUp, 3)));
    assert_eq!(shell.done, [('-', DNS), ('-', DNS), ('+', DHCP)]);
    shell.bad.clear();
    shell.tell(Event::CleanUp { place: DNS });
    assert_eq!(shell.lineup.look(DNS), Some((Mode::Running, 0)));
}

/// A start and a monitor may take longer than a stop: they are not waited for once the role is lost.
#[test]
fn what_hangs_is_interrupted_when_it_must_stop() {
    let now = Instant::ZERO;
    let mut lineup = lineup();
    let answer = |place, task, answer| Event::Ended { place, task, answer };
    let _ = lineup.step(now, Event::Timeout);
    for place in 0..4 {
        let _ = lineup.step(now, answer(place, Task::Monitor, Answer::NotRunning));
    }
    let _ = lineup.step(now, Event::Wanted { infrastructure: true, management: true });
    for place in [DNS, DHCP, PANEL] {
        let _ = lineup.step(now, answer(place, Task::Start, Answer::Ok));
    }
    // The panel runs, the gauge is being started, and the panel's monitor hangs.
    let later = now.after(Duration::from_secs(60));
    let begun = Action::Begin { place: PANEL, task: Task::Monitor };
    assert!(lineup.step(later, Event::Timeout).into_iter().any(|action| action == begun));
    let lost = Event::Wanted { infrastructure: true, management: false };
    let actions: Vec<_> = lineup.step(later, lost).into_iter().collect();
    assert_eq!(actions, [PANEL, GAUGE].map(|place| Action::Interrupt { place }));
    assert_eq!(lineup.step(later, lost).into_iter().count(), 0, "once is enough");
    let actions: Vec<_> =
        lineup.step(later, answer(GAUGE, Task::Start, Answer::TimedOut)).into_iter().collect();
    assert!(actions.contains(&Action::Begin { place: GAUGE, task: Task::Stop }), "{actions:?}");
    // One that ended well before it was interrupted is stopped all the same.
    let actions: Vec<_> = lineup.step(later, answer(PANEL, Task::Monitor, Answer::Ok)).into_iter().collect();
    assert!(actions.contains(&Action::Begin { place: PANEL, task: Task::Stop }), "{actions:?}");
}

/// V20 for services: who cannot stop them in time says so, for the watchdog to act.
#[test]
fn a_stop_that_fails_makes_the_node_overdue_and_nothing_else() {
    let mut shell = Shell::new();
    shell.want(true, true);
    assert_eq!(shell.lineup.stop_max(), Duration::from_secs(10));
    shell.bad.insert((PANEL, Task::Stop), Answer::TimedOut);
    shell.want(true, false);
    assert_eq!(shell.lineup.look(PANEL), Some((Mode::Stuck, 0)));
    shell.pass(10);
    assert!(!shell.lineup.is_overdue(shell.now) && !shell.lineup.management_is_down());
    shell.pass(1);
    assert!(shell.lineup.is_overdue(shell.now));
    shell.bad.clear();
    shell.pass(6);
    assert!(!shell.lineup.is_overdue(shell.now) && shell.lineup.management_is_down());
}

/// One that runs already when the agent starts is taken over, or stopped when it has no business here.
#[test]
fn what_an_earlier_agent_left_is_found() {
    let mut shell = Shell {
        lineup: lineup(),
        now: Instant::ZERO,
        runs: BTreeMap::from([(DNS, true), (PANEL, true)]),
        done: Vec::new(),
        bad: BTreeMap::new(),
    };
    assert!(!shell.lineup.management_is_down(), "not probed yet: nobody knows");
    shell.tell(Event::Timeout);
    assert_eq!(shell.want(true, false), [('-', PANEL), ('+', DHCP)]);
}

/// Whatever is wanted and however the tasks end: actions stay within their bound, management never starts
/// while it is not wanted, and when all goes well it ends as wanted.
#[test]
fn any_history_ends_as_wanted() {
    let mut chance = 0x9e37_79b9_u64;
    let mut roll = |below: u64| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance % below
    };
    for _ in 0..300 {
        let mut shell = Shell::new();
        for _ in 0..20 {
            shell.bad.clear();
            for place in 0..4 {
                for task in [Task::Start, Task::Stop, Task::Monitor] {
                    if roll(6) == 0 {
                        let answer = [Answer::Failed, Answer::TimedOut][usize::from(roll(2) == 0)];
                        shell.bad.insert((place, task), answer);
                    }
                }
            }
            let management = roll(2) == 0;
            let done = shell.want(true, management);
            assert!(
                management || !done.iter().any(|(what, place)| *what == '+' && PANEL <= *place),
                "{done:?}"
            );
            shell.pass(roll(8));
            shell.done.clear();
        }
        shell.bad.clear();
        (0..4).for_each(|place| shell.tell(Event::CleanUp { place }));
        shell.want(true, false);
        shell.pass(30);
        for place in 0..4 {
            let expected = if place < PANEL { Mode::Running } else { Mode::Stopped };
            assert_eq!(shell.lineup.look(place).unwrap().0, expected, "{place}");
        }
    }
}
