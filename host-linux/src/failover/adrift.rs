//! Guests that were given to another pair and not heard to run there: nobody here wants them, and perhaps
//! nobody there does. So it is said until somebody has looked (S0-11, X15, X25).

use super::service::Settings;
use crate::guests::own_volume::contents::Contents;
use crate::guests::own_volume::moving::Moving;
use crate::guests::own_volume::served::{Access, Served};
use crate::guests::own_volume::{self as own};
use crate::guests::record::Way;
use bulkhead_core::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often those are looked at again that are adrift.
const AGAIN: Duration = Duration::from_secs(5);
/// Guests that are looked at by one thread, one behind the other.
const AT_ONCE: usize = 16;

/// A guest that nobody wants, by its name and how often its record in the catalogue was changed.
pub type Unwanted = (String, u64);

/// What their own volumes say of them: read once for each change of what is wanted, for it takes a while.
#[derive(Debug, Default)]
pub struct Adrift {
    looked: BTreeMap<String, (u64, Option<String>)>,
    is_looking: bool,
    again: Instant,
}

impl Adrift {
    /// Those of these that are to be looked at now; none while others are.
    pub fn next(&mut self, now: Instant, unwanted: &[Unwanted]) -> Vec<Unwanted> {
        self.looked.retain(|name, (change, _)| unwanted.iter().any(|it| it.0 == *name && it.1 == *change));
        if self.is_looking {
            return Vec::new();
        }
        let is_due = self.again <= now;
        let is_next = |(name, _): &&Unwanted| match self.looked.get(name) {
            None => true,
            Some((_, why)) => is_due && why.is_some(),
        };
        let next: Vec<_> = unwanted.iter().filter(is_next).take(AT_ONCE).cloned().collect();
        self.is_looking = !next.is_empty();
        if is_due {
            self.again = now.after(AGAIN);
        }
        next
    }

    /// This was found; `None`: there was nobody to look.
    pub fn found(&mut self, found: Option<Vec<(Unwanted, Option<String>)>>) {
        self.is_looking = false;
        let found = found.into_iter().flatten();
        self.looked.extend(found.map(|((name, change), why)| (name, (change, why))));
    }

    /// Why nobody may know where a guest runs, in words.
    pub fn why(&self, guest: &str) -> Option<&str> {
        self.looked.get(guest)?.1.as_deref()
    }
}

/// Looks at one; `None`: nothing is to be said of it, or its volume cannot be read, which others say.
pub fn look(settings: &Settings, guest: &str) -> Option<String> {
    let volume = own::name(guest).ok()?;
    let contents = Contents::open(Served::connect(&settings.volumes, &volume, Access::Look).ok()?).ok()?;
    let moving = Moving::load(guest, &contents).ok()??;
    let Moving { node, .. } = &moving;
    (moving.way == Way::To && !moving.heard).then(|| format!("given to {node}, and not heard to run there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is looked at once for what is wanted of it, and again while something is to be said.
    #[test]
    fn those_are_looked_at_of_which_something_may_be_new() {
        let mut adrift = Adrift::default();
        let at = Instant::from_millis;
        let guest = |name: &str, change| (name.to_owned(), change);
        let all = [guest("a", 1), guest("b", 1)];
        assert_eq!(adrift.next(at(1), &all), all);
        assert_eq!(adrift.next(at(2), &all), [], "somebody looks");
        let why = Some("given to c1".to_owned());
        adrift.found(Some(vec![(guest("a", 1), None), (guest("b", 1), why.clone())]));
        assert_eq!((adrift.why("a"), adrift.why("b")), (None, Some("given to c1")));
        assert_eq!(adrift.next(at(3), &all), []);
        assert_eq!(adrift.next(at(6000), &all), [guest("b", 1)]);
        adrift.found(Some(vec![(guest("b", 1), None)]));
        assert_eq!(adrift.next(at(12_000), &all), []);
        assert_eq!(adrift.why("b"), None);
        let all = [guest("a", 1), guest("b", 2)];
        assert_eq!(adrift.next(at(12_001), &all), [guest("b", 2)], "something else is wanted");
        adrift.found(None);
        assert_eq!(adrift.next(at(12_002), &all), [guest("b", 2)], "nobody has looked");
        adrift.found(Some(vec![(guest("b", 2), why)]));
        assert_eq!(adrift.next(at(12_003), &all[..1]), []);
        assert_eq!(adrift.why("b"), None, "it is wanted, or deleted");
        let many: Vec<_> = (0..40).map(|number| guest(&format!("g{number}"), 1)).collect();
        assert_eq!(adrift.next(at(12_004), &many).len(), AT_ONCE);
    }
}
