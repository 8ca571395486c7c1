//! A run: acts of a script, each a few losses and their repairs, with the questions behind every step, until
//! the time is over or something is not as it must be.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::fault::{Fault, Loss, Node};
use super::plant::Plant;
use super::questions::{Questions, Service};
use super::report::{Failed, Report};
use super::script::{Act, Scope, Script};
use super::watch::Watch;

const RUNS: &str = "after a loss or a repair, guests run where they can, each once";
const STOPPED: &str = "no guest can run: every node that is left says so, and no guest does";
const WHOLE: &str = "all is repaired: in sync, no alert, every guest once";
const LOOKS: &str = "no guest runs twice, and has all that it was told to be durable";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub bulkhead: PathBuf,
    /// The guests' kernel, `qemu-tests/bare-guest`.
    pub kernel: PathBuf,
    /// Where the plant is kept. A short path: sockets are below it.
    pub directory: PathBuf,
    /// What there is to be.
    pub scope: Scope,
    /// By which the run repeats.
    pub seed: u64,
    /// For how long; what must be is done, however long it takes.
    pub span: Duration,
}

/// Does it, and tells each step in words. What failed is in the report.
///
/// # Errors
/// When the plant does not come to run.
pub fn run(settings: &Settings, tell: &mut dyn FnMut(&str)) -> Result<Report> {
    let begun = Instant::now();
    let script = Script::new(settings.scope.clone(), settings.seed);
    let (must, pairs, all) = (script.must(), script.pairs(), script.all());
    let mut report = Report { seed: settings.seed, pairs: [0, pairs], ..Report::default() };
    tell(&format!("seed {}: two nodes, a witness, and guests that number their writes", settings.seed));
    let plant = Plant::start(&settings.bulkhead, &settings.kernel, &settings.directory)?;
    let watch = Watch::start(&plant)?;
    let mut questions = Questions::new(&plant, &watch);
    let leads = questions.whole()?;
    let mut stage = Stage { questions, plant: &plant, watch: &watch, begun, leads };
    for (place, act) in script.enumerate() {
        if must <= place && settings.span < begun.elapsed() {
            break;
        }
        tell(&format!("{:7.1} s  {}", begun.elapsed().as_secs_f64(), act.name()));
        let mut steps = Vec::new();
        let done = stage.play(&act, &mut report, &mut |step| {
            tell(&format!("             {step}"));
            steps.push(step);
        });
        report.acts += 1;
        report.pairs[0] += usize::from(act.losses.len() == 2 && 0 < pairs && place < all);
        if let Err(error) = done {
            steps.extend(Node::ALL.map(|node| plant.tail(node, 15)));
            report.failed = Some(Failed { act: act.name(), steps, what: format!("{error:#}") });
            break;
        }
    }
    report.took = begun.elapsed();
    report.asked.insert(LOOKS, watch.looks());
    (report.kept, report.lives) = (watch.kept(), watch.lives());
    Ok(report)
}

/// Where it is played.
struct Stage<'a> {
    plant: &'a Plant,
    watch: &'a Watch,
    questions: Questions<'a>,
    begun: Instant,
    /// The node that leads, as nothing was lost.
    leads: Node,
}

impl Stage<'_> {
    fn play(&mut self, act: &Act, report: &mut Report, tell: &mut dyn FnMut(String)) -> Result<()> {
        let leads = self.leads;
        let mut tell = |begun: Instant, what: &str| {
            tell(format!("{:7.1} s  {what}", begun.elapsed().as_secs_f64()));
        };
        tell(self.begun, &format!("{} leads", leads.name()));
        let mut service = Service::Runs;
        for loss in &act.losses {
            let fault = loss.at(leads);
            tell(self.begun, &fault.to_string());
            service = self.lose(*loss, fault, report)?;
            tell(self.begun, said(service));
        }
        let lasting = |fault: &Fault| fault.kind.lasts();
        let mut repairs: Vec<_> = act.losses.iter().map(|loss| loss.at(leads)).filter(lasting).collect();
        if act.last_first {
            repairs.reverse();
        }
        for fault in repairs {
            tell(self.begun, &format!("repaired: {fault}"));
            self.questions.lost.0.retain(|one| *one != fault);
            self.watch.count_anew();
            let since = Instant::now();
            self.plant.repair(fault, &self.questions.lost)?;
            let before = std::mem::replace(&mut service, self.asked(since, report)?);
            tell(self.begun, said(service));
            if (before, service) == (Service::Stopped, Service::Runs) {
                self.watch.first().into_iter().for_each(|time| report.back.add(time));
            }
        }
        let since = Instant::now();
        report.ask(WHOLE);
        self.leads = self.questions.whole()?;
        report.whole.add(since.elapsed());
        Ok(())
    }

    /// One loss, and the questions behind it.
    fn lose(&mut self, loss: Loss, fault: Fault, report: &mut Report) -> Result<Service> {
        self.watch.count_anew();
        let since = Instant::now();
        self.plant.strike(fault)?;
        if fault.kind.lasts() {
            self.questions.lost.0.push(fault);
        }
        let service = self.asked(since, report)?;
        let row = report.row(&loss.to_string());
        row.times += 1;
        match service {
            Service::Runs => row.pauses.add(self.watch.longest()),
            Service::Stopped => row.stopped += 1,
        }
        Ok(service)
    }

    fn asked(&mut self, since: Instant, report: &mut Report) -> Result<Service> {
        let service = self.questions.service(since)?;
        report.ask(match service {
            Service::Runs => RUNS,
            Service::Stopped => STOPPED,
        });
        Ok(service)
    }
}

const fn said(service: Service) -> &'static str {
    match service {
        Service::Runs => "guests run, each once",
        Service::Stopped => "no guest can run, and it is said why",
    }
}
