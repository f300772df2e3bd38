//! Server-side apply: who manages which field of an object, and what becomes of
//! object and managers when somebody applies a configuration or updates.
//!
//! All of it is pure: values in, values out; a time comes in as text. Built-in
//! and custom kinds are the same thing here, a [`Schema`] and a shape in it.
//! Start reading at [`Change`], whose two methods are the two kinds of writes;
//! then `node`, which says how each place of an object is shared.

mod check;
mod compare;
mod conflict;
mod extract;
mod fields_v1;
mod last_applied;
mod managers;
mod merge;
mod node;
mod path;
mod remove;
mod scale;
mod set;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api_object::Status;
use serde_json::Value;

pub use compare::Difference;
pub use conflict::Conflicts;
pub use managers::{Manager, ManagerId, Managers, Operation};
pub use path::Step;
pub use set::FieldSet;

use crate::{Schema, ShapeRef};
use node::Node;

/// Whom the fields belong to that are there before the first apply to an object
/// that nobody managed.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The versions of a kind, for managers that named their fields in another one.
pub trait Versions {
    /// The shape of the kind in a version, and an object of the change's own
    /// version converted to it. `None` where the version is not served any more.
    fn convert(&self, object: &Value, api_version: &str) -> Option<(ShapeRef, Value)>;

    /// The way back.
    fn convert_back(&self, object: Value, api_version: &str) -> Option<Value>;
}

/// For kinds with one version: all others are gone.
#[derive(Clone, Copy, Debug)]
pub struct OnlyVersion;

impl Versions for OnlyVersion {
    fn convert(&self, _: &Value, _: &str) -> Option<(ShapeRef, Value)> {
        None
    }

    fn convert_back(&self, _: Value, _: &str) -> Option<Value> {
        None
    }
}

/// A write, as far as managers go.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// The shape of the object.
    pub shape: &'a ShapeRef,
    /// Its version, `apps/v1`.
    pub api_version: &'a str,
    /// The other versions of its kind.
    pub versions: &'a dyn Versions,
    /// Who writes.
    pub manager: &'a str,
    /// The subresource that is written through; empty for the object itself.
    pub subresource: &'a str,
    /// What the server sets whatever this write says, so that nobody manages it.
    pub ignored: &'a FieldSet,
    /// The time of the write, RFC 3339 in seconds.
    pub time: &'a str,
}

/// What became of an apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object with the configuration merged, not yet defaulted or checked.
    pub object: Value,
    /// Its managers.
    pub managers: Managers,
}

/// Why an apply did not happen.
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyError {
    /// Others manage what it would change.
    Conflicts(Conflicts),
    /// The configuration is no object of the kind: the fault, in upstream's words.
    Malformed(String),
}

impl ApplyError {
    /// As clients are told. A malformed configuration is upstream's bare 500.
    pub fn status(&self) -> Status {
        match self {
            Self::Conflicts(conflicts) => conflicts.status(),
            Self::Malformed(why) => Status::failure(api_object::Reason::Unknown, why.clone()),
        }
    }
}

/// An object with a piece of one merged into it as an apply would, but that nobody
/// becomes the manager of anything: what mutating policies do (KEP-3962).
///
/// # Errors
/// The piece is none of such an object, or replaces a whole that may hold more than
/// it names; in upstream's words.
pub fn mutated(shape: &ShapeRef, object: Value, mut piece: Value) -> Result<Value, String> {
    let (schema, root) = (&*shape.schema, Node::Struct(shape.id));
    check::check(schema, shape.id, &mut piece)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut whole = Vec::new();
    find_whole(schema, root, &piece, &mut String::new(), &mut whole);
    if !whole.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            whole.join(", ")
        ));
    }
    Ok(merge::merge(schema, root, object, &piece))
}

/// The places of lists and maps that have one owner.
fn find_whole(
    schema: &Schema,
    node: Node,
    value: &Value,
    path: &mut String,
    found: &mut Vec<String>,
) {
    let len = path.len();
    match (node, value) {
        (Node::Whole, Value::Object(_) | Value::Array(_)) => found.push(path.clone()),
        (Node::Struct(_), Value::Object(map)) => {
            for (name, value) in map {
                if let Some((inner, true)) = node.entry(schema, name) {
                    path.push('.');
                    path.push_str(name);
                    find_whole(schema, inner, value, path, found);
                    path.truncate(len);
                }
            }
        }
        (Node::Set(_) | Node::Keyed(..), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                find_whole(schema, node.element(schema), item, path, found);
                path.truncate(len);
            }
        }
        _ => {}
    }
}

