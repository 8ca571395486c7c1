//! Parts of a state that are cheap to copy and to compare: shared until one is changed, known by a digest.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A part of a state. Equal means: of equal digest.
pub struct Shared<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T> Shared<T> {
    /// Shares `value`; `hash` feeds all that tells it from others.
    pub fn new(value: T, hash: impl FnOnce(&T, &mut DefaultHasher)) -> Self {
        let mut hasher = DefaultHasher::new();
        hash(&value, &mut hasher);
        Self { digest: hasher.finish(), value: Arc::new(value) }
    }

    /// What is shared.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// What tells it from others.
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), digest: self.digest }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Eq for Shared<T> {}

impl<T> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Shared<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.digest.cmp(&other.digest)
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}
