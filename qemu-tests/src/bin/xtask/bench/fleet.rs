//! All nodes of a site as a witness sees them, and what they measure (S1-17, X03): one node of each pair
//! holds its register, the other one watches, and both are heard all the time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qemu_tests::witness::asker::{Asker, Question};
use serde_json::json;

/// How long a witness may take until it knows all that ask.
const SESSIONS_MAX: Duration = Duration::from_secs(120);
/// Longest time for what needs one answer of each pair: who has none then is not served.
const ANSWERS_MAX: Duration = Duration::from_secs(20);
/// Questions of one node alone.
const QUESTIONS: usize = 200;
/// How long leases are renewed, and how long all pairs ask.
const SPAN: Duration = Duration::from_secs(5);
/// From one lease of a pair to its next: the aim of the figures.
const LEASE: Duration = Duration::from_millis(100);
/// What nothing came in before the sockets are looked at again: far below any time that is measured.
const REST: Duration = Duration::from_micros(100);

/// The nodes.
pub struct Fleet {
    /// Both nodes of a pair beside each other, who holds its register first.
    askers: Vec<Asker>,
}

/// What one round came to. Times are in milliseconds.
pub struct Seen {
    /// Until all had a session.
    pub connected: Duration,
    /// Pairs that got their register.
    pub served: u32,
    /// The median time to a durable answer while only one node asks for any.
    pub alone: f64,
    /// Leases a second that all pairs together asked for.
    pub wanted: f64,
    /// The leases that they got.
    pub leases: Answers,
    /// Promises, asked for again as soon as one is given.
    pub durable: Answers,
}

/// Answers of all pairs together.
pub struct Answers {
    /// A second.
    pub rate: f64,
    /// The median of their times.
    pub middle: f64,
    /// Of a hundred, 99 came within this time.
    pub most: f64,
    /// Questions a second that got no answer within half a second, and were asked again.
    pub lost: f64,
}

impl Seen {
    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let answers = |of: &Answers| {
            let Answers { rate, middle, most, lost } = of;
            json!({ "rate": rate, "median_ms": middle, "p99_ms": most, "lost": lost })
        };
        json!({
            "connected_s": self.connected.as_secs_f64(), "served": self.served, "alone_ms": self.alone,
            "leases_wanted": self.wanted,
            "leases": answers(&self.leases), "durable": answers(&self.durable),
        })
    }
}

impl Fleet {
    /// Of the nodes of a site, in the order of their numbers.
    pub const fn new(askers: Vec<Asker>) -> Self {
        Self { askers }
    }

    /// One round.
    ///
    /// # Errors
    /// When the witness does not know all nodes, or does not serve them, in a long time.
    pub fn run(&mut self) -> Result<Seen> {
        let begin = Instant::now();
        while !self.askers.iter().all(Asker::is_connected) {
            self.turn(|_, _| ())?;
            let known = self.askers.iter().filter(|asker| asker.is_connected()).count();
            let all = self.askers.len();
            ensure!(begin.elapsed() < SESSIONS_MAX, "the witness knows {known} of {all} nodes");
        }
        let connected = begin.elapsed();
        self.each_once(Question::Promise)?;
        let served = self.each_once(Question::Hold)?;
        let alone = self.one_by_one()?;
        let wanted = self.holders() as f64 / LEASE.as_secs_f64();
        let leases = self.every(LEASE, Question::Lease)?;
        let durable = self.every(Duration::ZERO, Question::Promise)?;
        Ok(Seen { connected, served, alone, wanted, leases, durable })
    }

    fn holders(&self) -> usize {
        self.askers.len() / 2
    }

    /// All do what is due; `answered` is told who got an answer, and after what time.
    fn turn(&mut self, mut answered: impl FnMut(usize, Duration)) -> Result<()> {
        let mut is_quiet = true;
        for (place, asker) in self.askers.iter_mut().enumerate() {
            if let Some(took) = asker.turn()? {
                is_quiet = false;
                answered(place, took);
            }
        }
        if is_quiet {
            std::thread::sleep(REST);
        }
        Ok(())
    }

    /// Each pair asks until it has an answer; how many got one in a long time.
    fn each_once(&mut self, question: Question) -> Result<u32> {
        let (begin, mut done) = (Instant::now(), vec![false; self.askers.len()]);
        while done.iter().step_by(2).any(|done| !done) && begin.elapsed() < ANSWERS_MAX {
            for (asker, _) in self.askers.iter_mut().zip(&done).step_by(2).filter(|(_, done)| !**done) {
                asker.ask(question)?;
            }
            self.turn(|place, _| done.iter_mut().skip(place).take(1).for_each(|done| *done = true))?;
        }
        Ok(u32::try_from(done.iter().filter(|done| **done).count())?)
    }

    /// The median time of many promises to one pair, one after the other.
    fn one_by_one(&mut self) -> Result<f64> {
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < QUESTIONS && begin.elapsed() < SPAN {
            if let Some(first) = self.askers.first_mut() {
                first.ask(Question::Promise)?;
            }
            self.turn(|_, took| times.push(took))?;
        }
        Ok(answers(times, 0, begin.elapsed()).middle)
    }

    /// Each pair asks with this pause from one question to the next, while it is not waiting for an answer.
    fn every(&mut self, pause: Duration, question: Question) -> Result<Answers> {
        let lost = self.lost();
        let (begin, mut times) = (Instant::now(), Vec::new());
        let holders = u32::try_from(self.holders())?.max(1);
        let mut next: Vec<_> = (0..holders).map(|pair| begin + pause / holders * pair).collect();
        while begin.elapsed() < SPAN {
            for (asker, next) in self.askers.iter_mut().step_by(2).zip(&mut next) {
                let now = Instant::now();
                if *next <= now && !asker.is_waiting() {
                    asker.ask(question)?;
                    // Behind by more than one: those are not caught up with.
                    *next = (*next + pause).max(now.checked_sub(pause).unwrap_or(now));
                }
            }
            self.turn(|_, took| times.push(took))?;
        }
        Ok(answers(times, self.lost() - lost, begin.elapsed()))
    }

    fn lost(&self) -> u32 {
        self.askers.iter().map(Asker::lost).sum()
    }
}

fn answers(mut times: Vec<Duration>, lost: u32, span: Duration) -> Answers {
    times.sort();
    let at = |permille: usize| {
        let place = times.len().saturating_sub(1) * permille / 1_000;
        times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    let a_second = |count: f64| count / span.as_secs_f64();
    let (rate, lost) = (a_second(times.len() as f64), a_second(f64::from(lost)));
    Answers { rate, middle: at(500), most: at(990), lost }
}
