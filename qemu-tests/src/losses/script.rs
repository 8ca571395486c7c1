//! Which losses follow each other, by a seed: each alone, then pairs of them in both orders, then as chance
//! will have it.

use std::collections::VecDeque;

use super::fault::{Kind, Loss};
use crate::switch::chance::Chance;

/// Losses at once at most, once chance decides.
const AT_ONCE: u64 = 3;

/// Losses one after the other, and then their repairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// In this order.
    pub losses: Vec<Loss>,
    /// The last one is repaired first.
    pub last_first: bool,
}

impl Act {
    /// What is lost, in order: what `--only` takes.
    #[must_use]
    pub fn name(&self) -> String {
        self.losses.iter().map(Loss::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Reads losses with commas in between.
///
/// # Errors
/// What of it is none, or cannot be lost once more.
pub fn parse_act(text: &str) -> Result<Act, String> {
    let mut losses = Vec::new();
    for word in text.split(',') {
        let loss: Loss = word.parse()?;
        if !follows(&losses, loss) {
            return Err(format!("{loss} cannot follow what stands before it: that is lost already"));
        }
        losses.push(loss);
    }
    Ok(Act { losses, last_first: false })
}

/// How much there is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each kind of loss once, and pairs that matter, until the time is over.
    Short,
    /// Each loss, all ordered pairs, then by chance, until the time is over.
    Long,
    /// These losses, act by act, again and again.
    Only(Vec<Vec<Loss>>),
}

/// The acts of a run, without an end.
#[derive(Debug)]
pub struct Script {
    chance: Chance,
    /// What is certain to come.
    planned: VecDeque<Act>,
    scope: Scope,
    /// Of those the ones that are carried out however long it takes.
    must: usize,
    pairs: usize,
    all: usize,
}

impl Script {
    /// The script of a seed.
    #[must_use]
    pub fn new(scope: Scope, seed: u64) -> Self {
        let mut chance = Chance::new(seed, 0);
        let (singles, pairs) = match &scope {
            Scope::Short => (one_of_each_kind(&mut chance), couples(&mut chance)),
            Scope::Long => {
                (shuffled(Loss::all().map(|loss| vec![loss]), &mut chance), all_pairs(&mut chance))
            }
            Scope::Only(acts) => (acts.clone(), Vec::new()),
        };
        // A pair that matters in both orders, at least.
        let must = match &scope {
            Scope::Short => singles.len() + 2,
            Scope::Long => 0,
            Scope::Only(acts) => acts.len(),
        };
        let count = pairs.len();
        let planned = singles.into_iter().chain(pairs);
        let planned: VecDeque<_> =
            planned.map(|losses| Act { losses, last_first: chance.below(2) == 0 }).collect();
        Self { chance, must, pairs: count, all: planned.len(), planned, scope }
    }

    /// How many acts there must be.
    #[must_use]
    pub const fn must(&self) -> usize {
        self.must
    }

    /// How many acts are planned, before chance decides.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.all
    }

    /// How many of them are pairs.
    #[must_use]
    pub const fn pairs(&self) -> usize {
        self.pairs
    }
}

impl Iterator for Script {
    type Item = Act;

