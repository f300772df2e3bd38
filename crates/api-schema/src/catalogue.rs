//! Every resource that is served, found by path or by kind.

use std::sync::{Arc, PoisonError, RwLock};

use crate::ResourceSpec;

/// The rows, which may change while the server runs (CustomResourceDefinitions).
/// Readers take an `Arc` of a row and keep it for as long as they need it.
#[derive(Debug, Default)]
pub struct Catalogue {
    rows: RwLock<Arc<Rows>>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    /// In the order of discovery.
    all: Vec<Arc<ResourceSpec>>,
    /// Numbers in `all`, sorted by path.
    by_path: Vec<usize>,
    /// Numbers in `all`, sorted by kind; the first row of a kind wins.
    by_kind: Vec<usize>,
}

fn path(spec: &ResourceSpec) -> (&str, &str, &str) {
    (&spec.group, &spec.version, &spec.plural)
}

fn kind(spec: &ResourceSpec) -> (&str, &str, &str) {
    (&spec.group, &spec.version, &spec.kind)
}

impl Rows {
    fn new(all: Vec<Arc<ResourceSpec>>) -> Self {
        let mut by_path: Vec<usize> = (0..all.len()).collect();
        let mut by_kind = by_path.clone();
        by_path.sort_by(|&a, &b| path(&all[a]).cmp(&path(&all[b])));
        by_kind.sort_by(|&a, &b| kind(&all[a]).cmp(&kind(&all[b])));
        Self { all, by_path, by_kind }
    }
}

impl Catalogue {
    /// A catalogue with these rows, in the order in which discovery shows them.
    pub fn new(rows: Vec<ResourceSpec>) -> Self {
        let rows = Rows::new(rows.into_iter().map(Arc::new).collect());
        Self { rows: RwLock::new(Arc::new(rows)) }
    }

    fn rows(&self) -> Arc<Rows> {
        // A writer replaces the whole value, so a poisoned lock holds a good one.
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The resource under `/apis/{group}/{version}/{plural}`; the core group is empty.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<ResourceSpec>> {
        let rows = self.rows();
        let at = rows
            .by_path
            .binary_search_by(|&row| path(&rows.all[row]).cmp(&(group, version, plural)))
            .ok()?;
        Some(rows.all[rows.by_path[at]].clone())
    }

    /// The resource whose objects say `apiVersion: group/version` and this kind.
    pub fn by_kind(&self, group: &str, version: &str, name: &str) -> Option<Arc<ResourceSpec>> {
        let rows = self.rows();
        let at = rows.by_kind.partition_point(|&row| kind(&rows.all[row]) < (group, version, name));
        let spec = &rows.all[*rows.by_kind.get(at)?];
        (kind(spec) == (group, version, name)).then(|| spec.clone())
    }

    /// All rows in the order of discovery.
    pub fn all(&self) -> Vec<Arc<ResourceSpec>> {
        self.rows().all.clone()
    }

    /// Adds a row, or replaces the one with the same path.
    pub fn insert(&self, spec: ResourceSpec) {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = guard.all.clone();
        match all.iter_mut().find(|row| path(row) == path(&spec)) {
            Some(row) => *row = Arc::new(spec),
            None => all.push(Arc::new(spec)),
        }
        *guard = Arc::new(Rows::new(all));
    }

    /// Takes a row away; whether there was one.
    pub fn remove(&self, group: &str, version: &str, plural: &str) -> bool {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = guard.all.clone();
        let before = all.len();
        all.retain(|row| path(row) != (group, version, plural));
        let removed = all.len() < before;
        *guard = Arc::new(Rows::new(all));
        removed
    }
}
