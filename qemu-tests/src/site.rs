//! A site of QEMU nodes: one node in each compartment and a witness, on two control networks that can be
//! cut. Nodes boot from their boot partitions and find their part of the site on their infra partitions. The
//! witness is a node, too, or the firmware on its board.

mod board;
mod ground;
pub mod guests;
mod volumes;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::artefacts::Artefacts;
use crate::lab::{LONG, Lab, Rig};
use crate::switch::{Address, Port, Rule, Switch};
use crate::witness::device::{Device, SERVES};
use crate::witness::outlet::Outlet;
use crate::witness::strip::Strip;
use ground::{Ground, of};

/// A command in a node, under emulation.
const COMMAND: Duration = Duration::from_secs(60);
/// From one look at a status to the next: each costs the node a process.
const POLL: Duration = Duration::from_millis(300);

/// A card that every node is to have and no machine has.
pub const DEAD_CARD: Address = Address([0x52, 0x54, 0, 0, 0xde, 0xad]);

/// A part of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The node of compartment a, `a1`.
    A,
    /// The node of compartment b, `b1`.
    B,
    /// The third voter, `w`.
    Witness,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Witness];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a1",
            Self::B => "b1",
            Self::Witness => "w",
        }
    }

    /// Its `id` in the configuration.
    pub const fn id(self) -> u16 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::Witness => 3,
        }
    }

    /// The other compartment's node; a witness has none.
    pub fn peer(self) -> Option<Self> {
        match self {
            Self::A => Some(Self::B),
            Self::B => Some(Self::A),
            Self::Witness => None,
        }
    }
}

/// The third voter.
#[derive(Debug)]
enum Third {
    /// A node like the others.
    Node(Box<Rig>),
    /// The firmware on its board, with one card in both networks.
    Board(Box<Device>),
}

/// The site. It is off when it is made.
#[derive(Debug)]
pub struct Site {
    /// The nodes of the compartments.
    rigs: [Rig; 2],
    third: Third,
    /// What the nodes of the compartments draw their power from, and the strip it is part of.
    power: Option<([Outlet; 2], Strip)>,
    networks: [Switch; 2],
    /// The cards of each part: one in each network.
    ports: [[Port; 2]; 3],
}

impl Site {
    /// A site of nodes with `image`; `timers` is the table of that name in its configuration.
    ///
    /// # Errors
    /// When a disk or a network cannot be made.
    pub fn new(artefacts: &Artefacts, lab: &Lab, image: &Path, timers: &str) -> Result<Self> {
        let ground = Ground::new(artefacts, lab, timers)?;
        let rigs = ground.rigs(artefacts, lab, image)?;
        let third = ground.rig(artefacts, lab, image, Part::Witness)?;
        Ok(ground.site(rigs, Third::Node(Box::new(third))))
    }

    /// The node of a part.
    ///
    /// # Errors
    /// When it is a board.
    pub fn rig(&self, part: Part) -> Result<&Rig> {
        let [a, b] = &self.rigs;
        match (part, &self.third) {
            (Part::A, _) => Ok(a),
            (Part::B, _) => Ok(b),
            (Part::Witness, Third::Node(rig)) => Ok(rig),
            (Part::Witness, Third::Board(_)) => bail!("the witness is a board, which has no shell"),
        }
    }

    /// The board.
    ///
    /// # Errors
    /// When the witness is a node.
    pub fn board(&self) -> Result<&Device> {
        match &self.third {
            Third::Board(device) => Ok(device),
            Third::Node(_) => bail!("the witness of this site is a node"),
        }
    }

