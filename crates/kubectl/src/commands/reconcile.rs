//! `kubectl auth reconcile`: roles and bindings have at least what files say they have.
//!
//! What is missing is computed by pure functions: [`role`] and [`binding`].

use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    connection,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch},
    session::{DryRun, Session},
    targets::{self, Target},
};

use super::create::needs_files;

pub(super) static FLAGS: &[Flag] = &[
    switch("remove-extra-permissions", "If true, removes extra permissions added to roles"),
    switch("remove-extra-subjects", "If true, removes extra subjects added to rolebindings"),
];

const GROUP: &str = "rbac.authorization.k8s.io";
/// An object that says `false` here is left as it is.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
/// Tries again where somebody else wrote meanwhile.
const TRIES_MAX: usize = 3;

/// What has to be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    None,
    Create,
    Update,
    Recreate,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Create => "create",
            Self::Update => "update",
            Self::Recreate => "recreate",
        }
    }
}

/// How an object is to be, and how that differs from what it is.
#[derive(Clone, Debug)]
struct Plan {
    object: Value,
    operation: Operation,
    missing: Vec<Value>,
    extra: Vec<Value>,
    /// The object that is there wants no change.
    protected: bool,
}

pub(super) async fn run(session: &Session) -> Outcome {
    needs_files(session)?;
    if !session.flags.words.is_empty() {
        return failed("no arguments are allowed");
    }
    if session.dry_run() == DryRun::Server {
        return failed("--dry-run=server for command reconcile is not supported yet");
    }
    let (found, mut failures) = targets::of_files(session).await?;
    for target in found {
        let Some(manifest) = &target.manifest else { continue };
        let kind = target.resource.kind.as_str();
        // The files may hold other objects, which are for other commands.
        if target.resource.group != GROUP {
            continue;
        }
        if target.resource.version != "v1" {
            return failed(format!(
                "only rbac.authorization.k8s.io/v1 is supported: not {}",
                target.resource.api_version()
            ));
        }
        let removes = match kind {
            "Role" | "ClusterRole" => "remove-extra-permissions",
            _ => "remove-extra-subjects",
        };
        let removes = session.flags.on(removes);
        match reconcile(session, &target, &manifest.object, removes).await {
            Ok(plan) => tell(session, &plan, kind, removes)?,
            Err(error) => failures.push(error),
        }
    }
    Failure::of(failures)
}

async fn reconcile(
    session: &Session,
    target: &Target,
    expected: &Value,
    removes: bool,
) -> Outcome<Plan> {
    let is_role = matches!(target.resource.kind.as_str(), "Role" | "ClusterRole");
    let mut tries = 0;
    loop {
        tries += 1;
        let mut plan = match target.object(session).await {
            Ok(there) if is_role => role(&there, expected, removes),
            Ok(there) => binding(&there, expected, removes),
            Err(error) if error.is_not_found() => Plan {
                object: expected.clone(),
                operation: Operation::Create,
                missing: list(&expected[if is_role { "rules" } else { "subjects" }]),
                extra: Vec::new(),
                protected: false,
            },
            Err(error) => return Err(error),
        };
        if session.dry_run() == DryRun::Client || plan.protected {
            return Ok(plan);
        }
        match act(session, target, &plan).await {
            Ok(Some(object)) => plan.object = object,
            Ok(None) => {}
            // Made, changed or deleted by somebody else since it was looked at.
            Err(error) if matches!(error.code(), Some(404 | 409)) && tries < TRIES_MAX => continue,
            Err(error) => return Err(error),
        }
        return Ok(plan);
    }
}

/// Does it; the object as the server has it then.
async fn act(session: &Session, target: &Target, plan: &Plan) -> Outcome<Option<Value>> {
    let connection = session.connection().await?;
    let query = session.write_query("kubectl");
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let collection = targets::path(target.resource.path(&target.namespace, ""), &query);
    let body = connection::json(&plan.object);
    let written = match plan.operation {
        Operation::None => return Ok(None),
        Operation::Update => {
            connection.request(Method::PUT, &targets::path(target.path(), &query), body).await?
        }
        Operation::Create => {
            ensure_namespace(session, &target.namespace).await?;
            connection.request(Method::POST, &collection, body).await?
        }
        Operation::Recreate => {
            connection.request(Method::DELETE, &target.path(), None).await?;
            connection.request(Method::POST, &collection, body).await?
        }
    };
    Ok(Some(written))
}

