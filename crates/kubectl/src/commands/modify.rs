//! Small changes to objects that are there: labels, annotations, taints, patches,
//! scale.

use bytes::Bytes;
use http::Method;
use json_patch::{AddOperation, PatchOperation};
use serde_json::{Map, Value, json};

use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{Format, qualified_name},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// Sends a patch to an object or a subresource of it.
pub(super) async fn patch(
    session: &Session,
    target: &Target,
    subresource: &str,
    kind: &'static str,
    patch: &Value,
    manager: &str,
) -> Outcome<Value> {
    patch_with(session, target, subresource, (kind, Bytes::from(patch.to_string())), manager).await
}

async fn patch_with(
    session: &Session,
    target: &Target,
    subresource: &str,
    body: (&'static str, Bytes),
    manager: &str,
) -> Outcome<Value> {
    let path = match subresource {
        "" => target.path(),
        name => format!("{}/{name}", target.path()),
    };
    let query = session.write_query(manager);
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let path = targets::path(path, &query);
    session.connection().await?.request(Method::PATCH, &path, Some(body)).await
}

pub(super) static KEYS: &[Flag] = &[
    switch("overwrite", "If true, allow labels or annotations to be overwritten"),
    switch("all", "Select all resources, in the namespace of the specified resource types"),
    switch("list", "If true, display the labels or annotations for a given resource"),
    value("resource-version", "VERSION", "Only change the object if this is its current version"),
    switch("local", "If true, the command will not contact the API server but run locally"),
];

pub(super) async fn label(session: &Session) -> Outcome {
    keys(session, "labels").await
}

pub(super) async fn annotate(session: &Session) -> Outcome {
    keys(session, "annotations").await
}

/// What comes, and what goes.
#[derive(Debug, Default, PartialEq)]
struct Keys {
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

/// `a=b` and `a-` behind the resources.
fn split(words: &[String]) -> Result<(Vec<String>, Keys), String> {
    let is_pair = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_pair).unwrap_or(words.len());
    let mut keys = Keys::default();
    for word in &words[at..] {
        match word.split_once('=') {
            Some((key, value)) => keys.add.push((key.to_owned(), value.to_owned())),
            None => match word.strip_suffix('-') {
                Some(key) => keys.remove.push(key.to_owned()),
                None => return Err(format!("expected key=value or key-, not {word:?}")),
            },
        }
    }
    if let Some((key, _)) = keys.add.iter().find(|(key, _)| keys.remove.contains(key)) {
        return Err(format!("can not both modify and remove {key:?} in the same command"));
    }
    Ok((words[..at].to_vec(), keys))
}

async fn keys(session: &Session, field: &'static str) -> Outcome {
    let flags = &session.flags;
    let word = field.trim_end_matches('s');
    let (words, keys) = split(&flags.words).map_err(Failure::Message)?;
    let reading = Reading { all_by_default: flags.on("all"), ..Reading::default() };
    if words.is_empty() && !flags.has_files() {
        return failed(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        );
    }
    if keys.add.is_empty() && keys.remove.is_empty() && !flags.on("list") {
        return failed(format!("at least one {word} update is required"));
    }
    if flags.on("list") && flags.is_set("output") {
        return failed("--list and --output may not be specified together");
    }
    let (found, mut failures) = targets::objects(session, &words, reading).await?;
    // Those of files that no server was asked about are not told apart.
    let several = found.len() > 1 && !flags.on("local");
    for (target, object) in found {
        if let Err(error) = one(session, &target, &object, (field, several), &keys).await {
            failures.push(error);
        }
    }
    Failure::of(failures)
}

async fn one(
    session: &Session,
    target: &Target,
    object: &Value,
    (field, several): (&'static str, bool),
    keys: &Keys,
) -> Outcome {
    let flags = &session.flags;
    let there = &object["metadata"][field];
    let mut taken = Vec::new();
    for (key, value) in &keys.add {
        if let Some(known) = there[key].as_str()
            && known != value
        {
            taken.push(format!("'{key}' already has a value ({known}), and --overwrite is false"));
        }
    }
    if !flags.on("overwrite") && !taken.is_empty() {
        return failed(taken.join("; "));
    }
    let mut changes = Map::new();
    for (key, value) in &keys.add {
        if there[key].as_str() != Some(value) {
            changes.insert(key.clone(), value.clone().into());
        }
    }
    let added = !changes.is_empty();
    for key in &keys.remove {
        match there[key].is_null() {
            true if field == "labels" => session.out(&format!("label {key:?} not found.\n"))?,
            true => {}
            false => {
                changes.insert(key.clone(), Value::Null);
            }
        }
    }
    if flags.on("list") {
        // What would be there is listed, and nothing is changed.
        let mut shown = object.clone();
        json_patch::merge(&mut shown, &json!({"metadata": {field: changes}}));
        return session.out(&listing(&shown, target, field, several));
    }
    let what = match (field, changes.is_empty(), added) {
        ("annotations", ..) => "annotated",
        (_, true, _) => "not labeled",
        (_, false, true) => "labeled",
        (_, false, false) => "unlabeled",
    };
    if session.only_shows() || changes.is_empty() {
        let mut shown = object.clone();
        json_patch::merge(&mut shown, &json!({"metadata": {field: changes}}));
        return session.tell(&shown, what);
    }
    let mut body = json!({"metadata": {field: changes}});
    if flags.is_set("resource-version") {
        body["metadata"]["resourceVersion"] = flags.one("resource-version").into();
    }
    let manager = if field == "labels" { "kubectl-label" } else { "kubectl-annotate" };
    let patched = patch(session, target, "", MERGE, &body, manager).await?;
    session.tell(&patched, what)
}

/// Labels or annotations, one a line; of one object among several below what it is.
fn listing(object: &Value, target: &Target, field: &str, several: bool) -> String {
    let mut text = String::new();
    if several {
        let (kind, group) = (&target.resource.kind, &target.resource.group);
        text = format!("Listing {field} for {kind}.{group}/{}:\n", target.name);
    }
    for (key, value) in object["metadata"][field].as_object().into_iter().flatten() {
        let indent = if several { " " } else { "" };
        text.push_str(&format!("{indent}{key}={}\n", value.as_str().unwrap_or_default()));
    }
    text
}

pub(super) static TAINT: &[Flag] = &[
    switch("all", "Select all nodes in the cluster"),
    switch("overwrite", "If true, allow taints to be overwritten"),
];

/// `key=value:Effect`
fn taint_of(word: &str) -> Result<Value, String> {
    let invalid = || format!("invalid taint spec: {word}");
    let (rest, effect) = word.split_once(':').ok_or_else(invalid)?;
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let mut taint = json!({"key": key, "effect": effect});
    if !value.is_empty() {
        taint["value"] = value.into();
    }
    Ok(taint)
}

pub(super) async fn taint(session: &Session) -> Outcome {
    let flags = &session.flags;
    let is_taint = |word: &String| word.contains('=') || word.contains(':') || word.ends_with('-');
    let at = flags.words.iter().position(is_taint).unwrap_or(flags.words.len());
    let (words, specs) = flags.words.split_at(at);
    if words.is_empty() {
        return failed("one or more resources must be specified as <resource> <name>");
    }
    if specs.is_empty() {
        return failed("at least one taint update is required");
    }
    let reading = Reading { all_by_default: flags.on("all"), ..Reading::default() };
    let (found, mut failures) = targets::objects(session, words, reading).await?;
    for (target, object) in found {
        if target.resource.plural != "nodes" {
            return failed(format!(
                "invalid resource type {}, only node(s) is supported",
                target.resource.plural
            ));
        }
        let told = match retainted(&object, specs, flags.on("overwrite")) {
            Ok((taints, what)) => {
                let body = json!({"spec": {"taints": taints}});
                match session.dry_run() {
                    DryRun::Client => session.tell(&object, what),
                    _ => match patch(session, &target, "", MERGE, &body, "kubectl-taint").await {
                        Ok(patched) => session.tell(&patched, what),
                        Err(error) => Err(error),
                    },
                }
            }
            Err(why) => failed(why),
        };
        failures.extend(told.err());
    }
    Failure::of(failures)
}

/// The taints that a node has afterwards, and what is said of it.
fn retainted(
    node: &Value,
    specs: &[String],
    overwrite: bool,
) -> Result<(Vec<Value>, &'static str), String> {
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let (mut added, mut removed) = (false, false);
    let mut known = Vec::new();
    for spec in specs {
        if let Some(spec) = spec.strip_suffix('-') {
            let (key, effect) = spec.split_once(':').unwrap_or((spec, ""));
            let key = key.split_once('=').map_or(key, |(key, _)| key);
            let before = taints.len();
            taints.retain(|taint| {
                taint["key"] != key || (!effect.is_empty() && taint["effect"] != effect)
            });
            if taints.len() == before {
                return Err(format!("taint {spec:?} not found"));
            }
            removed = true;
        } else {
            let taint = taint_of(spec)?;
            let same =
                |known: &Value| known["key"] == taint["key"] && known["effect"] == taint["effect"];
            if taints.iter().any(same) && !overwrite {
                known.push(taint["key"].as_str().unwrap_or_default().to_owned());
            }
            taints.retain(|known| !same(known));
            taints.push(taint);
            added = true;
        }
    }
    if !known.is_empty() {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        return Err(format!(
            "node {name} already has {} taint(s) with same effect(s) and --overwrite is false",
            known.join(",")
        ));
    }
    let what = match (added, removed) {
        _ if overwrite => "modified",
        (true, true) => "modified",
        (true, false) => "tainted",
        _ => "untainted",
    };
    Ok((taints, what))
}

pub(super) static PATCH: &[Flag] = &[
    value("patch", "TEXT", "The patch to be applied to the resource, JSON or YAML").short('p'),
    value("patch-file", "FILE", "A file containing a patch to be applied to the resource"),
    value("type", "strategic|merge|json", "The type of patch being provided").or("strategic"),
    value("subresource", "NAME", "Patch the subresource of the object"),
    switch(
        "local",
        "If true, patch will operate on the content of the file, not the server-side resource",
    ),
];

pub(super) async fn run_patch(session: &Session) -> Outcome {
    let flags = &session.flags;
    let text = match (flags.is_set("patch"), flags.is_set("patch-file")) {
        (true, true) => return failed("cannot specify --patch and --patch-file together"),
        (false, false) => {
            return failed(
                "must specify --patch or --patch-file containing the contents of the patch",
            );
        }
        (true, false) => flags.one("patch").to_owned(),
        (false, true) => {
            let path = flags.one("patch-file");
            std::fs::read_to_string(path).map_err(|error| {
                Failure::Message(format!(
                    "unable to read patch file: {}",
                    crate::manifest::os_error("open", path, &error)
                ))
            })?
        }
    };
    let body = patch_json(text)?;
    let kind = match flags.one("type") {
        "strategic" => STRATEGIC,
        "merge" => MERGE,
        "json" => JSON_PATCH,
        other => {
            return failed(format!("--type must be one of [json merge strategic], not {other:?}"));
        }
    };
    // What a file says is patched there, whether or not it stands for something.
    let of_files = flags.has_files() && session.dry_run() == DryRun::Client && !flags.on("local");
    let (found, mut failures) = match of_files {
        false => targets::objects(session, &flags.words, Reading::default()).await?,
        true => {
            let found = targets::find(session, &flags.words, Reading::default()).await?;
            let object = |target: Target| Some((target.clone(), target.manifest?.object));
            (found.into_iter().filter_map(object).collect(), Vec::new())
        }
    };
    for (target, before) in found {
        if session.only_shows() {
            let body = serde_json::from_str(&body)
                .map_err(|error| Failure::Message(format!("unable to parse {body:?}: {error}")))?;
            let patched = by_hand(&target, before.clone(), &body, kind)?;
            tell_patched(session, &patched, patched == before)?;
            continue;
        }
        let body = (kind, Bytes::from(body.clone()));
        match patch_with(session, &target, flags.one("subresource"), body, "kubectl-patch").await {
            Ok(patched) => tell_patched(session, &patched, patched == before)?,
            Err(error) => failures.push(error),
        }
    }
    Failure::of(failures)
}

/// Unlike elsewhere, that nothing was done in earnest is not said.
fn tell_patched(session: &Session, object: &Value, same: bool) -> Outcome {
    let what = if same { "patched (no change)" } else { "patched" };
    match Format::read(&session.flags)? {
        Format::Human { .. } => session.out(&format!("{} {what}\n", qualified_name(object))),
        _ => session.tell(object, what),
    }
}

/// A patch as JSON. What begins as JSON is the server's to judge.
fn patch_json(text: String) -> Outcome<String> {
    if text.trim_start().starts_with('{') {
        return Ok(text);
    }
    crate::document::read(&text).map(|patch| patch.to_string()).map_err(|why| {
        // The text itself is there already: of the reason only what is no piece of it.
        let short = serde_saphyr::from_str::<Value>(&text)
            .err()
            .map_or(why, |error| error.without_snippet().to_string());
        Failure::Message(format!("unable to parse {text:?}: yaml: {short}"))
    })
}

/// A JSON patch as upstream has it: `replace` of a field that is not there sets it.
pub(super) fn json_patched(object: &mut Value, patch: &json_patch::Patch) -> Result<(), String> {
    for operation in &patch.0 {
        let operation = match operation {
            PatchOperation::Replace(replace) => {
                let path = replace.path.as_str();
                let parent = path
                    .rsplit_once('/')
                    .map_or(Some(&*object), |(parent, _)| object.pointer(parent));
                let Some(parent) = parent else {
                    return Err(format!(
                        "replace operation does not apply: doc is missing path: {path}: missing value"
                    ));
                };
                let absent = parent.is_object() && object.pointer(path).is_none();
                match absent {
                    true => PatchOperation::Add(AddOperation {
                        path: replace.path.clone(),
                        value: replace.value.clone(),
                    }),
                    false => operation.clone(),
                }
            }
            other => other.clone(),
        };
        json_patch::patch(object, &[operation]).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// What the server would make of a patch.
fn by_hand(target: &Target, mut object: Value, patch: &Value, kind: &str) -> Outcome<Value> {
    match kind {
        JSON_PATCH => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Failure::Message(error.to_string()))?;
            json_patched(&mut object, &patch).map_err(Failure::Message)?;
        }
        STRATEGIC => {
            let resource = &target.resource;
            let spec =
                api_kinds::catalogue().by_kind(&resource.group, &resource.version, &resource.kind);
            match spec {
                Some(spec) => {
                    return spec.strategic_merge(object, patch.clone()).map_err(Failure::from);
                }
                None => {
                    return failed(
                        "strategic merge patch is not supported for custom resources: use --type=merge",
                    );
                }
            }
        }
        _ => json_patch::merge(&mut object, patch),
    }
    Ok(object)
}

pub(super) static SCALE: &[Flag] = &[
    value("replicas", "N", "The new desired number of replicas. Required"),
    value("current-replicas", "N", "Precondition for current size").or("-1"),
    value("resource-version", "VERSION", "Precondition for resource version"),
    value("timeout", "TIME", "The length of time to wait before giving up on a scale operation")
        .or("0s"),
    switch("all", "Select all resources in the namespace of the specified resource types"),
];

pub(super) async fn scale(session: &Session) -> Outcome {
    let flags = &session.flags;
    if !flags.is_set("replicas") {
        return failed("required flag(s) \"replicas\" not set");
    }
    let wanted: i64 = flags.one("replicas").parse().unwrap_or(-1);
    if wanted < 0 {
        return failed(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0",
        );
    }
    let expected: i64 = flags.one("current-replicas").parse().unwrap_or(-1);
    let version = flags.one("resource-version");
    let (found, failures) = targets::objects(session, &flags.words, Reading::default()).await?;
    if found.is_empty() && failures.is_empty() {
        return failed("no objects passed to scale");
    }
    if !version.is_empty() && found.len() > 1 {
        return failed("cannot use --resource-version with multiple resources");
    }
    // The first that cannot be scaled ends it; one that is not there does not.
    for (target, object) in found {
        let current = object["spec"]["replicas"].as_i64().unwrap_or(1);
        if expected >= 0 && current != expected {
            return failed(format!("Expected replicas to be {expected}, was {current}"));
        }
        let known = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && version != known {
            return failed(format!("Expected resource version to be {version}, was {known}"));
        }
        if session.dry_run() == DryRun::Client {
            session.tell(&object, "scaled")?;
            continue;
        }
        let mut body = json!({"spec": {"replicas": wanted}});
        if !version.is_empty() {
            body["metadata"] = json!({"resourceVersion": version});
        }
        patch(session, &target, "scale", MERGE, &body, "kubectl").await?;
        session.tell(&object, "scaled")?;
    }
    Failure::of(failures)
}

/// The pod spec of an object, by where it is.
pub(crate) fn pod_spec(object: &Value) -> Option<(&'static str, &Value)> {
    ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec", "/spec"].into_iter().find_map(
        |at| object.pointer(at).filter(|spec| spec["containers"].is_array()).map(|spec| (at, spec)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn patches_are_read_as_files_are() {
        for (text, expected) in [
            ("spec: {x: 0440}", r#"{"spec":{"x":288}}"#),
            ("a: yes", r#"{"a":true}"#),
            ("[{op: remove, path: /a}]", r#"[{"op":"remove","path":"/a"}]"#),
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
        ] {
            let read = patch_json(text.to_owned()).expect(text);
            assert_eq!(read, expected, "{text}");
        }
        let why = patch_json("a: [".to_owned()).expect_err("no YAML").message();
        assert!(why.starts_with("unable to parse \"a: [\": yaml: "), "{why}");
    }

    #[test]
    fn what_is_not_there_is_set_in_place() {
        for (patch, expected) in [
            (
                json!([{"op": "replace", "path": "/a/y", "value": 2}]),
                Some(json!({"a": {"x": [1], "y": 2}})),
            ),
            (
                json!([{"op": "replace", "path": "/b", "value": 2}]),
                Some(json!({"a": {"x": [1]}, "b": 2})),
            ),
            (json!([{"op": "replace", "path": "/a/x", "value": 2}]), Some(json!({"a": {"x": 2}}))),
            (
                json!([{"op": "replace", "path": "/a/x/0", "value": 2}]),
                Some(json!({"a": {"x": [2]}})),
            ),
            (json!([{"op": "replace", "path": "/a/x/5", "value": 2}]), None),
            (json!([{"op": "replace", "path": "/n/x", "value": 2}]), None),
            (json!([{"op": "remove", "path": "/n"}]), None),
        ] {
            let mut object = json!({"a": {"x": [1]}});
            let read: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a patch");
            let done = json_patched(&mut object, &read);
            assert_eq!(done.ok().map(|()| object), expected, "{patch}");
        }
    }

    #[test]
    fn pairs_follow_resources() {
        let (words, keys) = split(&strings("pods a b x=y z-")).expect("valid");
        assert_eq!(words, ["pods", "a", "b"]);
        assert_eq!(keys, Keys { add: vec![("x".into(), "y".into())], remove: vec!["z".into()] });
        assert!(split(&strings("pods a x=y x-")).is_err());
    }

    #[test]
    fn of_several_objects_each_is_named() {
        let resource = crate::discovery::ApiResource {
            group: "apps".into(),
            kind: "Deployment".into(),
            ..Default::default()
        };
        let target = Target {
            resource: std::sync::Arc::new(resource),
            namespace: String::new(),
            name: "web".into(),
            manifest: None,
        };
        let object = json!({"metadata": {"labels": {"a": "b", "c": "d"}}});
        for (several, text) in
            [(false, "a=b\nc=d\n"), (true, "Listing labels for Deployment.apps/web:\n a=b\n c=d\n")]
        {
            assert_eq!(listing(&object, &target, "labels", several), text);
        }
    }

    #[test]
    fn taints_come_and_go() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
        let (taints, what) = retainted(&node, &strings("b=c:NoExecute"), false).expect("valid");
        assert_eq!((taints.len(), what), (2, "tainted"));
        let (taints, what) = retainted(&node, &strings("a-"), false).expect("valid");
        assert_eq!((taints.len(), what), (0, "untainted"));
        assert_eq!(
            retainted(&node, &strings("a:NoSchedule b:NoExecute a=x:NoSchedule"), false),
            Err("node n already has a,a taint(s) with same effect(s) and --overwrite is false"
                .to_owned())
        );
        for specs in ["a:NoSchedule", "a-", "b=c:NoExecute"] {
            let (_, what) = retainted(&node, &strings(specs), true).expect("valid");
            assert_eq!(what, "modified", "{specs}");
        }
        assert_eq!(
            retainted(&node, &strings("x-"), false),
            Err("taint \"x\" not found".to_owned())
        );
        assert!(taint_of("a=b:Nope").is_err());
    }
}
