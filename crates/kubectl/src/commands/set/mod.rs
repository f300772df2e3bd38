//! `kubectl set …`: one part of objects changed, on the server or, with `--local`, in
//! files. A command is a pure function from an object to the changed object.

mod env;

use std::collections::BTreeSet;

use api_object::Quantity;
use serde_json::{Map, Value, json};

use crate::{
    apply::{shape_of, three_way},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    targets::{self, Reading},
};

use super::modify::{MERGE, STRATEGIC, patch, pod_spec};

pub(super) use env::{ENV, run as env};

pub(super) static SET: &[Flag] = &[
    switch("all", "Select all resources, in the namespace of the specified resource types"),
    switch("local", "If true, the command will not contact the API server but run locally"),
];
pub(super) static CONTAINERS: &[Flag] = &[value(
    "containers",
    "NAMES",
    "The names of containers in the selected pod templates to change - may use wildcards",
)
.or("*")
.short('c')];
pub(super) static RESOURCES: &[Flag] = &[
    value("limits", "cpu=N,memory=N", "The resource requirement limits for this container"),
    value("requests", "cpu=N,memory=N", "The resource requirement requests for this container"),
];
pub(super) static SELECTOR: &[Flag] = &[value(
    "resource-version",
    "VERSION",
    "If non-empty, the update only succeeds if this is the current version of the object",
)];
pub(super) static SUBJECT: &[Flag] = &[
    value("group", "NAME", "Groups to bind to the role; may be repeated"),
    value(
        "serviceaccount",
        "NAMESPACE:NAME",
        "Service accounts to bind to the role; may be repeated",
    ),
];

/// What became of an object.
enum Changed {
    /// Nothing: it is not told.
    No,
    /// It is told only where something differs.
    Maybe,
    /// It is told in any case.
    Yes,
}

/// What is said of the changes of a command.
struct Words {
    /// `env updated`
    done: &'static str,
    /// Before what the server says against it; empty for nothing.
    refused: &'static str,
}

/// Changes each object that the words name, and tells of it.
async fn each(
    session: &Session,
    words: &[String],
    said: &Words,
    mut change: impl FnMut(&mut Value) -> Result<Changed, Vec<Failure>>,
) -> Outcome {
    let flags = &session.flags;
    if flags.on("all") && flags.is_set("selector") {
        return failed("cannot set --all and --selector at the same time");
    }
    let reading = Reading { all_by_default: flags.on("all"), ..Reading::default() };
    let (found, mut failures) = targets::objects(session, words, reading).await?;
    for (target, before) in found {
        let mut object = before.clone();
        let changed = match change(&mut object) {
            Ok(Changed::No) => continue,
            Ok(changed) => changed,
            Err(why) => {
                failures.extend(why);
                continue;
            }
        };
        if matches!(changed, Changed::Maybe) && object == before {
            continue;
        }
        if session.only_shows() {
            session.tell(&object, said.done)?;
            continue;
        }
        let shape = shape_of(&target);
        let body = three_way::patch(&before, &object, &before, shape.as_ref());
        let kind = if shape.is_some() { STRATEGIC } else { MERGE };
        match patch(session, &target, "", kind, &body, "kubectl-set").await {
            Ok(patched) => session.tell(&patched, said.done)?,
            Err(error) if said.refused.is_empty() => failures.push(error),
            Err(error) => {
                failures.push(Failure::Plain(format!("{}{}", said.refused, error.message())));
            }
        }
    }
    aggregate(failures)
}

/// Failures as upstream prints them together: one alone begins with `error: `, several
/// stand a line each as they are.
fn aggregate(mut failures: Vec<Failure>) -> Outcome {
    let one_alone = failures.len() == 1;
    for failure in &mut failures {
        match failure {
            Failure::Plain(text) if one_alone => {
                let text = text.trim_end();
                *failure = Failure::Message(text.trim_start_matches("error: ").to_owned());
            }
            Failure::Message(text) if !one_alone => *failure = Failure::Plain(text.clone()),
            _ => {}
        }
    }
    Failure::of(failures)
}

/// A failure that is about one object, as upstream prints it: with an empty line
/// where there are several.
fn about(object: &Value, why: &str) -> Vec<Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = text(&object["kind"]);
    let spec = api_kinds::catalogue().by_kind(group, version, &kind);
    let plural = spec.map_or_else(|| kind.to_lowercase(), |spec| spec.plural.to_string());
    vec![Failure::Plain(format!("error: {plural}/{} {why}\n", text(&object["metadata"]["name"])))]
}

