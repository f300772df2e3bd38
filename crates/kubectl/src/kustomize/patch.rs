//! `patches`: strategic merges and JSON patches (RFC 6902).

use api_schema::{Field, Holds, Schema, ShapeId, Type};
use serde_json::{Map, Value};

use super::{resource::Resource, selector::Selector};
use crate::{
    document,
    failure::{Failure, Outcome, failed},
    manifest,
};

/// A patch and what it is for.
#[derive(Debug)]
pub(super) struct Patch {
    change: Change,
    target: Option<Selector>,
    may_rename: bool,
    may_change_kind: bool,
}

#[derive(Debug)]
enum Change {
    /// Strategic merges, each an object.
    Merges(Vec<Value>),
    /// Operations.
    Json(json_patch::Patch),
}

impl Patch {
    /// Reads one; `text` is what it does and `entry` what it is for.
    ///
    /// # Errors
    /// For texts that are neither kind of patch.
    pub(super) fn read(text: &str, source: &str, entry: &Value) -> Outcome<Self> {
        let unread =
            || Failure::Message(format!("unable to parse SM or JSON patch from [{source}]"));
        let mut read = Vec::new();
        for document in manifest::documents(text) {
            read.push(document::read_plain(&document).map_err(|_| unread())?);
        }
        let change = match read.as_slice() {
            [Value::Array(operations)] => {
                let operations = Value::Array(operations.clone());
                Change::Json(serde_json::from_value(operations).map_err(|_| unread())?)
            }
            [] => return Err(unread()),
            _ => {
                let whole = |patch: &Value| {
                    ["apiVersion", "kind"].iter().all(|key| patch[key].is_string())
                        && patch["metadata"]["name"].is_string()
                };
                if !read.iter().all(whole) {
                    return Err(unread());
                }
                Change::Merges(read)
            }
        };
        let target = &entry["target"];
        let target = target.is_object().then(|| Selector::read(target)).transpose()?;
        if matches!(change, Change::Json(_)) && target.is_none() {
            return failed(format!("must specify a target for JSON patch [{source}]"));
        }
        let may = |option: &str| entry["options"][option] == true;
        let (may_rename, may_change_kind) = (may("allowNameChange"), may("allowKindChange"));
        Ok(Self { change, target, may_rename, may_change_kind })
    }

    /// Does it to everything that it is for.
    ///
    /// # Errors
    /// Where there is nothing of the kind, or a patch does not fit.
    pub(super) fn apply(&self, resources: &mut Vec<Resource>) -> Outcome {
        match (&self.change, &self.target) {
            (Change::Json(patch), Some(target)) => {
                for resource in resources.iter_mut().filter(|resource| target.selects(resource)) {
                    resource.remember();
                    json_patch::patch(&mut resource.object, patch).map_err(|error| {
                        Failure::Message(format!("patching {}: {error}", resource.id()))
                    })?;
                }
                Ok(())
            }
            (Change::Json(_), None) => failed("a JSON patch has no target"),
            (Change::Merges(patches), Some(target)) => {
                for patch in patches {
                    let mut kept = Vec::new();
                    for mut resource in std::mem::take(resources) {
                        let gone =
                            target.selects(&resource) && !self.merge(&mut resource, patch)?;
                        if !gone {
                            kept.push(resource);
                        }
                    }
                    *resources = kept;
                }
                Ok(())
            }
            (Change::Merges(patches), None) => {
                for patch in patches {
                    let named = Resource::new(patch.clone());
                    let at = named_by(&named, resources)?;
                    let Some(resource) = resources.get_mut(at) else { continue };
                    if !self.merge(resource, patch)? {
                        resources.remove(at);
                    }
                }
                Ok(())
            }
        }
    }

    /// Merges into one; whether it is there afterwards.
    fn merge(&self, resource: &mut Resource, patch: &Value) -> Outcome<bool> {
        if patch["$patch"] == "delete" {
            return Ok(false);
        }
        resource.remember();
        let before = resource.object.clone();
        let (group, version) = resource.group_version();
        let spec = api_kinds::catalogue().by_kind(group, version, resource.kind());
        let shape = spec.map(|spec| spec.shape.clone());
        let schema = shape.as_ref().map(|shape| &*shape.schema);
        let id = shape.as_ref().map(|shape| shape.id);
        Merge { schema }.objects(&mut resource.object, patch, id)?;
        // A patch for several says some name, which is not theirs.
        if !self.may_rename {
            for key in ["name", "namespace"] {
                match before["metadata"].get(key) {
                    Some(value) => resource.object["metadata"][key] = value.clone(),
                    None => {
                        let meta = resource.object["metadata"].as_object_mut();
                        meta.and_then(|meta| meta.remove(key));
                    }
                }
            }
        }
        if !self.may_change_kind {
            for key in ["apiVersion", "kind"] {
                resource.object[key] = before[key].clone();
            }
        }
        Ok(true)
    }
}