    fn next(&mut self) -> Option<Act> {
        if let Some(act) = self.planned.pop_front() {
            return Some(act);
        }
        let last_first = self.chance.below(2) == 0;
        if let Scope::Only(acts) = &self.scope {
            self.planned = acts.iter().map(|losses| Act { losses: losses.clone(), last_first }).collect();
            return self.planned.pop_front();
        }
        let all: Vec<Loss> = Loss::all().collect();
        let count = 1 + self.chance.below(AT_ONCE);
        let mut losses = Vec::new();
        for _ in 0..count {
            let loss = pick(&all, &mut self.chance);
            losses.extend(loss.filter(|loss| follows(&losses, *loss)));
        }
        Some(Act { losses, last_first })
    }
}

/// Whether a loss may follow these: what was lost is not lost again, and the content of a store not while the
/// other node has not all of it.
#[must_use]
pub fn follows(before: &[Loss], loss: Loss) -> bool {
    let is_of_the_same =
        |one: &Loss| one.kind.is_a_process() && loss.kind.is_a_process() && one.of_leading == loss.of_leading;
    let keeps_both = |one: &Loss| matches!(one.kind, Kind::Guests | Kind::Witness | Kind::WitnessLink);
    let is_new = before.iter().all(|one| *one != loss && !is_of_the_same(one));
    is_new && (loss.kind != Kind::Store || before.iter().all(keeps_both))
}

fn one_of_each_kind(chance: &mut Chance) -> Vec<Vec<Loss>> {
    let loss = |kind: Kind| {
        let of_leading = !kind.is_of_a_node() || chance.below(2) == 0;
        vec![Loss { kind, of_leading }]
    };
    let all: Vec<_> = Kind::ALL.into_iter().map(loss).collect();
    shuffled(all, chance)
}

fn all_pairs(chance: &mut Chance) -> Vec<Vec<Loss>> {
    let pairs = Loss::all().flat_map(|one| Loss::all().map(move |other| [one, other]));
    let pairs = pairs.filter(|[one, other]| follows(&[*one], *other));
    shuffled(pairs.map(Vec::from), chance)
}

/// Pairs that last, in one order and then in the other.
fn couples(chance: &mut Chance) -> Vec<Vec<Loss>> {
    let lasting = || Loss::all().filter(|loss| loss.kind.lasts());
    let pairs = lasting().flat_map(|one| lasting().map(move |other| [one, other]));
    let pairs = pairs.filter(|[one, other]| one < other && follows(&[*one], *other));
    shuffled(pairs, chance)
        .into_iter()
        .flat_map(|[one, other]| [vec![one, other], vec![other, one]])
        .collect()
}

fn pick<T: Copy>(all: &[T], chance: &mut Chance) -> Option<T> {
    let place = chance.below(u64::try_from(all.len()).unwrap_or(0));
    all.get(usize::try_from(place).unwrap_or(0)).copied()
}

fn shuffled<T>(all: impl IntoIterator<Item = T>, chance: &mut Chance) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| (chance.below(u64::MAX), one)).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_says_all() {
        let names = |scope: Scope, seed| -> Vec<_> {
            Script::new(scope, seed).take(400).map(|act| (act.name(), act.last_first)).collect()
        };
        assert_eq!(names(Scope::Long, 7), names(Scope::Long, 7));
        assert_ne!(names(Scope::Long, 7), names(Scope::Long, 8));
        assert_ne!(names(Scope::Short, 7), names(Scope::Short, 8));
    }

    #[test]
    fn an_act_is_read_as_it_is_written() {
        let act = parse_act("power-leads,witness,link").unwrap();
        assert_eq!(act.name(), "power-leads,witness,link");
        for text in ["", "fire", "link,link", "power-leads,agent-leads", "power-leads,store-follows"] {
            parse_act(text).unwrap_err();
        }
        let mut script = Script::new(Scope::Only(vec![act.losses.clone(), vec![]]), 1);
        let names: Vec<_> = script.by_ref().take(3).map(|act| act.name()).collect();
        assert_eq!(names, [act.name(), String::new(), act.name()]);
    }

    #[test]
    fn all_pairs_that_can_be_come_in_both_orders() {
        let script = Script::new(Scope::Long, 3);
        let (all, pairs) = (script.all(), script.pairs());
        let planned: Vec<Act> = script.take(all).collect();
        let names: BTreeSet<String> = planned.iter().map(Act::name).collect();
        assert_eq!((all - pairs, names.len()), (15, all), "each of them once");
        for pair in ["power-leads,witness", "witness,power-leads", "link,link-x", "store-leads,power-leads"] {
            assert_eq!(names.contains(pair), !pair.ends_with("-x"), "{pair}");
        }
        // Both copies of what was acknowledged would be gone.
        assert!(!names.contains("power-leads,store-follows") && !names.contains("agent-leads,power-leads"));
    }

    #[test]
    fn the_short_one_has_each_kind_and_a_pair_in_both_orders() {
        for seed in 0..50 {
            let script = Script::new(Scope::Short, seed);
            let must = script.must();
            let acts: Vec<Act> = script.take(must).collect();
            let kinds: BTreeSet<Kind> =
                acts.iter().flat_map(|act| &act.losses).map(|loss| loss.kind).collect();
            assert_eq!((must, kinds.len()), (Kind::ALL.len() + 2, Kind::ALL.len()), "seed {seed}");
            let [one, other] = &acts[must - 2..] else { panic!("no pair") };
            let backwards: Vec<Loss> = other.losses.iter().rev().copied().collect();
            assert!(one.losses == backwards && one.losses.len() == 2, "seed {seed}");
        }
    }
}
