//! `kubectl create -f` and `kubectl replace`

use std::io::Read as _;

use http::Method;
use serde_json::Value;

use crate::{
    apply::last_applied,
    connection::json,
    document,
    failure::{Failure, Outcome, failed},
    flags::{Flag, switch, value},
    manifest::Manifest,
    session::{DryRun, Session},
    targets::{self, Reading, Target},
};

use super::editor::{self, Edited, Form};

const DRY_RUN_FLAG: Flag = value(
    "dry-run",
    "none|server|client",
    "Only print the object that would be sent, without sending it, or without persisting it",
)
.optional("unchanged")
.or("none");

/// Whether it is done in earnest.
pub(super) static DRY_RUN: &[Flag] = &[DRY_RUN_FLAG];

/// Flags of everything that writes objects.
pub(super) static WRITE: &[Flag] = &[
    DRY_RUN_FLAG,
    value("field-manager", "NAME", "Name of the manager used to track field ownership"),
];

/// How strictly the server looks at fields that it does not know.
pub(super) static VALIDATE: &[Flag] =
    &[value("validate", "strict|warn|ignore", "How unknown or duplicate fields are treated")
        .optional("strict")
        .or("strict")];

pub(super) static SAVE_CONFIG: &[Flag] = &[switch(
    "save-config",
    "If true, the configuration of current object will be saved in its annotation, for a later apply",
)];

pub(super) static CREATE: &[Flag] = &[
    switch("edit", "Edit each object in the editor of KUBE_EDITOR or EDITOR before creating it"),
    switch("windows-line-endings", "Taken for compatibility, with --edit"),
    value("raw", "PATH", "Raw URI to POST to the server"),
    value("selector", "LABELS", "Selector (label query) of the objects in the files").short('l'),
];

pub(super) static REPLACE: &[Flag] = &[
    switch("force", "If true, delete the object first and create it again"),
    value(
        "grace-period",
        "N",
        "Period of time in seconds given to the resource to terminate gracefully",
    )
    .or("-1"),
    value("timeout", "TIME", "How long to wait before giving up on a delete").or("0s"),
    value(
        "cascade",
        "background|orphan|foreground",
        "The deletion cascading strategy for the dependents",
    )
    .optional("background")
    .or("background"),
    switch("wait", "Wait for resources to be gone before creating them again").or("true"),
    value("subresource", "NAME", "Replace the subresource of the object"),
    value("raw", "PATH", "Raw URI to PUT to the server"),
];

/// Of a command that needs `-f` or `-k`.
pub(crate) fn needs_files(session: &Session) -> Outcome {
    match session.flags.has_files() {
        true => Ok(()),
        false => failed("must specify one of -f and -k"),
    }
}

pub(super) async fn run(session: &Session) -> Outcome {
    if !session.flags.words.is_empty() {
        let words = session.flags.words.join(" ");
        return Err(Failure::Arguments(format!("Unexpected args: [{words}]")));
    }
    needs_files(session)?;
    if session.flags.is_set("raw") {
        return raw(session, Method::POST).await;
    }
    let selector = targets::labels(session.flags.one("selector"))?;
    let (targets, mut failures) = targets::of_files(session).await?;
    let targets = targets::selected(targets, &selector);
    if targets.is_empty() && failures.is_empty() {
        return failed("no objects passed to create");
    }
    for target in targets {
        let created = match session.flags.on("edit") {
            true => edited(session, &target).await,
            false => create(session, &target, "kubectl-create").await,
        };
        if let Err(error) = created {
            let source = target.manifest.as_ref().map_or("", |manifest| &manifest.source);
            failures.push(error.about("creating", source));
        }
    }
    Failure::of(failures)
}

/// Sends the one file of `-f` as it is, and prints the answer.
async fn raw(session: &Session, method: Method) -> Outcome {
    let flags = &session.flags;
    let beside = [
        ("edit", "--edit"),
        ("output", "--output"),
        ("selector", "--selector (-l)"),
        ("recursive", "--recursive"),
    ];
    if let Some((_, name)) = beside.iter().find(|(flag, _)| flags.is_set(flag)) {
        return failed(format!("--raw and {name} are mutually exclusive"));
    }
    let files = flags.list("filename");
    let alone = |file: &String| !file.starts_with("http://") && !file.starts_with("https://");
    let [file] = files.as_slice() else {
        return failed("--raw can only use a single local file or stdin");
    };
    if !alone(file) || flags.is_set("kustomize") {
        return failed("--raw can only use a single local file or stdin");
    }
    let path = flags.one("raw");
    if !path.starts_with('/') || path.contains(char::is_whitespace) {
        return failed(format!(
            "--raw must be a valid URL path: parse {path:?}: invalid URI for request"
        ));
    }
    let mut bytes = Vec::new();
    let read = match file.as_str() {
        "-" => std::io::stdin().read_to_end(&mut bytes).map(drop),
        file => std::fs::read(file).map(|read| bytes = read),
    };
    read.map_err(|error| Failure::Message(crate::manifest::os_error("open", file, &error)))?;
    let payload = Some(("application/json", bytes.into()));
    let answer =
        session.connection().await?.bytes(method, path, "application/json", payload).await?;
    session.bytes(&answer)
}