/// The pod spec of an object.
fn template(object: &mut Value) -> Result<&mut Value, Vec<Failure>> {
    match pod_spec(object).map(|(at, _)| at) {
        Some(at) => Ok(object.pointer_mut(at).expect("it was found there")),
        None => {
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let version = text("apiVersion");
            let version = version.rsplit('/').next().unwrap_or_default();
            let why = format!(
                "the object is not a pod or does not have a pod template: *{version}.{}",
                text("kind")
            );
            Err(about(object, &why))
        }
    }
}

/// Whether a name is meant by a pattern with `*`.
fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|left| {
            (0..=left.len())
                .filter(|at| left.is_char_boundary(*at))
                .any(|at| fits(&left[at..], rest))
        }),
    }
}

/// The containers of a pod spec that a pattern means, init containers last.
fn containers<'s>(spec: &'s mut Value, pattern: &str) -> Vec<&'s mut Value> {
    let Some(spec) = spec.as_object_mut() else { return Vec::new() };
    let mut lists: Vec<(bool, &mut Value)> = spec
        .iter_mut()
        .filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"))
        .map(|(key, list)| (key == "initContainers", list))
        .collect();
    lists.sort_by_key(|(init, _)| *init);
    lists
        .into_iter()
        .flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
        .filter(|one| one["name"].as_str().is_some_and(|name| fits(name, pattern)))
        .collect()
}

/// Where the words that are no resources begin.
fn split(words: &[String], is_change: impl Fn(&str) -> bool) -> (&[String], &[String]) {
    words.split_at(words.iter().position(|word| is_change(word)).unwrap_or(words.len()))
}

pub(super) async fn image(session: &Session) -> Outcome {
    let (words, pairs) = split(&session.flags.words, |word| word.contains('='));
    let pairs: Vec<(&str, &str)> = pairs.iter().filter_map(|pair| pair.split_once('=')).collect();
    if words.is_empty() && !session.flags.has_files() {
        return failed(targets::NOTHING_NAMED);
    }
    if pairs.is_empty() {
        return failed("at least one image update is required");
    }
    if pairs.len() > 1 && pairs.iter().any(|(name, _)| *name == "*") {
        return failed(
            "all containers are already specified by *, but saw more than one container_name=container_image pairs",
        );
    }
    let said =
        Words { done: "image updated", refused: "failed to patch image update to pod template: " };
    // The others of an object are changed all the same.
    let mut missing = Vec::new();
    let outcome = each(session, words, &said, |object| {
        let spec = template(object)?;
        for (name, image) in &pairs {
            let found = containers(spec, name);
            if found.is_empty() {
                missing.push(Failure::Plain(format!(
                    "error: unable to find container named {name:?}"
                )));
            }
            found.into_iter().for_each(|one| one["image"] = (*image).into());
        }
        Ok(Changed::Maybe)
    })
    .await;
    match outcome {
        Err(Failure::Several(more)) => missing.extend(more),
        outcome => missing.extend(outcome.err()),
    }
    aggregate(missing)
}

/// `cpu=200m,memory=512Mi`
fn quantities(text: &str) -> Result<Map<String, Value>, String> {
    let mut all = Map::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let pieces: Vec<&str> = part.split('=').collect();
        let [name, quantity] = pieces.as_slice() else {
            return Err(format!("invalid argument syntax {part}, expected <resource>=<value>"));
        };
        let quantity = Quantity::parse(quantity).map_err(|error| error.to_string())?;
        all.insert((*name).to_owned(), quantity.to_string().into());
    }
    Ok(all)
}

pub(super) async fn resources(session: &Session) -> Outcome {
    let flags = &session.flags;
    let wanted = [("limits", flags.one("limits")), ("requests", flags.one("requests"))];
    if wanted.iter().all(|(_, text)| text.is_empty()) {
        return failed(
            "you must specify an update to requests or limits (in the form of --requests/--limits)",
        );
    }
    let mut updates = Vec::new();
    for (field, text) in wanted {
        updates.push((field, quantities(text).map_err(Failure::Message)?));
    }
    let pattern = flags.one("containers");
    let said = Words {
        done: "resource requirements updated",
        refused: "failed to patch resources update to pod template ",
    };
    each(session, &flags.words, &said, |object| {
        let found = containers(template(object)?, pattern);
        if found.is_empty() {
            let text = format!("error: unable to find container named {pattern}");
            return Err(vec![Failure::Plain(text)]);
        }
        for one in found {
            for (field, update) in &updates {
                for (name, quantity) in update {
                    one["resources"][*field][name] = quantity.clone();
                }
            }
        }
        Ok(Changed::Maybe)
    })
    .await
}

pub(super) async fn service_account(session: &Session) -> Outcome {
    let Some((name, words)) = session.flags.words.split_last() else {
        return failed("serviceaccount is required");
    };
    let said =
        Words { done: "serviceaccount updated", refused: "failed to patch ServiceAccountName " };
    each(session, words, &said, |object| {
        template(object)?["serviceAccountName"] = name.as_str().into();
        Ok(Changed::Yes)
    })
    .await
}

