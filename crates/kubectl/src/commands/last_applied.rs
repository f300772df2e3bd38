//! `kubectl apply view-last-applied`, `set-last-applied` and `edit-last-applied`: the
//! annotation that client-side apply compares with.

use serde_json::{Value, json};

use crate::{
    apply::last_applied,
    document,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::{json as go_json, yaml},
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::{
    editor::{Edited, Form, in_editor},
    modify,
};

pub(super) static VIEW: &[Flag] = &[
    switch("all", "Select all resources in the namespace of the specified resource types"),
    value("output", "yaml|json", "Output format").short('o').or("yaml"),
];

pub(super) static SET: &[Flag] = &[
    value("filename", "FILES", "Filename, directory, or URL to files that contain the resources")
        .short('f'),
    switch("create-annotation", "Make the annotation where the object has none"),
];

pub(super) static EDIT: &[Flag] = &[
    switch("windows-line-endings", "Taken for compatibility"),
    value("field-manager", "NAME", "Name of the manager used to track field ownership"),
];

const HEAD: &str = "\
# Please edit the 'last-applied-configuration' annotations below.
# Lines beginning with a '#' will be ignored, and an empty file will abort the edit.
#
";

/// What the words name, each by itself; the first failure is the answer.
async fn named(session: &Session, words: &[String]) -> Outcome<Vec<(Target, Value)>> {
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let (found, failures) = targets::objects(session, words, reading).await?;
    match failures.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(found),
    }
}

pub(super) async fn view(session: &Session) -> Outcome {
    let found = named(session, &session.flags.words).await?;
    for applied in found.iter().filter_map(|(_, object)| last_applied::of(object)) {
        match session.flags.one("output") {
            "json" => session.out(&(go_json::indented(&applied, "  ") + "\n"))?,
            "yaml" => session.out(&yaml::document(&applied))?,
            other => {
                return Err(Failure::Arguments(format!(
                    "Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"
                )));
            }
        }
    }
    Ok(())
}

pub(super) async fn set(session: &Session) -> Outcome {
    if !session.flags.has_files() {
        return failed(targets::NOTHING_NAMED);
    }
    // All are looked at before the first is changed.
    let mut changes = Vec::new();
    for target in targets::in_files(session).await? {
        let Some(manifest) = &target.manifest else { continue };
        let live = target.object(session).await?;
        let before = last_applied::text(&live);
        if before.is_none() && !session.flags.on("create-annotation") {
            return failed(format!(
                "no last-applied-configuration annotation found on resource: {}, to create the annotation, run the command with --create-annotation",
                target.name
            ));
        }
        let patch = last_applied::patch(&manifest.object);
        if before == last_applied::text(&patch) {
            session.out(&format!("set-last-applied {}: no changes required.\n", target.name))?;
        } else {
            changes.push((target.clone(), patch, live));
        }
    }
    for (target, patch, live) in changes {
        let patched = match session.dry_run() {
            DryRun::Client => live,
            _ => modify::patch(session, &target, "", modify::MERGE, &patch, "kubectl").await?,
        };
        session.tell(&patched, "configured")?;
    }
    Ok(())
}

pub(super) async fn edit(session: &Session) -> Outcome {
    let form = Form::of(session)?;
    let found = named(session, &session.flags.words).await?;
    let applied = |(target, object): (Target, Value)| Some((target, last_applied::of(&object)?));
    let found: Vec<(Target, Value)> = found.into_iter().filter_map(applied).collect();
    if found.is_empty() {
        return failed(
            "no last-applied-configuration annotation found on resources, to create the annotation, use command `kubectl apply set-last-applied --create-annotation`",
        );
    }
    let mut text = shown(form, &found);
    let mut complaint = String::new();
    loop {
        let typed = match in_editor(form, (HEAD, &complaint), &text)? {
            Edited::Empty => {
                session.say("Edit cancelled, saved file was empty.");
                return Ok(());
            }
            Edited::Same if complaint.is_empty() => {
                session.say("Edit cancelled, no changes made.");
                return Ok(());
            }
            Edited::Same => return failed("Edit cancelled, no valid changes were saved."),
            Edited::Text(typed) => typed,
        };
        let wrong = match document::read(&typed) {
            Ok(wanted) if wanted.is_object() => return save(session, &found, wanted).await,
            Ok(_) => "the document is no mapping".to_owned(),
            Err(error) => error,
        };
        // What was typed is not lost: the editor opens again with it.
        complaint = wrong;
        text = typed;
    }
}

/// What the editor is given: one configuration, or several as a list.
fn shown(form: Form, found: &[(Target, Value)]) -> String {
    match found {
        [(_, one)] => form.document(one),
        several => {
            let items: Vec<&Value> = several.iter().map(|(_, applied)| applied).collect();
            form.document(
                &json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}),
            )
        }
    }
}

/// Writes each edited configuration to the object that it is of.
async fn save(session: &Session, found: &[(Target, Value)], mut wanted: Value) -> Outcome {
    let items = match wanted.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) if found.len() > 1 => std::mem::take(items),
        _ => vec![wanted],
    };
    let name = |object: &Value| {
        let meta = &object["metadata"];
        [&object["kind"], &meta["namespace"], &meta["name"]]
            .map(|part| part.as_str().map(str::to_owned))
    };
    for item in items {
        let Some((target, _)) = found.iter().find(|(_, applied)| name(applied) == name(&item))
        else {
            return failed("At least one of apiVersion, kind and name was changed");
        };
        let patch = last_applied::patch(&item);
        let manager = "kubectl-client-side-apply";
        let patched = modify::patch(session, target, "", modify::MERGE, &patch, manager).await?;
        session.tell(&patched, "edited")?;
    }
    Ok(())
}
