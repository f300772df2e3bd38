//! Which requests a webhook or a policy is about.

use std::collections::BTreeSet;

use api_object::name;
use api_schema::{Faults, Path, tree};
use serde_json::{Value, json};

use crate::{
    expression::{Admission, Gives, Has},
    rules,
};

const CONDITIONS_MAX: usize = 64;

/// Every rule has a scope.
pub(super) fn default_rules(rules: &mut [Value]) {
    for rule in rules {
        tree::set_if_unset(rule, "scope", "*");
    }
}

/// A selector that is not there selects everything.
pub(super) fn default_selectors(object: &mut Value) {
    tree::set_if_unset(object, "matchPolicy", "Equivalent");
    for field in ["namespaceSelector", "objectSelector"] {
        tree::set_if_unset(object, field, json!({}));
    }
}

/// A `MatchResources`, where there is one.
pub(super) fn default_resources(object: &mut Value, path: &str) {
    let Some(resources) = tree::at_mut(object, path).filter(|it| it.is_object()) else { return };
    default_selectors(resources);
    for field in ["resourceRules", "excludeResourceRules"] {
        default_rules(tree::list_mut(resources, field));
    }
}

/// Faults of a `MatchResources`.
pub(super) fn resources(path: &Path<'_>, resources: &Value, faults: &mut Faults) {
    selectors(path, resources, faults);
    for field in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(field);
        for (index, each) in tree::list(resources, field).iter().enumerate() {
            let path = list.index(index);
            resource_names(&path.child("resourceNames"), each, faults);
            rule(&path, each, faults);
        }
    }
}

/// Faults of the two selectors.
pub(super) fn selectors(path: &Path<'_>, object: &Value, faults: &mut Faults) {
    for field in ["namespaceSelector", "objectSelector"] {
        rules::label_selector(&path.child(field), tree::get(object, field), faults);
    }
}

fn resource_names(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    let names = tree::list(rule, "resourceNames");
    for (index, each) in names.iter().enumerate() {
        let text = each.as_str().unwrap_or_default();
        faults.invalid_all(&path.index(index), text, name::path_segment(text));
        if names[..index].contains(each) {
            faults.duplicate(&path.index(index), text);
        }
    }
}

/// Faults of a `RuleWithOperations`.
pub(super) fn rule(path: &Path<'_>, rule: &Value, faults: &mut Faults) {
    for (field, others) in
        [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
    {
        let list = tree::list(rule, field);
        let at = path.child(field);
        if list.is_empty() {
            faults.required(&at, "");
        }
        if list.len() > 1 && list.iter().any(|item| item == "*") {
            let detail = format!("if '*' is present, must not specify other {others}");
            faults.invalid(&at, Value::from(list), detail);
        }
        // The group of the oldest kinds has no name.
        for (index, item) in list.iter().enumerate().filter(|_| field == "apiVersions") {
            if item == "" {
                faults.required(&at.index(index), "");
            }
        }
    }
    rule_resources(&path.child("resources"), tree::list(rule, "resources"), faults);
}

/// `pods`, `pods/log`, `*`, `*/scale`, `pods/*`, `*/*`.
fn rule_resources(path: &Path<'_>, list: &[Value], faults: &mut Faults) {
    if list.is_empty() {
        faults.required(path, "");
    }
    let (mut all_of_resource, mut of_all_resources) = (BTreeSet::new(), BTreeSet::new());
    let (mut everything, mut all_resources, mut plain) = (false, false, false);
    for (index, item) in list.iter().enumerate() {
        let text = item.as_str().unwrap_or_default();
        let path = path.index(index);
        if text.is_empty() {
            faults.required(&path, "");
            continue;
        }
        everything |= text == "*/*";
        all_resources |= text == "*";
        let Some((resource, sub)) = text.split_once('/') else {
            plain |= text != "*";
            continue;
        };
        if all_of_resource.contains(resource) {
            let detail = format!("if '{resource}/*' is present, must not specify {text}");
            faults.invalid(&path, text, detail);
        }
        if of_all_resources.contains(sub) {
            let detail = format!("if '*/{sub}' is present, must not specify {text}");
            faults.invalid(&path, text, detail);
        }
        if sub == "*" {
            all_of_resource.insert(resource);
        }
        if resource == "*" {
            of_all_resources.insert(sub);
        }
    }
    if list.len() > 1 && everything {
        let detail = "if '*/*' is present, must not specify other resources";
        faults.invalid(path, Value::from(list), detail);
    }
    if all_resources && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        faults.invalid(path, Value::from(list), detail);
    }
}

/// What is deleted cannot be changed meanwhile. Upstream names the list, not the
/// element.
pub(super) fn not_deleted(path: &Path<'_>, rules: &[Value], faults: &mut Faults) {
    for operation in rules.iter().flat_map(|rule| tree::list(rule, "operations")) {
        if operation == "DELETE" {
            faults.unsupported(path, "DELETE", ["*", "CONNECT", "CREATE", "UPDATE"]);
        }
    }
}

/// Faults of `matchConditions`; those of a policy may use its parameters.
pub(super) fn conditions(path: &Path<'_>, list: &[Value], params: bool, faults: &mut Faults) {
    let has = Has { params, authorizer: true, ..Has::default() };
    if list.len() > CONDITIONS_MAX {
        faults.too_many(path, list.len(), CONDITIONS_MAX);
    }
    for (index, condition) in list.iter().enumerate() {
        let path = path.index(index);
        let at = path.child("expression");
        match tree::text(condition, "expression") {
            text if text.trim().is_empty() => faults.required(&at, ""),
            text => {
                Admission::default().check(&at, text, has, Gives::Bool, faults);
            }
        }
        let at = path.child("name");
        let own_name = tree::text(condition, "name");
        if own_name.is_empty() {
            faults.required(&at, "");
            continue;
        }
        faults.invalid_all(&at, own_name, name::qualified_name(own_name));
        if list[..index].iter().any(|earlier| tree::text(earlier, "name") == own_name) {
            faults.duplicate(&at, own_name);
        }
    }
}
