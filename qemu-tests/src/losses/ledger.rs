//! What guests said to be durable, written down outside of their site, over all their lives on all nodes: a
//! life that finds less than another one kept has lost writes, and two at once find each other out (V1, V23;
//! I2, I5). The words are those of `qemu-tests/bare-guest`.

use std::collections::BTreeMap;

use super::fault::Node;

/// One life of a guest, from its begin with its kernel to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Life {
    /// The last number that it found on its disk; `None`: it has not looked yet.
    found: Option<u32>,
    /// The last number that it said to be durable.
    kept: Option<u32>,
}

impl Life {
    fn reached(self) -> u32 {
        self.kept.or(self.found).unwrap_or(0)
    }
}

/// The lives of one guest.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// On each node, the last one at the end.
    lives: BTreeMap<Node, Vec<Life>>,
    /// Behind the last line that is whole.
    open: BTreeMap<Node, String>,
    wrong: Option<String>,
    newest: u32,
}

impl Ledger {
    /// Writes down what it said next on a node; returns whether it kept more than ever.
    pub fn hear(&mut self, node: Node, said: &str) -> bool {
        let before = self.newest;
        let mut text = self.open.remove(&node).unwrap_or_default();
        text.push_str(said);
        let (whole, open) = text.rsplit_once('\n').map_or(("", text.as_str()), |(whole, open)| (whole, open));
        for line in whole.lines() {
            self.line(node, line);
        }
        self.open.insert(node, open.to_owned());
        before < self.newest
    }

    fn line(&mut self, node: Node, line: &str) {
        // What was cut off as its process died stands in front of the first line of the next life.
        let Some((_, words)) = line.rsplit_once("bare: ") else { return };
        let lives = self.lives.entry(node).or_default();
        let number = |word: &str| words.strip_prefix(word)?.trim().parse::<u32>().ok();
        if words.trim() == "begins" {
            lives.push(Life::default());
        } else if words.starts_with("jump:") || words.starts_with("wrong:") || words.trim() == "is off" {
            self.wrong.get_or_insert_with(|| format!("on {} it says `{}`", node.name(), words.trim()));
        } else if let (Some(found), Some(life)) = (number("found "), lives.last_mut()) {
            life.found = Some(found);
        } else if let (Some(kept), Some(life)) = (number("kept "), lives.last_mut()) {
            if kept <= life.reached() {
                let behind = life.reached();
                self.wrong
                    .get_or_insert_with(|| format!("on {} it kept {kept} behind {behind}", node.name()));
            }
            life.kept = Some(kept);
            self.newest = self.newest.max(kept);
        }
    }

    /// The newest number that was said to be durable.
    #[must_use]
    pub const fn newest(&self) -> u32 {
        self.newest
    }

    /// How often it began on a node.
    #[must_use]
    pub fn lives(&self, node: Node) -> usize {
        self.lives.get(&node).map_or(0, Vec::len)
    }

    /// Whether all that it kept was found by whatever life came next. Lives are in the order of what they
    /// found: of two that overlap, the later one has found less than the earlier one kept.
    ///
    /// # Errors
    /// What is missing, or what the guest itself found to be wrong.
    pub fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let all = self.lives.iter().flat_map(|(node, lives)| lives.iter().map(move |life| (*node, *life)));
        let mut all: Vec<_> =
            all.filter_map(|(node, life)| Some((life.found?, life.reached(), node))).collect();
        all.sort_unstable();
        for (before, next) in all.iter().zip(all.iter().skip(1)) {
            let ((_, kept, there), (found, _, here)) = (before, next);
            if found < kept {
                let (here, there) = (here.name(), there.name());
                return Err(format!("it kept {kept} on {there}, and a life on {here} found {found}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(said: &[(Node, &str)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (node, said) in said {
            ledger.hear(*node, said);
        }
        ledger
    }

    #[test]
    fn a_life_that_finds_what_was_kept_is_well() {
        let ledger = heard(&[
            (Node::A, "bare: begins\nbare: found 0\nbare: kept 8\nbare: ke"),
            (Node::B, "bare: begins\nbare: found 11\nbare: kept 16\n"),
            // Its last line was cut off, and was not said.
            (Node::A, "pt 1bare: begins\nbare: found 16\n"),
        ]);
        assert_eq!((ledger.newest(), ledger.lives(Node::A), ledger.lives(Node::B)), (16, 2, 1));
        assert_eq!(ledger.check(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_seen() {
        let lost = heard(&[
            (Node::A, "bare: begins\nbare: found 0\nbare: kept 16\n"),
            (Node::B, "bare: begins\nbare: found 15\n"),
        ]);
        assert!(lost.check().unwrap_err().contains("kept 16 on a1, and a life on b1 found 15"));
        let older = heard(&[
            (Node::A, "bare: begins\nbare: found 0\nbare: kept 16\n"),
            (Node::A, "bare: begins\nbare: found 0\nbare: kept 8\n"),
        ]);
        assert!(older.check().is_err());
    }

    #[test]
    fn two_at_once_are_seen() {
        let both = heard(&[
            (Node::A, "bare: begins\nbare: found 8\nbare: kept 32\n"),
            (Node::B, "bare: begins\nbare: found 16\nbare: kept 24\n"),
        ]);
        assert!(both.check().is_err());
    }

    #[test]
    fn what_the_guest_finds_counts() {
        for words in ["jump: the disk has 9, memory 8", "wrong: request 0", "is off"] {
            let ledger = heard(&[(Node::A, &format!("bare: begins\nbare: {words}\n"))]);
            assert!(ledger.check().unwrap_err().contains(words), "{words}");
        }
        let again = heard(&[(Node::A, "bare: begins\nbare: found 0\nbare: kept 8\nbare: kept 8\n")]);
        assert!(again.check().unwrap_err().contains("kept 8 behind 8"));
    }
}