/// A namespace that is not there is made; who may not look goes on without.
async fn ensure_namespace(session: &Session, name: &str) -> Outcome {
    if name.is_empty() {
        return Ok(());
    }
    let connection = session.connection().await?;
    let there = connection.get(&format!("/api/v1/namespaces/{name}")).await;
    match there {
        Err(error) if error.is_not_found() => {}
        Err(error) if error.code() != Some(403) => return Err(error),
        _ => return Ok(()),
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    match connection.request(Method::POST, "/api/v1/namespaces", connection::json(&object)).await {
        Err(error) if !matches!(error.code(), Some(403 | 409)) => Err(error),
        _ => Ok(()),
    }
}

fn tell(session: &Session, plan: &Plan, kind: &str, removes: bool) -> Outcome {
    session.tell(&plan.object, "reconciled")?;
    if plan.operation == Operation::None {
        return Ok(());
    }
    let caveat = match plan.protected {
        true => format!(", but object opted out ({AUTO_UPDATE}: false)"),
        false => String::new(),
    };
    session.say(&format!("\treconciliation required {}{caveat}", plan.operation.name()));
    let (what, line): (_, fn(&Value) -> String) = match kind {
        "Role" | "ClusterRole" => ("rules", rule_line),
        _ => ("subjects", subject_line),
    };
    let groups = [("missing", "added", &plan.missing), ("extra", "removed", &plan.extra)];
    for (which, done, items) in groups {
        if items.is_empty() || (which == "extra" && !removes) {
            continue;
        }
        session.say(&format!("\t{which} {what} {done}:"));
        items.iter().for_each(|item| session.say(&format!("\t\t{}", line(item))));
    }
    Ok(())
}

/// As Go prints the struct.
fn rule_line(rule: &Value) -> String {
    let words = |key: &str| texts(&rule[key]).join(" ");
    format!(
        "{{Verbs:[{}] APIGroups:[{}] Resources:[{}] ResourceNames:[{}] NonResourceURLs:[{}]}}",
        words("verbs"),
        words("apiGroups"),
        words("resources"),
        words("resourceNames"),
        words("nonResourceURLs")
    )
}

fn subject_line(subject: &Value) -> String {
    let [kind, group, name, namespace] = subject_parts(subject);
    format!("{{Kind:{kind} APIGroup:{group} Name:{name} Namespace:{namespace}}}")
}

fn subject_parts(subject: &Value) -> [&str; 4] {
    ["kind", "apiGroup", "name", "namespace"].map(|key| subject[key].as_str().unwrap_or_default())
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn protected(there: &Value) -> bool {
    there["metadata"]["annotations"][AUTO_UPDATE] == "false"
}

/// What is there with the labels and annotations that are wanted and that it has not.
fn with_meta(there: &Value, expected: &Value) -> (Value, Operation) {
    let mut object = there.clone();
    let mut operation = Operation::None;
    for key in ["annotations", "labels"] {
        for (name, value) in expected["metadata"][key].as_object().into_iter().flatten() {
            let slot = &mut object["metadata"][key];
            if slot.is_null() {
                *slot = Value::Object(Map::new());
            }
            if slot[name].is_null() {
                slot[name] = value.clone();
                operation = Operation::Update;
            }
        }
    }
    (object, operation)
}

/// What makes a role that is there have what is expected of it.
fn role(there: &Value, expected: &Value, removes: bool) -> Plan {
    let (mut object, mut operation) = with_meta(there, expected);
    let (have, want) = (list(&there["rules"]), list(&expected["rules"]));
    let (had, wanted) = (&there["aggregationRule"], &expected["aggregationRule"]);
    // Rules of an aggregated role are its controller's.
    let extra = match had.is_null() || wanted.is_null() {
        true => uncovered(&want, &have),
        false => Vec::new(),
    };
    let missing = if had.is_null() { uncovered(&have, &want) } else { Vec::new() };
    if removes && !(missing.is_empty() && extra.is_empty()) {
        object["rules"] = Value::Array(want);
        operation = Operation::Update;
    } else if !missing.is_empty() {
        object["rules"] = Value::Array(have.into_iter().chain(missing.iter().cloned()).collect());
        operation = Operation::Update;
    }
    let key = "clusterRoleSelectors";
    let (mut selectors, wanted_selectors) = (list(&had[key]), list(&wanted[key]));
    let lacks = wanted_selectors.iter().any(|wanted| !selectors.contains(wanted));
    let exceeds = selectors.iter().any(|had| !wanted_selectors.contains(had));
    if wanted.is_null() && !had.is_null() {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("aggregationRule");
        }
        operation = Operation::Update;
    } else if removes && (lacks || exceeds) {
        object["aggregationRule"] = wanted.clone();
        operation = Operation::Update;
    } else if lacks {
        let new = wanted_selectors.into_iter().filter(|wanted| !selectors.contains(wanted));
        let new: Vec<Value> = new.collect();
        selectors.extend(new);
        object["aggregationRule"] = json!({key: selectors});
        operation = Operation::Update;
    }
    Plan { object, operation, missing, extra, protected: protected(there) }
}

/// What makes a binding that is there bind whom it is expected to.
fn binding(there: &Value, expected: &Value, removes: bool) -> Plan {
    let protected = protected(there);
    let nothing = Vec::new;
    if !same_role(&there["roleRef"], &expected["roleRef"]) {
        let (object, operation) = (expected.clone(), Operation::Recreate);
        return Plan { object, operation, missing: nothing(), extra: nothing(), protected };
    }
    let (mut object, mut operation) = with_meta(there, expected);
    let (have, want) = (list(&there["subjects"]), list(&expected["subjects"]));
    let lacking = |list: &[Value], others: &[Value]| -> Vec<Value> {
        let known =
            |one: &&Value| others.iter().any(|other| subject_parts(other) == subject_parts(one));
        list.iter().filter(|one| !known(one)).cloned().collect()
    };
    let (missing, extra) = (lacking(&want, &have), lacking(&have, &want));
    if removes && !(missing.is_empty() && extra.is_empty()) {
        object["subjects"] = Value::Array(want);
        operation = Operation::Update;
    } else if !missing.is_empty() {
        object["subjects"] =
            Value::Array(have.into_iter().chain(missing.iter().cloned()).collect());
        operation = Operation::Update;
    }
    Plan { object, operation, missing, extra, protected }
}

fn same_role(a: &Value, b: &Value) -> bool {
    ["apiGroup", "kind", "name"].iter().all(|key| a[key] == b[key])
}

/// The smallest parts of `wanted` that no rule of `owned` allows.
fn uncovered(owned: &[Value], wanted: &[Value]) -> Vec<Value> {
    let parts = wanted.iter().flat_map(broken_down);
    parts.filter(|part| !owned.iter().any(|rule| covers(rule, part))).collect()
}

/// A rule as rules of one verb, group, resource and name, or of one verb and URL.
fn broken_down(rule: &Value) -> Vec<Value> {
    let of = |key: &str| texts(&rule[key]);
    let (verbs, names) = (of("verbs"), of("resourceNames"));
    let mut parts = Vec::new();
    for group in of("apiGroups") {
        for resource in of("resources") {
            for verb in &verbs {
                let part = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
                for name in &names {
                    let mut part = part.clone();
                    part["resourceNames"] = json!([name]);
                    parts.push(part);
                }
                if names.is_empty() {
                    parts.push(part);
                }
            }
        }
    }
    for url in of("nonResourceURLs") {
        parts.extend(verbs.iter().map(|verb| json!({"nonResourceURLs": [url], "verbs": [verb]})));
    }
    parts
}

/// Whether a rule allows a part of one.
fn covers(rule: &Value, part: &Value) -> bool {
    let has = |key: &str, fits: fn(&str, &str) -> bool| {
        let owned = texts(&rule[key]);
        texts(&part[key]).iter().all(|wanted| owned.iter().any(|own| fits(own, wanted)))
    };
    let names = texts(&rule["resourceNames"]).is_empty()
        || (part["resourceNames"].is_array() && has("resourceNames", |own, wanted| own == wanted));
    has("verbs", |own, wanted| own == "*" || own == wanted)
        && has("apiGroups", |own, wanted| own == "*" || own == wanted)
        && has("resources", covers_resource)
        && has("nonResourceURLs", covers_url)
        && names
}

fn covers_resource(own: &str, wanted: &str) -> bool {
    let below = |name: &str| own.strip_prefix("*/") == Some(name);
    own == "*" || own == wanted || wanted.split_once('/').is_some_and(|(_, name)| below(name))
}

fn covers_url(own: &str, wanted: &str) -> bool {
    own == wanted || own.strip_suffix('*').is_some_and(|start| wanted.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
        json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
    }

    #[test]
    fn what_is_not_allowed_is_missing_part_by_part() {
        let owned =
            [rule(&[""], &["pods", "*/scale"], &["get", "list"]), rule(&["*"], &["x"], &["*"])];
        for (wanted, missing) in [
            (rule(&[""], &["pods"], &["get"]), 0),
            (rule(&[""], &["pods", "nodes"], &["get", "watch"]), 3),
            (rule(&[""], &["a/scale"], &["get"]), 0),
            (rule(&["any"], &["x"], &["any"]), 0),
            (json!({"nonResourceURLs": ["/a"], "verbs": ["get"]}), 1),
        ] {
            assert_eq!(uncovered(&owned, std::slice::from_ref(&wanted)).len(), missing, "{wanted}");
        }
        let all = json!({"nonResourceURLs": ["/a/*"], "verbs": ["get"]});
        assert!(covers(&all, &json!({"nonResourceURLs": ["/a/b"], "verbs": ["get"]})));
        let mut named = rule(&[""], &["pods"], &["get"]);
        assert!(covers(&owned[0], &named));
        named["resourceNames"] = json!(["a"]);
        assert!(covers(&owned[0], &named) && !covers(&named, &rule(&[""], &["pods"], &["get"])));
    }

    #[test]
    fn roles_keep_what_they_have_unless_it_is_to_go() {
        let there = json!({"metadata": {"labels": {"a": "b"}}, "rules": [rule(&[""], &["pods"], &["get"])]});
        let expected = json!({"metadata": {"labels": {"a": "c", "d": "e"}}, "rules": [rule(&[""], &["nodes"], &["get"])]});
        let plan = role(&there, &expected, false);
        assert_eq!(
            (plan.operation, plan.missing.len(), plan.extra.len()),
            (Operation::Update, 1, 1)
        );
        assert_eq!(plan.object["rules"].as_array().map(Vec::len), Some(2));
        assert_eq!(plan.object["metadata"]["labels"], json!({"a": "b", "d": "e"}));
        let plan = role(&there, &expected, true);
        assert_eq!(plan.object["rules"], expected["rules"]);
        assert_eq!(role(&plan.object, &expected, true).operation, Operation::None);
    }

    #[test]
    fn a_binding_of_another_role_is_made_anew() {
        let bound = |role: &str, who: &str| json!({"roleRef": {"name": role}, "subjects": [{"kind": "User", "name": who}]});
        let there = bound("r", "a");
        assert_eq!(binding(&there, &bound("s", "a"), false).operation, Operation::Recreate);
        assert_eq!(binding(&there, &there, true).operation, Operation::None);
        let plan = binding(&there, &bound("r", "b"), false);
        assert_eq!(plan.object["subjects"].as_array().map(Vec::len), Some(2));
        assert_eq!(binding(&there, &bound("r", "b"), true).object["subjects"][0]["name"], "b");
    }
}