impl Change<'_> {
    fn schema(&self) -> &Schema {
        &self.shape.schema
    }

    fn root(&self) -> Node {
        Node::Struct(self.shape.id)
    }

    /// Where two objects of the change's version differ.
    pub fn difference(&self, old: &Value, new: &Value) -> Difference {
        compare::compare(self.schema(), self.root(), old, new)
    }

    /// The managers after an update from `old` to `new`; for a create, `old` is
    /// the object with nothing set. Objects that nobody manages stay so, except
    /// in a create.
    pub fn update(&self, old: &Value, new: &Value, managers: Managers, create: bool) -> Managers {
        if managers.is_empty() && !create {
            return managers;
        }
        self.recorded(old, new, managers, self.manager)
    }

    fn recorded(&self, old: &Value, new: &Value, managers: Managers, name: &str) -> Managers {
        let mut managers = self.reconciled(managers);
        let difference = self.difference(old, new);
        // Another entry of the same manager loses what it gains here, so all others are asked.
        self.settle(old, new, &difference, &mut managers, None);
        let taken = difference.changed.recursive_difference(self.ignored);
        let taken = without_system(taken);
        if !taken.is_empty() {
            let id = ManagerId::updater(name, self.api_version, self.subresource);
            let fields = match managers.take(&id) {
                Some(before) => before.fields.union(&taken),
                None => taken,
            };
            let api_version = self.api_version.to_owned();
            managers.put(Manager { id, api_version, time: self.time.to_owned(), fields });
        }
        managers.cap();
        managers
    }

    /// Merges a configuration into `live`. `force` takes over what others manage.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub fn apply(
        &self,
        live: &Value,
        mut config: Value,
        mut managers: Managers,
        force: bool,
    ) -> Result<Applied, ApplyError> {
        check::check(self.schema(), self.shape.id, &mut config).map_err(ApplyError::Malformed)?;
        if managers.is_empty() {
            let nothing = self.schema().zero_struct(self.shape.id);
            managers = self.recorded(&nothing, live, managers, BEFORE_FIRST_APPLY);
        }
        let managers = self.reconciled(managers);
        match self.merged(live, &config, managers.clone(), force) {
            Err(conflicts) if self.manager == "kubectl" => {
                // Who moves from client-side to server-side apply keeps what it applied before.
                let Some(allowed) = self.last_applied(live) else {
                    return Err(ApplyError::Conflicts(conflicts));
                };
                if !conflicts.fields().difference(&allowed).is_empty() {
                    return Err(ApplyError::Conflicts(conflicts.without(&allowed)));
                }
                self.merged(live, &config, managers, true).map_err(ApplyError::Conflicts)
            }
            other => other.map_err(ApplyError::Conflicts),
        }
        .map(|mut applied| {
            if self.manager == "kubectl" {
                last_applied::follow(&mut applied.object, &config);
            }
            applied
        })
    }

    fn merged(
        &self,
        live: &Value,
        config: &Value,
        mut managers: Managers,
        force: bool,
    ) -> Result<Applied, Conflicts> {
        let id = ManagerId::applier(self.manager, self.subresource);
        let set = extract::extract(self.schema(), self.root(), config).1;
        let set = set.recursive_difference(self.ignored);
        let last = managers.take(&id);
        let api_version = self.api_version.to_owned();
        let time = last.as_ref().map(|last| last.time.clone()).unwrap_or_default();
        // Most applies name all that they named before.
        let lets_go = last.filter(|last| {
            last.api_version != self.api_version || !last.fields.difference(&set).is_empty()
        });
        managers.put(Manager { id: id.clone(), api_version, time, fields: set });
        let merged = merge::merge(self.schema(), self.root(), live.clone(), config);
        let object = match lets_go {
            Some(last) => self.pruned(merged, &managers, &last),
            None => merged,
        };
        let difference = self.difference(live, &object);
        let conflicts = self.settle(live, &object, &difference, &mut managers, Some(&id));
        if !force && !conflicts.is_empty() {
            return Err(Conflicts(conflicts));
        }
        if let Some(mut own) = managers.take(&id) {
            own.fields = without_system(own.fields);
            if *live != object || own.time.is_empty() {
                self.time.clone_into(&mut own.time);
            }
            if !own.fields.is_empty() {
                managers.put(own);
            }
        }
        Ok(Applied { object, managers })
    }

    /// Takes from the managers (but `writer`) what changed or is gone, and gives
    /// what they would have kept had nobody changed it.
    fn settle(
        &self,
        old: &Value,
        new: &Value,
        difference: &Difference,
        managers: &mut Managers,
        writer: Option<&ManagerId>,
    ) -> Vec<(ManagerId, FieldSet)> {
        let mut conflicts = Vec::new();
        let mut others: Vec<(String, Option<Difference>)> = Vec::new();
        managers.all.retain_mut(|manager| {
            if writer == Some(&manager.id) {
                return true;
            }
            let difference = if manager.api_version == self.api_version {
                difference
            } else {
                let known = others.iter().position(|(version, _)| *version == manager.api_version);
                let at = known.unwrap_or_else(|| {
                    let version = manager.api_version.clone();
                    let difference = self.difference_at(&version, old, new);
                    others.push((version, difference));
                    others.len() - 1
                });
                match &others[at].1 {
                    Some(difference) => difference,
                    // Fields named in a version that is gone say nothing.
                    None => return false,
                }
            };
            // The server sets these whatever is written, so nobody changes them.
            let changed = manager.fields.meets(&difference.changed).then(|| {
                let changed = difference.changed.recursive_difference(self.ignored);
                manager.fields.intersection(&changed)
            });
            if let Some(lost) = changed.filter(|lost| !lost.is_empty()) {
                manager.fields = manager.fields.difference(&lost);
                conflicts.push((manager.id.clone(), lost));
            }
            if manager.fields.meets(&difference.removed) {
                let removed = difference.removed.recursive_difference(self.ignored);
                manager.fields = manager.fields.difference(&removed);
            }
            !manager.fields.is_empty()
        });
        conflicts
    }

    fn difference_at(&self, version: &str, old: &Value, new: &Value) -> Option<Difference> {
        let (old, new) = self.at(version, old).zip(self.at(version, new))?;
        let root = Node::Struct(old.shape.id);
        Some(compare::compare(&old.shape.schema, root, &old.value, &new.value))
    }

    /// Without what the writer applied last and does not any more, unless
    /// somebody else manages it.
    fn pruned(&self, merged: Value, managers: &Managers, last: &Manager) -> Value {
        let Some(there) = self.at(&last.api_version, &merged) else { return merged };
        let before = there.named(&last.fields);
        // First all of it goes, then what somebody manages comes back, then what only
        // went with something else.
        let Some(mut pruned) = self.back(there.without(&before), &last.api_version) else {
            return merged;
        };
        for version in managers.versions(&last.api_version) {
            let managed = managers.fields_in(version);
            let both = self.at(version, &merged).zip(self.at(version, &pruned));
            let Some((merged, rest)) = both else { continue };
            let kept = rest.fields().union(&merged.named(&managed));
            let back = merged.without(&merged.fields().difference(&kept));
            pruned = self.back(back, version).unwrap_or(pruned);
        }
        let Some(kept) = self.at(&last.api_version, &pruned) else { return merged };
        let gone = there.fields().difference(&kept.fields()).intersection(&before);
        self.back(there.without(&gone), &last.api_version).unwrap_or(merged)
    }

    fn at<'v>(&self, version: &str, object: &'v Value) -> Option<Typed<'v>> {
        if version == self.api_version {
            return Some(Typed { shape: self.shape.clone(), value: Cow::Borrowed(object) });
        }
        let (shape, value) = self.versions.convert(object, version)?;
        Some(Typed { shape, value: Cow::Owned(value) })
    }

    fn back(&self, object: Value, version: &str) -> Option<Value> {
        match version == self.api_version {
            true => Some(object),
            false => self.versions.convert_back(object, version),
        }
    }

    fn reconciled(&self, mut managers: Managers) -> Managers {
        for manager in &mut managers.all {
            let root = Some(self.root());
            let own = manager.api_version == self.api_version;
            if own && !extract::is_reconciled(self.schema(), root, &manager.fields) {
                manager.fields = extract::reconciled(self.schema(), root, &manager.fields);
            }
        }
        managers
    }

    /// The fields that kubectl's client-side apply wrote last and nobody changed
    /// since; `None` where there is no record of it.
    fn last_applied(&self, live: &Value) -> Option<FieldSet> {
        let mut config = last_applied::read(live)?;
        if crate::tree::text(&config, "apiVersion") != self.api_version {
            return None;
        }
        check::check(self.schema(), self.shape.id, &mut config).ok()?;
        let set = extract::extract(self.schema(), self.root(), &config).1;
        let difference = self.difference(&config, live);
        Some(set.difference(&difference.changed).difference(&difference.removed))
    }
}

/// An object and the shape of its version.
struct Typed<'v> {
    shape: ShapeRef,
    value: Cow<'v, Value>,
}

impl Typed<'_> {
    fn named(&self, set: &FieldSet) -> FieldSet {
        extract::with_named(&self.shape.schema, Some(Node::Struct(self.shape.id)), set)
    }

    fn fields(&self) -> FieldSet {
        let root = Node::Struct(self.shape.id);
        self.named(&extract::extract(&self.shape.schema, root, &self.value).1)
    }

    fn without(&self, set: &FieldSet) -> Value {
        let root = Node::Struct(self.shape.id);
        remove::remove(&self.shape.schema, root, self.value.clone().into_owned(), set)
    }
}

/// Without the fields that nobody manages: the server's, and what names the
/// object.
fn without_system(mut set: FieldSet) -> FieldSet {
    const SYSTEM: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    set.take_members(&["apiVersion", "kind", "metadata"]);
    set.change_below("metadata", |below| below.take_members(&SYSTEM));
    set
}
