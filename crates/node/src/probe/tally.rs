//! How often each probe had which result, for `/metrics/probes`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// What is counted apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tally {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    /// `Startup`, `Readiness`, `Liveness`.
    pub(crate) kind: &'static str,
    /// `successful`, `failed`, `unknown`.
    pub(crate) result: &'static str,
}

/// The counts of the pods on this node.
#[derive(Debug, Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<Tally, u64>>);

impl Tallies {
    pub(super) fn count(&self, tally: Tally) {
        *self.lock().entry(tally).or_default() += 1;
    }

    /// The pod is gone, and so are its counts.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|tally, _| tally.uid != uid);
    }

    pub(crate) fn all(&self) -> Vec<(Tally, u64)> {
        self.lock().iter().map(|(tally, count)| (tally.clone(), *count)).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Tally, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
