//! Stories of writers: who applies and updates what, and who manages it then.

mod custom;
mod laws;
mod managers;
mod stories;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

pub(super) const TABLE: &str = r#"x.Root
 kind 0 string omit
 apiVersion 0 string omit
 metadata 1 x.Meta
 spec 2 x.Spec
 status 3 x.Status omit
x.Meta
 name 1 string omit
 resourceVersion 6 string omit
 labels 11 {}string omit
 annotations 12 {}string omit
 finalizers 14 []string omit set merge=
x.Spec
 replicas 1 *int32 omit
 text 2 string omit
 memory 3 *quantity omit
 args 4 []string omit
 selector 5 *x.Selector omit
 ports 6 []x.Port omit keys=port,protocol merge=port
 containers 7 []x.Container keys=name merge=name
 open 8 *x.Open omit
 raw 9 *object omit
 any 10 *any omit
 byName 11 {}x.Port omit
 rolling 12 *x.Rolling omit
x.Selector atomic
 a 1 string omit
 b 2 string omit
x.Port
 port 1 int32
 protocol 2 string omit default="TCP"
 name 3 string omit
x.Container
 name 1 string
 image 2 string omit
 env 3 []x.Port omit keys=port merge=port
x.Open open
 known 1 string omit
x.Rolling
 surge 1 *int32 omit
 wait 2 *int32 omit
x.Status
 ready 1 int32 omit
"#;

pub(super) fn shape() -> ShapeRef {
    let schema = Arc::new(Schema::parse(TABLE.into()).expect("a table"));
    ShapeRef::find(&schema, "x.Root").expect("there")
}

/// One write of a story.
pub(super) enum Write {
    Apply { manager: &'static str, config: Value, force: bool },
    Update { manager: &'static str, patch: fn(&mut Value) },
    UpdateStatus { manager: &'static str, patch: fn(&mut Value) },
}

pub(super) fn apply(manager: &'static str, spec: Value) -> Write {
    Write::Apply { manager, config: json!({ "spec": spec }), force: false }
}

pub(super) fn force(manager: &'static str, spec: Value) -> Write {
    Write::Apply { manager, config: json!({ "spec": spec }), force: true }
}

pub(super) fn update(manager: &'static str, patch: fn(&mut Value)) -> Write {
    Write::Update { manager, patch }
}

/// An object and its managers.
#[derive(Clone)]
pub(super) struct State {
    pub(super) object: Value,
    pub(super) managers: Managers,
}

impl State {
    pub(super) fn new() -> Self {
        let shape = shape();
        Self { object: shape.schema.zero_struct(shape.id), managers: Managers::default() }
    }

    /// Does a write; the second is its number, which is its time too.
    pub(super) fn write(&mut self, write: &Write, number: usize) -> Result<(), String> {
        let (manager, subresource) = match write {
            Write::Apply { manager, .. } | Write::Update { manager, .. } => (*manager, ""),
            Write::UpdateStatus { manager, .. } => (*manager, "status"),
        };
        let ignored = match subresource {
            "" => FieldSet::of_paths(&["status"]),
            _ => FieldSet::of_paths(&["spec"]),
        };
        let shape = shape();
        let change = Change {
            shape: &shape,
            api_version: "v1",
            versions: &OnlyVersion,
            manager,
            subresource,
            ignored: &ignored,
            time: &number.to_string(),
        };
        match write {
            Write::Apply { config, force, .. } => {
                let applied = change
                    .apply(&self.object, config.clone(), self.managers.clone(), *force)
                    .map_err(|error| error.status().message)?;
                let (object, _) = shape.conform(applied.object).map_err(|why| why.to_owned())?;
                *self = Self { object, managers: applied.managers };
            }
            Write::Update { patch, .. } | Write::UpdateStatus { patch, .. } => {
                let mut new = self.object.clone();
                patch(&mut new);
                self.managers =
                    change.update(&self.object, &new, self.managers.clone(), number == 0);
                (self.object, _) = shape.conform(new).map_err(|why| why.to_owned())?;
            }
        }
        Ok(())
    }

    /// `a Apply 3: {"f:spec":{}}`, a line a manager.
    pub(super) fn shown(&self) -> Vec<String> {
        let list: Value = match self.managers.write().as_str() {
            "" => json!([]),
            text => serde_json::from_str(text).expect("JSON"),
        };
        assert_eq!(Managers::from_tree(&list), Ok(self.managers.clone()), "reads back");
        let line = |manager: &Manager| {
            let mut fields = String::new();
            manager.fields.write(&mut fields);
            let operation = match manager.id.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            };
            let sub = match manager.id.subresource.as_str() {
                "" => String::new(),
                sub => format!("/{sub}"),
            };
            format!("{}{sub} {operation} {}: {fields}", manager.id.name, manager.time)
        };
        self.managers.iter().map(line).collect()
    }
}

/// Runs writes that are all accepted; the last may instead be refused in these
/// words. Then the spec is this, and the managers are these.
#[track_caller]
pub(super) fn check(writes: &[Write], refused: &str, spec: Value, managers: &[&str]) {
    let mut state = State::new();
    for (number, write) in writes.iter().enumerate() {
        let result = state.write(write, number);
        match number + 1 == writes.len() && !refused.is_empty() {
            true => assert_eq!(result, Err(refused.to_owned())),
            false => assert_eq!(result, Ok(()), "write {number}"),
        }
    }
    assert_eq!(state.object["spec"], spec);
    assert_eq!(state.shown(), managers);
}
