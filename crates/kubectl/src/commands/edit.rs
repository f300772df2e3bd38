//! `kubectl edit`: an object as YAML in the user's editor, and what changed as a patch.

use std::{fs, io::Write as _, process::Command};

use serde_json::{Value, json};

use crate::{
    apply::{last_applied, three_way},
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    print::yaml,
    session::{Session, without_managed_fields},
    targets::{self, Reading, Target},
};

use super::modify;

pub(super) static FLAGS: &[Flag] = &[
    switch("output-patch", "Output the patch if the resource is edited"),
    switch("windows-line-endings", "Taken for compatibility"),
    value("subresource", "NAME", "Edit the subresource of the object"),
    value("field-manager", "NAME", "Name of the manager used to track field ownership")
        .or("kubectl-edit"),
];

pub(super) const HEAD: &str = "\
# Please edit the object below. Lines beginning with a '#' will be ignored,
# and an empty file will abort the edit. If an error occurs while saving this file will be
# reopened with the relevant failures.
#
";

pub(super) async fn run(session: &Session) -> Outcome {
    let reading = Reading { all_by_default: true, ..Reading::default() };
    let (found, failures) = targets::objects(session, &session.flags.words, reading).await?;
    Failure::of(failures)?;
    if found.is_empty() {
        return failed("edit cancelled, no objects found");
    }
    let mut failures = Vec::new();
    for (target, object) in found {
        failures.extend(edit(session, &target, &object).await.err());
    }
    Failure::of(failures)
}

async fn edit(session: &Session, target: &Target, object: &Value) -> Outcome {
    let shown = without_managed_fields(object, &session.flags);
    let before = yaml::document(&shown);
    let mut complaint = String::new();
    let mut text = before.clone();
    loop {
        let bare = match in_editor(HEAD, &complaint, &text)? {
            Edited::Empty => {
                session.say("Edit cancelled, saved file was empty.");
                return Ok(());
            }
            Edited::Same => {
                session.say("Edit cancelled, no changes made.");
                return match complaint.is_empty() {
                    true => Ok(()),
                    false => failed("Edit cancelled, no valid changes were saved."),
                };
            }
            Edited::Text(bare) => bare,
        };
        let wrong = match serde_saphyr::from_str::<Value>(&bare) {
            Ok(wanted) if wanted.is_object() => {
                match save(session, target, &shown, &wanted).await {
                    Ok(()) => return Ok(()),
                    Err(error) if matches!(error.code(), Some(400 | 409 | 422)) => {
                        error.text("edit")
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(_) => "the document is no mapping".to_owned(),
            Err(error) => error.to_string(),
        };
        // What was typed is not lost: the editor opens again with it.
        complaint = wrong;
        text = bare;
    }
}

/// What came back from the editor, without comments.
pub(super) enum Edited {
    /// Nothing.
    Empty,
    /// What went there.
    Same,
    /// Something else.
    Text(String),
}

/// Has the user edit a text, below what it is and what was wrong with the one before.
pub(super) fn in_editor(head: &str, complaint: &str, text: &str) -> Outcome<Edited> {
    let path = std::env::temp_dir().join(format!("kubectl-edit-{}.yaml", std::process::id()));
    let about = |error: std::io::Error| Failure::Message(format!("{}: {error}", path.display()));
    let complaint: String = complaint.lines().map(|line| format!("# {line}\n")).collect();
    write(&path, &format!("{head}{complaint}{text}")).map_err(about)?;
    let edited = run_editor(&path);
    let read = fs::read_to_string(&path);
    // The file may hold a Secret.
    let removed = fs::remove_file(&path);
    edited?;
    let read = read.map_err(about)?;
    removed.map_err(about)?;
    let bare: String = read
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    Ok(match bare.trim() {
        "" => Edited::Empty,
        _ if bare == text => Edited::Same,
        _ => Edited::Text(bare),
    })
}

/// Keeps a text where its author finds it; the name of the file.
pub(super) fn keep(text: &str) -> Outcome<String> {
    let path = std::env::temp_dir().join(format!("kubectl-edit-{}.yaml", std::process::id()));
    let name = path.display().to_string();
    write(&path, text).map_err(|error| Failure::Message(format!("{name}: {error}")))?;
    Ok(name)
}

fn write(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn run_editor(path: &std::path::Path) -> Outcome {
    let editor = ["KUBE_EDITOR", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // As a shell would read it: an editor may have flags.
    let status =
        Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => failed(format!("there was a problem with the editor {editor:?}: {status}")),
        Err(error) => failed(format!("there was a problem with the editor {editor:?}: {error}")),
    }
}

async fn save(session: &Session, target: &Target, before: &Value, wanted: &Value) -> Outcome {
    for key in ["apiVersion", "kind"] {
        if before[key] != wanted[key] {
            return failed(format!("At least one of apiVersion, kind and name was changed: {key}"));
        }
    }
    if before["metadata"]["name"] != wanted["metadata"]["name"] {
        return failed("At least one of apiVersion, kind and name was changed: name");
    }
    let resource = &target.resource;
    let spec = api_kinds::catalogue().by_kind(&resource.group, &resource.version, &resource.kind);
    let shape = spec.map(|spec| spec.shape.clone());
    let mut patch = three_way::patch(before, wanted, before, shape.as_ref());
    if patch == json!({}) {
        session.say("Edit cancelled, no changes made.");
        return Ok(());
    }
    if session.flags.on("save-config") {
        let mut saved = wanted.clone();
        last_applied::set(&mut saved);
        patch = three_way::patch(before, &saved, before, shape.as_ref());
    }
    if session.flags.on("output-patch") {
        session.out(&format!("Patch: {patch}\n"))?;
    }
    // Who wrote meanwhile must not be overwritten unseen.
    patch["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let kind = if shape.is_some() { modify::STRATEGIC } else { modify::MERGE };
    let subresource = session.flags.one("subresource");
    let saved = modify::patch(session, target, subresource, kind, &patch, "kubectl-edit").await?;
    session.tell(&saved, "edited")
}
