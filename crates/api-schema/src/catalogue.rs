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
    /// Rises with each change.
    revision: u64,
}

fn path(spec: &ResourceSpec) -> (&str, &str, &str) {
    (&spec.group, &spec.version, &spec.plural)
}

fn kind(spec: &ResourceSpec) -> (&str, &str, &str) {
    (&spec.group, &spec.version, &spec.kind)
}

impl Rows {
    fn new(all: Vec<Arc<ResourceSpec>>, revision: u64) -> Self {
        let mut by_path: Vec<usize> = (0..all.len()).collect();
        let mut by_kind = by_path.clone();
        by_path.sort_by(|&a, &b| path(&all[a]).cmp(&path(&all[b])));
        by_kind.sort_by(|&a, &b| kind(&all[a]).cmp(&kind(&all[b])));
        Self { all, by_path, by_kind, revision }
    }
}

impl Catalogue {
    /// A catalogue with these rows, in the order in which discovery shows them.
    pub fn new(rows: Vec<ResourceSpec>) -> Self {
        let rows = Rows::new(rows.into_iter().map(Arc::new).collect(), 1);
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

    /// A number that rises when rows change: what is computed from all rows can
    /// be kept for as long as it stays. Read it before the rows.
    pub fn revision(&self) -> u64 {
        self.rows().revision
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
        *guard = Arc::new(Rows::new(all, guard.revision + 1));
    }

    /// Takes a row away; whether there was one.
    pub fn remove(&self, group: &str, version: &str, plural: &str) -> bool {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = guard.all.clone();
        let before = all.len();
        all.retain(|row| path(row) != (group, version, plural));
        let removed = all.len() < before;
        *guard = Arc::new(Rows::new(all, guard.revision + 1));
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, Hooks, Schema, ShapeRef};

    fn row(plural: &'static str) -> ResourceSpec {
        let schema = Arc::new(Schema::parse("x.A\n a 1 string".into()).expect("valid"));
        ResourceSpec {
            group: "g".into(),
            version: "v1".into(),
            plural: plural.into(),
            singular: plural.into(),
            kind: plural.to_uppercase().into(),
            list_kind: "".into(),
            namespaced: true,
            stored: true,
            verbs: Vec::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
            columns: Vec::new(),
            selectable: Vec::new(),
            shape: ShapeRef::find(&schema, "x.A").expect("there"),
            stored_as: None,
            allow_create_on_update: false,
            allow_unconditional_update: false,
            generation: Generation::None,
            hooks: Hooks::default(),
            custom: None,
        }
    }

    #[test]
    fn rows_come_and_go_while_running() {
        let catalogue = Catalogue::new(vec![row("b"), row("a")]);
        let names = |catalogue: &Catalogue| -> Vec<String> {
            catalogue.all().iter().map(|row| row.plural.to_string()).collect()
        };
        assert_eq!(names(&catalogue), ["b", "a"]);
        let revision = catalogue.revision();
        catalogue.insert(row("c"));
        assert!(catalogue.revision() > revision);
        assert_eq!(catalogue.by_kind("g", "v1", "C").expect("new").plural, "c");
        assert!(catalogue.find("g", "v1", "a").is_some());
        catalogue.insert(row("c"));
        assert_eq!(names(&catalogue), ["b", "a", "c"]);
        assert!(catalogue.remove("g", "v1", "b") && !catalogue.remove("g", "v1", "b"));
        assert!(catalogue.find("g", "v1", "b").is_none());
    }
}
