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

/// How much there is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each kind of loss once, and pairs that matter, until the time is over.
    Short,
    /// Each loss, all ordered pairs, then by chance, until the time is over.
    Long,
    /// These losses again and again.
    Only(Vec<Loss>),
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
            Scope::Only(_) => (Vec::new(), Vec::new()),
        };
        // A pair that matters in both orders, at least.
        let must = singles.len() + if scope == Scope::Short { 2 } else { 0 };
        let count = pairs.len();
        let planned = singles.into_iter().chain(pairs);
        let planned = planned.map(|losses| Act { losses, last_first: chance.below(2) == 0 }).collect();
        Self { chance, planned, scope, must, pairs: count }
    }

    /// How many acts there must be.
    #[must_use]
    pub const fn must(&self) -> usize {
        self.must
    }

    /// How many pairs are planned.
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
        if let Scope::Only(losses) = &self.scope {
            return Some(Act { losses: losses.clone(), last_first });
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
    fn all_pairs_that_can_be_come_in_both_orders() {
        let script = Script::new(Scope::Long, 3);
        let (must, pairs) = (script.must(), script.pairs());
        let planned: Vec<Act> = script.take(must + pairs).collect();
        let names: BTreeSet<String> = planned.iter().map(Act::name).collect();
        assert_eq!((must, names.len()), (15, must + pairs), "each of them once");
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