/// Has the user change the object of a file, and creates what comes of it.
async fn edited(session: &Session, target: &Target) -> Outcome {
    let Some(manifest) = &target.manifest else { return failed("nothing to create") };
    let form = Form::of(session)?;
    let before = form.document(&manifest.object);
    let text = match editor::in_editor(form, (editor::HEAD, ""), &before)? {
        Edited::Text(text) => text,
        Edited::Same => {
            session.say("Edit cancelled, no changes made.");
            return Ok(());
        }
        Edited::Empty => {
            session.say("Edit cancelled, saved file was empty.");
            return Ok(());
        }
    };
    let created = match document::read(&text) {
        Ok(object) if object["kind"] == manifest.object["kind"] && object.is_object() => {
            let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
            let namespace = match text("namespace") {
                given if target.resource.namespaced && !given.is_empty() => given,
                _ => target.namespace.clone(),
            };
            let (name, resource) = (text("name"), target.resource.clone());
            let manifest = Some(Manifest { source: manifest.source.clone(), object });
            let target = Target { resource, namespace, name, manifest };
            create(session, &target, "kubectl-create").await
        }
        Ok(_) => failed("At least one of apiVersion, kind and name was changed: kind"),
        Err(why) => failed(format!("the edited file is no YAML: {why}")),
    };
    if created.is_err() {
        // What was typed is not lost.
        let kept = editor::keep(form, &text)?;
        session.say(&format!("A copy of your changes has been stored to {kept:?}"));
    }
    created
}

/// Creates the object of a file and tells of it.
async fn create(session: &Session, target: &Target, manager: &str) -> Outcome {
    let Some(manifest) = &target.manifest else { return failed("nothing to create") };
    let mut object = manifest.object.clone();
    if session.flags.on("save-config") {
        last_applied::set(&mut object);
    }
    let created = match session.dry_run() {
        DryRun::Client => object,
        _ => post(session, target, &object, manager).await?,
    };
    session.tell(&created, "created")
}

/// Sends a new object.
pub(super) async fn post(
    session: &Session,
    target: &Target,
    object: &Value,
    manager: &str,
) -> Outcome<Value> {
    let query = session.write_query(manager);
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let path = targets::path(target.resource.path(&target.namespace, ""), &query);
    session.connection().await?.request(Method::POST, &path, json(object)).await
}

/// Sends an object in place of the one that is there.
pub(super) async fn put(
    session: &Session,
    target: &Target,
    object: &Value,
    manager: &str,
) -> Outcome<Value> {
    let query = session.write_query(manager);
    let query: Vec<(String, String)> =
        query.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let at = match session.flags.one("subresource") {
        "" => target.path(),
        name => format!("{}/{name}", target.path()),
    };
    let path = targets::path(at, &query);
    session.connection().await?.request(Method::PUT, &path, json(object)).await
}

pub(super) async fn replace(session: &Session) -> Outcome {
    if !session.flags.has_files() {
        needs_files(session)?;
    }
    if session.flags.is_set("raw") {
        return raw(session, Method::PUT).await;
    }
    let (found, mut failures) = match session.flags.words.is_empty() {
        true => targets::of_files(session).await?,
        false => {
            let words = &session.flags.words;
            (targets::find(session, words, Reading::default()).await?, Vec::new())
        }
    };
    let forced = session.flags.on("force");
    for with_force in ["grace-period", "timeout"] {
        if session.flags.is_set(with_force) && !forced {
            return failed(format!("--{with_force} must have --force specified"));
        }
    }
    if forced {
        delete_all_of(session, &found).await?;
    }
    for target in found {
        let Some(manifest) = target.manifest.clone() else { continue };
        let mut object = manifest.object.clone();
        if session.flags.on("save-config") || last_applied::of(&object).is_some() {
            last_applied::set(&mut object);
        }
        let outcome = match (forced, session.dry_run()) {
            (true, _) => match post(session, &target, &object, "kubectl-replace").await {
                Ok(created) => session.tell(&created, "replaced"),
                Err(error) => Err(error),
            },
            (false, DryRun::Client) => session.tell(&object, "replaced"),
            (false, _) => {
                let replaced = match at_its_version(session, &target, &mut object).await {
                    Ok(()) => put(session, &target, &object, "kubectl-replace").await,
                    Err(error) => Err(error),
                };
                replaced.and_then(|replaced| session.tell(&replaced, "replaced"))
            }
        };
        match outcome {
            Err(error) if forced => failures.push(error),
            Err(error) => failures.push(error.about("replacing", &manifest.source)),
            Ok(()) => {}
        }
    }
    Failure::of(failures)
}

/// Gives an object that names no version that of the one which is there: some kinds are not
/// replaced without.
async fn at_its_version(session: &Session, target: &Target, object: &mut Value) -> Outcome {
    if object["metadata"]["resourceVersion"].is_string() {
        return Ok(());
    }
    match target.object(session).await {
        Ok(current) => {
            let version = current["metadata"]["resourceVersion"].clone();
            object["metadata"]["resourceVersion"] = version;
            Ok(())
        }
        // The server says what it is missing.
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes those that are there, all before the first is created again.
async fn delete_all_of(session: &Session, targets: &[Target]) -> Outcome {
    let grace: i64 = session.flags.one("grace-period").parse().unwrap_or(-1);
    let options = super::delete::Options { grace: grace.max(0), force: false, selected: true };
    let mut there = Vec::new();
    for target in targets {
        if target.object(session).await.is_ok() {
            there.push(Target { manifest: None, ..target.clone() });
        }
    }
    match there.is_empty() {
        true => Ok(()),
        false => super::delete::delete_all(session, there, Vec::new(), options).await,
    }
}