/// `a=b,c=d` as a map.
fn labels(text: &str) -> Result<Map<String, Value>, String> {
    let mut all = Map::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((key, value)) if !key.ends_with('!') => {
                all.insert(key.to_owned(), value.trim_start_matches('=').into());
            }
            _ => return Err(format!("match expression {part} not supported on this object")),
        }
    }
    Ok(all)
}

pub(super) async fn selector(session: &Session) -> Outcome {
    let flags = &session.flags;
    let Some((selector, words)) = flags.words.split_last() else {
        return failed("one selector is required");
    };
    let said = Words { done: "selector updated", refused: "" };
    each(session, words, &said, |object| {
        let message = |text: String| vec![Failure::Message(text)];
        if object["kind"] != "Service" || object["apiVersion"] != "v1" {
            return Err(message("setting a selector is only supported for Services".into()));
        }
        object["spec"]["selector"] = Value::Object(labels(selector).map_err(message)?);
        if flags.is_set("resource-version") {
            object["metadata"]["resourceVersion"] = flags.one("resource-version").into();
        }
        Ok(Changed::Yes)
    })
    .await
}

pub(super) async fn subject(session: &Session) -> Outcome {
    const RBAC: &str = "rbac.authorization.k8s.io";
    let flags = &session.flags;
    // Each name once, sorted.
    let names = |flag: &str| flags.all(flag).iter().cloned().collect::<BTreeSet<String>>();
    let accounts = names("serviceaccount");
    if ["user", "group", "serviceaccount"].iter().all(|flag| names(flag).is_empty()) {
        return failed("you must specify at least one value of user, group or serviceaccount");
    }
    let mut wanted: Vec<Value> = Vec::new();
    for (flag, kind) in [("user", "User"), ("group", "Group")] {
        wanted.extend(
            names(flag).iter().map(|name| json!({"apiGroup": RBAC, "kind": kind, "name": name})),
        );
    }
    let own = if flags.on("local") { String::new() } else { session.namespace().await? };
    let mut without_namespace = false;
    for account in &accounts {
        let (namespace, name) = match account.split_once(':') {
            Some((namespace, name)) if !name.is_empty() && !name.contains(':') => (namespace, name),
            _ => return failed("serviceaccount must be <namespace>:<name>"),
        };
        without_namespace |= namespace.is_empty();
        let namespace = if namespace.is_empty() { &own } else { namespace };
        wanted.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let said =
        Words { done: "subjects updated", refused: "failed to patch subjects to rolebinding: " };
    each(session, &flags.words, &said, |object| {
        let kind = object["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
            let why = "setting subjects is only supported for RoleBinding/ClusterRoleBinding";
            return Err(about(object, why));
        }
        if kind == "ClusterRoleBinding" && without_namespace {
            return Err(vec![Failure::Message(
                "serviceaccount must be <namespace>:<name>, namespace must be specified".into(),
            )]);
        }
        if !object["subjects"].is_array() {
            object["subjects"] = json!([]);
        }
        let Some(subjects) = object["subjects"].as_array_mut() else { return Ok(Changed::No) };
        let before = subjects.len();
        for subject in &wanted {
            if !subjects[..before].contains(subject) {
                subjects.push(subject.clone());
            }
        }
        Ok(if subjects.len() > before { Changed::Maybe } else { Changed::No })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_names() {
        for (name, pattern, meant) in [
            ("web", "*", true),
            ("web", "web", true),
            ("web", "w*", true),
            ("web", "*b", true),
            ("web", "*e*", true),
            ("web", "w*x", false),
            ("web", "we", false),
            ("web", "*eb*b", false),
        ] {
            assert_eq!(fits(name, pattern), meant, "{name} {pattern}");
        }
    }

    #[test]
    fn quantities_and_labels_are_read() {
        let read = quantities("cpu=1000m,memory=512Mi").expect("valid");
        assert_eq!((&read["cpu"], &read["memory"]), (&json!("1"), &json!("512Mi")));
        assert!(quantities("cpu").is_err() && quantities("cpu=x").is_err());
        assert_eq!(labels("a=b,c==d").expect("valid")["c"], "d");
        assert!(labels("a in (b)").is_err() && labels("a!=b").is_err());
    }

    #[test]
    fn init_containers_are_changed_last() {
        let mut spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
        let names: Vec<String> =
            containers(&mut spec, "*").iter().map(|c| c["name"].to_string()).collect();
        assert_eq!(names, ["\"c\"", "\"i\""]);
    }
}
