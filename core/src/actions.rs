//! The answer of one step: a short, bounded list of things the shell must do.

/// Up to `N` actions, in the order the shell must start them.
#[must_use = "an action that is not carried out is a broken promise to a peer or a guest"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions<A, const N: usize> {
    items: heapless::Vec<A, N>,
}

impl<A, const N: usize> Default for Actions<A, N> {
    fn default() -> Self {
        Self { items: heapless::Vec::new() }
    }
}

impl<A, const N: usize> Actions<A, N> {
    /// Nothing to do.
    pub const fn none() -> Self {
        Self { items: heapless::Vec::new() }
    }

    /// Appends `action`.
    ///
    /// # Panics
    ///
    /// If a step returns more than `N` actions. `N` is a bound proved by the tests of the machine, so this is
    /// a defect in the core, never a condition of the outside world.
    pub fn push(&mut self, action: A) {
        let pushed = self.items.push(action).is_ok();
        assert!(pushed, "a step returned more actions than its documented bound");
    }

    /// The actions in order.
    pub fn iter(&self) -> core::slice::Iter<'_, A> {
        self.items.iter()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<A, const N: usize> IntoIterator for Actions<A, N> {
    type Item = A;
    type IntoIter = <heapless::Vec<A, N> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}