/// Which object a patch without a target names.
fn named_by(named: &Resource, resources: &[Resource]) -> Outcome<usize> {
    let (group, _) = named.group_version();
    let same = |resource: &Resource| {
        resource.kind() == named.kind()
            && resource.group_version().0 == group
            && match named.namespace() {
                "" => {
                    resource.name() == named.name()
                        || resource.before.iter().any(|(_, name)| name == named.name())
                }
                namespace => resource.was(namespace, named.name()),
            }
    };
    let found: Vec<usize> =
        resources.iter().enumerate().filter(|(_, one)| same(one)).map(|(at, _)| at).collect();
    let id = named.id();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => failed(format!(
            "no resource matches strategic merge patch {id:?}: no matches for Id {id}; failed to find unique target for patch {id}"
        )),
        _ => failed(format!(
            "multiple matches for Id {id}; failed to find unique target for patch {id}"
        )),
    }
}

struct Merge<'s> {
    schema: Option<&'s Schema>,
}

impl<'s> Merge<'s> {
    fn field(&self, shape: Option<ShapeId>, name: &str) -> Option<&'s Field> {
        self.schema?.field(shape?, name)
    }

    fn objects(&self, into: &mut Value, patch: &Value, shape: Option<ShapeId>) -> Outcome {
        let Value::Object(changes) = patch else {
            *into = patch.clone();
            return Ok(());
        };
        if patch["$patch"] == "replace" || !into.is_object() {
            *into = Value::Object(Map::new());
        }
        for (name, change) in changes {
            if name == "$patch" {
                continue;
            }
            if name.starts_with('$') {
                return failed(format!(
                    "{name} in a patch is not known to this kubectl's kustomize"
                ));
            }
            if change.is_null() || change["$patch"] == "delete" {
                into.as_object_mut().and_then(|fields| fields.remove(name));
                continue;
            }
            let field = self.field(shape, name);
            let inner = field.and_then(|field| match field.ty {
                Type::Struct(id) if field.holds != Holds::Map => Some(id),
                _ => None,
            });
            match (change, field.filter(|field| field.holds == Holds::List && field.patch_merge)) {
                (Value::Array(items), Some(field)) => {
                    self.lists(&mut into[name], items, field, inner)?;
                }
                (Value::Array(_), None) => into[name] = change.clone(),
                (Value::Object(_), _) => self.objects(&mut into[name], change, inner)?,
                _ => into[name] = change.clone(),
            }
        }
        Ok(())
    }

    /// What the patch has comes first, in its order; what it does not name stays behind.
    fn lists(
        &self,
        into: &mut Value,
        items: &[Value],
        field: &Field,
        shape: Option<ShapeId>,
    ) -> Outcome {
        let mut rest = into.as_array().cloned().unwrap_or_default();
        if items.iter().any(|item| item["$patch"] == "replace") {
            rest.clear();
        }
        let key = self.schema.map_or("", |schema| schema.merge_key(field));
        let mut merged = Vec::new();
        for item in items.iter().filter(|item| item["$patch"] != "replace") {
            let at = match key {
                "" => rest.iter().position(|known| known == item),
                key => rest.iter().position(|known| known[key] == item[key]),
            };
            let known = at.map(|at| rest.remove(at));
            if item["$patch"] == "delete" {
                continue;
            }
            let mut one = known.unwrap_or_default();
            match item {
                Value::Object(_) => self.objects(&mut one, item, shape)?,
                plain => one = plain.clone(),
            }
            merged.push(one);
        }
        merged.extend(rest);
        *into = Value::Array(merged);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Resource {
        Resource::new(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]},
        }))
    }

    fn patched(patch: &str, entry: &Value) -> Outcome<Vec<Resource>> {
        let mut all = vec![pod()];
        Patch::read(patch, "patch", entry)?.apply(&mut all)?;
        Ok(all)
    }

    const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n";

    #[test]
    fn lists_merge_by_their_keys_and_the_patch_comes_first() {
        for (patch, containers) in [
            (
                "[{name: b, image: z}]",
                json!([{"name": "b", "image": "z"}, {"name": "a", "image": "x"}]),
            ),
            ("[{name: a, $patch: delete}]", json!([{"name": "b", "image": "y"}])),
            ("[{$patch: replace}, {name: c}]", json!([{"name": "c"}])),
        ] {
            let text = format!("{HEAD}spec: {{containers: {patch}}}\n");
            let all = patched(&text, &Value::Null).expect("it fits");
            assert_eq!(all[0].object["spec"]["containers"], containers, "{patch}");
        }
        assert!(
            patched(&format!("{HEAD}$patch: delete\n"), &Value::Null).expect("it fits").is_empty()
        );
    }

    #[test]
    fn a_target_is_patched_whatever_the_patch_calls_it() {
        let entry = json!({"target": {"kind": "Pod"}});
        let text = HEAD.replace("name: p", "name: any, labels: {a: b}");
        let all = patched(&text, &entry).expect("it fits");
        assert_eq!((all[0].name(), &all[0].object["metadata"]["labels"]["a"]), ("p", &json!("b")));
        let operations = "- {op: replace, path: /spec/containers/0/image, value: q}\n";
        let all = patched(operations, &entry).expect("it fits");
        assert_eq!(all[0].object["spec"]["containers"][0]["image"], "q");
        assert!(patched(operations, &Value::Null).is_err());
        assert!(patched("- {op: remove, path: /no}\n", &entry).is_err());
        assert!(patched(&HEAD.replace("name: p", "name: q"), &Value::Null).is_err());
        assert!(patched("a: b", &entry).is_err());
    }
}