    /// Switches parts on, all at once, and waits until each has a shell, or votes.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn power_on(&mut self, parts: &[Part]) -> Result<()> {
        for part in parts {
            match (part, &mut self.third) {
                (Part::Witness, Third::Node(rig)) => rig.node.power_on()?,
                (Part::Witness, Third::Board(device)) => device.start()?,
                (Part::A, _) => self.rigs[0].node.power_on()?,
                (Part::B, _) => self.rigs[1].node.power_on()?,
            }
        }
        if let Some(([one, two], _)) = &self.power {
            for (part, outlet) in [(Part::A, one), (Part::B, two)] {
                if parts.contains(&part) {
                    outlet.feed(self.rig(part)?.node.powered()?.qmp());
                }
            }
        }
        for part in parts {
            let ready = match (part, &self.third) {
                (Part::Witness, Third::Board(device)) => device.wait_log(SERVES, LONG).map(drop),
                (Part::A | Part::B | Part::Witness, _) => self.rig(*part)?.shell.ready(LONG),
            };
            ready.with_context(|| format!("starting {}", part.name()))?;
        }
        Ok(())
    }

    /// Cuts the power of a part.
    ///
    /// # Errors
    /// When it was off.
    pub fn power_cut(&mut self, part: Part) -> Result<()> {
        match (part, &mut self.third) {
            (Part::Witness, Third::Board(device)) => device.power_cut(),
            (Part::Witness, Third::Node(rig)) => rig.cut_and_forget(),
            (Part::A, _) => self.rigs[0].cut_and_forget(),
            (Part::B, _) => self.rigs[1].cut_and_forget(),
        }
    }

    /// The processors of a node stand still, for good or until it loses its power.
    ///
    /// # Errors
    /// When it is off, or a board.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.rig(part)?.node.powered()?.qmp().stop()
    }

    /// Waits until the strip has taken the power of a node away.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_fenced(&mut self, part: Part) -> Result<()> {
        let [a, b] = &mut self.rigs;
        let rig = if part == Part::A { a } else { b };
        match rig.node.wait_off(LONG) {
            Ok(()) => rig.forget(),
            Err(error) => Err(error.context(self.witness_log())),
        }
    }

    /// Waits until the strip gives a node power again.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_fed(&self, part: Part) -> Result<()> {
        let ([one, two], _) = self.power.as_ref().context("there is no strip")?;
        let outlet = if part == Part::A { one } else { two };
        let begin = Instant::now();
        while !outlet.is_on_again() {
            ensure!(begin.elapsed() < LONG, "{} was not switched on\n{}", part.name(), self.witness_log());
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Cuts both networks between two parts, in one direction.
    pub fn cut_direction(&self, from: Part, to: Part) {
        self.rule(from, to, Rule::CUT);
    }

    /// Cuts both networks between two parts.
    pub fn cut(&self, one: Part, two: Part) {
        self.cut_direction(one, two);
        self.cut_direction(two, one);
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.networks.iter().for_each(Switch::heal);
    }

    fn rule(&self, from: Part, to: Part, rule: Rule) {
        let ports = (of(&self.ports, from), of(&self.ports, to));
        for ((network, from), to) in self.networks.iter().zip(ports.0).zip(ports.1) {
            network.rule(from, to, rule);
        }
    }

    /// Runs a command in a part that must end with exit code 0; gives what it printed.
    ///
    /// # Errors
    /// When it ends otherwise.
    pub fn command(&self, part: Part, command: &str) -> Result<String> {
        self.rig(part)?.shell.exit(0, command, COMMAND)
    }

    /// What `bulkhead status` says on a part; `None` while its agent does not answer.
    ///
    /// # Errors
    /// When the node does not answer at all.
    pub fn status(&self, part: Part) -> Result<Option<Value>> {
        let answer = self.rig(part)?.shell.run("bulkhead status --json", COMMAND)?;
        let json: Option<Value> = serde_json::from_str(&joined(&answer.text)).ok();
        Ok(json.and_then(|json| json.get("status").cloned()))
    }

    /// Waits until the status on a part is as wanted.
    ///
    /// # Errors
    /// When it is not for a long time; shows the last one and the events.
    pub fn wait(&self, part: Part, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < LONG {
            if let Some(status) = self.status(part)? {
                if wanted(&status) {
                    eprintln!("{:8.2} s  {}: {what}", begin.elapsed().as_secs_f64(), part.name());
                    return Ok(status);
                }
                last = Some(status);
            }
            std::thread::sleep(POLL);
        }
        let events = self.rig(part)?.shell.run("bulkhead events", COMMAND)?.text;
        let last = last.map_or_else(|| "no status".into(), |status| format!("{status:#}"));
        bail!("{}: not within {LONG:?}: {what}\n{last}\n{events}\n{}", part.name(), self.witness_log())
    }

    /// What the witness's board logged, and what came and went at its two ports.
    fn witness_log(&self) -> String {
        let Third::Board(device) = &self.third else { return String::new() };
        let [_, _, ports] = &self.ports;
        let counters = self.networks.iter().zip(ports).map(|(network, port)| network.counters(port));
        let counters: Vec<_> = counters.map(|counters| format!("{counters:?}")).collect();
        format!("the witness:\n{}\n{}", device.lines().join("\n"), counters.join("\n"))
    }

    /// Waits until a part has this role, for a reason in whose words `why` occurs.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_role(&self, part: Part, role: &str, why: &str) -> Result<Value> {
        self.wait(part, &format!("is {role}: {why}"), |status| {
            text(status, "/role") == role && text(status, "/reason").contains(why)
        })
    }

    /// Waits until any part may fail, as both nodes see it.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_protected(&self) -> Result<()> {
        for part in [Part::A, Part::B] {
            self.wait(part, "everything is protected", |status| {
                status.pointer("/protected") == Some(&Value::Bool(true))
            })?;
        }
        Ok(())
    }

    /// Waits until one of the two nodes is master and the other one its slave; which.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_master(&self) -> Result<Part> {
        let settled = |status: &Value| matches!(text(status, "/role"), "master" | "slave");
        let status = self.wait(Part::A, "one of two is master", settled)?;
        let is_a = text(&status, "/role") == "master";
        let (master, slave) = if is_a { (Part::A, Part::B) } else { (Part::B, Part::A) };
        self.wait_role(master, "master", "")?;
        self.wait_role(slave, "slave", "")?;
        Ok(master)
    }

    /// Everything that happened on a part since its agent started.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn events(&self, part: Part) -> Result<Vec<Value>> {
        let text = self.command(part, "bulkhead events --json")?;
        let mut json: Value = serde_json::from_str(&joined(&text))?;
        let events = json.get_mut("events").map(Value::take).unwrap_or_default();
        Ok(serde_json::from_value(events)?)
    }

    /// Waits until an event of this kind, with `words` in its text, happened on a part.
    ///
    /// # Errors
    /// When none does for a long time.
    pub fn wait_event(&self, part: Part, kind: &str, words: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let events = self.events(part)?;
            let found = |event: &Value| text(event, "/kind") == kind && text(event, "/text").contains(words);
            if events.iter().any(found) {
                return Ok(());
            }
            let texts: Vec<_> = events.iter().map(|event| text(event, "/text")).collect();
            ensure!(begin.elapsed() < LONG, "{}: no {kind} with {words:?} in {texts:#?}", part.name());
            std::thread::sleep(POLL);
        }
    }

    /// Looks for a while: the part keeps this role all the time.
    ///
    /// # Errors
    /// When it has another one, or does not answer.
    pub fn stays(&self, part: Part, role: &str, time: Duration) -> Result<()> {
        self.look(part, time, |now| now == role).with_context(|| format!("it was to stay {role}"))
    }

    /// Looks for a while: the part never has this role.
    ///
    /// # Errors
    /// When it has, or does not answer.
    pub fn stays_other_than(&self, part: Part, role: &str, time: Duration) -> Result<()> {
        self.look(part, time, |now| now != role).with_context(|| format!("it was not to be {role}"))
    }

    fn look(&self, part: Part, time: Duration, right: impl Fn(&str) -> bool) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            let status = self.status(part)?.with_context(|| format!("{}: no agent", part.name()))?;
            ensure!(right(text(&status, "/role")), "{}: {status:#}", part.name());
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Looks for a while: never are both nodes master. A is asked before and after B: master under one epoch
    /// both times, it was master all the while.
    ///
    /// # Errors
    /// When both are at one moment, or one does not answer.
    pub fn one_master_at_most(&self, time: Duration) -> Result<()> {
        let master = |part: Part| {
            let status = self.status(part)?.with_context(|| format!("{}: no agent", part.name()))?;
            let epoch = status.pointer("/epoch").and_then(Value::as_u64);
            Ok::<_, anyhow::Error>(epoch.filter(|_| text(&status, "/role") == "master"))
        };
        let begin = Instant::now();
        while begin.elapsed() < time {
            let (before, b, after) = (master(Part::A)?, master(Part::B)?, master(Part::A)?);
            ensure!(
                before.is_none() || before != after || b.is_none(),
                "two masters at once: a1 under epoch {before:?}, b1 under {b:?}"
            );
        }
        Ok(())
    }

    /// How often a part became master since its agent started.
    ///
    /// # Errors
    /// As [`Self::events`].
    pub fn times_master(&self, part: Part) -> Result<usize> {
        let events = self.events(part)?;
        let became = |event: &&Value| {
            let is = |at, word| text(event, at) == word;
            is("/kind", "role") && is("/office", "infra") && is("/role", "master")
        };
        Ok(events.iter().filter(became).count())
    }
}

/// One line again of what the console broke into several.
fn joined(text: &str) -> String {
    text.replace('\n', "")
}

/// A text in a status or an event; empty when it is not there.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Who votes on the register of the pair.
pub fn voters(status: &Value) -> Value {
    status.pointer("/pairs/0/voters").cloned().unwrap_or_default()
}

/// The epoch of the infra instance.
pub fn epoch(status: &Value) -> u64 {
    status.pointer("/epoch").and_then(Value::as_u64).unwrap_or_default()
}
