//! Every resource that is served, found by path or by kind.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use api_object::version_preference;

use crate::{ResourceSpec, ShapeRef};

/// The rows, which may change while the server runs (CustomResourceDefinitions).
/// Readers take an `Arc` of a row and keep it for as long as they need it.
#[derive(Default)]
pub struct Catalogue {
    rows: RwLock<Arc<Rows>>,
    listeners: Mutex<Vec<Listener>>,
}

type Listener = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalogue(revision {})", self.revision())
    }
}

#[derive(Clone, Debug, Default)]
struct Rows {
    /// In the order of discovery.
    all: Vec<Arc<ResourceSpec>>,
    /// Numbers in `all`, sorted by path.
    by_path: Vec<usize>,
    /// Numbers in `all`, sorted by kind; the first row of a kind wins.
    by_kind: Vec<usize>,
    /// The groups that were there from the start, which come first.
    first_groups: Arc<[String]>,
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
    fn new(all: Vec<Arc<ResourceSpec>>, first_groups: Arc<[String]>, revision: u64) -> Self {
        let mut by_path: Vec<usize> = (0..all.len()).collect();
        let mut by_kind = by_path.clone();
        by_path.sort_by(|&a, &b| path(&all[a]).cmp(&path(&all[b])));
        by_kind.sort_by(|&a, &b| kind(&all[a]).cmp(&kind(&all[b])));
        Self { all, by_path, by_kind, first_groups, revision }
    }
}

impl Catalogue {
    /// A catalogue with these rows, in the order in which discovery shows them.
    pub fn new(rows: Vec<ResourceSpec>) -> Self {
        let mut first: Vec<String> = Vec::new();
        for row in &rows {
            if !first.iter().any(|group| *group == *row.group) {
                first.push(row.group.to_string());
            }
        }
        let rows = Rows::new(rows.into_iter().map(Arc::new).collect(), first.into(), 1);
        Self { rows: RwLock::new(Arc::new(rows)), listeners: Mutex::default() }
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

    /// The shape of a type that belongs to no row (`meta/v1.Status`), from the
    /// first row whose schema has it.
    pub fn shape(&self, name: &str) -> Option<ShapeRef> {
        self.rows().all.iter().find_map(|row| ShapeRef::find(&row.shape.schema, name))
    }

    /// A number that rises when rows change: what is computed from all rows can
    /// be kept for as long as it stays. Read it before the rows.
    pub fn revision(&self) -> u64 {
        self.rows().revision
    }

    /// Every group with its versions, as discovery prefers them: groups that were
    /// there from the start in their order, then the others by name; stable and
    /// newer versions first.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let rows = self.rows();
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for row in &rows.all {
            let versions = groups.entry(&row.group).or_default();
            if !versions.iter().any(|version| *version == *row.version) {
                versions.push(row.version.to_string());
            }
        }
        let place = |group: &str| rows.first_groups.iter().position(|first| first == group);
        let mut groups: Vec<(String, Vec<String>)> = groups
            .into_iter()
            .map(|(group, mut versions)| {
                versions.sort_by(|a, b| version_preference(a).cmp(&version_preference(b)));
                (group.to_owned(), versions)
            })
            .collect();
        // Stable: what has no place stays sorted by name.
        groups.sort_by_key(|(group, _)| place(group).unwrap_or(usize::MAX));
        groups
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
        *guard = Arc::new(Rows::new(all, guard.first_groups.clone(), guard.revision + 1));
        drop(guard);
        self.tell();
    }

    /// Serves these versions of a custom kind in place of those that were
    /// served. Rows of built-in kinds are never replaced.
    pub fn serve(&self, group: &str, plural: &str, versions: Vec<ResourceSpec>) {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = guard.all.clone();
        all.retain(|row| row.custom.is_none() || row.group != group || row.plural != plural);
        for spec in versions {
            if !all.iter().any(|row| path(row) == path(&spec)) {
                all.push(Arc::new(spec));
            }
        }
        *guard = Arc::new(Rows::new(all, guard.first_groups.clone(), guard.revision + 1));
        drop(guard);
        self.tell();
    }

    /// Has `told` called after every change.
    pub fn on_change(&self, told: impl Fn() + Send + Sync + 'static) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(told));
    }

    fn tell(&self) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|told| told());
    }

    /// Takes a row away; whether there was one.
    pub fn remove(&self, group: &str, version: &str, plural: &str) -> bool {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = guard.all.clone();
        let before = all.len();
        all.retain(|row| path(row) != (group, version, plural));
        let removed = all.len() < before;
        *guard = Arc::new(Rows::new(all, guard.first_groups.clone(), guard.revision + 1));
        drop(guard);
        self.tell();
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Generation, Hooks, Schema};

    fn row_of(group: &'static str, version: &'static str) -> ResourceSpec {
        ResourceSpec { group: group.into(), version: version.into(), ..row("a") }
    }

    #[test]
    fn groups_of_the_start_come_first() {
        let catalogue = Catalogue::new(vec![row_of("", "v1"), row_of("apps", "v1")]);
        for (group, version) in
            [("b.io", "v1"), ("b.io", "v1beta1"), ("b.io", "v2"), ("a.io", "v1")]
        {
            catalogue.insert(row_of(group, version));
        }
        let groups: Vec<String> = catalogue
            .groups()
            .into_iter()
            .map(|(group, versions)| format!("{group} {}", versions.join(",")))
            .collect();
        assert_eq!(groups, [" v1", "apps v1", "a.io v1", "b.io v2,v1,v1beta1"]);
    }

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
            deprecation: None,
            allow_create_on_update: false,
            allow_unconditional_update: false,
            status_on_create: false,
            answers_deleted: false,
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
