//! Labels and annotations of objects that are there.

use api_object::name;
use serde_json::{Map, Value, json};

use super::modify::{MERGE, patch};
use crate::{
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    session::Session,
    targets::{self, Reading, Target},
};

/// Says why an object was changed.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

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
fn split(words: &[String], field: &str) -> Result<(Vec<String>, Keys), String> {
    let word = field.trim_end_matches('s');
    let is_pair = |word: &&String| match word.find('=') {
        Some(at) => at > 0,
        None => word.len() > 1 && word.ends_with('-'),
    };
    let at = words.iter().position(|word| is_pair(&word)).unwrap_or(words.len());
    if let Some(other) = words[at..].iter().find(|word| !is_pair(word)) {
        return Err(format!("all resources must be specified before {word} changes: {other}"));
    }
    let mut keys = Keys::default();
    for pair in &words[at..] {
        match pair.split_once('=') {
            Some((key, value)) => {
                if field == "labels" {
                    label_value(pair, value)?;
                }
                keys.add.push((key.to_owned(), value.to_owned()));
            }
            None => keys.remove.push(pair.trim_end_matches('-').to_owned()),
        }
    }
    let both: Vec<&str> = keys.remove.iter().map(String::as_str).collect();
    let both: Vec<&str> =
        both.into_iter().filter(|key| keys.add.iter().any(|(known, _)| known == key)).collect();
    match (both.is_empty(), field) {
        (true, _) => Ok((words[..at].to_vec(), keys)),
        (false, "labels") => {
            Err("can not both modify and remove a label in the same command".to_owned())
        }
        (false, _) => Err(format!(
            "can not both modify and remove the following annotation(s) in the same command: {}",
            both.join(", ")
        )),
    }
}

/// Whether the server would take the value of a label.
fn label_value(pair: &str, value: &str) -> Result<(), String> {
    if value.contains('=') {
        return Err(format!("invalid label spec: {pair}"));
    }
    match name::label_value(value).as_slice() {
        [] => Ok(()),
        wrong => Err(format!("invalid label value: {pair:?}: {}", wrong.join(";"))),
    }
}

async fn keys(session: &Session, field: &'static str) -> Outcome {
    let flags = &session.flags;
    let word = field.trim_end_matches('s');
    let (words, keys) = split(&flags.words, field).map_err(Failure::Message)?;
    let reading = Reading { all_by_default: flags.on("all"), ..Reading::default() };
    if flags.on("list") && flags.is_set("output") {
        return failed("--list and --output may not be specified together");
    }
    let file = if field == "labels" { "pod" } else { "rsrc" };
    if flags.on("local") && !words.is_empty() {
        return failed(format!(
            "can only use local files by -f {file}.yaml or --filename={file}.json when --local=true is set"
        ));
    }
    if flags.on("local") && !flags.has_files() {
        return failed(format!(
            "one or more files must be specified as -f {file}.yaml or --filename={file}.json"
        ));
    }
    if words.is_empty() && !flags.has_files() {
        return failed(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        );
    }
    if keys.add.is_empty() && keys.remove.is_empty() && !flags.on("list") {
        return failed(format!("at least one {word} update is required"));
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
    let taken: Vec<(&str, &str)> = keys
        .add
        .iter()
        .filter_map(|(key, value)| Some((key.as_str(), there[key].as_str()?, value)))
        .filter(|(_, known, value)| known != value)
        .map(|(key, known, _)| (key, known))
        // What the last change was for is of that change.
        .filter(|(key, _)| *key != CHANGE_CAUSE)
        .collect();
    if !flags.on("overwrite") && !taken.is_empty() {
        return overwritten(field, &taken);
    }
    let mut changes = Map::new();
    for (key, value) in &keys.add {
        if there[key].as_str() != Some(value) {
            changes.insert(key.clone(), value.clone().into());
        }
    }
    let added = !changes.is_empty();
    let mut removed = false;
    for key in &keys.remove {
        match there[key].is_null() {
            true if field == "labels" && !flags.on("local") => {
                session.out(&format!("label {key:?} not found.\n"))?
            }
            true => {}
            false => {
                changes.insert(key.clone(), Value::Null);
                removed = true;
            }
        }
    }
    if flags.on("list") {
        // What would be there is listed, and nothing is changed.
        let mut shown = object.clone();
        json_patch::merge(&mut shown, &json!({"metadata": {field: changes}}));
        return session.out(&listing(&shown, target, field, several));
    }
    let what = match (field, added, removed) {
        ("annotations", ..) => "annotated",
        (_, false, false) => "not labeled",
        (_, true, true) => "modified",
        (_, true, false) => "labeled",
        (_, false, true) => "unlabeled",
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

/// What is said where something else is there.
fn overwritten(field: &str, taken: &[(&str, &str)]) -> Outcome {
    let one = |(key, known): &(&str, &str)| format!("'{key}' already has a value ({known})");
    let all = taken.iter().map(one);
    match field {
        "labels" => {
            let refused = |why| Failure::Message(format!("{why}, and --overwrite is false"));
            Failure::of(all.map(refused).collect())
        }
        _ => failed(format!(
            "--overwrite is false but found the following declared annotation(s): {}",
            all.collect::<Vec<_>>().join("; ")
        )),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn pairs_follow_resources() {
        let read = |line: &str, field: &str| split(&strings(line), field);
        let (words, keys) = read("pods a b x=y z-", "labels").expect("valid");
        assert_eq!(words, ["pods", "a", "b"]);
        assert_eq!(keys, Keys { add: vec![("x".into(), "y".into())], remove: vec!["z".into()] });
        let (words, keys) = read("cm =a - x=y=z!", "annotations").expect("valid");
        assert_eq!((words.len(), keys.add), (3, vec![("x".to_owned(), "y=z!".to_owned())]));
        for (line, field, why) in [
            ("x=y x-", "labels", "can not both modify and remove a label in the same command"),
            (
                "x=y z=1 x- z-",
                "annotations",
                "can not both modify and remove the following annotation(s) in the same command: x, z",
            ),
            ("x=y pods", "labels", "all resources must be specified before label changes: pods"),
            ("x=y=z", "labels", "invalid label spec: x=y=z"),
            ("x=y!", "labels", "invalid label value: \"x=y!\": a valid label must be"),
        ] {
            let told = read(line, field).expect_err(line);
            assert!(told.starts_with(why), "{line}: {told}");
        }
    }

    #[test]
    fn what_is_there_is_told() {
        let taken = [("a", "b"), ("c", "d")];
        for (field, said) in [
            (
                "labels",
                "'a' already has a value (b), and --overwrite is false\n'c' already has a value (d), and --overwrite is false\n",
            ),
            (
                "annotations",
                "error: --overwrite is false but found the following declared annotation(s): 'a' already has a value (b); 'c' already has a value (d)\n",
            ),
        ] {
            let told = overwritten(field, &taken).expect_err("refused").text("label");
            assert_eq!(told, said);
        }
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
}
