//! Small changes to objects that are there: patches and scale.

use bytes::Bytes;
use http::Method;
use json_patch::{AddOperation, PatchOperation};
use serde_json::{Value, json};

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
}
